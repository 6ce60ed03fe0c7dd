//! What the health routes ask of the scheduler, without naming it.

use async_trait::async_trait;
use serde_json::Value;

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
    #[error("{pending} migrations are pending; run `arena db migrate`")]
    Migrations {
        /// How many.
        pending: usize,
    },
    /// The database can be read but a lease cannot be written.
    #[error("a lease cannot be written")]
    LeaseWrite(#[source] anyhow::Error),
}

/// How the whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// Every worker is well.
    Ok,
    /// A worker failed or is stale.
    Degraded,
    /// No instance is alive, or there is no database.
    Down,
}

/// What a worker's heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStatus {
    /// Registered, no run yet.
    NeverRun,
    /// A run is under way.
    Running,
    /// The last run ended well.
    Succeeded,
    /// The last run did not.
    Failed,
}

/// The health of all workers at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthReport {
    /// How the whole stands.
    pub status: HealthStatus,
    /// When this was read, epoch milliseconds.
    pub generated_at_ms: i64,
    /// One entry per worker, by name.
    pub workers: Vec<WorkerHealth>,
}

/// The health of one worker. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerHealth {
    /// The worker: its job's name.
    pub worker: String,
    /// What its heartbeat says.
    pub status: WorkerStatus,
    /// Whether it should have succeeded by now.
    pub stale: bool,
    /// The interval of its cadence; `None` for a manual job.
    pub expected_interval_ms: Option<i64>,
    /// When the last run began.
    pub last_started_at_ms: Option<i64>,
    /// When the last run ended.
    pub last_completed_at_ms: Option<i64>,
    /// When a run last ended well.
    pub last_success_at_ms: Option<i64>,
    /// When a run last failed.
    pub last_error_at_ms: Option<i64>,
    /// Why it last failed.
    pub last_error: Option<String>,
    /// What the last run did.
    pub summary: Option<Value>,
    /// How long the last run took, milliseconds.
    pub latency_ms: Option<i64>,
    /// Errors since the last success: the worst of the live instances.
    pub consecutive_errors: i64,
    /// Runs that ended, over all instances.
    pub total_runs: i64,
    /// Runs that failed, over all instances.
    pub total_errors: i64,
    /// When the job is due next.
    pub next_due_at_ms: Option<i64>,
    /// The instance that runs it now.
    pub lease_holder: Option<String>,
}
