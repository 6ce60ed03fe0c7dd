//! `cargo run -p examples --example clone_decisions_once`
//!
//! One cycle of the worker `clone_decisions`: each clone decides on its own, once per slot. One
//! asks nobody, one has no data to decide with; a second cycle finds the slot decided.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use domain::decisions::ProviderKind;
use domain::store::clones::{self, NewClone};
use domain::store::decision_runs::{self, DecisionTable};
use domain::workers::clone_decisions::{self, CloneDecisionsOptions};
use scheduler_core::testing::ManualClock;
use scheduler_core::{Scheduler, Shutdown, Store, StoreError};

/// 2026-11-23 12:00:00 UTC. The clock stands, so that both cycles are of one slot.
const NOON: i64 = 1_795_435_200_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database).await?;
    let store = Store::from_connection_with(database, Arc::new(ManualClock::at(NOON)));
    make_clone(&store, "Noor", ProviderKind::Noop).await?;
    make_clone(&store, "Tess", ProviderKind::RuleGraph).await?;

    for _ in 0..2 {
        let mut scheduler = Scheduler::new(store.clone());
        clone_decisions::register(&mut scheduler, &store, &CloneDecisionsOptions::default())?;
        let report =
            scheduler.run_once(clone_decisions::NAME, Duration::ZERO, &Shutdown::default()).await?;
        println!("{}: {}", report.status, report.summary.unwrap_or_default());
    }
    for run in decision_runs::list(store.reader(), DecisionTable::Clones, 10).await? {
        let reason = run.skip_reason.unwrap_or_default();
        println!(
            "clone {} asked {}: {}, {} ({reason})",
            run.clone_id, run.provider, run.action, run.status
        );
    }
    Ok(())
}

async fn make_clone(store: &Store, name: &str, provider: ProviderKind) -> Result<i64, StoreError> {
    // Without a strategy of its own it trades the default draft.
    let clone =
        NewClone { user_id: 1, name: name.to_owned(), graph_hash: None, provider, budget: None };
    store
        .write("make a clone", |txn| {
            Box::pin(async move { clones::insert(txn, &clone, NOON).await })
        })
        .await
}
