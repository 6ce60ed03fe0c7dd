//! Where a job's runs are written besides `job_runs`.
//!
//! A recorder is called inside the transaction that starts or ends the run, so that its row and
//! the run's row agree. [`HeartbeatRecorder`] is the default; a module with run rows of its own
//! (as ingestion has) brings its own.
//!
//! ```
//! use async_trait::async_trait;
//! use scheduler_core::{RecordTxn, Recorder, RunFinished, RunStarted, StoreError};
//!
//! /// Keeps no trace but `job_runs`.
//! struct Nothing;
//!
//! #[async_trait]
//! impl Recorder for Nothing {
//!     async fn registered(&self, _: &RecordTxn<'_>, _job: &str) -> Result<(), StoreError> { Ok(()) }
//!     async fn started(&self, _: &RecordTxn<'_>, _run: &RunStarted) -> Result<(), StoreError> { Ok(()) }
//!     async fn finished(&self, _: &RecordTxn<'_>, _run: &RunFinished) -> Result<(), StoreError> { Ok(()) }
//! }
//! ```

use std::any::Any;

use async_trait::async_trait;
use sea_orm::DatabaseTransaction;
use serde_json::Value;

use crate::error::StoreError;
use crate::run::{InstanceId, RunId, RunStatus};

/// A run that begins.
#[derive(Debug, Clone)]
pub struct RunStarted {
    /// The job.
    pub job: String,
    /// The run.
    pub run_id: RunId,
    /// Who runs it.
    pub instance_id: InstanceId,
    /// Its slot, epoch milliseconds.
    pub scheduled_for_ms: i64,
    /// When it began, epoch milliseconds.
    pub started_at_ms: i64,
}

/// A run that ended.
#[derive(Debug, Clone)]
pub struct RunFinished {
    /// The job.
    pub job: String,
    /// The run.
    pub run_id: RunId,
    /// Who ran it.
    pub instance_id: InstanceId,
    /// How it ended.
    pub status: RunStatus,
    /// Its slot, epoch milliseconds.
    pub scheduled_for_ms: i64,
    /// When it began, epoch milliseconds.
    pub started_at_ms: i64,
    /// When it ended, epoch milliseconds.
    pub finished_at_ms: i64,
    /// What it did.
    pub summary: Option<Value>,
    /// Why it failed: the whole chain, bounded.
    pub error: Option<String>,
}

/// Writes a job's runs where they belong.
#[async_trait]
pub trait Recorder: Any + Send + Sync {
    /// Makes the job visible before its first run. Called once at a start.
    ///
    /// # Errors
    /// The database's.
    async fn registered(&self, txn: &RecordTxn<'_>, job: &str) -> Result<(), StoreError>;

    /// Records that a run began, in the transaction of its grant.
    ///
    /// # Errors
    /// The database's: the grant is rolled back and the slot stays due.
    async fn started(&self, txn: &RecordTxn<'_>, run: &RunStarted) -> Result<(), StoreError>;

    /// Records how a run ended, in the fenced transaction of its finish.
    ///
    /// # Errors
    /// The database's: the finish is rolled back and tried again while the lease lives.
    async fn finished(&self, txn: &RecordTxn<'_>, run: &RunFinished) -> Result<(), StoreError>;
}

/// Heartbeats, as the store writes them inside its transaction.
#[async_trait]
pub trait HeartbeatWrites: Sync {
    /// Inserts a `never_run` row unless the worker has one.
    ///
    /// # Errors
    /// The database's.
    async fn heartbeat_registered(&self, worker: &str) -> Result<(), StoreError>;

    /// Marks the worker `running`.
    ///
    /// # Errors
    /// The database's.
    async fn heartbeat_started(&self, run: &RunStarted) -> Result<(), StoreError>;

    /// Marks the worker `succeeded` or `failed` and rolls the counters up.
    ///
    /// # Errors
    /// The database's.
    async fn heartbeat_finished(&self, run: &RunFinished) -> Result<(), StoreError>;
}

/// The transaction that a recorder writes in.
pub struct RecordTxn<'t> {
    /// The heartbeat tables.
    pub heartbeats: &'t dyn HeartbeatWrites,
    /// The SQL transaction; `None` in a store without SQL.
    pub sql: Option<&'t DatabaseTransaction>,
}

/// Writes `worker_instances` and `worker_heartbeats`, with the job's name as the worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeartbeatRecorder;

#[async_trait]
impl Recorder for HeartbeatRecorder {
    async fn registered(&self, txn: &RecordTxn<'_>, job: &str) -> Result<(), StoreError> {
        txn.heartbeats.heartbeat_registered(job).await
    }

    async fn started(&self, txn: &RecordTxn<'_>, run: &RunStarted) -> Result<(), StoreError> {
        txn.heartbeats.heartbeat_started(run).await
    }

    async fn finished(&self, txn: &RecordTxn<'_>, run: &RunFinished) -> Result<(), StoreError> {
        txn.heartbeats.heartbeat_finished(run).await
    }
}

/// Whether a recorder is the default one: what it writes of several runs is written together.
pub(crate) fn writes_heartbeats_only(recorder: &dyn Recorder) -> bool {
    (recorder as &dyn Any).is::<HeartbeatRecorder>()
}
