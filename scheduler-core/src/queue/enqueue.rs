//! Rows to enqueue into the library's table, what becomes of them, and who enqueues.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::{TableError, check_name};
use crate::clock::millis;
use crate::error::StoreError;
use crate::store::wake::QueueWaker;
use crate::store::{QueueControl, Store, Topic, Wake};

/// The longest payload: 1 MiB.
pub const LONGEST_PAYLOAD: usize = 1 << 20;
/// The longest unique or concurrency key, in bytes.
pub const LONGEST_KEY: usize = 255;
/// What one call may enqueue, in bytes of payloads: it is one statement.
pub const LARGEST_BATCH: usize = 64 << 20;

/// A row to enqueue.
///
/// ```
/// use std::time::Duration;
/// use scheduler_core::queue::{NewJob, Unique};
///
/// let welcome = NewJob::new("welcome", &serde_json::json!({ "user": 7 }))?
///     .priority(-1)
///     .after(Duration::from_secs(60))
///     .unique(Unique::new("welcome/7"));
/// # Ok::<(), scheduler_core::queue::EnqueueError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    pub(crate) kind: String,
    pub(crate) payload: String,
    pub(crate) payload_version: i32,
    pub(crate) priority: i32,
    /// Not before this instant; where there is none, not before `delay_ms` from now.
    pub(crate) run_at_ms: Option<i64>,
    pub(crate) delay_ms: i64,
    pub(crate) max_attempts: i32,
    pub(crate) concurrency_key: Option<String>,
    pub(crate) unique: Option<Unique>,
}

/// How often a row may fail unless it says otherwise.
pub(super) const MAX_ATTEMPTS: i32 = 10;

impl NewJob {
    /// A row of this kind that is due at once: priority 0, ten attempts, payload version 1.
    ///
    /// # Errors
    /// [`EnqueueError::Payload`] where the payload is no JSON, [`EnqueueError::TooLarge`] where it
    /// is longer than [`LONGEST_PAYLOAD`].
    pub fn new(kind: impl Into<String>, payload: &impl Serialize) -> Result<Self, EnqueueError> {
        let payload = serde_json::to_string(payload).map_err(EnqueueError::Payload)?;
        check_size("payload", payload.len(), LONGEST_PAYLOAD)?;
        Ok(Self {
            kind: kind.into(),
            payload,
            payload_version: 1,
            priority: 0,
            run_at_ms: None,
            delay_ms: 0,
            max_attempts: MAX_ATTEMPTS,
            concurrency_key: None,
            unique: None,
        })
    }

    /// Which shape the payload has. Hosts that know older ones only leave the row alone.
    #[must_use]
    pub fn version(mut self, version: i32) -> Self {
        self.payload_version = version;
        self
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

    /// Whom the row is counted for by a limit per key.
    #[must_use]
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.concurrency_key = Some(key.into());
        self
    }

    /// At most one row of the queue with this key.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// Whether the two differ in their payloads alone, and no key is to be unique.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        // Named one by one: whoever adds a column is asked here.
        let Self {
            kind,
            payload: _,
            payload_version,
            priority,
            run_at_ms,
            delay_ms,
            max_attempts,
            concurrency_key,
            unique,
        } = self;
        unique.is_none()
            && other.unique.is_none()
            && *kind == other.kind
            && *payload_version == other.payload_version
            && *priority == other.priority
            && *run_at_ms == other.run_at_ms
            && *delay_ms == other.delay_ms
            && *max_attempts == other.max_attempts
            && *concurrency_key == other.concurrency_key
    }

    pub(crate) fn unique_key(&self) -> Option<&str> {
        self.unique.as_ref().map(|unique| unique.key.as_str())
    }

    fn check(&self) -> Result<(), EnqueueError> {
        check_name("kind", &self.kind)?;
        if self.max_attempts < 1 {
            return Err(EnqueueError::NoAttempt);
        }
        check_key("unique_key", self.unique_key())?;
        check_key("concurrency_key", self.concurrency_key.as_deref())
    }
}

/// A key that at most one row of a queue has, for as long as it stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    pub(crate) key: String,
    pub(crate) until_started: bool,
    pub(crate) window_ms: Option<i64>,
}

impl Unique {
    /// Unique until its row is finished: succeeded, dead or cancelled. A dead row that is
    /// [retried](crate::store::QueueControl::retry_dead) is the one with the key again, unless another has
    /// been enqueued meanwhile.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), until_started: false, window_ms: None }
    }

    /// Unique among the rows that wait only: as soon as the row runs, another may be enqueued. For
    /// work that looks at the newest state, which may have changed while it runs.
    #[must_use]
    pub fn until_started(mut self) -> Self {
        self.until_started = true;
        self
    }

    /// Unique for at least this long after its enqueue, even if the row has ended.
    #[must_use]
    pub fn for_at_least(mut self, window: Duration) -> Self {
        self.window_ms = Some(millis(window));
        self
    }
}

