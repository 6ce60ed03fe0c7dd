//! `cargo run -p examples --example prop_decisions_once`
//!
//! One cycle of the worker `prop_decisions`: a strategy on bars of a minute decides for an account,
//! the proposal passes its risk checks, and is filled on paper.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use domain::decisions::ProviderKind;
use domain::market::{Candle, Interval, Listing, Mid, RandomWalk};
use domain::prop::{AccountKind, AccountRules};
use domain::services::accounts::open_account;
use domain::store::clones::{self, NewClone};
use domain::store::decision_runs::{self, DecisionTable};
use domain::store::prop::{self, NewAccount};
use domain::store::strategy_graphs::{self, StrategyGraph};
use domain::store::{candles, instruments, mids};
use domain::strategy::ValidGraph;
use domain::workers::prop_decisions::{self, PropDecisionsOptions};
use rust_decimal::Decimal;
use scheduler_core::testing::ManualClock;
use scheduler_core::{Scheduler, Shutdown, Store, StoreError};

/// 2026-11-23 12:00:00 UTC. The clock stands, so that the last bar stays the newest.
const NOON: i64 = 1_795_435_200_000;
const MINUTE_MS: i64 = 60_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database).await?;
    let store = Store::from_connection_with(database, Arc::new(ManualClock::at(NOON)));
    let graph = ValidGraph::parse(include_str!("../graphs/minute-trend.json"))?;
    for (seed, (symbol, price)) in (1..).zip([("BTC", 60_000.0), ("ETH", 2_500.0)]) {
        make_market(&store, symbol, seed, price).await?;
    }
    let new = NewAccount {
        clone_id: make_clone(&store, graph).await?,
        kind: AccountKind::Practice,
        rules: AccountRules::default(),
        initial: 10_000.into(),
        creation_key: None,
    };
    let account_id = open_account(&store, new).await?.id;

    let mut scheduler = Scheduler::new(store.clone());
    prop_decisions::register(&mut scheduler, &store, &PropDecisionsOptions::default())?;
    let report =
        scheduler.run_once(prop_decisions::NAME, Duration::ZERO, &Shutdown::default()).await?;
    println!("{}: {}", report.status, report.summary.unwrap_or_default());

    for run in decision_runs::list(store.reader(), DecisionTable::Prop, 10).await? {
        println!(
            "account {} asked {}: {}, {}",
            run.account_id, run.provider, run.action, run.status
        );
    }
    for account in prop::find(store.reader(), &[account_id]).await? {
        for (symbol, held) in account?.positions {
            println!("it holds {} {symbol} since {} USD", held.size, held.entry);
        }
    }
    Ok(())
}

/// Bars up to this minute, and the price of now.
async fn make_market(
    store: &Store,
    symbol: &'static str,
    seed: u64,
    price: f64,
) -> anyhow::Result<()> {
    let now_ms = store.clock().now_ms();
    let first_ms = now_ms - 100 * MINUTE_MS;
    let walk = RandomWalk::new(seed, Interval::M1, first_ms, price, 0.001);
    let bars: Vec<Candle> = walk.take(100).collect();
    let last = bars.last().map_or(price, |bar| bar.close);
    let mid = Mid {
        symbol: symbol.to_owned(),
        mid: Decimal::try_from(last)?.round_dp(2),
        received_at_ms: now_ms,
    };
    let listing = Listing {
        symbol: symbol.to_owned(),
        size_decimals: 4,
        max_leverage: 20,
        margin_tiers: Vec::new(),
        only_isolated: false,
        delisted: false,
    };
    let stored: Result<(), StoreError> = store
        .write("make a market", |txn| {
            Box::pin(async move {
                instruments::keep_listings(txn, &[listing], now_ms).await?;
                candles::upsert(txn, symbol, Interval::M1, &bars).await?;
                mids::upsert(txn, &[mid]).await?;
                Ok(())
            })
        })
        .await;
    Ok(stored?)
}

/// A clone that trades by this strategy, which is put on record.
async fn make_clone(store: &Store, graph: ValidGraph) -> Result<i64, StoreError> {
    let now_ms = store.clock().now_ms();
    let version = StrategyGraph {
        graph_hash: graph.hash().to_owned(),
        name: graph.graph().name.clone(),
        graph: graph.canonical_json().to_owned(),
        created_at_ms: now_ms,
    };
    let clone = NewClone {
        user_id: 1,
        name: "Tess".to_owned(),
        graph_hash: Some(version.graph_hash.clone()),
        provider: ProviderKind::RuleGraph,
        budget: None,
    };
    store
        .write("make a clone", |txn| {
            Box::pin(async move {
                strategy_graphs::record(txn, &version).await?;
                clones::insert(txn, &clone, now_ms).await
            })
        })
        .await
}
