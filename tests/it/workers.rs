//! Workers on a database as a user has it: entry smoke on an empty one, and one realistic
//! condition each.

use std::time::Duration;

use domain::backtesting::{BacktestRequest, BacktestResult};
use domain::market::{Interval, RandomWalk, import_candles};
use domain::services;
use domain::store::backtest_jobs;
use domain::strategy::{ValidGraph, default_graph};
use domain::workers::backtests::{self, BacktestsOptions};
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{RunReport, RunStatus, Shutdown, WorkerStatus};

use crate::harness::{Database, at_once};

/// The database with the arena's tables.
async fn with_arena(database: Database) -> Database {
    migration::up(database.store.reader()).await.expect("migrations apply");
    database
}

async fn run_backtests_once(database: &Database) -> RunReport {
    let mut scheduler = database.scheduler();
    backtests::register(&mut scheduler, &database.store, &BacktestsOptions::default())
        .await
        .expect("registered");
    scheduler
        .run_once(backtests::NAME, Duration::ZERO, &Shutdown::default())
        .await
        .expect("a cycle")
}

/// Bars of a seeded market, imported as a user would: from CSV.
async fn import(database: &Database, symbol: &str, bars: usize) {
    let mut csv = String::from("open_time_ms,open,high,low,close,volume\n");
    let first_ms = 1_700_000_000_000 / 3_600_000 * 3_600_000;
    for bar in RandomWalk::new(7, Interval::H1, first_ms, 30_000.0, 0.01).take(bars) {
        csv.push_str(&format!(
            "{},{},{},{},{},{}\n",
            bar.open_time_ms, bar.open, bar.high, bar.low, bar.close, bar.volume
        ));
    }
    let report = import_candles(&database.store, std::io::Cursor::new(csv), symbol, Interval::H1)
        .await
        .expect("imported");
    assert_eq!(report.inserted, bars as u64);
}

async fn submit(database: &Database, user_id: i64, graph: &ValidGraph) -> String {
    let request = BacktestRequest {
        user_id,
        clone_id: None,
        graph: graph.clone(),
        symbol: "BTC".into(),
        interval: Interval::H1,
        from_ms: None,
        to_ms: None,
        initial_cash: 10_000.0,
        fee_rate: BacktestRequest::DEFAULT_FEE_RATE,
        slippage_rate: 0.0,
        priority: 0,
    };
    services::backtests::submit(&database.store, request).await.expect("submitted")
}

async fn backtests_run_once_on_an_empty_database(database: Database) {
    let database = with_arena(database).await;
    let report = run_backtests_once(&database).await;
    assert_eq!(report.status, RunStatus::Succeeded);
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].worker, "backtesting");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
}

async fn a_queued_back_test_of_the_default_graph_completes_through_the_queue(database: Database) {
    let database = with_arena(database).await;
    import(&database, "BTC", 3_000).await;
    let id = submit(&database, 7, &default_graph()).await;
    let report = run_backtests_once(&database).await;
    let summary = report.summary.expect("a summary");
    assert_eq!((summary["claimed"].as_u64(), summary["succeeded"].as_u64()), (Some(1), Some(1)));

    let job =
        backtest_jobs::find(database.store.reader(), &id).await.expect("read").expect("a row");
    assert_eq!(job.status, backtest_jobs::BacktestStatus::Succeeded);
    assert_eq!((job.attempt_count, job.crash_count, job.leased_by), (1, 0, None));
    assert!((job.progress_pct - 100.0).abs() < f64::EPSILON);
    let result: BacktestResult =
        serde_json::from_str(&job.result.expect("a result")).expect("the contract's JSON");
    assert_eq!(result.bars, 3_000);
    assert!(!result.trades.is_empty() && result.sharpe.is_some());
    let profit: f64 = result.trades.iter().map(|trade| trade.pnl).sum();
    assert!((10_000.0 + profit - result.final_equity).abs() < 1e-6);

    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].worker, "backtesting");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
    assert_eq!(health.workers[0].total_runs, 1);
}

async fn a_running_process_works_off_several_users_and_leaves_nothing_running(database: Database) {
    let database = with_arena(database).await;
    import(&database, "BTC", 500).await;
    for user_id in [1, 1, 2, 2, 3] {
        submit(&database, user_id, &default_graph()).await;
    }
    let mut scheduler = database.scheduler();
    backtests::register(&mut scheduler, &database.store, &BacktestsOptions::default())
        .await
        .expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM backtest_jobs WHERE status = 'succeeded'", 5_i64).await;
    running.stop(&at_once()).await;
    let slots: i64 = database
        .value("SELECT count(*) FROM backtest_jobs WHERE queue_slot IS NOT NULL OR leased_by IS NOT NULL")
        .await;
    assert_eq!(slots, 0);
}

async fn a_back_test_whose_bars_are_gone_is_dead_with_a_clear_reason(database: Database) {
    let database = with_arena(database).await;
    import(&database, "BTC", 100).await;
    submit(&database, 7, &default_graph()).await;
    database.execute("DELETE FROM candles").await;
    run_backtests_once(&database).await;
    assert_eq!(
        database.lines("SELECT status, attempt_count, last_error FROM backtest_jobs").await,
        ["dead|1|the history has no bars; expected at least one"]
    );
}

on_every_store! {
    backtests_run_once_on_an_empty_database,
    a_queued_back_test_of_the_default_graph_completes_through_the_queue,
    a_running_process_works_off_several_users_and_leaves_nothing_running,
    a_back_test_whose_bars_are_gone_is_dead_with_a_clear_reason,
}
