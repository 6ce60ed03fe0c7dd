//! What is done about a server that goes silent: a bound for every operation of the library, and
//! connections that are given up when they show no sign of life.
//!
//! A driver waits for an answer as long as the socket lives, which is for ever behind a server that
//! is frozen, and many minutes behind a network that swallows packets. No timeout of the server's own
//! would end that wait, and one that is set at the connection is refused by poolers.

use std::future::Future;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr};
use tokio::time::timeout;

use super::Store;
use crate::error::StoreError;

/// How long the statements of one operation may take, beside the wait for a connection.
const LONGEST_OPERATION: Duration = Duration::from_secs(10);

/// The bound of one operation on this database; SQLite's is the writer's own.
pub(super) fn with(database: &DatabaseConnection) -> Option<Duration> {
    #[cfg(feature = "postgres")]
    if let sea_orm::DatabaseConnectionType::SqlxPostgresPoolConnection(_) = database.inner {
        let pool = database.get_postgres_connection_pool();
        return Some(LONGEST_OPERATION + pool.options().get_acquire_timeout());
    }
    let _other = database;
    None
}

impl Store {
    /// Waits for an answer of a server, but not for ever. What was under way is dropped then, and
    /// its connection with it.
    pub(super) async fn answered<T, E: From<StoreError>>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(patience) = self.inner.patience else { return work.await };
        match timeout(patience, work).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::NoAnswer { operation, waited: patience }.into()),
        }
    }
}

/// The same for a statement inside a transaction that the caller made.
pub(super) async fn answered_in<T>(
    txn: &DatabaseTransaction,
    operation: &'static str,
    work: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, StoreError> {
    let failed = |source| StoreError::database(operation, source);
    if txn.get_database_backend() == DbBackend::Sqlite {
        return work.await.map_err(failed);
    }
    let silent = |_| StoreError::NoAnswer { operation, waited: LONGEST_OPERATION };
    timeout(LONGEST_OPERATION, work).await.map_err(silent)?.map_err(failed)
}

#[cfg(feature = "postgres")]
pub(super) use self::connections::give_up_silent;

#[cfg(feature = "postgres")]
mod connections {
    use std::time::Duration;

    use sea_orm::ConnectOptions;
    use sea_orm::sqlx::{Connection, PgConnection};
    use tokio::time::timeout;

    /// How long a connection may take for a sign of life.
    const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
    /// A connection that came back this short a time ago has just given one.
    const TRUSTED_FOR: Duration = Duration::from_secs(1);

    /// Makes the pool close connections that give no sign of life, before they are used and when
    /// they come back: one whose statement was dropped half-way would occupy its place for as long
    /// as the server says nothing.
    pub(in super::super) fn give_up_silent(connect: &mut ConnectOptions) {
        connect.test_before_acquire(false).map_sqlx_postgres_pool_opts(|pool| {
            pool.before_acquire(|connection, used| {
                Box::pin(async move { Ok(used.idle_for < TRUSTED_FOR || lives(connection).await) })
            })
            .after_release(|connection, _| Box::pin(async move { Ok(lives(connection).await) }))
        });
    }

    async fn lives(connection: &mut PgConnection) -> bool {
        matches!(timeout(SIGN_OF_LIFE, connection.ping()).await, Ok(Ok(())))
    }
}
