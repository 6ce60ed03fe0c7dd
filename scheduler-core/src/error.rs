//! Errors of the library. Each variant names the operation that failed; causes are sources.

use std::borrow::Cow;
use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// SQLite ended the transaction that this write shared with others while one of them was inside,
    /// as it does when the disk is full. Nothing of this write was kept.
    #[error(
        "could not {operation}: its transaction ended while `{culprit}` was inside; nothing of this write was kept"
    )]
    Undone {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The operation during which it ended.
        culprit: &'static str,
    },
    /// The write took too long while others waited for the commit that they share. Nothing of it
    /// was kept; done again, it has a commit of its own and may take its time.
    #[error(
        "could not {operation}: it took longer than {waited:?} while others waited; nothing of this write was kept"
    )]
    TooSlow {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// How long the others waited.
        waited: Duration,
    },
    /// The server took longer than the bound, or went silent: what was being written may have been
    /// committed or not.
    #[error("could not {operation}: the database server did not answer for {waited:?}")]
    NoAnswer {
        /// What was being done, as a verb phrase.
        operation: &'static str,
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
    /// The database file lies on a network file system, where SQLite's locks do not hold.
    #[error(
        "`{file}` lies on a network file system ({file_system}), where SQLite's locks do not hold; put it on a disk of this machine, or use PostgreSQL"
    )]
    NetworkFile {
        /// The file.
        file: String,
        /// The type of the file system, as the kernel names it.
        file_system: String,
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
    /// What a queue over a table of the user's says.
    pub(crate) const NO_JOBS: Self = Self::Unsupported {
        operation: "enqueue jobs",
        reason: "the queue is over a table of your own, whose rows have columns",
    };

    /// What a queue of the library's own table says.
    pub(crate) const ONLY_JOBS: Self = Self::Unsupported {
        operation: "enqueue rows",
        reason: "the queue is of the library's own table, whose rows are jobs",
    };

    /// What a namespace that is a schema says on SQLite.
    pub(crate) const NO_SCHEMA: Self =
        Self::Unsupported { operation: "use a schema", reason: "SQLite has none; use a prefix" };

    /// Wraps a driver error, telling read-only files and full disks apart.
    #[must_use]
    pub fn database(operation: &'static str, source: DbErr) -> Self {
        let is_full = code_of(&source).is_some_and(|code| code == SERVER_DISK_FULL);
        match sqlite_code(&source) {
            Some(SQLITE_READONLY) => Self::ReadOnly { operation, source },
            Some(SQLITE_FULL) => Self::Full { operation, source },
            _ if is_full => Self::Full { operation, source },
            _ => Self::Database { operation, source },
        }
    }

    /// Whether trying again later may help: the database was busy or unreachable, its server
    /// started or stopped, or another transaction was in the way.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::WriterBusy { .. }
            | Self::Undone { .. }
            | Self::TooSlow { .. }
            | Self::Full { .. }
            | Self::NoAnswer { .. } => true,
            Self::Database { source, .. } => {
                is_busy(source)
                    || is_away(source)
                    || code_of(source).is_some_and(|code| is_passing(&code))
            }
            Self::ReadOnly { .. }
            | Self::Url { .. }
            | Self::NetworkFile { .. }
            | Self::Corrupt { .. }
            | Self::Unsupported { .. } => false,
        }
    }

    /// Whether a server ended the transaction for the sake of another: doing the same again is
    /// right.
    pub(crate) fn is_conflict(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        code_of(source).is_some_and(|code| CONFLICTS.contains(&code.as_ref()))
    }
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_FULL: i32 = 13;
#[cfg(feature = "sqlite")]
const SQLITE_CANTOPEN: i32 = 14;

/// A server's `disk_full`.
const SERVER_DISK_FULL: &str = "53100";
/// A server's `serialization_failure` and `deadlock_detected`.
const CONFLICTS: [&str; 2] = ["40001", "40P01"];

/// Whether SQLite said that another connection holds the lock.
pub(crate) fn is_busy(error: &DbErr) -> bool {
    matches!(sqlite_code(error), Some(SQLITE_BUSY | SQLITE_LOCKED))
}

/// Whether SQLite could not open the file or one of those beside it.
#[cfg(feature = "sqlite")]
pub(crate) fn is_unopenable(error: &DbErr) -> bool {
    sqlite_code(error) == Some(SQLITE_CANTOPEN)
}

/// Whether the connection is the trouble: none to be had, or one that broke.
fn is_away(error: &DbErr) -> bool {
    matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_))
        || matches!(sqlx_error(error), Some(sqlx::Error::Io(_) | sqlx::Error::Tls(_)))
}

/// Whether a server's SQLSTATE speaks of something that passes: the connection (class 08), what it
/// is short of (53), an operator who stops or starts it (57P), another transaction.
fn is_passing(code: &str) -> bool {
    ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) || CONFLICTS.contains(&code)
}

/// SQLite's result code without its extension, where the error carries one. A server's codes are
/// never taken for one: they have five characters, and some are digits throughout.
fn sqlite_code(error: &DbErr) -> Option<i32> {
    let code = code_of(error).filter(|code| code.len() < 5)?;
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

fn code_of(error: &DbErr) -> Option<Cow<'_, str>> {
    sqlx_error(error)?.as_database_error()?.code()
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source))
        | DbErr::Conn(RuntimeErr::SqlxError(source)) => Some(source),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
