//! How a flood of frames gets into SQLite: whether the database keeps up, what waits in memory,
//! whether a trade is lost.
//!
//! `cargo bench -p domain --bench ingest [-- SECONDS [FRAMES_PER_SECOND]]`
//!
//! A server on loopback sends frames of four coins at a steady rate (trades, best prices, contexts,
//! bars), the arena's own stream reads them into a file with `synchronous=FULL`. Each second says how
//! many trades were sent and are not stored yet. At the end every trade has to be there.
//!
//! The floor writes the same number of trades into another file, known beforehand: plain inserts of
//! one row, as many to a transaction as come within one window of the stream, `synchronous=FULL`, as
//! fast as it goes. The stream also reads and judges the frames, and writes their other rows.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::ingestion::Source;
use domain::market::Listing;
use domain::sources::SourceUrls;
use domain::store::instruments;
use domain::workers::ingestion::{self, IngestionOptions};
use futures_util::{SinkExt, StreamExt};
use scheduler_core::{Clock, Scheduler, Shutdown, Store, StoreError, SystemClock};
use sea_orm::{ConnectionTrait, Statement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

const COINS: [&str; 4] = ["BTC", "ETH", "SOL", "HYPE"];
/// Frames leave in bursts of this length.
const BURST: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Sent {
    frames: AtomicU64,
    trades: AtomicU64,
}

#[tokio::main]
async fn main() {
    // cargo passes `--bench` itself.
    let mut asked = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let seconds = asked.next().unwrap_or(20);
    let per_second = asked.next().unwrap_or(5_000);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    list_coins(&store).await;
    let sent = Arc::new(Sent::default());
    let options = IngestionOptions {
        sources: vec![Source::Hyperliquid],
        urls: SourceUrls {
            hyperliquid: serve_nothing().await,
            hyperliquid_ws: serve_frames(Arc::clone(&sent), per_second, seconds).await,
            ..SourceUrls::default()
        },
        ..IngestionOptions::default()
    };
    let mut scheduler = Scheduler::new(store.clone());
    ingestion::register(&mut scheduler, &store, &options).unwrap();
    let running = scheduler.start().await.unwrap();
    println!("{per_second} frames/s for {seconds} s into SQLite, synchronous=FULL");
    println!("{:>4} {:>10} {:>10} {:>10} {:>8}", "s", "frames", "trades", "not stored", "RSS MB");
    let began = Instant::now();
    let target = per_second * seconds;
    let (mut worst, mut largest_mb) = (0, 0);
    while sent.frames.load(Ordering::SeqCst) < target {
        assert!(began.elapsed() < Duration::from_secs(60 + 4 * seconds), "the frames do not leave");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let trades = sent.trades.load(Ordering::SeqCst);
        let waiting = trades.saturating_sub(stored(&store).await);
        worst = worst.max(waiting);
        largest_mb = largest_mb.max(rss_mb());
        println!(
            "{:>4} {:>10} {trades:>10} {waiting:>10} {:>8}",
            began.elapsed().as_secs(),
            sent.frames.load(Ordering::SeqCst),
            rss_mb()
        );
    }
    let left = Instant::now();
    let trades = sent.trades.load(Ordering::SeqCst);
    while stored(&store).await < trades {
        assert!(left.elapsed() < Duration::from_secs(60), "trades were lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "every one of {trades} trades is stored, {:?} after the last frame left",
        left.elapsed()
    );
    let took = left.duration_since(began);
    running.stop(&Shutdown::new(Duration::ZERO)).await;
    let rate = trades as f64 / took.as_secs_f64();
    println!("frames           {:>10.0} /s", target as f64 / took.as_secs_f64());
    println!("trades           {rate:>10.0} /s among them");
    println!("longest lag      {:>10.0} ms", worst as f64 / rate * 1e3);
    println!("most memory      {largest_mb:>10} MB");
    let floor = write_plainly(&folder.path().join("floor.db"), trades, per_second).await;
    println!("raw inserts      {floor:>10.0} trades/s (the floor)");
    println!("trades / floor   {:>10.2}", rate / floor);
}

/// Trades that are written in a second by plain statements.
async fn write_plainly(path: &Path, trades: u64, frames_per_second: u64) -> f64 {
    let store = Store::sqlite(&format!("sqlite://{}", path.display())).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    // Six of ten frames, in 75 ms.
    let per_window = (frames_per_second * 6 / 10 * 75 / 1_000).max(1);
    let began = Instant::now();
    let mut number = 0;
    while number < trades {
        let window = number..trades.min(number + per_window);
        number = window.end;
        let written: Result<(), StoreError> = store
            .write("write the floor", move |txn| {
                Box::pin(async move {
                    for tid in window {
                        let sql = "INSERT INTO trades (symbol, time_ms, tid, side, price, size)
                                   VALUES ($1, $2, $3, 'buy', $4, '0.015')";
                        let tid = i64::try_from(tid).unwrap();
                        let coin = COINS[usize::try_from(tid / 10 % 4).unwrap()];
                        let price = format!("{}.5", 1_000 + tid % 7);
                        let values = [
                            coin.into(),
                            (1_795_435_200_000 + tid).into(),
                            tid.into(),
                            price.into(),
                        ];
                        let backend = txn.get_database_backend();
                        let insert = Statement::from_sql_and_values(backend, sql, values);
                        txn.execute_raw(insert).await.unwrap();
                    }
                    Ok(())
                })
            })
            .await;
        written.unwrap();
    }
    trades as f64 / began.elapsed().as_secs_f64()
}

async fn list_coins(store: &Store) {
    let listing = |coin: &str| Listing {
        symbol: coin.to_owned(),
        size_decimals: 4,
        max_leverage: 20,
        margin_tiers: Vec::new(),
        only_isolated: false,
        delisted: false,
    };
    let listings: Vec<Listing> = COINS.map(listing).into();
    let kept: Result<u64, StoreError> = store
        .write("list the coins", |txn| {
            Box::pin(async move { instruments::keep_listings(txn, &listings, 0).await })
        })
        .await;
    kept.unwrap();
}

async fn stored(store: &Store) -> u64 {
    let reader = store.reader();
    let count =
        Statement::from_string(reader.get_database_backend(), "SELECT count(*) FROM trades");
    let row = reader.query_one_raw(count).await.unwrap().unwrap();
    row.try_get_by_index::<i64>(0).unwrap().unsigned_abs()
}

/// The memory of this process, the server's included.
fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1_024
}

/// A REST host that has no history of anything.
async fn serve_nothing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

/// A stream that acknowledges and then sends at its rate, whatever the other side does.
async fn serve_frames(sent: Arc<Sent>, per_second: u64, seconds: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let (mut sink, mut source) = socket.split();
            let sent = Arc::clone(&sent);
            tokio::spawn(async move { while let Some(Ok(_)) = source.next().await {} });
            tokio::spawn(async move {
                let mut bursts = tokio::time::interval(BURST);
                let per_burst = per_second * u64::try_from(BURST.as_millis()).unwrap() / 1_000;
                while sent.frames.load(Ordering::SeqCst) < per_second * seconds {
                    bursts.tick().await;
                    for _ in 0..per_burst {
                        let number = sent.frames.load(Ordering::SeqCst);
                        if sink.feed(Message::text(frame(number, &sent))).await.is_err() {
                            return;
                        }
                        sent.frames.fetch_add(1, Ordering::SeqCst);
                    }
                    if sink.flush().await.is_err() {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            });
        }
    });
    url
}

