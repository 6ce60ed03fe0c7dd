//! `cargo run -p examples --example arena_entry_once`
//!
//! One cycle of the worker `lifecycle_arena_entry`: of two clones that have passed their audition,
//! the one whose profile was approved gets a slot of the season and an account of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use domain::decisions::ProviderKind;
use domain::lifecycle::AuditionRules;
use domain::services;
use domain::store::clones::{self, NewClone, ProfileStatus};
use domain::workers::arena_entry::{self, ArenaEntryOptions};
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
    for (name, profile) in [("Ava", ProfileStatus::Approved), ("Bob", ProfileStatus::Submitted)] {
        let clone_id = make_clone(&store, name, profile).await?;
        services::auditions::request(&store, clone_id, AuditionRules::default()).await?;
    }

    let mut scheduler = Scheduler::new(store.clone());
    let options = AuditionEvaluatorOptions::default();
    audition_evaluator::register(&mut scheduler, &store, &options)?;
    arena_entry::register(&mut scheduler, &store, &ArenaEntryOptions::default())?;
    let run = async |name: &str| {
        let report = scheduler.run_once(name, Duration::ZERO, &Shutdown::default()).await?;
        println!("{name} {}: {}", report.status, report.summary.unwrap_or_default());
        anyhow::Ok(())
    };
    run(audition_evaluator::NAME).await?;
    clock.advance(Duration::from_millis(u64::try_from(AuditionRules::default().window_ms)?));
    run(audition_evaluator::NAME).await?;
    run(arena_entry::NAME).await?;

    let members = Statement::from_string(store.reader().get_database_backend(), MEMBERS);
    for row in store.reader().query_all_raw(members).await? {
        println!("{}", row.try_get::<String>("", "line")?);
    }
    Ok(())
}

async fn make_clone(store: &Store, name: &str, profile: ProfileStatus) -> Result<i64, StoreError> {
    let (name, provider) = (name.to_owned(), ProviderKind::Noop);
    let clone = NewClone { user_id: 1, name, graph_hash: None, provider, budget: None };
    store
        .write("make a clone", |txn| {
            Box::pin(async move {
                let clone_id = clones::insert(txn, &clone, NOON).await?;
                clones::set_profile(txn, clone_id, profile, NOON).await?;
                Ok(clone_id)
            })
        })
        .await
}

const MEMBERS: &str = "
SELECT c.name || ' is in season ' || m.season_id || ', slot ' || m.slot_no
    || ', with an account of ' || a.initial || ' USD' AS line
FROM arena_clone_memberships m
JOIN clones c ON c.id = m.clone_id JOIN prop_accounts a ON a.id = m.account_id";
