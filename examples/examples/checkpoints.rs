//! `cargo run -p examples --example checkpoints`
//!
//! Work that is enqueued once and goes on where it was cut off: a unique key with a typed answer, and a
//! checkpoint, so that an attempt goes on where the last one was.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobQueue, JobRow, NewJob,
    QueueContext, QueueTable, Unique,
};
use scheduler_core::{Backoff, Scheduler, Shutdown, Store};
use sea_orm::Database;
use tokio::sync::mpsc;

struct Writer {
    written: mpsc::Sender<i64>,
}

#[async_trait]
impl Handler for Writer {
    type Row = JobRow;

    async fn handle(&self, row: JobRow, context: QueueContext) -> Result<Handled, HandleError> {
        let chapters: u32 = row.payload().map_err(HandleError::permanent)?;
        let done: u32 = row.checkpoint()?.unwrap_or_default();
        for chapter in done + 1..=chapters {
            println!("attempt {}: chapter {chapter}", context.attempt());
            context.checkpoint(&chapter).await?; // Durable when it returns.
            if chapter == 2 && context.attempt() == 1 {
                return Err("out of ink".into());
            }
        }
        self.written.send(row.id).await?;
        Ok(Handled::with_result(chapters.into()))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    let store = Store::from_connection(database);

    let (written, mut reports) = mpsc::channel(1);
    let mut scheduler = Scheduler::new(store.clone());
    let table = QueueTable::jobs("reports").kind("report", 1);
    let options = ConsumerOptions {
        backoff: Backoff { first: Duration::from_millis(20), ..Backoff::default() },
        ..ConsumerOptions::new("writer")
    };
    Consumer::new(&store, table, options, Writer { written }).await?.register(&mut scheduler)?;
    let running = scheduler.start().await?;

    let queue = JobQueue::new(&store, "reports")?;
    let report = || {
        NewJob::new("report", &3)
            .map(|job| job.unique(Unique::new("2026-11").for_at_least(Duration::from_secs(3_600))))
    };
    for _ in 0..2 {
        println!("{:?}", queue.enqueue(&[report()?]).await?[0]);
    }
    reports.recv().await;
    println!("{:?}", queue.enqueue(&[report()?]).await?[0]); // Its hour is not over.
    running.stop(&Shutdown::default()).await;
    Ok(())
}