/// Of ten frames six are trades, two best prices, one a context, one a bar.
fn frame(number: u64, sent: &Sent) -> String {
    let now_ms = SystemClock.now_ms();
    let coin = COINS[usize::try_from(number / 10 % 4).unwrap()];
    let price = 1_000 + number % 7;
    match number % 10 {
        0..=5 => {
            sent.trades.fetch_add(1, Ordering::SeqCst);
            format!(
                r#"{{"channel":"trades","data":[{{"coin":"{coin}","side":"B","px":"{price}.5","sz":"0.015","time":{now_ms},"hash":"0x7ab608dad75f7ce37c2f044516391f02023a00c072529bb51e7eb42d965356ce","tid":{number},"users":["0x9aa589355bf745db9784c8ef3c646360f11b58af","0x8269c0a4f5f1a14582e0aa46856a234893c41970"]}}]}}"#
            )
        }
        6 | 7 => format!(
            r#"{{"channel":"bbo","data":{{"coin":"{coin}","time":{now_ms},"bbo":[{{"px":"{price}.0","sz":"10.2","n":36}},{{"px":"{price}.9","sz":"50.6","n":18}}]}}}}"#
        ),
        8 => format!(
            r#"{{"channel":"activeAssetCtx","data":{{"coin":"{coin}","ctx":{{"funding":"0.0000018952","openInterest":"36585.31848","prevDayPx":"86627.0","dayNtlVlm":"4161029539.69","premium":"-0.0006413454","oraclePx":"{price}.1","markPx":"{price}.2","midPx":"{price}.3","impactPxs":["{price}.0","{price}.9"],"dayBaseVlm":"49116.08533"}}}}}}"#
        ),
        _ => {
            let open_ms = now_ms - now_ms.rem_euclid(60_000);
            format!(
                r#"{{"channel":"candle","data":{{"t":{open_ms},"T":{},"s":"{coin}","i":"1m","o":"1001.0","c":"{price}.0","h":"1010.0","l":"1000.0","v":"14.27847","n":114}}}}"#,
                open_ms + 59_999
            )
        }
    }
}
