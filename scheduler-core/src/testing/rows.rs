//! Rows as they stand in a store, for tests that look at what was written or change it by hand.

use serde_json::{Map, Value};

use crate::run::{InstanceId, RunId, RunStatus, Trigger};
use crate::store::{RowId, RowStatus};

/// A row of `job_runs`. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// The job.
    pub job: String,
    /// `''` for scope Cluster, the instance for scope Instance.
    pub scope_key: String,
    /// What started it.
    pub trigger: Trigger,
    /// Its slot.
    pub scheduled_for_ms: i64,
    /// Which attempt of the slot it is.
    pub attempt: i32,
    /// How it stands.
    pub status: RunStatus,
    /// How many slots did not run, where the row stands for such.
    pub missed_count: Option<i64>,
    /// The newest slot that did not run.
    pub missed_until_ms: Option<i64>,
    /// When it began.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub finished_at_ms: Option<i64>,
    /// What it did.
    pub summary: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// Who ran it, or who recorded that it did not run.
    pub instance_id: InstanceId,
    /// The token of its lease.
    pub token: Option<i64>,
}

impl RunRow {
    /// Slots in their order, and what happened to a slot in its order.
    pub(crate) fn order(&self) -> (i64, i32, &'static str) {
        (self.scheduled_for_ms, self.attempt, self.trigger.as_str())
    }
}

/// What an operator changes by hand in the rows of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEdit {
    /// The schedule row does not fire.
    Pause {
        /// The job.
        job: String,
    },
    /// The operator's cadence in the schedule row.
    Override {
        /// The job.
        job: String,
        /// The cadence as text; `None` clears it.
        cadence: Option<String>,
    },
    /// The due time in the schedule row.
    Due {
        /// The job.
        job: String,
        /// When it is due next, epoch milliseconds.
        at_ms: i64,
    },
    /// A request that the run under this lease ends.
    Cancel {
        /// The lease.
        lease: String,
    },
}

/// A row of a queue's table. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueRow {
    /// Its key.
    pub id: RowId,
    /// How it stands.
    pub status: RowStatus,
    /// Lower first.
    pub priority: i32,
    /// Not before.
    pub run_at_ms: i64,
    /// Claims so far.
    pub attempt_count: i32,
    /// After this many failures it is dead.
    pub max_attempts: i32,
    /// Claims that ended with the death of their process.
    pub crash_count: i32,
    /// The instance that it is leased to.
    pub leased_by: Option<InstanceId>,
    /// Grows at each claim.
    pub lease_token: i64,
    /// When the lease ends unless renewed.
    pub lease_expires_at_ms: Option<i64>,
    /// Whether the claim was also a start.
    pub started: bool,
    /// Whether somebody asks for it to end.
    pub cancel_requested: bool,
    /// Per cent.
    pub progress_pct: i64,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// What it produced, as JSON.
    pub result: Option<String>,
    /// When it was claimed last.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub completed_at_ms: Option<i64>,
    /// Its place among the running rows of its key.
    pub concurrency_slot: Option<i64>,
    /// Its place among the running rows of the queue.
    pub queue_slot: Option<i64>,
    /// The table's own columns by name, the one that limits are counted by among them.
    pub columns: Map<String, Value>,
}

impl QueueRow {
    /// A row that is due since the epoch, has three attempts and no columns of its own.
    #[must_use]
    pub fn queued(id: RowId) -> Self {
        Self {
            id,
            status: RowStatus::Queued,
            priority: 0,
            run_at_ms: 0,
            attempt_count: 0,
            max_attempts: 3,
            crash_count: 0,
            leased_by: None,
            lease_token: 0,
            lease_expires_at_ms: None,
            started: false,
            cancel_requested: false,
            progress_pct: 0,
            last_error: None,
            result: None,
            started_at_ms: None,
            completed_at_ms: None,
            concurrency_slot: None,
            queue_slot: None,
            columns: Map::new(),
        }
    }
}
