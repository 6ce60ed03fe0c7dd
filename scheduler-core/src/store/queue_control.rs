//! What an operator does to a queue: pauses it, and decides about dead rows.

use async_trait::async_trait;

use super::RowId;
use crate::error::StoreError;

/// The operator's side of one queue. What is decided here is seen by all hosts.
#[async_trait]
pub trait QueueControl: Send + Sync + 'static {
    /// Pauses the queue or lets it go on. While it is paused, nothing is claimed; what runs goes on.
    /// Answers whether that changed anything.
    ///
    /// # Errors
    /// The database's.
    async fn set_paused(&self, paused: bool) -> Result<bool, StoreError>;

    /// Whether it is paused.
    ///
    /// # Errors
    /// The database's.
    async fn is_paused(&self) -> Result<bool, StoreError>;

    /// Queues dead rows again, due at once, as if they had never been tried; what their last error was
    /// stays in the row. Answers how many.
    ///
    /// # Errors
    /// The database's; nothing is changed then.
    async fn retry_dead(&self, which: &DeadRows) -> Result<u64, StoreError>;

    /// Ends dead rows as cancelled: they are nobody's business any more. Answers how many.
    ///
    /// # Errors
    /// The database's; nothing is changed then.
    async fn discard_dead(&self, which: &DeadRows) -> Result<u64, StoreError>;
}

/// Which of the dead rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadRows {
    /// Those with these keys, as far as they are dead.
    Ids(Vec<RowId>),
    /// The oldest by their keys, at most this many.
    Oldest(u32),
}