/// What became of a row that was to be enqueued; its key is a [`RowId`](super::RowId) in a table of
/// your own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued<Id = i64> {
    /// It is there, under this id.
    Inserted(Id),
    /// Its unique key stands in the row with this id: nothing was inserted.
    Existing(Id),
}

impl<Id> Enqueued<Id> {
    /// The row that is there now.
    #[must_use]
    pub fn id(self) -> Id {
        match self {
            Self::Inserted(id) | Self::Existing(id) => id,
        }
    }
}

/// What an enqueue in a transaction of the caller's answers.
#[derive(Debug)]
#[must_use = "its wake is to be sent after the commit"]
pub struct Receipt<Id = i64> {
    /// One for each row, in their order.
    pub rows: Vec<Enqueued<Id>>,
    /// To be sent after the commit.
    pub wake: Wake,
}

/// Why nothing was enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// A field that is longer than it may be.
    #[error("`{field}` has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// The field; `batch` is all payloads of a call.
        field: &'static str,
        /// Its size in bytes.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A payload that cannot be written as JSON.
    #[error("the payload cannot be written as JSON")]
    Payload(#[source] serde_json::Error),
    /// A key that is empty or holds what no database stores.
    #[error("`{field}` is {value:?}; expected some text without NUL")]
    Key {
        /// The field.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// A row that could never run.
    #[error("`max_attempts` is 0; expected at least 1")]
    NoAttempt,
    /// A row that does not fit the table that it is for.
    #[error("the row cannot be enqueued: {reason}")]
    Row {
        /// Why not.
        reason: String,
    },
    /// The table lacks what a row asks for.
    #[error("table `{table}` cannot {purpose}: it has no column {}", missing.join(", "))]
    MissingColumns {
        /// The table.
        table: String,
        /// What needs the columns, as a verb phrase.
        purpose: &'static str,
        /// The columns, each in backticks.
        missing: Vec<String>,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] TableError),
    /// The database.
    #[error("the rows could not be enqueued")]
    Store(#[from] StoreError),
}

pub(super) fn check_key(field: &'static str, key: Option<&str>) -> Result<(), EnqueueError> {
    let Some(key) = key else { return Ok(()) };
    check_size(field, key.len(), LONGEST_KEY)?;
    if key.is_empty() || key.contains('\0') {
        return Err(EnqueueError::Key { field, value: key.to_owned() });
    }
    Ok(())
}

pub(super) fn check_size(
    field: &'static str,
    size: usize,
    limit: usize,
) -> Result<(), EnqueueError> {
    if size > limit { Err(EnqueueError::TooLarge { field, size, limit }) } else { Ok(()) }
}

/// Checks rows that are to be one statement.
pub(crate) fn check(jobs: &[NewJob]) -> Result<(), EnqueueError> {
    jobs.iter().try_for_each(NewJob::check)?;
    check_size("batch", jobs.iter().map(|job| job.payload.len()).sum(), LARGEST_BATCH)
}

/// One queue of the library's table, for those who enqueue. Cheap to clone; no consumer of it is
/// needed in this process.
///
/// ```no_run
/// use scheduler_core::queue::{JobQueue, NewJob};
/// # async fn insert_order(_: &sea_orm::DatabaseTransaction) -> Result<(), scheduler_core::StoreError> { Ok(()) }
/// # async fn example(store: scheduler_core::Store) -> Result<(), Box<dyn std::error::Error>> {
/// let mails = JobQueue::new(&store, "mails")?;
///
/// // On its own: answered after the commit, and whoever waits is woken.
/// let welcome = NewJob::new("welcome", &serde_json::json!({ "user": 7 }))?;
/// let id = mails.enqueue(&[welcome]).await?[0].id();
///
/// // With the order that it is about: both are there, or neither is.
/// let receipt = NewJob::new("receipt", &serde_json::json!({ "order": 8 }))?;
/// let inside = mails.clone();
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
#[derive(Debug, Clone)]
pub struct JobQueue {
    store: Store,
    queue: String,
    waker: QueueWaker,
}

impl JobQueue {
    /// The queue of this name.
    ///
    /// # Errors
    /// A name that no queue can have.
    pub fn new(store: &Store, queue: impl Into<String>) -> Result<Self, TableError> {
        let queue = queue.into();
        check_name("name of a queue", &queue)?;
        let topic = super::QueueTable::jobs(&queue).topic();
        let waker = QueueWaker::of(store.clone(), topic);
        Ok(Self { store: store.clone(), queue, waker })
    }

    /// Enqueues rows, all or none, and wakes who waits for them. Answers one per row, in their order,
    /// after the commit.
    ///
    /// What is enqueued at the same time by others in this process shares the statement and the
    /// commit.
    ///
    /// # Errors
    /// A row that cannot be enqueued, or the database: nothing of this call was enqueued then, unless
    /// a server was lost at the commit. Where it went silent ([`StoreError::NoAnswer`]), or its connection
    /// broke ([`StoreError::Database`] with an error of the connection), the rows may be there; a
    /// [unique key](NewJob::unique) makes a second try safe.
    ///
    /// # Cancellation
    /// Dropped before it is ready, the rows may still come.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
        check(jobs)?;
        let rows = self.store.enqueue_shared(&self.queue, jobs).await?;
        if rows.iter().any(|row| matches!(row, Enqueued::Inserted(_))) {
            self.waker.wake();
        }
        Ok(rows)
    }

    /// Enqueues rows on a connection of the caller's, usually in his transaction: they are there
    /// when he commits. He sends the wake then.
    ///
    /// All rows are one statement; one more for each unique key whose window has passed.
    ///
    /// # Errors
    /// A row that cannot be enqueued, or the database: roll back.
    pub async fn enqueue_in(
        &self,
        connection: &impl ConnectionTrait,
        jobs: &[NewJob],
    ) -> Result<Receipt, EnqueueError> {
        check(jobs)?;
        let rows = self.store.enqueue_in(connection, &self.queue, jobs).await?;
        Ok(Receipt { rows, wake: self.waker.after_commit() })
    }

    /// The operator's side: pauses, and what becomes of dead rows.
    #[must_use]
    pub fn control(&self) -> Arc<dyn QueueControl> {
        self.store.control_jobs(&self.queue)
    }

    /// What there is news of when rows are enqueued here.
    #[must_use]
    pub fn topic(&self) -> Topic {
        super::QueueTable::jobs(&self.queue).topic()
    }
}

