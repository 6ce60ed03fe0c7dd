//! `cargo run -p examples --example fenced_effects`
//!
//! Effects that are kept with the lease or not at all: the second cycle is taken for dead while it works,
//! as a frozen process is, and what it writes afterwards does not land.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{
    Cadence, JobContext, JobDefinition, JobResult, RunSummary, Scheduler, Shutdown, Store,
    StoreError,
};
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, Statement};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    database.execute_unprepared("CREATE TABLE postings (cents INTEGER NOT NULL)").await?;
    let store = Store::from_connection(database.clone());

    let mut scheduler = Scheduler::new(store.clone());
    scheduler.register(
        JobDefinition::new("book_interest", Cadence::Manual),
        move |context: JobContext| book_interest(store.clone(), context),
    )?;
    for _ in 0..2 {
        let run = scheduler.run_once("book_interest", Duration::ZERO, &Shutdown::default()).await?;
        println!("{}: {}", run.status, run.error.unwrap_or_else(|| "booked".to_owned()));
    }
    let sum = "SELECT count(*) AS postings FROM postings";
    let sum = Statement::from_string(database.get_database_backend(), sum);
    let row = database.query_one_raw(sum).await?;
    println!("postings: {}", row.map_or(Ok(0), |row| row.try_get::<i64>("", "postings"))?);
    Ok(())
}

async fn book_interest(store: Store, context: JobContext) -> JobResult {
    let lease = context.lease().clone();
    if lease.key().token == 2 {
        another_takes_over(&store).await?;
    }
    store
        .write("book the interest", |txn| {
            Box::pin(async move {
                execute(txn, "INSERT INTO postings VALUES (5)").await?;
                lease.fence(txn).await // Its error undoes the posting.
            })
        })
        .await?;
    Ok(RunSummary::new().count("booked", 1))
}

/// What a host does that finds the lease expired.
async fn another_takes_over(store: &Store) -> Result<(), StoreError> {
    const TAKE: &str = "UPDATE leases SET token = token + 1, holder = 'another'";
    store.write("take over", |txn| Box::pin(execute(txn, TAKE))).await
}

async fn execute(txn: &DatabaseTransaction, sql: &str) -> Result<(), StoreError> {
    let executed = txn.execute_unprepared(sql).await;
    executed.map(|_| ()).map_err(|source| StoreError::database("book the interest", source))
}
