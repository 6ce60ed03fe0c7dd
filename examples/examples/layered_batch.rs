//! `cargo run -p examples --example layered_batch`
//!
//! Rows handled many at a time, with two of tower's layers around the handler: at most ten rows at once
//! in it, and none longer than a minute.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    BatchHandler, BatchOptions, Batched, Consumer, ConsumerOptions, HandleError, Handled, JobQueue,
    JobRow, Layered, NewJob, QueueTable, RowRequest,
};
use scheduler_core::{Scheduler, Shutdown, Store};
use sea_orm::Database;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;

struct Indexer;

#[async_trait]
impl BatchHandler for Indexer {
    type Row = JobRow;

    async fn handle(
        &self,
        rows: Vec<RowRequest<JobRow>>,
    ) -> Result<Vec<Result<Handled, HandleError>>, HandleError> {
        println!("{} documents in one request", rows.len());
        let index = |RowRequest { row, .. }: RowRequest<JobRow>| {
            let words: u32 = row.payload().map_err(HandleError::permanent)?;
            match words {
                0 => Err(HandleError::permanent("there is nothing in it")),
                _ => Ok(Handled::with_result(words.into())),
            }
        };
        Ok(rows.into_iter().map(index).collect())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    let store = Store::from_connection(database);

    let documents: Vec<NewJob> =
        (0..20_u32).map(|words| NewJob::new("document", &words)).collect::<Result<_, _>>()?;
    JobQueue::new(&store, "documents")?.enqueue(&documents).await?;

    let batches = BatchOptions { max_batch: 10, linger: Duration::from_millis(20) };
    let handler = Layered::new(Batched::new(Indexer, batches))
        .layer(ConcurrencyLimitLayer::new(10))
        .layer(TimeoutLayer::new(Duration::from_secs(60)));
    let mut scheduler = Scheduler::new(store.clone());
    let options = ConsumerOptions { concurrency: 20, ..ConsumerOptions::new("indexer") };
    Consumer::new(&store, QueueTable::jobs("documents"), options, handler)
        .await?
        .register(&mut scheduler)?;
    let run = scheduler.run_once("indexer", Duration::ZERO, &Shutdown::default()).await?;
    println!("{:?}", run.summary);
    Ok(())
}
