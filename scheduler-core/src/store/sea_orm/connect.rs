//! Opening a database: by its address, or on a pool that somebody else made.

#[cfg(feature = "postgres")]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use sea_orm::DatabaseConnection;

#[cfg(feature = "postgres")]
pub use self::server::PostgresOptions;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteOptions;
use super::Store;
use super::gate::Gate;
use super::wake::News;
use crate::clock::{Clock, SystemClock};
use crate::error::StoreError;

/// What this build can open.
const EXPECTED: &str = match (cfg!(feature = "sqlite"), cfg!(feature = "postgres")) {
    (true, true) => "expected sqlite://FILE or postgres://USER@HOST/DATABASE",
    (true, false) => "this build opens SQLite only; expected sqlite://FILE",
    (false, _) => "this build opens PostgreSQL only; expected postgres://USER@HOST/DATABASE",
};

impl Store {
    /// Opens the database at `url`: `sqlite://FILE` where the feature `sqlite` is on,
    /// `postgres://…` where `postgres` is.
    ///
    /// # Errors
    /// [`StoreError::Url`] for an address that this build cannot open; the driver's error when
    /// the database cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        #[cfg(feature = "postgres")]
        if server::is_postgres(url) {
            return Self::postgres(url).await;
        }
        #[cfg(feature = "sqlite")]
        if url.starts_with("sqlite:") {
            return Self::sqlite(url).await;
        }
        Err(StoreError::Url { value: without_password(url), reason: EXPECTED.into() })
    }

    /// A store on a pool that the embedder made. Writes are serialised within this process and
    /// begin IMMEDIATE; a busy database is tried again for two seconds. Transactions that the
    /// embedder begins himself on SQLite should be IMMEDIATE too.
    ///
    /// A scheduler on it opens one more connection, to hear what other processes write.
    #[must_use]
    pub fn from_connection(connection: DatabaseConnection) -> Self {
        Self::from_connection_with(connection, Arc::new(SystemClock))
    }

    /// Like [`Store::from_connection`], with a clock of the caller's.
    #[must_use]
    pub fn from_connection_with(connection: DatabaseConnection, clock: Arc<dyn Clock>) -> Self {
        Self::from_parts(
            connection.clone(),
            connection,
            clock,
            Gate::default(),
            News::AnyPool,
            true,
        )
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_never_reaches_an_error_message() {
        assert_eq!(without_password("mysql://me:secret@db/x"), "mysql://…@db/x");
        assert_eq!(without_password("file.db"), "file.db");
    }
}
