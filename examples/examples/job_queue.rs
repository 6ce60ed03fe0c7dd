//! `cargo run -p examples --example job_queue`
//!
//! A queue of the library's own table: rows are durable when `enqueue` returns, and worked off under
//! leases by whatever process has a consumer.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use async_trait::async_trait;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobQueue, JobRow, NewJob,
    QueueContext, QueueTable,
};
use scheduler_core::{Scheduler, Shutdown, Store};
use tokio::sync::mpsc;

struct Mailer(mpsc::Sender<i64>);

#[async_trait]
impl Handler for Mailer {
    type Row = JobRow;

    async fn handle(&self, row: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
        let recipient: String = row.payload().map_err(HandleError::permanent)?;
        println!("mail {} to {recipient}", row.id);
        self.0.send(row.id).await?;
        Ok(Handled::Done(None))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = sea_orm::Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    let store = Store::from_connection(database);

    let (sent, mut mails) = mpsc::channel(10);
    let mut scheduler = Scheduler::new(store.clone());
    let (table, options) = (QueueTable::jobs("mails"), ConsumerOptions::new("mailer"));
    Consumer::new(&store, table, options, Mailer(sent)).await?.register(&mut scheduler)?;
    let running = scheduler.start().await?;

    let queue = JobQueue::new(&store, "mails")?;
    queue.enqueue(&[NewJob::new("welcome", &"ada@example.org")?]).await?;
    mails.recv().await;
    running.stop(&Shutdown::default()).await;
    Ok(())
}
