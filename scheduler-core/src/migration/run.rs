//! Applying and looking, for all lists at once.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, TransactionTrait,
};
use sea_orm_migration::{MigratorTrait, MigratorTraitSelf};

use super::error::MigrateError;
use super::history::{self, Applied, Status};
use super::migrator::{HISTORY, InNamespace};
use crate::clock::{Clock, SystemClock};
use crate::error::{StoreError, is_busy};
use crate::store::{Namespace, immediate};

/// How long [`up`] waits for other writers before it gives up.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The pause before a busy database is asked again: a connection without `busy_timeout` would
/// otherwise spin.
const PAUSE_MS: i64 = 20;

/// This library's number among the advisory locks of a Postgres database.
const ADVISORY_LOCK: i64 = 7_301_459;

/// Applies everything that is pending, of all lists in their order, in one transaction: all of it
/// or nothing.
///
/// Safe for any number of processes that start at once: the transaction is IMMEDIATE on SQLite
/// and holds an advisory lock on Postgres, so the first applies and the others find nothing to
/// do. A database that is current is not written to.
///
/// Returns what this call applied, in order.
///
/// # Errors
/// [`MigrateError::SharedHistory`] for two lists with one history table; [`StoreError::Unsupported`]
/// for a schema on SQLite; [`MigrateError::Newer`]
/// when a newer program has migrated the database; [`MigrateError::Busy`] when the write lock was
/// not free within 30 seconds; the driver's error otherwise.
///
/// # Cancellation
/// Dropping the future before it is ready rolls everything back.
pub async fn up(
    database: &DatabaseConnection,
    lists: &[List],
) -> Result<Vec<Applied>, MigrateError> {
    up_within(database, lists, LONGEST_WAIT).await
}

/// Compares the database with this program. Reads only: an empty database has everything
/// pending, and a read-only file will do. Migrations of a newer program are listed, not refused.
///
/// # Errors
/// [`MigrateError::SharedHistory`] and [`StoreError::Unsupported`] as [`up`]; the driver's error
/// otherwise.
pub async fn status(database: &DatabaseConnection, lists: &[List]) -> Result<Status, MigrateError> {
    refuse(database, lists)?;
    look(database, lists).await.map_err(|source| failed("read the migration history", source))
}

/// One list of migrations with a history table of its own.
pub struct List {
    schema: Option<String>,
    table: String,
    known: Vec<String>,
    up: Box<dyn for<'t> Fn(&'t DatabaseTransaction) -> UpFuture<'t> + Send + Sync>,
}

type UpFuture<'t> = Pin<Box<dyn Future<Output = Result<(), DbErr>> + Send + 't>>;

impl List {
    /// The list of this migrator.
    #[must_use]
    pub fn of<M: MigratorTrait + 'static>() -> Self {
        let known = M::migrations().iter().map(|migration| migration.name().to_owned()).collect();
        let table = M::migration_table_name().to_string();
        // sea-orm-migration's own `begin` is a savepoint in here, and on SQLite it begins none.
        Self { schema: None, table, known, up: Box::new(|txn| M::up(txn, None)) }
    }

    /// The tables of the scheduler in a namespace, and their history beside them. A schema that is
    /// not there is created, for which the role needs CREATE on the database.
    #[must_use]
    pub fn scheduler(namespace: &Namespace) -> Self {
        let list = InNamespace(namespace.clone());
        Self {
            schema: namespace.of_schema().map(str::to_owned),
            table: namespace.called(HISTORY),
            known: list.migrations().iter().map(|one| one.name().to_owned()).collect(),
            up: Box::new(move |txn| {
                let list = list.clone();
                Box::pin(async move { list.apply(txn).await })
            }),
        }
    }

    /// What the history is called in reports.
    fn history(&self) -> String {
        let schema = self.schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
        format!("{schema}{}", self.table)
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { known, .. } = self;
        f.debug_struct("List")
            .field("history", &self.history())
            .field("known", known)
            .finish_non_exhaustive()
    }
}

async fn up_within(
    database: &DatabaseConnection,
    lists: &[List],
    longest_wait: Duration,
) -> Result<Vec<Applied>, MigrateError> {
    refuse(database, lists)?;
    let began = Instant::now();
    loop {
        match attempt(database, lists).await {
            Err(MigrateError::Store(source)) if is_locked(&source) => {
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

/// What cannot be a set of lists on this database.
fn refuse(database: &DatabaseConnection, lists: &[List]) -> Result<(), MigrateError> {
    let has_schemas = database.get_database_backend() == DbBackend::Postgres;
    for (position, list) in lists.iter().enumerate() {
        if list.schema.is_some() && !has_schemas {
            return Err(StoreError::NO_SCHEMA.into());
        }
        if lists[..position].iter().any(|earlier| earlier.history() == list.history()) {
            return Err(MigrateError::SharedHistory { table: list.history() });
        }
    }
    Ok(())
}

fn refuse_newer(status: &Status) -> Result<(), MigrateError> {
    let unknown = status.unknown();
    if unknown.is_empty() { Ok(()) } else { Err(MigrateError::Newer { unknown }) }
}

async fn look(database: &impl ConnectionTrait, lists: &[List]) -> Result<Status, DbErr> {
    let mut found = Vec::with_capacity(lists.len());
    for list in lists {
        let recorded =
            history::read_recorded(database, list.schema.as_deref(), &list.table).await?;
        found.push(history::compare(&list.history(), &list.known, &recorded));
    }
    Ok(Status { lists: found })
}

/// A full disk or a lost server is worth trying again too, but not from in here.
fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Database { source, .. } if is_busy(source))
}

fn failed(operation: &'static str, source: DbErr) -> MigrateError {
    StoreError::database(operation, source).into()
}

#[cfg(test)]
mod tests;
