//! The one door to the writer: a bounded, named, IMMEDIATE transaction.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{
    DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use super::Store;
use super::discard::discard_broken;
use crate::error::{StoreError, is_busy};

/// The future of a write's body, borrowed from its transaction.
pub type WriteFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

/// How long a write waits for the writer before it gives up and names who holds it.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Between two tries while another process writes.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// The holder while the lock of the file is waited for.
const ANOTHER_PROCESS: &str = "another process";

/// Serialises this process's writes on SQLite and remembers who is inside. A server orders its
/// writers itself.
#[derive(Default)]
pub(super) struct Gate {
    turn: tokio::sync::Mutex<()>,
    holder: Mutex<&'static str>,
    /// The last write failed to end, or was dropped: its connection is to be looked at.
    suspect: AtomicBool,
}

impl Gate {
    fn holder(&self) -> &'static str {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, operation: &'static str) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = operation;
    }
}

impl Store {
    /// Runs `body` in one write transaction: committed when it returns `Ok`, rolled back when it
    /// returns an error or is dropped.
    ///
    /// `operation` is a verb phrase for errors ("submit a back-test"). Inside, call nothing of
    /// this library but what takes the transaction: another write would wait for this one.
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
    /// seconds; the driver's error of begin or commit.
    ///
    /// # Cancellation
    /// Dropping the future before it is ready rolls the transaction back.
    pub async fn write<T, E, F>(&self, operation: &'static str, body: F) -> Result<T, E>
    where
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> WriteFuture<'t, T, E> + Send,
        E: From<StoreError>,
    {
        let write = self.begin_write(operation).await?;
        let result = body(&write.transaction).await;
        write.end(result).await
    }

    /// The same door for this library's own operations, whose bodies borrow more than the
    /// transaction. Every way out goes through [`Write::end`] or rolls back.
    pub(super) async fn begin_write(
        &self,
        operation: &'static str,
    ) -> Result<Write<'_>, StoreError> {
        let gate = &self.inner.gate;
        let waiting = Instant::now();
        let busy = |holder| StoreError::WriterBusy { operation, holder, waited: waiting.elapsed() };
        let turn = if self.backend() == DbBackend::Sqlite {
            match tokio::time::timeout(LONGEST_WAIT, gate.turn.lock()).await {
                Ok(turn) => Some(turn),
                Err(_) => return Err(busy(gate.holder())),
            }
        } else {
            None
        };
        gate.enter(operation);
        let left = || LONGEST_WAIT.saturating_sub(waiting.elapsed());
        let failed = |source| StoreError::database(operation, source);
        if gate.suspect.load(Ordering::Acquire) {
            let Ok(looked_at) =
                tokio::time::timeout(left(), discard_broken(&self.inner.writer)).await
            else {
                return Err(busy("a connection of the pool"));
            };
            looked_at.map_err(failed)?;
            gate.suspect.store(false, Ordering::Release);
        }
        let transaction = loop {
            // SQLite's own wait for another process may be longer than ours.
            let begin = self.inner.writer.begin_with_options(immediate());
            match tokio::time::timeout(left(), begin).await {
                Ok(Ok(transaction)) => break transaction,
                Ok(Err(source)) if !is_busy(&source) => return Err(failed(source)),
                Ok(Err(_)) if !left().is_zero() => {
                    gate.enter(ANOTHER_PROCESS);
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Ok(Err(_)) | Err(_) => return Err(busy(ANOTHER_PROCESS)),
            }
        };
        gate.enter(operation);
        gate.suspect.store(true, Ordering::Release);
        Ok(Write { operation, transaction, gate, _turn: turn })
    }
}

/// A write transaction that holds the writer; dropped, it rolls back.
pub(super) struct Write<'s> {
    operation: &'static str,
    pub(super) transaction: DatabaseTransaction,
    gate: &'s Gate,
    _turn: Option<tokio::sync::MutexGuard<'s, ()>>,
}

impl Write<'_> {
    /// Commits what is `Ok`, rolls back what is not.
    pub(super) async fn end<T, E: From<StoreError>>(self, result: Result<T, E>) -> Result<T, E> {
        // The turn is given back at the return: whoever is next sees whether this end was clean.
        let Self { operation, transaction, gate, _turn } = self;
        match result {
            Ok(value) => {
                let committed = transaction.commit().await;
                committed.map_err(|source| StoreError::database(operation, source))?;
                gate.suspect.store(false, Ordering::Release);
                Ok(value)
            }
            Err(error) => {
                // The body's error is the one to report.
                if transaction.rollback().await.is_ok() {
                    gate.suspect.store(false, Ordering::Release);
                }
                Err(error)
            }
        }
    }
}

/// IMMEDIATE on SQLite (a deferred transaction that turns into a write fails at once under
/// contention); without meaning on Postgres.
pub(crate) fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}
