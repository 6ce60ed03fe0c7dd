//! What the health routes ask, and of whom.

use async_trait::async_trait;
pub use scheduler_core::{HealthReport, HealthStatus, WorkerHealth, WorkerStatus};

/// Where the health routes read. Both calls may be made at any time and from any task; dropping
/// either future is safe.
#[async_trait]
pub trait HealthSource: Send + Sync + 'static {
    /// How all workers stand.
    ///
    /// # Errors
    /// When the database does not answer; the caller reports `down`.
    async fn worker_health(&self) -> anyhow::Result<HealthReport>;

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
