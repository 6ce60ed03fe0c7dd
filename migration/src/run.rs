//! Applying and looking, for all lists at once.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use scheduler_core::migration::SchedulerMigrator;
use scheduler_core::{Clock, StoreError, SystemClock};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

use crate::domain::DomainMigrator;
use crate::error::MigrateError;
use crate::history::{self, Applied, Status};

/// The lists of this program, in the order in which they are applied.
fn lists() -> Vec<List> {
    vec![List::of::<SchedulerMigrator>(), List::of::<DomainMigrator>()]
}

/// How long [`up`] waits for other writers before it gives up.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The pause before a busy database is asked again: a connection without `busy_timeout` would
/// otherwise spin.
const PAUSE_MS: i64 = 20;

/// The arena's number among the advisory locks of a Postgres database.
const ADVISORY_LOCK: i64 = 7_301_459;

/// Applies everything that is pending, of all lists, in one transaction: all of it or nothing.
///
/// Safe for any number of processes that start at once: the transaction is IMMEDIATE on SQLite
/// and holds an advisory lock on Postgres, so the first applies and the others find nothing to
/// do. A database that is current is not written to.
///
/// Returns what this call applied, in order.
///
/// # Errors
/// [`MigrateError::Newer`] when a newer program has migrated the database;
/// [`MigrateError::Busy`] when the write lock was not free within 30 seconds; the driver's error
/// otherwise.
///
/// # Cancellation
/// Dropping the future before it is ready rolls everything back.
pub async fn up(database: &DatabaseConnection) -> Result<Vec<Applied>, MigrateError> {
    up_lists(database, &lists(), LONGEST_WAIT).await
}

/// Compares the database with this program. Reads only: an empty database has everything
/// pending, and a read-only file will do. Migrations of a newer program are listed, not refused.
///
/// # Errors
/// The driver's error.
pub async fn status(database: &DatabaseConnection) -> Result<Status, MigrateError> {
    look(database, &lists()).await.map_err(|source| failed("read the migration history", source))
}

/// One list of migrations, its type erased.
struct List {
    table: String,
    known: Vec<String>,
    up: for<'t> fn(&'t DatabaseTransaction) -> UpFuture<'t>,
}

type UpFuture<'t> = Pin<Box<dyn Future<Output = Result<(), DbErr>> + Send + 't>>;

impl List {
    fn of<M: MigratorTrait + 'static>() -> Self {
        let known = M::migrations().iter().map(|migration| migration.name().to_owned()).collect();
        // sea-orm-migration's own `begin` is a savepoint in here, and on SQLite it begins none.
        Self { table: M::migration_table_name().to_string(), known, up: |txn| M::up(txn, None) }
    }
}

async fn up_lists(
    database: &DatabaseConnection,
    lists: &[List],
    longest_wait: Duration,
) -> Result<Vec<Applied>, MigrateError> {
    let began = Instant::now();
    loop {
        match attempt(database, lists).await {
            Err(MigrateError::Store(source)) if is_busy(&source) => {
                if began.elapsed() >= longest_wait {
                    return Err(MigrateError::Busy { waited: began.elapsed(), source });
                }
                SystemClock.sleep_until(SystemClock.now_ms() + PAUSE_MS).await;
            }
            outcome => return outcome,
        }
    }
}

async fn attempt(
    database: &DatabaseConnection,
    lists: &[List],
) -> Result<Vec<Applied>, MigrateError> {
    let read = |source| failed("read the migration history", source);
    let status = look(database, lists).await.map_err(read)?;
    refuse_newer(&status)?;
    if status.is_current() {
        return Ok(Vec::new());
    }
    let begin = |source| failed("begin the migration", source);
    let transaction = database.begin_with_options(immediate()).await.map_err(begin)?;
    match apply(&transaction, lists).await {
        Ok(applied) => {
            let commit = |source| failed("commit the migrations", source);
            transaction.commit().await.map_err(commit)?;
            Ok(applied)
        }
        Err(error) => {
            // The first error is the one to report; a failed rollback ends with the connection.
            let _: Result<(), DbErr> = transaction.rollback().await;
            Err(error)
        }
    }
}

async fn apply(txn: &DatabaseTransaction, lists: &[List]) -> Result<Vec<Applied>, MigrateError> {
    if txn.get_database_backend() == DbBackend::Postgres {
        let lock = format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK})");
        let wait = |source| failed("wait for the migration lock", source);
        txn.execute_unprepared(&lock).await.map_err(wait)?;
    }
    // Looked at again under the lock: another process may have applied everything meanwhile.
    let read = |source| failed("read the migration history", source);
    let status = look(txn, lists).await.map_err(read)?;
    refuse_newer(&status)?;
    for list in lists {
        (list.up)(txn).await.map_err(|source| failed("apply the migrations", source))?;
    }
    Ok(status.pending())
}

fn refuse_newer(status: &Status) -> Result<(), MigrateError> {
    let unknown = status.unknown();
    if unknown.is_empty() { Ok(()) } else { Err(MigrateError::Newer { unknown }) }
}

async fn look(database: &impl ConnectionTrait, lists: &[List]) -> Result<Status, DbErr> {
    let mut found = Vec::with_capacity(lists.len());
    for list in lists {
        let recorded = history::read_recorded(database, &list.table).await?;
        found.push(history::compare(&list.table, &list.known, &recorded));
    }
    Ok(Status { lists: found })
}

/// A full disk or a lost server is worth trying again too, but not from in here.
fn is_busy(error: &StoreError) -> bool {
    use sea_orm::DbErr::{Conn, ConnectionAcquire};
    matches!(error, StoreError::Database { source, .. } if !matches!(source, Conn(_) | ConnectionAcquire(_)))
        && error.is_transient()
}

fn failed(operation: &'static str, source: DbErr) -> MigrateError {
    StoreError::database(operation, source).into()
}

fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

#[cfg(test)]
mod tests;
