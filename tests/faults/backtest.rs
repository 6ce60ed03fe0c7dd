//! The arena's worker is killed in the middle of a real back-test: it is done at its second attempt,
//! once; one that kills its worker three times is dead, and the others of the queue go on.

use std::process::Command;

use domain::backtesting::BacktestRequest;
use domain::market::Interval;
use domain::services::backtests;
use domain::strategy::ValidGraph;
use scheduler_core::Store;

use crate::database::{count, execute, lines, until};
use crate::host::Host;

/// Long enough that a kill finds it at work.
const BARS: u32 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const SMA_CROSS: &str = include_str!("../../examples/graphs/sma-cross.json");
const COLUMNS: [&str; 4] = ["status", "attempt_count", "crash_count", "last_error"];

pub(crate) async fn killed(url: &str) {
    let store = prepare(url).await;
    let killed = submit(&store, 1).await;
    // Of the same user, whose limit is one: not claimed beside the first.
    let waits = submit(&store, 1).await;
    kill_in_the_middle(&store, url, &killed, 1).await;
    assert_eq!(row(&store, &waits).await, "queued|0|0|-", "what was not started is not tried");

    let next = worker(url);
    until(&store, "SELECT count(*) AS n FROM backtest_jobs WHERE status = 'succeeded'", 2).await;
    next.terminate();
    assert_eq!(row(&store, &killed).await, "succeeded|2|1|-");
    assert_eq!(row(&store, &waits).await, "succeeded|1|0|-");
    let results = "SELECT count(DISTINCT result) AS n FROM backtest_jobs WHERE result IS NOT NULL";
    assert_eq!(count(&store, results).await, 1, "the same as of one that nobody killed");
    nothing_is_held(&store).await;
}

pub(crate) async fn killed_three_times(url: &str) {
    let store = prepare(url).await;
    let poison = submit(&store, 1).await;
    let harmless = submit(&store, 1).await;
    for attempt in 1..=3 {
        kill_in_the_middle(&store, url, &poison, attempt).await;
    }
    let next = worker(url);
    until(&store, "SELECT count(*) AS n FROM backtest_jobs WHERE status = 'dead'", 1).await;
    until(&store, "SELECT count(*) AS n FROM backtest_jobs WHERE status = 'succeeded'", 1).await;
    next.terminate();
    let dead = "dead|3|3|crashing: its process died 3 times while it ran";
    assert_eq!(row(&store, &poison).await, dead);
    assert_eq!(row(&store, &harmless).await, "succeeded|1|0|-");
    nothing_is_held(&store).await;
}

/// Starts a worker and kills it while it is at this attempt.
async fn kill_in_the_middle(store: &Store, url: &str, id: &str, attempt: u32) {
    let mut worker = worker(url);
    let at_work = format!(
        "SELECT count(*) AS n FROM backtest_jobs
         WHERE id = '{id}' AND status = 'running' AND started AND attempt_count = {attempt}"
    );
    until(store, &at_work, 1).await;
    let log = worker.kill();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(count(store, &at_work).await, 1, "it was killed in the middle");
}

fn worker(url: &str) -> Host {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arena-under-test"));
    command.args(["worker", "backtests", "--lease", "3s", "--backtests-interval", "1s"]);
    command.env("DATABASE_URL", url).env("RUST_LOG", "warn");
    Host::of(&mut command)
}

/// The arena's database, with hours whose price goes up and down.
async fn prepare(url: &str) -> Store {
    let store = Store::connect(url).await.expect("the database opens");
    migration::up(store.reader()).await.expect("migrated");
    let instrument = "INSERT INTO instruments (symbol, created_at_ms) VALUES ('BTC', 0)";
    execute(&store, instrument).await;
    let candles = format!(
        "INSERT INTO candles (symbol, interval, open_time_ms, open, high, low, close, volume)
         WITH RECURSIVE bars (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM bars WHERE n < {BARS} - 1)
         SELECT 'BTC', '1h', CAST(n AS BIGINT) * {HOUR_MS}, 20000 + abs(n % 2000 - 1000), 21500, 19500,
           20000 + abs((n + 1) % 2000 - 1000), 50 FROM bars"
    );
    execute(&store, &candles).await;
    store
}

async fn submit(store: &Store, user_id: i64) -> String {
    let request = BacktestRequest {
        user_id,
        clone_id: None,
        graph: ValidGraph::parse(SMA_CROSS).expect("a graph"),
        symbol: "BTC".into(),
        interval: Interval::H1,
        from_ms: None,
        to_ms: None,
        initial_cash: BacktestRequest::DEFAULT_CASH,
        fee_rate: BacktestRequest::DEFAULT_FEE_RATE,
        slippage_rate: BacktestRequest::DEFAULT_SLIPPAGE_RATE,
        priority: 0,
    };
    backtests::submit(store, request).await.expect("submitted")
}

async fn row(store: &Store, id: &str) -> String {
    lines(store, &COLUMNS, &format!("FROM backtest_jobs WHERE id = '{id}'")).await.remove(0)
}

async fn nothing_is_held(store: &Store) {
    let held = "SELECT count(*) AS n FROM backtest_jobs
        WHERE leased_by IS NOT NULL OR queue_slot IS NOT NULL OR concurrency_slot IS NOT NULL";
    assert_eq!(count(store, held).await, 0);
}
