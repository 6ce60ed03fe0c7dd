//! Connections whose transaction did not end as the driver thinks.
//!
//! SQLite ends a transaction by itself when the disk is full or a write to it fails. The driver
//! counts transactions, and its ROLLBACK, refused because there is none any more, leaves its
//! count at one. It would take every later BEGIN for a nested one, and a nested COMMIT commits
//! nothing: writes would be answered `Ok` and lost. So a write that did not end cleanly is
//! followed by a look at the driver's count before the next one begins.

#[cfg(feature = "sqlite")]
use sea_orm::sqlx::{self, Connection};
use sea_orm::{DatabaseConnection, DbErr};
#[cfg(feature = "sqlite")]
use sea_orm::{DatabaseConnectionType, RuntimeErr};

/// Closes the connections of a SQLite pool that the driver takes for being in a transaction; the
/// pool opens new ones. Waits for connections that are in use.
///
/// A database in memory ends with its only connection.
#[cfg(feature = "sqlite")]
pub(super) async fn discard_broken(database: &DatabaseConnection) -> Result<(), DbErr> {
    let DatabaseConnectionType::SqlxSqlitePoolConnection(_) = database.inner else {
        // Other databases keep a failed transaction open until it is rolled back.
        return Ok(());
    };
    let failed = |source: sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(source.into()));
    let pool = database.get_sqlite_connection_pool();
    let mut clean = Vec::new();
    // Again and again: the pool may open a new one while the one sought is on its way back.
    while clean.len() < pool.size() as usize {
        let connection = pool.acquire().await.map_err(failed)?;
        if connection.is_in_transaction() {
            // Also when closing fails, the pool does not see it again.
            let _: Result<(), sqlx::Error> = connection.close().await;
        } else {
            // Held until all are looked at, or the pool would hand out the same again.
            clean.push(connection);
        }
    }
    Ok(())
}

/// A server keeps a failed transaction open until it is rolled back.
#[cfg(not(feature = "sqlite"))]
pub(super) async fn discard_broken(_: &DatabaseConnection) -> Result<(), DbErr> {
    Ok(())
}
