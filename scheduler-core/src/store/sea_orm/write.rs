//! The one door to the writer: a bounded, named, IMMEDIATE transaction.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{
    DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::time::timeout;

use super::Store;
use super::discard::discard_broken;
use crate::error::{StoreError, is_busy};

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
                    let $txn = &write.transaction;
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

/// How long a write waits for the writer before it gives up and names who holds it.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Between two tries while another process writes.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// How often a transaction is done again that a server ended for the sake of another.
const MOST_CONFLICTS: u32 = 8;

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
        let write = self.answered(operation, self.begin_write(operation)).await?;
        let result = body(&write.transaction).await;
        self.answered(operation, write.end(result)).await
    }

    pub(super) async fn begin_write(
        &self,
        operation: &'static str,
    ) -> Result<Write<'_>, StoreError> {
        if self.backend() != DbBackend::Sqlite {
            let begun = self.inner.writer.begin().await;
            let transaction = begun.map_err(|source| StoreError::database(operation, source))?;
            return Ok(Write { operation, transaction, turn: None });
        }
        let (turn, transaction) = self.begin_alone(operation).await?;
        Ok(Write { operation, transaction, turn: Some(turn) })
    }

    /// Takes the gate, then the lock of the file, both within [`LONGEST_WAIT`].
    async fn begin_alone(
        &self,
        operation: &'static str,
    ) -> Result<(Turn<'_>, DatabaseTransaction), StoreError> {
        let gate = &self.inner.gate;
        let waiting = Instant::now();
        let left = || LONGEST_WAIT.saturating_sub(waiting.elapsed());
        let busy = |holder| StoreError::WriterBusy { operation, holder, waited: waiting.elapsed() };
        let failed = |source| StoreError::database(operation, source);
        let Ok(guard) = timeout(LONGEST_WAIT, gate.turn.lock()).await else {
            return Err(busy(gate.holder()));
        };
        let turn = Turn { gate, _guard: guard };
        gate.enter(operation);
        if gate.suspect.load(Ordering::Acquire) {
            let Ok(looked_at) = timeout(left(), discard_broken(&self.inner.writer)).await else {
                return Err(busy("a connection of the pool"));
            };
            looked_at.map_err(failed)?;
            gate.suspect.store(false, Ordering::Release);
        }
        loop {
            // SQLite's own wait for another process may be longer than ours.
            match timeout(left(), self.inner.writer.begin_with_options(immediate())).await {
                Ok(Ok(transaction)) => {
                    gate.enter(operation);
                    gate.suspect.store(true, Ordering::Release);
                    return Ok((turn, transaction));
                }
                Ok(Err(source)) if !is_busy(&source) => return Err(failed(source)),
                Ok(Err(_)) if !left().is_zero() => {
                    gate.enter(ANOTHER_PROCESS);
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Ok(Err(_)) | Err(_) => return Err(busy(ANOTHER_PROCESS)),
            }
        }
    }
}

/// The right to write to a SQLite file from this process.
struct Turn<'s> {
    gate: &'s Gate,
    _guard: tokio::sync::MutexGuard<'s, ()>,
}

impl Turn<'_> {
    /// The transaction ended as the driver thinks.
    fn ended_cleanly(&self) {
        self.gate.suspect.store(false, Ordering::Release);
    }
}

/// A write transaction that holds the writer; dropped, it rolls back.
pub(super) struct Write<'s> {
    operation: &'static str,
    pub(super) transaction: DatabaseTransaction,
    turn: Option<Turn<'s>>,
}

impl Write<'_> {
    /// Commits what is `Ok`, rolls back what is not.
    pub(super) async fn end<T, E: From<StoreError>>(self, result: Result<T, E>) -> Result<T, E> {
        let Self { operation, transaction, turn } = self;
        let ended = match &result {
            Ok(_) => transaction.commit().await,
            Err(_) => transaction.rollback().await,
        };
        if let (Ok(()), Some(turn)) = (&ended, &turn) {
            turn.ended_cleanly();
        }
        // The body's error, where there is one, is the one to report.
        let value = result?;
        ended.map_err(|source| StoreError::database(operation, source))?;
        Ok(value)
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
