//! Rows of `dead_letters`: the items of cycles that failed.
//!
//! ```text
//!            failure, attempts left             failure, none left
//!   (no row) ───────────────▶ backing_off ─────────────────────────▶ dead
//!                                │  ▲                                  │
//!                        success │  │ failure, attempts left           │ retry
//!                                ▼  │                                  ▼
//!   resolved ◀─────────────────────┴──────── success ─────────── retrying
//! ```
//!
//! `retrying` fails like `backing_off`: it is `dead` again when no attempt is left. A person may
//! discard whatever is not resolved, and retry what is discarded.

use async_trait::async_trait;
use serde_json::Value;

use crate::error::StoreError;
use crate::lease::LeaseKey;
use crate::run::words;

words! {
    /// How an item that failed stands.
    LetterStatus {
        /// It is tried again at its time.
        BackingOff = "backing_off",
        /// It is not tried again until a person says so.
        Dead = "dead",
        /// A person wants it tried again now.
        Retrying = "retrying",
        /// A person does not want it tried again.
        Discarded = "discarded",
        /// It came right; its next failure counts from one.
        Resolved = "resolved",
    }
}

words! {
    /// What failed.
    LetterKind {
        /// An item of a job's cycle.
        Item = "item",
    }
}

/// Rows of `dead_letters`.
#[async_trait]
pub trait DeadLetterStore {
    /// Reads how the items of a job stand that did not come right yet, by key: one statement.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn standings(&self, job: &str) -> Result<Vec<Standing>, StoreError>;

    /// Writes what became of a cycle's items in one transaction that is fenced by the cycle's
    /// lease, with a number of statements that does not depend on theirs. Answers whether the lease
    /// was held; if not, nothing was written.
    ///
    /// Keys are unique over both lists. An item that a person discarded meanwhile stays discarded.
    ///
    /// # Errors
    /// The database's; nothing is changed then.
    async fn settle_items(&self, settlement: &ItemSettlement) -> Result<bool, StoreError>;

    /// Lists letters, the latest failure first.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>, StoreError>;

    /// Has an item tried again in the next cycle of its job, whatever its attempts; if it fails, they
    /// count on. Answers whether there is such a letter that is not resolved.
    ///
    /// # Errors
    /// The database's.
    async fn retry_letter(&self, id: i64) -> Result<bool, StoreError>;

    /// Has an item not tried again until somebody retries it. Answers whether there is such a letter
    /// that is not resolved.
    ///
    /// # Errors
    /// The database's.
    async fn discard_letter(&self, id: i64) -> Result<bool, StoreError>;
}

/// An item that failed, as people see it. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number, for [`DeadLetterStore::retry_letter`] and its like.
    pub id: i64,
    /// What failed.
    pub kind: LetterKind,
    /// The job whose cycle it is an item of.
    pub job: String,
    /// Which item.
    pub item_key: String,
    /// Failures since it last came right; 0 when it is resolved.
    pub attempts: i32,
    /// The first of the latest failures in a row.
    pub first_failed_at_ms: i64,
    /// The latest failure.
    pub last_failed_at_ms: i64,
    /// When it is tried again; `None` when it is not.
    pub next_attempt_at_ms: Option<i64>,
    /// Why it failed last: the whole chain, bounded.
    pub last_error: String,
    /// What its job said about it.
    pub payload: Option<Value>,
    /// How it stands.
    pub status: LetterStatus,
}

/// Which letters to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterFilter {
    /// Only of this job.
    pub job: Option<String>,
    /// Only with this status; `None` lists all but the resolved.
    pub status: Option<LetterStatus>,
    /// At most this many.
    pub limit: u32,
}

impl Default for LetterFilter {
    /// At most 100 of all jobs that are not resolved.
    fn default() -> Self {
        Self { job: None, status: None, limit: 100 }
    }
}

impl LetterFilter {
    pub(crate) fn admits(&self, status: LetterStatus) -> bool {
        match self.status {
            Some(wanted) => status == wanted,
            None => status != LetterStatus::Resolved,
        }
    }
}

/// How an item of a job stands that did not come right yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which item.
    pub item_key: String,
    /// How it stands; never resolved.
    pub status: LetterStatus,
    /// Failures since it last came right.
    pub attempts: i32,
    /// When it is tried again, epoch milliseconds; `None` when it is not.
    pub next_attempt_at_ms: Option<i64>,
    /// Whether that time has come.
    pub due: bool,
}

/// What became of a cycle's items.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemSettlement {
    /// The grant of the cycle.
    pub key: LeaseKey,
    /// The job.
    pub job: String,
    /// A failure that brings an item to this many attempts makes it dead.
    pub max_attempts: i32,
    /// Items to charge, by key.
    pub failures: Vec<ItemFailure>,
    /// Keys of items that came right, in order.
    pub resolved: Vec<String>,
}

/// A failure to charge to an item.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemFailure {
    /// Which item.
    pub item_key: String,
    /// How long it is left alone, unless it is dead; milliseconds.
    pub delay_ms: i64,
    /// Why it failed.
    pub error: String,
    /// What its job said about it.
    pub payload: Option<Value>,
}
