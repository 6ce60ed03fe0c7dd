//! Rows to enqueue into a table of one's own, and who enqueues them.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseTransaction;
use serde::Serialize;
use serde_json::{Map, Value};

use super::consumer::QueueError;
use super::enqueue::{
    EnqueueError, Enqueued, LARGEST_BATCH, LONGEST_PAYLOAD, MAX_ATTEMPTS, Receipt, Unique,
    check_key, check_size,
};
use super::table::{COLUMNS, KEY_COLUMNS, QueueTable, is_identifier};
use crate::clock::millis;
use crate::store::wake::QueueWaker;
use crate::store::{QueueControl, QueueRows, RowId, Store, Topic};

/// A row to enqueue into a table of one's own: your columns as the fields of a value, and what the
/// queue is to know of it.
///
/// ```
/// use std::time::Duration;
/// use scheduler_core::queue::{NewRow, Unique};
///
/// #[derive(serde::Serialize)]
/// struct Email { recipient: String }
///
/// let email = NewRow::new(&Email { recipient: "a@example.com".into() })?
///     .after(Duration::from_secs(60))
///     .unique(Unique::new("welcome/7"));
/// # drop(email);
/// # Ok::<(), scheduler_core::queue::EnqueueError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NewRow {
    pub(crate) columns: Map<String, Value>,
    pub(crate) priority: i32,
    /// Not before this instant; where there is none, not before `delay_ms` from now.
    pub(crate) run_at_ms: Option<i64>,
    pub(crate) delay_ms: i64,
    pub(crate) max_attempts: i32,
    pub(crate) unique: Option<Unique>,
    /// Of the columns, in bytes.
    size: usize,
}

impl NewRow {
    /// A row that is due at once: priority 0, ten attempts.
    ///
    /// The fields of `columns` are columns of your table: numbers, text, booleans, none for NULL, and
    /// JSON for anything else. A field `id` is the row's key, which rows with
    /// [text keys](QueueTable::text_ids) need. A column that no row of a call has is left to its
    /// default; one that only some have is NULL in the others.
    ///
    /// # Errors
    /// [`EnqueueError::Payload`] where the value is no JSON, [`EnqueueError::Row`] where it has no
    /// fields, [`EnqueueError::TooLarge`] where it is longer than [`LONGEST_PAYLOAD`].
    pub fn new(columns: &impl Serialize) -> Result<Self, EnqueueError> {
        let columns = serde_json::to_value(columns).map_err(EnqueueError::Payload)?;
        let size = columns.to_string().len();
        check_size("row", size, LONGEST_PAYLOAD)?;
        let Value::Object(columns) = columns else {
            return Err(EnqueueError::Row { reason: "it has no fields".to_owned() });
        };
        Ok(Self {
            columns,
            priority: 0,
            run_at_ms: None,
            delay_ms: 0,
            max_attempts: MAX_ATTEMPTS,
            unique: None,
            size,
        })
    }

    /// Lower first.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this instant, epoch milliseconds.
    #[must_use]
    pub fn at_ms(mut self, run_at_ms: i64) -> Self {
        self.run_at_ms = Some(run_at_ms);
        self
    }

    /// Not before this span has passed, by the store's clock.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        (self.run_at_ms, self.delay_ms) = (None, millis(delay));
        self
    }

    /// After this many failures the row is dead.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = i32::from(attempts);
        self
    }

    /// At most one row of the table with this key, which needs the columns that
    /// [`QueueTable`] names for it.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    pub(crate) fn unique_key(&self) -> Option<&str> {
        self.unique.as_ref().map(|unique| unique.key.as_str())
    }

    /// The key that the row brings along.
    pub(crate) fn id(&self) -> Option<RowId> {
        match self.columns.get("id")? {
            Value::String(id) => Some(RowId::Text(id.clone())),
            id => id.as_i64().map(RowId::Int),
        }
    }

    fn check(&self, table: &QueueTable) -> Result<(), EnqueueError> {
        if self.max_attempts < 1 {
            return Err(EnqueueError::NoAttempt);
        }
        check_key("unique_key", self.unique_key())?;
        for column in self.columns.keys() {
            if !is_identifier(column) {
                return Err(EnqueueError::Row {
                    reason: format!("`{column}` is no column's name"),
                });
            }
            let is_queues = COLUMNS.contains(&column.as_str())
                || KEY_COLUMNS.contains(&column.as_str())
                || OWN_COLUMNS.contains(&column.as_str());
            if is_queues && column != "id" {
                return Err(EnqueueError::Row {
                    reason: format!("`{column}` is the queue's to write"),
                });
            }
        }
        match (self.id(), table.text_ids) {
            (Some(RowId::Text(_)), true) | (Some(RowId::Int(_)), false) => Ok(()),
            (None, false) if !self.columns.contains_key("id") => Ok(()),
            (_, true) => Err(EnqueueError::Row { reason: "its `id` is no text".to_owned() }),
            (_, false) => Err(EnqueueError::Row { reason: "its `id` is no integer".to_owned() }),
        }
    }
}

/// What a queue writes besides, where a table has it.
const OWN_COLUMNS: [&str; 4] = ["checkpoint", "concurrency_slot", "lost_count", "queue_slot"];

/// Checks rows that are to be one statement.
pub(crate) fn check_rows(table: &QueueTable, rows: &[NewRow]) -> Result<(), EnqueueError> {
    rows.iter().try_for_each(|row| row.check(table))?;
    check_size("batch", rows.iter().map(|row| row.size).sum(), LARGEST_BATCH)
}

