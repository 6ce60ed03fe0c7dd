//! Opening a PostgreSQL database: how many connections, and what a pooler in between cannot do.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectOptions, Database};

use super::without_password;
use crate::clock::{Clock, SystemClock};
use crate::error::StoreError;
use crate::store::Store;
use crate::store::sea_orm::gate::Gate;
use crate::store::sea_orm::patience::give_up_silent;
use crate::store::sea_orm::pooler::{keep_nothing, read_in_transactions, split_address};
use crate::store::sea_orm::wake::News;

/// How a PostgreSQL database is opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Connections of the pool, at least two.
    pub connections: u32,
    /// How long a statement waits for a connection.
    pub acquire_timeout: Duration,
    /// Whether a process in which a scheduler runs listens to what others tell (LISTEN), on one more
    /// connection. Without, it finds what they wrote by its polls. Others are told either way.
    pub listen: bool,
    /// Whether statements stay prepared on their connection. `false` for a pooler in transaction mode
    /// that does not carry them along (PgBouncer before 1.21): each transaction prepares what it
    /// needs, each read is a transaction, and reads have a pool of their own, as large as the other.
    pub keep_statements: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 10,
            acquire_timeout: Duration::from_secs(10),
            listen: true,
            keep_statements: true,
        }
    }
}

impl Store {
    /// Opens a PostgreSQL database. Its clock is the one that counts; all writes and reads share
    /// one pool.
    ///
    /// An address with `?pooler=transaction` leads through a pooler in transaction mode: that sets
    /// [`PostgresOptions::listen`] and [`PostgresOptions::keep_statements`] to `false`.
    ///
    /// # Errors
    /// [`StoreError::Url`] for another address; the driver's error when the server cannot be
    /// reached.
    pub async fn postgres(url: &str) -> Result<Self, StoreError> {
        Self::postgres_with(url, PostgresOptions::default(), Arc::new(SystemClock)).await
    }

    /// Like [`Store::postgres`], with options and a clock of the caller's.
    ///
    /// # Errors
    /// As [`Store::postgres`].
    pub async fn postgres_with(
        url: &str,
        options: PostgresOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        if !is_postgres(url) {
            return Err(StoreError::Url {
                value: without_password(url),
                reason: "expected postgres://USER@HOST/DATABASE".into(),
            });
        }
        let (address, pooled) = split_address(url)?;
        let (listen, keep_statements) =
            if pooled { (false, false) } else { (options.listen, options.keep_statements) };
        let mut connect = ConnectOptions::new(address);
        connect
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .sqlx_logging(false);
        let failed = |source| StoreError::database("open the database", source);
        let reader = if keep_statements {
            None
        } else {
            keep_nothing(&mut connect);
            let mut connect = connect.clone();
            read_in_transactions(&mut connect);
            Some(Database::connect(connect).await.map_err(failed)?)
        };
        give_up_silent(&mut connect);
        let writer = Database::connect(connect).await.map_err(failed)?;
        let reader = reader.unwrap_or_else(|| writer.clone());
        let news = if listen { News::OwnPool } else { News::Nowhere };
        Ok(Self::from_parts(writer, reader, clock, Gate::default(), news, keep_statements))
    }
}

pub(super) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}
