//! Worker health for operators. The answer is 200 whenever there is an answer: its `status` is
//! the verdict, and a monitor reads that. Without a database the verdict is `down`.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use scheduler_core::{Clock, SystemClock};
use serde_json::{Value, json};

use super::Tag;
use super::auth::{ServiceToken, challenge_service};
use super::problem::Refused;
use crate::health::{self, HealthSource, within};

pub(crate) struct HealthApi {
    source: Arc<dyn HealthSource>,
}

#[OpenApi(prefix_path = "/api/v1/internal", tag = "Tag::Operations")]
impl HealthApi {
    /// What each worker did last, and whether it is well. 200 also when it is not: read `status`.
    #[oai(
        path = "/health/workers",
        method = "get",
        operation_id = "worker_health",
        transform = "challenge_service"
    )]
    async fn worker_health(&self, _token: ServiceToken) -> Result<Json<HealthReport>, Refused> {
        let read = within(self.source.worker_health(), "worker health").await;
        Ok(Json(read.map_or_else(HealthReport::without_database, Into::into)))
    }
}

impl HealthApi {
    pub(crate) fn new(source: Arc<dyn HealthSource>) -> Self {
        Self { source }
    }
}

/// How the whole stands.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum HealthStatus {
    /// Every worker is well.
    Ok,
    /// A worker failed or is stale.
    Degraded,
    /// No instance is alive, or there is no database.
    Down,
}

/// What a worker's heartbeat says.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum WorkerStatus {
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
#[derive(Debug, Object)]
struct HealthReport {
    /// How the whole stands.
    status: HealthStatus,
    /// When this was read, epoch milliseconds.
    generated_at_ms: i64,
    /// One entry per worker, by name. Empty without a database.
    workers: Vec<WorkerHealth>,
}

/// The health of one worker. Times are epoch milliseconds.
#[derive(Debug, Object)]
struct WorkerHealth {
    /// The worker's name.
    worker: String,
    /// What its heartbeat says.
    status: WorkerStatus,
    /// Whether it should have succeeded by now.
    stale: bool,
    /// The interval of its cadence; null for a manual job.
    #[oai(nullable)]
    expected_interval_ms: Option<i64>,
    /// When the last run began.
    #[oai(nullable)]
    last_started_at_ms: Option<i64>,
    /// When the last run ended.
    #[oai(nullable)]
    last_completed_at_ms: Option<i64>,
    /// When a run last ended well.
    #[oai(nullable)]
    last_success_at_ms: Option<i64>,
    /// When a run last failed.
    #[oai(nullable)]
    last_error_at_ms: Option<i64>,
    /// Why it last failed.
    #[oai(nullable)]
    last_error: Option<String>,
    /// What the last run did; empty before the first.
    summary: Value,
    /// How long the last run took, milliseconds.
    #[oai(nullable)]
    latency_ms: Option<i64>,
    /// Errors since the last success.
    consecutive_errors: i64,
    /// Runs that ended.
    total_runs: i64,
    /// Runs that failed.
    total_errors: i64,
    /// When the worker is due next.
    #[oai(nullable)]
    next_due_at_ms: Option<i64>,
    /// The instance that runs it now.
    #[oai(nullable)]
    lease_holder: Option<String>,
}

impl HealthReport {
    fn without_database() -> Self {
        let generated_at_ms = SystemClock.now_ms();
        Self { status: HealthStatus::Down, generated_at_ms, workers: Vec::new() }
    }
}

impl From<health::HealthReport> for HealthReport {
    fn from(report: health::HealthReport) -> Self {
        Self {
            status: match report.status {
                health::HealthStatus::Ok => HealthStatus::Ok,
                health::HealthStatus::Down => HealthStatus::Down,
                // Degraded, or a word that the library has learnt since: not well.
                _ => HealthStatus::Degraded,
            },
            generated_at_ms: report.generated_at_ms,
            workers: report.workers.into_iter().map(WorkerHealth::from).collect(),
        }
    }
}

impl From<health::WorkerHealth> for WorkerHealth {
    fn from(health: health::WorkerHealth) -> Self {
        Self {
            worker: health.worker,
            status: match health.status {
                health::WorkerStatus::NeverRun => WorkerStatus::NeverRun,
                health::WorkerStatus::Running => WorkerStatus::Running,
                health::WorkerStatus::Succeeded => WorkerStatus::Succeeded,
                // Failed, or a word that the library has learnt since: not well.
                _ => WorkerStatus::Failed,
            },
            stale: health.stale,
            expected_interval_ms: health.expected_interval_ms,
            last_started_at_ms: health.last_started_at_ms,
            last_completed_at_ms: health.last_completed_at_ms,
            last_success_at_ms: health.last_success_at_ms,
            last_error_at_ms: health.last_error_at_ms,
            last_error: health.last_error,
            summary: health.summary.unwrap_or_else(|| json!({})),
            latency_ms: health.latency_ms,
            consecutive_errors: health.consecutive_errors,
            total_runs: health.total_runs,
            total_errors: health.total_errors,
            next_due_at_ms: health.next_due_at_ms,
            lease_holder: health.lease_holder,
        }
    }
}
