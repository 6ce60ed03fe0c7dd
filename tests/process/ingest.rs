//! Ingestion that is killed with a batch in its hands, and the next one that goes on where it was.

use std::time::Duration;

use host::venues::{Endpoint, RunningVenues, VenueOptions, Venues};
use scheduler_core::{Clock, Store, SystemClock};
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, Statement,
    TransactionTrait,
};

use crate::arena::Arena;

const STREAM: Endpoint = Endpoint::HyperliquidStream;
/// A lease ends 30 s after its holder, and a slot of the stream comes 15 s after that at the latest.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_ingestion_doubles_nothing_and_loses_nothing_it_wrote_on_sqlite() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.expect("the database opens");
    kill_in_a_batch(&url, &store).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_ingestion_doubles_nothing_and_loses_nothing_it_wrote_on_postgres() {
    let Some(url) = crate::postgres::new_database().await else { return };
    let store = Store::postgres(&url).await.expect("the database opens");
    kill_in_a_batch(&url, &store).await;
}

async fn kill_in_a_batch(url: &str, store: &Store) {
    migration::up(store.reader()).await.expect("migrations apply");
    let venues = Venues::start(VenueOptions { pace: 5, ..VenueOptions::default() });
    let venues = venues.await.expect("the venues start");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = start(folder.path(), url, &venues);
    until(store, "SELECT count(*) FROM trades", 100).await;
    until(store, "SELECT count(*) FROM candles WHERE interval = '1m'", 1_000).await;
    let alive = "SELECT count(*) FROM ingestion_channels WHERE channel = 'trades' AND last_datum_at_ms IS NOT NULL";
    until(store, alive, 1).await;
    let owner = lines(store, OWNER).await;

    // Nobody gets anything into `trades` now: what comes is in the hands of the process.
    let other = Database::connect(url).await.expect("the database opens");
    let lock = lock(&other).await;
    let trades = lines(store, TRADES).await;
    let bars = lines(store, BARS).await;
    let brought = venues.log().brought(STREAM);
    within("a batch", async || venues.log().brought(STREAM) >= brought + 40).await;
    first.kill();
    let killed_ms = SystemClock.now_ms();
    lock.rollback().await.expect("unlocked");
    other.close().await.expect("closed");

    let second = start(folder.path(), url, &venues);
    within("another owner", async || {
        let now = lines(store, OWNER).await;
        !now.is_empty() && now != owner
    })
    .await;
    let later = format!("SELECT count(*) FROM trades WHERE time_ms > {}", killed_ms + 5_000);
    until(store, &later, 20).await;

    let now = lines(store, TRADES).await;
    assert!(trades.iter().all(|trade| now.contains(trade)), "what was written is there");
    let now = lines(store, BARS).await;
    assert!(bars.iter().all(|bar| now.contains(bar)), "and the bars are what they were");
    assert_eq!(count(store, "SELECT count(*) FROM candle_revisions").await, 0);
    let twice = "SELECT count(*) FROM (SELECT 1 AS one FROM trades GROUP BY symbol, tid HAVING count(*) > 1) AS twice";
    assert_eq!(count(store, twice).await, 0);
    // What the process had in its hands came again, or the span without it is noted.
    let noted = format!(
        "SELECT count(*) FROM market_gaps WHERE channel = 'trades' AND from_ms <= {killed_ms} AND to_ms >= {killed_ms}"
    );
    until(store, &noted, 4).await;
    let repaired =
        "SELECT count(*) FROM market_gaps WHERE channel = 'candles' AND repaired_at_ms IS NOT NULL";
    until(store, repaired, 4).await;
    // The windows that were cut off are closed, and so is the run of the stream.
    let cut_off = "SELECT count(*) FROM ingestion_runs WHERE channel IN ('mids', 'trades', 'bbo', 'candles', 'asset_contexts') AND status = 'interrupted' AND completed_at_ms IS NOT NULL";
    until(store, cut_off, 5).await;
    let open = format!(
        "SELECT count(*) FROM ingestion_runs WHERE status = 'running' AND started_at_ms < {killed_ms}"
    );
    assert_eq!(count(store, &open).await, 0);
    let lost = "SELECT count(*) FROM job_runs WHERE job = 'ingest_hyperliquid_stream' AND status = 'lease_lost'";
    assert_eq!(count(store, lost).await, 1);
    assert_eq!(second.terminate().code, Some(0));
    let open = "SELECT count(*) FROM ingestion_runs WHERE status = 'running'";
    assert_eq!(count(store, open).await, 0, "nothing goes on after a stop");
    venues.stop().await;
}

const OWNER: &str = "SELECT holder || ' ' || CAST(token AS TEXT) AS line FROM leases
    WHERE name = 'ingest_hyperliquid_stream' AND holder <> ''";
const TRADES: &str = "SELECT symbol || ' ' || CAST(time_ms AS TEXT) || ' ' || CAST(tid AS TEXT)
    || ' ' || side || ' ' || price || ' ' || size AS line FROM trades ORDER BY symbol, time_ms, tid";
const BARS: &str = "SELECT symbol || ' ' || interval || ' ' || CAST(open_time_ms AS TEXT) || ' '
    || CAST(close AS TEXT) || ' ' || CAST(revision AS TEXT) AS line FROM candles
    WHERE interval = '1m' ORDER BY symbol, open_time_ms";

fn start(folder: &std::path::Path, url: &str, venues: &RunningVenues) -> Arena {
    let urls = venues.urls();
    let environment = [
        ("DATABASE_URL", url),
        ("HYPERLIQUID_URL", urls.hyperliquid.as_str()),
        ("HYPERLIQUID_WS_URL", urls.hyperliquid_ws.as_str()),
    ];
    Arena::start_with(folder, &["ingest", "--source", "hyperliquid"], &environment)
}

/// Keeps everybody else from writing trades.
async fn lock(database: &DatabaseConnection) -> DatabaseTransaction {
    let txn = database.begin().await.expect("begun");
    let lock = match database.get_database_backend() {
        DbBackend::Postgres => "LOCK TABLE trades IN EXCLUSIVE MODE",
        // A write takes the one lock that there is.
        _ => "UPDATE trades SET tid = tid WHERE FALSE",
    };
    within("the lock", async || txn.execute_unprepared(lock).await.is_ok()).await;
    txn
}

async fn lines(store: &Store, sql: &str) -> Vec<String> {
    let reader = store.reader();
    let statement = Statement::from_string(reader.get_database_backend(), sql);
    let rows = reader.query_all_raw(statement).await.expect(sql);
    rows.iter().map(|row| row.try_get("", "line").expect("text")).collect()
}

async fn count(store: &Store, sql: &str) -> i64 {
    let reader = store.reader();
    let statement = Statement::from_string(reader.get_database_backend(), sql);
    let row = reader.query_one_raw(statement).await.expect(sql).expect("a row");
    row.try_get_by_index(0).expect("a number")
}

async fn until(store: &Store, sql: &str, at_least: i64) {
    within(sql, async || count(store, sql).await >= at_least).await;
}

async fn within(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut pauses = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        while !is_so().await {
            pauses.tick().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, asking).await;
    assert!(reached.is_ok(), "waited in vain for {what}");
}
