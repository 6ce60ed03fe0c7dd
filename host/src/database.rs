//! Opening the database: as it is, for commands on its tables, or for a process that stays.

use migration::MigrateError;
use scheduler_core::{Store, StoreError};

use crate::config::DatabaseUrl;
use crate::failure::Failure;

/// Opens the database as it is and creates a SQLite file that is not there.
///
/// # Errors
/// [`Failure::Usage`] for an address of another kind, or a database that cannot be opened.
pub async fn open(url: &DatabaseUrl) -> Result<Store, Failure> {
    Store::connect(url.as_str()).await.map_err(|error| {
        let (cause, expected) = match error {
            StoreError::Url { reason, .. } => {
                return Failure::usage(format!(
                    "--database-url (DATABASE_URL) is `{url}`: {reason}"
                ));
            }
            // What was tried is said below already.
            StoreError::Database { source, .. } => (anyhow::Error::from(source), expected(url)),
            error => (error.into(), expected(url)),
        };
        Failure::Usage(cause.context(format!(
            "--database-url (DATABASE_URL) is `{url}`, which cannot be opened; expected {expected}"
        )))
    })
}

fn expected(url: &DatabaseUrl) -> &'static str {
    if url.as_str().starts_with("sqlite:") {
        "a SQLite file, or the name of a new one in a folder that is there"
    } else {
        "a PostgreSQL server that answers, with a database and a user of that name, and with the TLS \
         that `sslmode` asks for"
    }
}

/// Opens the database for a command that works on its tables and does not migrate.
///
/// # Errors
/// As [`open`]; [`Failure::Usage`] when migrations are pending. A database that a newer program
/// has migrated is worth a warning only: a schema works with the version before it.
pub async fn open_current(url: &DatabaseUrl) -> Result<Store, Failure> {
    let store = open(url).await?;
    let checked = require_schema(&store).await;
    close_unless_ok(&store, checked).await?;
    Ok(store)
}

/// Opens the database for a process that stays and brings it up to date.
///
/// # Errors
/// As [`open`]; [`Failure::Usage`] when a newer program has migrated the database.
pub async fn open_migrated(url: &DatabaseUrl) -> Result<Store, Failure> {
    let store = open(url).await?;
    let migrated = migration::up(store.reader()).await.map_err(|error| match error {
        MigrateError::Newer { .. } => {
            Failure::usage(format!("{error}; --no-migrate goes on with the database as it is"))
        }
        error => error.into(),
    });
    let applied = close_unless_ok(&store, migrated).await?;
    if !applied.is_empty() {
        tracing::info!(applied = applied.len(), "migrated the database");
    }
    Ok(store)
}

/// Closes the database. The last call; a failure is logged.
pub async fn close(store: Store) {
    if let Err(error) = store.close().await {
        let error = anyhow::Error::from(error);
        tracing::warn!(error = format!("{error:#}"), "the database was not closed cleanly");
    }
}

async fn require_schema(store: &Store) -> Result<(), Failure> {
    let status = migration::status(store.reader()).await?;
    let unknown = status.unknown();
    if !unknown.is_empty() {
        tracing::warn!(
            unknown = unknown.join(", "),
            "the database is newer than this program, which goes on with what it knows"
        );
    }
    match status.pending().len() {
        0 => Ok(()),
        pending => Err(Failure::usage(format!(
            "the database lacks migrations ({pending} pending): run `arena db migrate`"
        ))),
    }
}

async fn close_unless_ok<T>(store: &Store, result: Result<T, Failure>) -> Result<T, Failure> {
    if result.is_err() {
        close(store.clone()).await;
    }
    result
}