/// A row of the library's table, as a handler gets it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct JobRow {
    /// Its id.
    pub id: i64,
    /// What is to be done.
    pub kind: String,
    /// About what, as JSON.
    pub payload: String,
    /// Which shape the payload has.
    pub payload_version: i32,
    /// What an earlier attempt [kept](super::QueueContext::checkpoint), as JSON.
    pub checkpoint: Option<String>,
}

impl JobRow {
    /// The payload as a value of one's own.
    ///
    /// # Errors
    /// The payload is of another shape.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.payload)
    }

    /// What an earlier attempt kept, as a value of one's own.
    ///
    /// # Errors
    /// The checkpoint is of another shape.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.checkpoint.as_deref().map(serde_json::from_str).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> NewJob {
        NewJob::new("mail", &1).expect("a job")
    }

    #[test]
    fn what_is_too_large_is_named_with_its_size_and_its_limit() {
        let payload = NewJob::new("mail", &"x".repeat(LONGEST_PAYLOAD)).expect_err("too large");
        let expected = "`payload` has 1048578 bytes; at most 1048576 are allowed";
        assert_eq!(payload.to_string(), expected);
        let key = job().unique(Unique::new("k".repeat(256)));
        let expected = "`unique_key` has 256 bytes; at most 255 are allowed";
        assert_eq!(check(&[key]).expect_err("too large").to_string(), expected);
        let long = NewJob::new("mail", &"x".repeat(LONGEST_PAYLOAD - 2)).expect("just fits");
        let error = check(&vec![long; 65]).expect_err("too large");
        assert!(matches!(error, EnqueueError::TooLarge { field: "batch", .. }), "{error}");
    }

    #[test]
    fn a_row_that_could_never_run_or_be_stored_is_refused() {
        let kind = NewJob::new("a mail", &1).expect("a job");
        assert!(matches!(check(&[kind]), Err(EnqueueError::Name(_))));
        assert!(matches!(check(&[job().max_attempts(0)]), Err(EnqueueError::NoAttempt)));
        for key in ["", "a\0b"] {
            let refused = check(&[job().unique(Unique::new(key))]);
            assert!(matches!(refused, Err(EnqueueError::Key { field: "unique_key", .. })));
            let refused = check(&[job().concurrency_key(key)]);
            assert!(matches!(refused, Err(EnqueueError::Key { field: "concurrency_key", .. })));
        }
        assert!(check(&[job().unique(Unique::new("ünï"))]).is_ok());
    }
}
