//! The one door to the writer: a bounded, named, IMMEDIATE transaction, or a share of one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::time::timeout;

use super::Store;
use super::gate::{Turn, commit};
use crate::error::StoreError;

/// Runs one of the library's own operations behind the door of [`Store::write`]: bounded as a whole,
/// and done again when a server ended its transaction for the sake of another.
///
/// `write_own!(store, operation, txn => body)`: the body is an expression that may await and may run
/// several times, each time with a new transaction; all of it is one future. A closure would do, if
/// the compiler could tell that its futures may change threads.
macro_rules! write_own {
    ($store:expr, $operation:expr, $txn:ident => $body:expr) => {{
        let (store, operation) = ($store, $operation);
        store
            .answered(operation, async {
                let mut conflicts = $crate::store::sea_orm::write::Conflicts::default();
                loop {
                    let write = store.begin_write(operation).await?;
                    let $txn = &*write.transaction;
                    let result = async { $body }.await;
                    match write.end(result).await {
                        Err(error) if conflicts.allow_another(operation, &error).await => {}
                        ended => break ended,
                    }
                }
            })
            .await
    }};
}
pub(super) use write_own;

/// How often a server ended a transaction for the sake of another.
#[derive(Default)]
pub(super) struct Conflicts(u32);

impl Conflicts {
    /// Whether to do it again; answers after a pause in which the other gets done.
    pub(super) async fn allow_another(
        &mut self,
        operation: &'static str,
        error: &StoreError,
    ) -> bool {
        if !error.is_conflict() || self.0 == MOST_CONFLICTS {
            return false;
        }
        self.0 += 1;
        tracing::debug!(operation, conflicts = self.0, "a transaction is done again");
        tokio::time::sleep(after_conflict(self.0, fastrand::f64())).await;
        true
    }
}

/// The future of a write's body, borrowed from its transaction.
pub type WriteFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

/// How often a transaction is done again that a server ended for the sake of another.
const MOST_CONFLICTS: u32 = 8;

impl Store {
    /// Runs `body` in a write transaction: kept when it returns `Ok`, undone when it returns an
    /// error or is dropped. `Ok` is answered after the commit.
    ///
    /// `operation` is a verb phrase for errors ("submit a back-test"). Inside, call nothing of
    /// this library but what takes the transaction: another write would wait for this one.
    ///
    /// On SQLite, writes that wait for each other share a commit, each in a savepoint. What belongs
    /// to the transaction as a whole is shared too: a constraint that is only checked at the commit
    /// (`DEFERRABLE INITIALLY DEFERRED`) fails all of them, and `ON CONFLICT ROLLBACK` undoes all of
    /// them. A body that waits for something else than its transaction has its commit to itself the
    /// next time.
    ///
    /// ```no_run
    /// # use sea_orm::ConnectionTrait;
    /// # async fn example(store: scheduler_core::Store) -> Result<(), scheduler_core::StoreError> {
    /// store
    ///     .write("archive old orders", |txn| {
    ///         Box::pin(async move {
    ///             txn.execute_unprepared("UPDATE orders SET archived = TRUE")
    ///                 .await
    ///                 .map_err(|source| scheduler_core::StoreError::database("archive orders", source))
    ///         })
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `body` returned; [`StoreError::WriterBusy`] when the writer was not free within two
    /// seconds; the driver's error of begin or commit; of a write that shared its commit also
    /// [`StoreError::Undone`] and [`StoreError::TooSlow`].
    ///
    /// # Cancellation
    /// Dropping the future before `body` has returned undoes what it did, and nothing else. Dropped
    /// after that, while the commit is waited for, the write is there as a whole or not at all.
    pub async fn write<T, E, F>(&self, operation: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> WriteFuture<'t, T, E> + Send,
        E: From<StoreError>,
    {
        let write = self.answered(operation, self.begin_write(operation)).await?;
        let result = write.bound(body(&write.transaction)).await;
        self.answered(operation, write.end(result)).await
    }

    pub(super) async fn begin_write(&self, operation: &'static str) -> Result<Write, StoreError> {
        if self.backend() != DbBackend::Sqlite {
            let failed = |source| StoreError::database(operation, source);
            let transaction = self.inner.writer.begin().await.map_err(failed)?;
            #[cfg(feature = "postgres")]
            if !self.inner.keeps_statements {
                super::pooler::forget_statements(&transaction).await.map_err(failed)?;
            }
            return Ok(Write { operation, transaction: Arc::new(transaction), turn: None });
        }
        let (turn, transaction) = self.inner.gate.enter(&self.inner.writer, operation).await?;
        Ok(Write { operation, transaction, turn: Some(turn) })
    }
}

/// A write transaction, or one's share of it; dropped, what was done is undone.
pub(super) struct Write {
    operation: &'static str,
    pub(super) transaction: Arc<DatabaseTransaction>,
    /// The turn at the writer of a SQLite file.
    turn: Option<Turn>,
}

impl Write {
    /// Waits for a body of a caller's as long as others may be kept waiting for it.
    async fn bound<T, E: From<StoreError>>(
        &self,
        body: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(patience) = self.turn.as_ref().and_then(Turn::patience) else { return body.await };
        let operation = self.operation;
        match timeout(patience, body).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::TooSlow { operation, waited: patience }.into()),
        }
    }

    /// Commits what is `Ok`, undoes what is not.
    pub(super) async fn end<T, E: From<StoreError>>(self, result: Result<T, E>) -> Result<T, E> {
        let Self { operation, transaction, turn } = self;
        match (turn, result) {
            (Some(turn), Ok(value)) => {
                drop(transaction);
                turn.keep().await?;
                Ok(value)
            }
            (Some(turn), Err(error)) => {
                drop(transaction);
                turn.undo().await;
                Err(error)
            }
            (None, Ok(value)) => {
                let committed = commit(transaction).await;
                committed.map_err(|source| StoreError::database(operation, source))?;
                Ok(value)
            }
            (None, Err(error)) => {
                // Dropping it would do, but later.
                if let Some(transaction) = Arc::into_inner(transaction) {
                    let _: Result<(), sea_orm::DbErr> = transaction.rollback().await;
                }
                Err(error)
            }
        }
    }
}

/// Who met in a conflict does not meet again: 5 ms, doubled each time, times a random share.
fn after_conflict(conflicts: u32, random: f64) -> Duration {
    let longest = Duration::from_millis(5) * 2_u32.saturating_pow(conflicts.min(6));
    longest.mul_f64(random.clamp(0.0, 1.0))
}

/// IMMEDIATE on SQLite (a deferred transaction that turns into a write fails at once under
/// contention); without meaning on Postgres.
pub(crate) fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}
