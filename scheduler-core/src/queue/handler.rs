//! What runs a row, what it is told, and what it can answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{DatabaseTransaction, FromQueryResult};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::StoreError;
use crate::job::JobError;
use crate::lease::FenceError;
use crate::store::{QueueRows, RowGrant, RowId};

/// Runs one row at a time; several rows run at once.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The row: `id` and the columns that the [`QueueTable`](super::QueueTable) names.
    type Row: FromQueryResult + Send;

    /// Runs a row.
    ///
    /// It watches [`QueueContext::cancelled`] and returns soon after it. A panic counts as an
    /// error. Work on the CPU belongs into [`QueueContext::compute`].
    ///
    /// # Errors
    /// Any error (`?` works) is tried again later while attempts are left;
    /// [`HandleError::permanent`] is not.
    async fn handle(&self, row: Self::Row, context: QueueContext) -> Result<Handled, HandleError>;
}

/// How a row ended well.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Handled {
    /// Done; the result is kept in the row.
    Done(Option<Value>),
    /// Recorded already, in a transaction of the handler's own that has committed: what
    /// [`QueueContext::succeed_in`] answered.
    Recorded(Recorded),
    /// Not now: queued again after this span, without using up an attempt.
    Snooze(Duration),
}

/// The proof that a row was made a success in a transaction, for its handler to return after the
/// commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded(pub(crate) ());

impl Handled {
    /// Done, with a result.
    #[must_use]
    pub fn with_result(result: Value) -> Self {
        Self::Done(Some(result))
    }
}

/// How a row failed. Made from any error by `?`; it is not an error type itself.
#[derive(Debug)]
pub struct HandleError {
    pub(crate) source: JobError,
    pub(crate) permanent: bool,
    pub(crate) retry_after: Option<Duration>,
}

impl HandleError {
    /// Trying again cannot help: the row is dead at once.
    #[must_use]
    pub fn permanent(source: impl Into<JobError>) -> Self {
        Self { source: source.into(), permanent: true, retry_after: None }
    }

    /// Try again, but not before this span has passed.
    #[must_use]
    pub fn retry_after(source: impl Into<JobError>, span: Duration) -> Self {
        Self { source: source.into(), permanent: false, retry_after: Some(span) }
    }
}

impl<E: Into<JobError>> From<E> for HandleError {
    fn from(source: E) -> Self {
        Self { source: source.into(), permanent: false, retry_after: None }
    }
}

/// What a handler is told about its row; cheap to clone.
#[derive(Clone)]
pub struct QueueContext {
    pub(crate) grant: RowGrant,
    pub(crate) attempt: i32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cancellation: CancellationToken,
    pub(crate) progress: Arc<AtomicI64>,
    pub(crate) rows: Arc<dyn QueueRows>,
}

impl QueueContext {
    /// The row's id.
    #[must_use]
    pub fn id(&self) -> &RowId {
        &self.grant.id
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> i32 {
        self.attempt
    }

    /// The library's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Cancelled when the handler should return: a stop, a cancel request, its deadline, or a
    /// lost lease.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Returns when the handler should return. Cancellation safe.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Notes how far the row is, in per cent; it is written with the next renewal.
    pub fn progress(&self, percent: u8) {
        self.progress.store(i64::from(percent.min(100)), Ordering::Release);
    }

    /// Keeps what was done so far: the next attempt of the row, after an error, a stop or a crash, finds
    /// it in the column `checkpoint`. It is durable when this returns.
    ///
    /// # Errors
    /// The lease is lost; the database failed; the value is no JSON; the table has no such column.
    pub async fn checkpoint(&self, value: &impl Serialize) -> Result<(), FenceError> {
        self.keep_checkpoint(None, value).await
    }

    /// Keeps what was done so far with what it did, in the caller's own transaction. It is a
    /// [`fence`](Self::fence), too.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint): roll back.
    pub async fn checkpoint_in(
        &self,
        txn: &DatabaseTransaction,
        value: &impl Serialize,
    ) -> Result<(), FenceError> {
        self.keep_checkpoint(Some(txn), value).await
    }

    async fn keep_checkpoint(
        &self,
        txn: Option<&DatabaseTransaction>,
        value: &impl Serialize,
    ) -> Result<(), FenceError> {
        let checkpoint = serde_json::to_string(value).map_err(|_| StoreError::Unsupported {
            operation: "keep a checkpoint",
            reason: "the value cannot be written as JSON",
        })?;
        let kept = self.rows.keep_checkpoint(txn, &self.grant, &checkpoint).await?;
        if kept { Ok(()) } else { Err(self.lost()) }
    }

    /// Makes the row a success in the caller's own transaction, with whatever else it writes: both are
    /// there, or neither is. It is a [`fence`](Self::fence), too.
    ///
    /// Return what it answers when the transaction has committed. If the commit failed, return the
    /// error: the row is tried again.
    ///
    /// ```no_run
    /// # use scheduler_core::Store;
    /// # use scheduler_core::queue::{Handled, HandleError, QueueContext};
    /// # async fn pay(_: &sea_orm::DatabaseTransaction) -> Result<(), scheduler_core::FenceError> { Ok(()) }
    /// async fn handle(store: &Store, context: QueueContext) -> Result<Handled, HandleError> {
    ///     let paid = store.write("pay", |txn| {
    ///         Box::pin(async move {
    ///             pay(txn).await?;
    ///             context.succeed_in(txn, None).await
    ///         })
    ///     });
    ///     Ok(Handled::Recorded(paid.await?))
    /// }
    /// ```
    ///
    /// # Errors
    /// The lease is lost, or the database failed: roll back.
    pub async fn succeed_in(
        &self,
        txn: &DatabaseTransaction,
        result: Option<Value>,
    ) -> Result<Recorded, FenceError> {
        let result = result.map(|result| result.to_string());
        let succeeded = self.rows.succeed_in(txn, &self.grant, result.as_deref()).await?;
        if succeeded { Ok(Recorded(())) } else { Err(self.lost()) }
    }

    fn lost(&self) -> FenceError {
        FenceError::Lost { name: self.grant.id.to_string(), token: self.grant.token }
    }

    /// Proves inside the caller's own transaction that the row is still leased to this process:
    /// effects committed with it cannot outlive the lease. As
    /// [`Lease::fence`](crate::Lease::fence).
    ///
    /// # Errors
    /// The lease is lost, or the database failed: roll back.
    pub async fn fence(&self, txn: &DatabaseTransaction) -> Result<(), FenceError> {
        if self.rows.fence(txn, &self.grant).await? { Ok(()) } else { Err(self.lost()) }
    }
}

impl std::fmt::Debug for QueueContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueContext")
            .field("grant", &self.grant)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
