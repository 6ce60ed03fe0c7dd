//! `cargo run -p examples --example mark_to_market_once`
//!
//! Cycles of the worker `prop_mark_to_market`: an account has bought half a bitcoin and is valued;
//! the price rises, and the next cycle values it at the newer one.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use domain::decisions::{Intent, IntentKind, OpenSize, ProviderKind};
use domain::market::{Listing, Mid};
use domain::prop::{AccountKind, AccountRules, Limits, Proposal};
use domain::services::accounts::{Decision, Planned, open_account, plan_decisions};
use domain::store::clones::{self, NewClone};
use domain::store::prop::{self, NewAccount};
use domain::store::{instruments, mids};
use domain::strategy::Side;
use domain::workers::mark_to_market::{self, MarkToMarketOptions};
use rust_decimal::Decimal;
use scheduler_core::testing::ManualClock;
use scheduler_core::{Scheduler, Shutdown, Store, StoreError};
use sea_orm::{ConnectionTrait, Statement};

/// 2026-11-23 12:00:00 UTC.
const NOON: i64 = 1_795_435_200_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database).await?;
    let clock = ManualClock::at(NOON);
    let store = Store::from_connection_with(database, Arc::new(clock.clone()));
    let account_id = open(&store).await?;
    set_mid(&store, 84_000).await?;
    buy_half(&store, account_id).await?;
    mark(&store).await?;
    clock.advance(Duration::from_secs(60));
    set_mid(&store, 85_000).await?;
    mark(&store).await?;

    let snapshots = Statement::from_string(store.reader().get_database_backend(), SNAPSHOTS);
    for row in store.reader().query_all_raw(snapshots).await? {
        println!("{}", row.try_get::<String>("", "line")?);
    }
    Ok(())
}

/// A clone and its account of 100,000 USD.
async fn open(store: &Store) -> anyhow::Result<i64> {
    let (name, provider) = ("Ada".to_owned(), ProviderKind::Noop);
    let clone = NewClone { user_id: 1, name, graph_hash: None, provider, budget: None };
    let made: Result<i64, StoreError> = store
        .write("make a clone", |txn| {
            Box::pin(async move { clones::insert(txn, &clone, NOON).await })
        })
        .await;
    let new = NewAccount {
        clone_id: made?,
        kind: AccountKind::Practice,
        rules: AccountRules::default(),
        initial: 100_000.into(),
        creation_key: None,
    };
    Ok(open_account(store, new).await?.id)
}

async fn set_mid(store: &Store, usd: i64) -> Result<(), StoreError> {
    let symbol = "BTC".to_owned();
    let now_ms = store.clock().now_ms();
    let mid = Mid { symbol: symbol.clone(), mid: usd.into(), received_at_ms: now_ms };
    let listing = Listing {
        symbol,
        size_decimals: 5,
        max_leverage: 40,
        margin_tiers: Vec::new(),
        only_isolated: false,
        delisted: false,
    };
    store
        .write("keep a price", |txn| {
            Box::pin(async move {
                instruments::keep_listings(txn, &[listing], now_ms).await?;
                mids::upsert(txn, &[mid]).await?;
                Ok(())
            })
        })
        .await
}

async fn buy_half(store: &Store, account_id: i64) -> anyhow::Result<()> {
    let kind = IntentKind::Open {
        side: Side::Long,
        size: OpenSize::Units(Decimal::new(5, 1)),
        leverage: 3.into(),
        stop_loss_pct: None,
        take_profit_pct: None,
    };
    let symbol = "BTC".to_owned();
    let intent = Intent { symbol, kind, action_id: None, confidence: None, rationale: None };
    let decision = Decision {
        account_id,
        run_id: "example".to_owned(),
        proposals: vec![Proposal { intent, cooldown_until_ms: None }],
        limits: Limits {
            max_leverage: 3.into(),
            max_position_pct: 1.into(),
            max_open_positions: 1,
            max_daily_loss_pct: None,
            max_mark_age_ms: 180_000,
        },
    };
    let now_ms = store.clock().now_ms();
    let planned = plan_decisions(store.reader(), &[decision], now_ms).await?;
    let plans: Vec<_> = planned.into_iter().filter_map(Planned::into_plan).collect();
    println!("filled {} order", plans.iter().map(|plan| plan.fills.len()).sum::<usize>());
    let lost: Result<Vec<i64>, StoreError> = store
        .write("save a fill", |txn| Box::pin(async move { prop::save(txn, &plans, now_ms).await }))
        .await;
    anyhow::ensure!(lost?.is_empty(), "somebody else changed the account");
    Ok(())
}

async fn mark(store: &Store) -> anyhow::Result<()> {
    let mut scheduler = Scheduler::new(store.clone());
    mark_to_market::register(&mut scheduler, store, &MarkToMarketOptions::default())?;
    let report =
        scheduler.run_once(mark_to_market::NAME, Duration::ZERO, &Shutdown::default()).await?;
    println!("{}: {}", report.status, report.summary.unwrap_or_default());
    Ok(())
}

const SNAPSHOTS: &str = "
SELECT 'cash ' || cash || ', equity ' || equity || ' USD at ' || marks AS line
FROM prop_equity_snapshots ORDER BY at_ms";
