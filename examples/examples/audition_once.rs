//! `cargo run -p examples --example audition_once`
//!
//! Cycles of the worker `lifecycle_audition_evaluator`: the first opens the account of an audition,
//! a month later the second finds that it has lasted its window.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use domain::decisions::ProviderKind;
use domain::lifecycle::AuditionRules;
use domain::services;
use domain::store::clones::{self, NewClone};
use domain::workers::audition_evaluator::{self, AuditionEvaluatorOptions};
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
    let clone_id = make_clone(&store).await?;
    let rules = AuditionRules::default();
    let window = Duration::from_millis(u64::try_from(rules.window_ms)?);
    services::auditions::request(&store, clone_id, rules).await?;

    evaluate(&store).await?;
    clock.advance(window);
    evaluate(&store).await?;

    let moves = Statement::from_string(store.reader().get_database_backend(), MOVES);
    for row in store.reader().query_all_raw(moves).await? {
        println!("{}", row.try_get::<String>("", "line")?);
    }
    Ok(())
}

async fn make_clone(store: &Store) -> Result<i64, StoreError> {
    let provider = ProviderKind::Noop;
    let clone =
        NewClone { user_id: 1, name: "Ava".into(), graph_hash: None, provider, budget: None };
    store
        .write("make a clone", |txn| {
            Box::pin(async move { clones::insert(txn, &clone, NOON).await })
        })
        .await
}

async fn evaluate(store: &Store) -> anyhow::Result<()> {
    let mut scheduler = Scheduler::new(store.clone());
    let options = AuditionEvaluatorOptions::default();
    audition_evaluator::register(&mut scheduler, store, &options)?;
    let report =
        scheduler.run_once(audition_evaluator::NAME, Duration::ZERO, &Shutdown::default()).await?;
    println!("{}: {}", report.status, report.summary.unwrap_or_default());
    Ok(())
}

const MOVES: &str = "
SELECT 'day ' || ((at_ms - min(at_ms) OVER ()) / 86400000) || ': ' || from_status
    || ' to ' || to_status || ' (' || reason || ')' AS line
FROM audition_events ORDER BY version";
