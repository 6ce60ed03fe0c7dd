//! Why a database could not be brought up to date.

use std::time::Duration;

use crate::error::StoreError;

/// What went wrong while migrating or looking at the history. Nothing was changed in any case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The history names migrations that this program does not have: a newer one was here.
    #[error(
        "the database is newer than this program: it has the unknown migrations {}; \
         nothing was changed; run the newer program, or restore a backup made before it",
        unknown.join(", ")
    )]
    Newer {
        /// The names that this program does not know.
        unknown: Vec<String>,
    },
    /// Two lists record their history in one table: each would take the other's for unknown.
    #[error(
        "two lists of migrations share the history table `{table}`; \
         give one of them a `migration_table_name` of its own"
    )]
    SharedHistory {
        /// The table.
        table: String,
    },
    /// Other connections held the write lock for longer than the bound.
    #[error(
        "the database was locked for {waited:?} by another connection, no migration was applied; \
         stop what writes to it and try again"
    )]
    Busy {
        /// How long this call tried.
        waited: Duration,
        /// The last answer of the database.
        #[source]
        source: StoreError,
    },
    /// The database failed; what was begun is rolled back.
    #[error(transparent)]
    Store(#[from] StoreError),
}
