//! Errors of the library. Each variant names the operation that failed; causes are sources.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused a statement or could not be reached.
    #[error("the database failed while trying to {operation}")]
    Database {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: DbErr,
    },
    /// Another write held the single writer for longer than the bound.
    #[error("could not {operation}: the writer was held by `{holder}` for {waited:?}")]
    WriterBusy {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The operation that held the writer.
        holder: &'static str,
        /// How long this call waited.
        waited: Duration,
    },
    /// The database file or its folder cannot be written.
    #[error(
        "could not {operation}: the database is read-only; check the permissions of the file and of its folder"
    )]
    ReadOnly {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: DbErr,
    },
    /// The disk is full. What was committed before stays; nothing of this write was kept.
    #[error("could not {operation}: the disk is full; nothing of this write was kept")]
    Full {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: DbErr,
    },
    /// The address of a database is not one that this build can open.
    #[error("`{value}` is not a database address: {reason}")]
    Url {
        /// The address, without its password.
        value: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A row holds a value that this version does not understand.
    #[error("column `{column}` of `{table}` holds `{value}`, expected {expected}")]
    Corrupt {
        /// The table.
        table: String,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The store cannot do this at all.
    #[error("could not {operation}: {reason}")]
    Unsupported {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// Why it cannot be.
        reason: &'static str,
    },
}

impl StoreError {
    /// Wraps a driver error, telling read-only files and full disks apart.
    #[must_use]
    pub fn database(operation: &'static str, source: DbErr) -> Self {
        match sqlite_code(&source).map(|code| code & 0xff) {
            Some(SQLITE_READONLY) => Self::ReadOnly { operation, source },
            Some(SQLITE_FULL) => Self::Full { operation, source },
            _ => Self::Database { operation, source },
        }
    }

    /// Whether trying again later may help: the database was busy or unreachable.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::WriterBusy { .. } | Self::Full { .. } => true,
            Self::Database { source, .. } => {
                is_busy(source) || matches!(source, DbErr::ConnectionAcquire(_) | DbErr::Conn(_))
            }
            Self::ReadOnly { .. }
            | Self::Url { .. }
            | Self::Corrupt { .. }
            | Self::Unsupported { .. } => false,
        }
    }
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_FULL: i32 = 13;

/// Whether SQLite said that another connection holds the lock.
pub(crate) fn is_busy(error: &DbErr) -> bool {
    matches!(sqlite_code(error).map(|code| code & 0xff), Some(SQLITE_BUSY | SQLITE_LOCKED))
}

/// SQLite's extended result code, where the error carries one.
fn sqlite_code(error: &DbErr) -> Option<i32> {
    let (DbErr::Exec(RuntimeErr::SqlxError(source))
    | DbErr::Query(RuntimeErr::SqlxError(source))
    | DbErr::Conn(RuntimeErr::SqlxError(source))) = error
    else {
        return None;
    };
    let database = source.as_database_error()?;
    database.code()?.parse().ok()
}
