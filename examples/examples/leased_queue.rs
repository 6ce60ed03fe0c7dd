//! `cargo run -p examples --example leased_queue`
//!
//! A table of one's own as a durable queue: rows are enqueued in the transaction that makes them
//! necessary, claimed under leases, retried, and kept with their result.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use async_trait::async_trait;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, NewRow, QueueContext, QueueTable,
    Receipt, RowId, TableQueue,
};
use scheduler_core::{Scheduler, Shutdown, Store};
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, FromQueryResult, Statement};
use tokio::sync::mpsc;

#[derive(FromQueryResult)]
struct Email {
    id: i64,
    recipient: String,
}

struct Mailer {
    handled: mpsc::Sender<i64>,
}

#[async_trait]
impl Handler for Mailer {
    type Row = Email;

    async fn handle(&self, email: Email, context: QueueContext) -> Result<Handled, HandleError> {
        println!("attempt {} to mail `{}`", context.attempt(), email.recipient);
        self.handled.send(email.id).await?;
        if !email.recipient.contains('@') {
            return Err(HandleError::permanent("that is no address"));
        }
        Ok(Handled::with_result(serde_json::json!({ "sent_at_ms": context.clock().now_ms() })))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = Database::connect("sqlite::memory:").await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    database.execute_unprepared(TABLES).await?;
    let store = Store::from_connection(database);

    let (handled, mut done) = mpsc::channel(10);
    let mut scheduler = Scheduler::new(store.clone());
    let table = QueueTable::new("emails").columns(["recipient"]).limit_per_key("recipient", 1);
    let mails = TableQueue::open(&store, table.clone()).await?;
    let consumer = Consumer::new(&store, table, ConsumerOptions::new("mailer"), Mailer { handled });
    consumer.await?.register(&mut scheduler)?;
    let running = scheduler.start().await?;

    let receipt = store
        .write("place the orders", |txn| Box::pin(async move { place_orders(txn, &mails).await }))
        .await?;
    println!("{:?}", receipt.rows);
    receipt.wake.send(); // After the commit. Dropped, the safety poll finds the rows.

    for _ in 0..2 {
        done.recv().await;
    }
    running.stop(&Shutdown::default()).await; // What was claimed ends and is recorded.
    let rows = Statement::from_string(store.reader().get_database_backend(), ENDS);
    for row in store.reader().query_all_raw(rows).await? {
        println!("{}", row.try_get::<String>("", "line")?);
    }
    Ok(())
}

/// An order and the mail about it: both are there, or neither is.
async fn place_orders(
    txn: &DatabaseTransaction,
    mails: &TableQueue,
) -> anyhow::Result<Receipt<RowId>> {
    txn.execute_unprepared("INSERT INTO orders VALUES (1), (2)").await?;
    let mail = |recipient| NewRow::new(&serde_json::json!({ "recipient": recipient }));
    Ok(mails.enqueue_in(txn, &[mail("ada@example.org")?, mail("nobody")?]).await?)
}

const ENDS: &str = "
SELECT recipient || ': ' || status || ', ' || coalesce(result, last_error) AS line
FROM emails ORDER BY id";

/// The columns that make a table a queue, and the indexes that make its limits true.
const TABLES: &str = "
CREATE TABLE orders (id INTEGER PRIMARY KEY);
CREATE TABLE emails (
  id INTEGER PRIMARY KEY,
  recipient TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued',
  priority INTEGER NOT NULL DEFAULT 0,
  run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL DEFAULT 3,
  crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT,
  lease_token BIGINT NOT NULL DEFAULT 0,
  lease_expires_at_ms BIGINT,
  started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
  progress_pct INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  result TEXT,
  started_at_ms BIGINT,
  completed_at_ms BIGINT,
  concurrency_slot INTEGER
);
CREATE INDEX emails_claim ON emails (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX emails_suspect ON emails (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX emails_leases ON emails (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX emails_slots ON emails (recipient, concurrency_slot) WHERE status = 'running';
";
