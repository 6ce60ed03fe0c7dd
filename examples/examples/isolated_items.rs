//! `cargo run -p examples --example isolated_items`
//!
//! A cycle over many accounts that does not stop for one: what fails backs off, is dead after its
//! last attempt, and waits for a person.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::store::{DeadLetterStore, LetterFilter};
use scheduler_core::{
    Backoff, Cadence, Item, ItemPolicy, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown,
    Store,
};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    let store = Store::from_connection(database);

    let repaired = Arc::new(AtomicBool::new(false));
    let is_repaired = Arc::clone(&repaired);
    let mut scheduler = Scheduler::new(store.clone());
    scheduler.register(
        JobDefinition::new("mark_accounts", Cadence::Manual),
        move |context: JobContext| mark_accounts(context, is_repaired.load(Ordering::SeqCst)),
    )?;
    let run = async || {
        let report =
            scheduler.run_once("mark_accounts", Duration::ZERO, &Shutdown::default()).await?;
        println!("{}: {}", report.status, report.summary.unwrap_or_default());
        anyhow::Ok(())
    };

    for _ in 0..4 {
        run().await?; // Two attempts of account 3, which is dead then and left out.
    }
    for letter in store.dead_letters(&LetterFilter::default()).await? {
        println!("{} of {}: {}, {}", letter.item_key, letter.job, letter.status, letter.last_error);
        repaired.store(true, Ordering::SeqCst);
        store.retry_letter(letter.id).await?;
    }
    run().await
}

async fn mark_accounts(context: JobContext, repaired: bool) -> scheduler_core::JobResult {
    // At once, so that the example ends soon; the default waits from 5 s up to 15 min.
    let backoff = Backoff { first: Duration::ZERO, ..Backoff::default() };
    let policy = ItemPolicy { max_attempts: 2, backoff };
    let isolation = context.isolation(policy).await?;
    for account in 1..=5 {
        let item = Item::new(account).payload(json!({ "owner": "ada" }));
        isolation.isolate(item, mark(account, repaired)).await;
    }
    Ok(isolation.finish(RunSummary::new()).await?)
}

async fn mark(account: u32, repaired: bool) -> anyhow::Result<()> {
    anyhow::ensure!(account != 3 || repaired, "account {account} has no price");
    Ok(())
}
