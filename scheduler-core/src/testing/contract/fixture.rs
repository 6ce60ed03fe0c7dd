//! What the rules need of a store that they are run on.

use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::DatabaseTransaction;

use crate::error::StoreError;
use crate::queue::QueueTable;
use crate::store::{QueueControl, QueueRows, SchedulerStore, Store};
use crate::testing::{JobEdit, ManualClock, QueueRow, RunRow};

/// An empty database with the scheduler's tables, two handles on it, and what is written there.
///
/// Each rule gets a fixture of its own, whose clock says [`NOON`](super::NOON). What is read
/// back is what another process would read.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The store as one process has it.
    fn store(&self) -> &dyn SchedulerStore;

    /// The same database as another process has it: nothing shared but what is written.
    fn other(&self) -> &dyn SchedulerStore;

    /// The clock of both.
    fn clock(&self) -> &ManualClock;

    /// The runs of a job, oldest slot first, then by attempt and trigger.
    async fn runs(&self, job: &str) -> Vec<RunRow>;

    /// Every row of the scheduler's tables as text, one line each, with all that it says; the
    /// rows of queues are not among them.
    async fn everything(&self) -> Vec<String>;

    /// What an operator does by hand.
    async fn edit(&self, edit: JobEdit);
}

/// A queue on the fixture's database.
///
/// Its table is named [`QUEUE`](super::QUEUE) and has, besides the columns of a [`QueueTable`]
/// with both limits and unique keys, but not `lost_count`, `label` (text) and `user_id` (bigint, null).
/// Its keys are integers.
#[async_trait]
pub trait QueueFixture: Fixture {
    /// The queue as each of the two processes has it. Called once, before any row is there.
    async fn open(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>);

    /// Commits queued rows; their keys count from 1, in this order.
    async fn enqueue(&self, rows: &[NewRow]);

    /// All rows, by key. [`QueueRow::columns`] may be left empty.
    async fn queue_rows(&self) -> Vec<QueueRow>;

    /// What another hand does to a row.
    async fn edit_row(&self, id: i64, edit: RowEdit);

    /// A queue of the library's own table as each of the two processes has it.
    async fn open_jobs(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>);

    /// The operator's side of a queue, as the other process has it.
    async fn control(&self, table: QueueTable) -> Arc<dyn QueueControl>;

    /// The rows of a queue of the library's own table, by key. [`QueueRow::columns`] may be left
    /// empty.
    async fn job_rows(&self, queue: &str) -> Vec<QueueRow>;
}

/// A database whose transactions callers use, and a table of theirs on it.
#[async_trait]
pub trait SqlFixture: QueueFixture {
    /// The store as each of the two processes has it.
    fn sql(&self) -> (&Store, &Store);

    /// Writes a row into a table of the caller's, in the caller's transaction.
    ///
    /// # Errors
    /// The database's.
    async fn note(&self, txn: &DatabaseTransaction, text: &str) -> Result<(), StoreError>;

    /// What was noted, oldest first, as the other process reads it.
    async fn notes(&self) -> Vec<String>;

    /// Inserts a queued row in the caller's transaction.
    ///
    /// # Errors
    /// The database's.
    async fn enqueue_in(&self, txn: &DatabaseTransaction, row: &NewRow) -> Result<(), StoreError>;
}

/// A row to enqueue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRow {
    /// The column `label`.
    pub label: String,
    /// The column `user_id`.
    pub user_id: Option<i64>,
    /// Lower first.
    pub priority: i32,
    /// Not before, epoch milliseconds.
    pub run_at_ms: i64,
}

/// What another hand does to a row of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowEdit {
    /// Asks for it to end.
    Cancel,
    /// Makes it one whose process died this often.
    Crashes(i32),
    /// Makes its claim one that was not yet a start.
    NotStarted,
}
