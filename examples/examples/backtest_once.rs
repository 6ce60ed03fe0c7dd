//! `cargo run -p examples --example backtest_once`
//!
//! One cycle of the worker `backtesting`: a back-test is submitted over stored bars, claimed from
//! the queue under a lease, played, and kept with its result.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Context;
use domain::backtesting::{BacktestRequest, BacktestResult};
use domain::market::{Candle, Interval, RandomWalk};
use domain::services;
use domain::store::{backtest_jobs, candles, instruments};
use domain::strategy::ValidGraph;
use domain::workers::backtests::{self, BacktestsOptions};
use scheduler_core::{Scheduler, Shutdown, Store, StoreError};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database).await?;
    let store = Store::from_connection(database);
    let walk = RandomWalk::new(7, Interval::H1, 0, 60_000.0, 0.005);
    store_bars(&store, walk.take(2_000).collect()).await?;

    let request = BacktestRequest {
        user_id: 1,
        clone_id: None,
        graph: ValidGraph::parse(include_str!("../graphs/sma-cross.json"))?,
        symbol: "BTC".to_owned(),
        interval: Interval::H1,
        from_ms: None,
        to_ms: None,
        initial_cash: BacktestRequest::DEFAULT_CASH,
        fee_rate: BacktestRequest::DEFAULT_FEE_RATE,
        slippage_rate: BacktestRequest::DEFAULT_SLIPPAGE_RATE,
        priority: 0,
    };
    let id = services::backtests::submit(&store, request).await?;

    let mut scheduler = Scheduler::new(store.clone());
    backtests::register(&mut scheduler, &store, &BacktestsOptions::default()).await?;
    let report = scheduler.run_once(backtests::NAME, Duration::ZERO, &Shutdown::default()).await?;
    println!("{}: {}", report.status, report.summary.unwrap_or_default());

    let job = backtest_jobs::find(store.reader(), &id).await?.context("its row is there")?;
    let result = job.result.context("a back-test that ended well has a result")?;
    let result: BacktestResult = serde_json::from_str(&result)?;
    println!("{} at attempt {}", job.status.as_str(), job.attempt_count);
    println!("{} bars, {} trades", result.bars, result.trades.len());
    println!("{:.2} USD became {:.2} USD", BacktestRequest::DEFAULT_CASH, result.final_equity);
    Ok(())
}

async fn store_bars(store: &Store, bars: Vec<Candle>) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    store
        .write("store bars", |txn| {
            Box::pin(async move {
                instruments::introduce(txn, "BTC", now_ms).await?;
                candles::upsert(txn, "BTC", Interval::H1, &bars).await?;
                Ok(())
            })
        })
        .await
}