/// A queue over a table of one's own, for those who enqueue. Cheap to clone; no consumer of it is
/// needed in this process.
///
/// ```no_run
/// use scheduler_core::queue::{NewRow, QueueTable, TableQueue};
/// # #[derive(serde::Serialize)]
/// # struct Email { recipient: String }
/// # async fn insert_order(_: &sea_orm::DatabaseTransaction) -> Result<(), scheduler_core::StoreError> { Ok(()) }
/// # async fn example(store: scheduler_core::Store) -> Result<(), Box<dyn std::error::Error>> {
/// let emails = TableQueue::open(&store, QueueTable::new("emails")).await?;
///
/// // On its own: answered after the commit, and whoever waits is woken.
/// let welcome = NewRow::new(&Email { recipient: "a@example.com".into() })?;
/// let id = emails.enqueue(&[welcome]).await?.remove(0).id();
///
/// // With the order that it is about: both are there, or neither is.
/// let receipt = NewRow::new(&Email { recipient: "b@example.com".into() })?;
/// let inside = emails.clone();
/// let receipt = store
///     .write::<_, Box<dyn std::error::Error + Send + Sync>, _>("place an order", |txn| {
///         Box::pin(async move {
///             insert_order(txn).await?;
///             Ok(inside.enqueue_in(txn, &[receipt]).await?)
///         })
///     })
///     .await;
/// if let Ok(receipt) = receipt {
///     receipt.wake.send();
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TableQueue {
    rows: Arc<dyn QueueRows>,
    control: Arc<dyn QueueControl>,
    topic: Topic,
    waker: QueueWaker,
}

impl TableQueue {
    /// Checks the table's columns.
    ///
    /// # Errors
    /// A table that cannot be a queue, or the database.
    pub async fn open(store: &Store, table: QueueTable) -> Result<Self, QueueError> {
        let topic = table.topic();
        Ok(Self {
            rows: store.open_queue(table.clone()).await?,
            control: store.control_queue(table).await?,
            waker: QueueWaker::of(store.clone(), topic.clone()),
            topic,
        })
    }

    /// Enqueues rows, all or none, in one statement, and wakes who waits for them. Answers one per
    /// row, in their order, after the commit.
    ///
    /// # Errors
    /// A row that cannot be enqueued, a column that is missing, or the database: nothing was enqueued
    /// then, unless a server went silent ([`StoreError::NoAnswer`](crate::StoreError::NoAnswer)).
    ///
    /// # Cancellation
    /// Dropped before it is ready, the rows may still come.
    pub async fn enqueue(&self, rows: &[NewRow]) -> Result<Vec<Enqueued<RowId>>, EnqueueError> {
        let answers = self.rows.enqueue_rows(None, rows).await?;
        if answers.iter().any(|row| matches!(row, Enqueued::Inserted(_))) {
            self.waker.wake();
        }
        Ok(answers)
    }

    /// Enqueues rows in a transaction of the caller's: they are there when he commits. He sends the
    /// wake then.
    ///
    /// # Errors
    /// A row that cannot be enqueued, a column that is missing, or the database: roll back.
    pub async fn enqueue_in(
        &self,
        txn: &DatabaseTransaction,
        rows: &[NewRow],
    ) -> Result<Receipt<RowId>, EnqueueError> {
        let rows = self.rows.enqueue_rows(Some(txn), rows).await?;
        Ok(Receipt { rows, wake: self.waker.after_commit() })
    }

    /// The operator's side: pauses, and what becomes of dead rows.
    #[must_use]
    pub fn control(&self) -> Arc<dyn QueueControl> {
        Arc::clone(&self.control)
    }

    /// What there is news of when rows are enqueued here.
    #[must_use]
    pub fn topic(&self) -> Topic {
        self.topic.clone()
    }
}

impl std::fmt::Debug for TableQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableQueue").field("topic", &self.topic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(table: &QueueTable, columns: Value) -> Option<String> {
        let row = NewRow::new(&columns).expect("a row");
        check_rows(table, &[row]).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_no_row_of_the_table_is_refused_with_a_reason() {
        let numbers = QueueTable::new("emails");
        let texts = QueueTable::new("emails").text_ids();
        let row = |reason: &str| Some(format!("the row cannot be enqueued: {reason}"));
        let table = [
            (&numbers, json!({ "recipient": "a" }), None),
            (&numbers, json!({ "id": 7 }), None),
            (&numbers, json!({ "id": "7" }), row("its `id` is no integer")),
            (&numbers, json!({ "id": null }), row("its `id` is no integer")),
            (&texts, json!({ "id": "7" }), None),
            (&texts, json!({ "recipient": "a" }), row("its `id` is no text")),
            (&texts, json!({ "id": 7 }), row("its `id` is no text")),
            (&numbers, json!({ "status": "dead" }), row("`status` is the queue's to write")),
            (&numbers, json!({ "lost_count": 1 }), row("`lost_count` is the queue's to write")),
            (&numbers, json!({ "unique_key": "k" }), row("`unique_key` is the queue's to write")),
            (&numbers, json!({ "a; DROP": 1 }), row("`a; DROP` is no column's name")),
        ];
        for (queue, columns, expected) in table {
            assert_eq!(refusal(queue, columns.clone()), expected, "{columns}");
        }
        assert!(matches!(NewRow::new(&7), Err(EnqueueError::Row { .. })));
        let long = NewRow::new(&json!({ "a": "x".repeat(LONGEST_PAYLOAD) }));
        assert!(matches!(long, Err(EnqueueError::TooLarge { field: "row", .. })));
        let never = NewRow::new(&json!({})).expect("a row").max_attempts(0);
        assert!(matches!(check_rows(&numbers, &[never]), Err(EnqueueError::NoAttempt)));
        let keyless = NewRow::new(&json!({})).expect("a row").unique(Unique::new(""));
        assert!(matches!(check_rows(&numbers, &[keyless]), Err(EnqueueError::Key { .. })));
    }
}
