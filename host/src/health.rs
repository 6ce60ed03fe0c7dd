//! What the health routes ask, and of whom.

use std::time::Duration;

use async_trait::async_trait;
pub use domain::services::ingestion::IngestionReport;
use scheduler_core::Store;
use scheduler_core::store::HeartbeatStore;
pub use scheduler_core::{HealthReport, HealthStatus, WorkerHealth, WorkerStatus};

/// Where the health routes read. Calls may be made at any time and from any task; dropping
/// a future is safe.
#[async_trait]
pub trait HealthSource: Send + Sync + 'static {
    /// How all workers stand.
    ///
    /// # Errors
    /// When the database does not answer; the caller reports `down`.
    async fn worker_health(&self) -> anyhow::Result<HealthReport>;

    /// How the channels of ingestion stand.
    ///
    /// # Errors
    /// When the database does not answer; the caller reports `down`.
    async fn ingestion_report(&self) -> anyhow::Result<IngestionReport>;

    /// Whether this process can work: the database answers, its schema is current, and a write
    /// of a lease succeeds.
    ///
    /// # Errors
    /// The first of these that does not hold.
    async fn ready(&self) -> Result<(), NotReady>;
}

/// Why this process cannot work. The sentences are public: causes are for the log only.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database cannot be read.
    #[error("the database does not answer")]
    Database(#[source] anyhow::Error),
    /// The schema is older than this binary.
    #[error("migrations are pending ({pending}); run `arena db migrate`")]
    Migrations {
        /// How many.
        pending: usize,
    },
    /// The database can be read but a lease cannot be written.
    #[error("a lease cannot be written")]
    LeaseWrite(#[source] anyhow::Error),
}

#[async_trait]
impl HealthSource for Store {
    async fn worker_health(&self) -> anyhow::Result<HealthReport> {
        Ok(self.health().await?)
    }

    async fn ingestion_report(&self) -> anyhow::Result<IngestionReport> {
        Ok(domain::services::ingestion::report(self).await?)
    }

    async fn ready(&self) -> Result<(), NotReady> {
        let status = migration::status(self.reader()).await;
        let status = status.map_err(|error| NotReady::Database(error.into()))?;
        match status.pending().len() {
            // A newer program's migrations do not stop this one: see `database::open_current`.
            0 => {}
            pending => return Err(NotReady::Migrations { pending }),
        }
        self.probe_leases().await.map_err(|error| NotReady::LeaseWrite(error.into()))
    }
}

/// The database gets this long for an answer; a request as a whole has a little more.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was read in time. `None`, and a line in the log, when it was not; `what` names it there.
pub(crate) async fn within<T>(
    reading: impl Future<Output = anyhow::Result<T>>,
    what: &'static str,
) -> Option<T> {
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "{what} cannot be read"),
        Err(_) => tracing::error!("{what} cannot be read within {PATIENCE:?}"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_is_ready_when_it_is_current_and_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        let empty = store.ready().await.unwrap_err();
        assert!(matches!(empty, NotReady::Migrations { pending: 1.. }), "{empty}");

        migration::up(store.reader()).await.unwrap();
        store.ready().await.unwrap();

        let read_only = Store::sqlite(&format!("{url}?mode=ro")).await.unwrap();
        let refused = read_only.ready().await.unwrap_err();
        assert!(matches!(refused, NotReady::LeaseWrite(_)), "{refused}");

        store.close().await.unwrap();
        let closed = store.ready().await.unwrap_err();
        assert!(matches!(closed, NotReady::Database(_)), "{closed}");
    }
}
