//! Where schedules, leases, runs, heartbeats, dead letters and queue rows live.
//!
//! [`Store`] is the SQL implementation, [`MemoryStore`](crate::testing::MemoryStore) one for
//! tests. The traits are small, one per family of rows, and say
//! what the scheduler needs of any store; [`SchedulerStore`] is all of them. SQL stands in
//! `store/sea_orm` and nowhere else.
//!
//! Now is the store's: the database's clock on a server, the one clock on SQLite. So no method
//! takes it, and [`Look::now_ms`] tells what it was.
//!
//! ```no_run
//! # async fn example() -> Result<(), scheduler_core::StoreError> {
//! use scheduler_core::store::HeartbeatStore;
//!
//! let store = scheduler_core::Store::connect("sqlite://service.db").await?;
//! for worker in store.health().await?.workers {
//!     println!("{}: {}, stale: {}", worker.worker, worker.status, worker.stale);
//! }
//! # Ok(()) }
//! ```

mod control;
mod disagreement;
mod firing;
mod letters;
pub(crate) mod memory;
mod namespace;
mod queue;
mod queue_control;
mod sea_orm;
mod waiting;
pub(crate) mod wake;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::control::ScheduleControl;
pub(crate) use self::control::{Granted, Wish};
pub(crate) use self::disagreement::disagreements;
pub use self::disagreement::{Definitions, Disagreement};
pub use self::firing::{Advance, Firing, NewRun};
pub use self::letters::{
    DeadLetter, DeadLetterStore, ItemFailure, ItemSettlement, LetterFilter, LetterKind,
    LetterStatus, Standing,
};
pub use self::namespace::{Namespace, NamespaceError};
pub(crate) use self::queue::gives_back;
pub use self::queue::{
    Ahead, ClaimRequest, Claimed, ClaimedRow, Exchange, Exchanged, QueueRows, RenewedRow,
    RowColumns, RowGrant, RowId, RowProgress, RowStatus, SettledRow,
};
pub use self::queue_control::{DeadRows, QueueControl};
#[cfg(feature = "postgres")]
pub use self::sea_orm::PostgresOptions;
#[cfg(feature = "sqlite")]
pub use self::sea_orm::SqliteOptions;
pub(crate) use self::sea_orm::fence;
#[cfg(feature = "migration")]
pub(crate) use self::sea_orm::immediate;
pub use self::sea_orm::{Store, WriteFuture};
pub use self::wake::{Changes, Topic, UnknownTopic, Wake, WakeStore};
use crate::cadence::Cadence;
pub use crate::catch_up::WaitingSlot;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::executor::{lease_name, run_lease_name};
use crate::heartbeat::{HealthReport, WorkerStatus};
use crate::lease::LeaseKey;
use crate::recorder::{Recorder, RunFinished};
use crate::run::{InstanceId, RunId, RunStatus, Trigger};
use crate::skew::ClockSkew;

/// Everything that the scheduler needs of a store.
pub trait SchedulerStore:
    ScheduleStore
    + ScheduleControl
    + LeaseStore
    + RunStore
    + InstanceStore
    + HeartbeatStore
    + DeadLetterStore
    + WakeStore
{
    /// The clock that waits are made with.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// Where the tables are whose leases a [`Lease::fence`](crate::Lease::fence) writes to.
    fn namespace(&self) -> &Namespace {
        const BARE: &Namespace = &Namespace::BARE;
        BARE
    }
}

/// Rows of `schedules`.
#[async_trait]
pub trait ScheduleStore {
    /// Makes the rows say what the definitions say, and makes starts due.
    ///
    /// # Errors
    /// The database's; nothing is changed then.
    async fn register_jobs(&self, jobs: &[JobSeed]) -> Result<(), StoreError>;

    /// Reads what there may be to do about these jobs. A row that cannot be understood is left out,
    /// and logged once.
    ///
    /// # Errors
    /// The database's.
    async fn look(&self, jobs: &[String]) -> Result<Look, StoreError>;
}

/// Rows of `leases`.
#[async_trait]
pub trait LeaseStore {
    /// Renews a lease for `length_ms` from now.
    ///
    /// # Errors
    /// The database's; the lease lives on until its deadline.
    async fn renew(&self, key: &LeaseKey, length_ms: i64) -> Result<Renewal, StoreError>;

    /// Who holds a lease now.
    ///
    /// # Errors
    /// The database's.
    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError>;
}

/// Rows of `job_runs`.
#[async_trait]
pub trait RunStore {
    /// Begins runs: moves the schedules, closes interrupted runs, grants leases, writes run rows,
    /// misses and skips, and tells the recorders; all of it in one transaction.
    ///
    /// Answers one [`Begun`] per firing, in order.
    ///
    /// # Errors
    /// The database's or a recorder's; nothing is changed then and every slot stays due.
    async fn begin(&self, firings: &[Firing]) -> Result<Vec<Begun>, StoreError>;

    /// Ends a run in one fenced transaction: its row, its recorder, its lease. Answers whether
    /// the lease was still held; if not, nothing was written.
    ///
    /// # Errors
    /// The database's or the recorder's; nothing is changed then.
    async fn finish(&self, ending: &Ending) -> Result<bool, StoreError>;
}

/// Rows of `instances`.
#[async_trait]
pub trait InstanceStore {
    /// Announces this process.
    ///
    /// # Errors
    /// The database's.
    async fn announce(&self, instance: &Instance) -> Result<(), StoreError>;

    /// The jobs that live processes define in different ways, by name.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn disagreements(&self) -> Result<Vec<Disagreement>, StoreError>;

    /// Says that this process is alive, or stopping. Answers whether it is still known: others
    /// prune what they take for dead, so a process that was frozen for long announces itself
    /// again.
    ///
    /// # Errors
    /// The database's.
    async fn seen(&self, id: InstanceId, stopping: bool) -> Result<bool, StoreError>;

    /// Deletes rows that nobody needs any more: of old history `at_most` rows, so that others do
    /// not wait for long, and what dead instances left. Answers how many; at least `at_most` says
    /// that more may be left.
    ///
    /// # Errors
    /// The database's.
    async fn prune(&self, at_most: u32) -> Result<u64, StoreError>;

    /// Measures how far this process's clock is off the store's. Nought where the store's now is
    /// that clock, as it is unless a store says otherwise.
    ///
    /// # Errors
    /// The database's.
    async fn measure_skew(&self) -> Result<ClockSkew, StoreError> {
        Ok(ClockSkew::default())
    }

    /// Notes the skew of this process where operators see it. A store without skew notes nothing.
    ///
    /// # Errors
    /// The database's.
    async fn note_skew(&self, id: InstanceId, skew: ClockSkew) -> Result<(), StoreError> {
        let (_, _) = (id, skew);
        Ok(())
    }
}

/// The read model of heartbeats.
#[async_trait]
pub trait HeartbeatStore {
    /// The health of all workers, now.
    ///
    /// # Errors
    /// The database's, or a row that cannot be understood.
    async fn health(&self) -> Result<HealthReport, StoreError>;

    /// Adds what runs without rows did to the heartbeats of their workers, each of which is there once.
    ///
    /// # Errors
    /// The database's; nothing is added then.
    async fn roll_up(&self, rows: &[HeartbeatRollUp]) -> Result<(), StoreError>;
}

/// What runs of one worker in one process did, of which nothing else is written. Instants are spans
/// before now, in milliseconds, since a process has a clock of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatRollUp {
    /// The worker.
    pub worker: String,
    /// The process.
    pub instance_id: InstanceId,
    /// How many ended.
    pub runs: i64,
    /// How many of them failed.
    pub errors: i64,
    /// How many of them failed since the last that succeeded, or at all.
    pub errors_in_a_row: i64,
    /// When the last of them began.
    pub started_ago_ms: Option<i64>,
    /// When it ended.
    pub ended_ago_ms: Option<i64>,
    /// When one of them succeeded last.
    pub success_ago_ms: Option<i64>,
    /// When one of them failed last.
    pub error_ago_ms: Option<i64>,
    /// Why, if none succeeded since.
    pub last_error: Option<String>,
    /// What the last success did.
    pub summary: Option<serde_json::Value>,
    /// How long the last took.
    pub latency_ms: i64,
    /// How the last ended that a stop did not cut off.
    pub status: Option<WorkerStatus>,
}

/// A process that schedules.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its identity.
    pub id: InstanceId,
    /// The host's name, for people.
    pub host: String,
    /// The operating system's process id.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// What its definitions make of the schedule rows; empty for a process that writes none.
    pub definitions: Definitions,
}

/// What a definition makes of its schedule row.
#[derive(Clone)]
pub struct JobSeed {
    /// The job.
    pub job: String,
    /// Its cadence.
    pub cadence: Cadence,
    /// Changes when the row must be rewritten.
    pub definition_hash: String,
    /// Whether this row says when it is due; not so for a job of scope Instance.
    pub due_by_row: bool,
    /// Whether a start makes it due at once.
    pub start_immediately: bool,
    /// The hard deadline of a run, for the read model.
    pub timeout_ms: Option<i64>,
    /// Makes the job visible before its first run.
    pub recorder: Arc<dyn Recorder>,
}

impl JobSeed {
    /// The first slot after `now_ms` on a grid that begins then, and the span to the one after it;
    /// `None` for a job that is never due by this row.
    pub(crate) fn first_slot(&self, now_ms: i64) -> Option<(i64, i64)> {
        let slot_ms = self.cadence.next_after(now_ms, now_ms).filter(|_| self.due_by_row)?;
        Some((slot_ms, self.cadence.spacing_ms(now_ms)?))
    }
}

/// One consistent enough view of what there may be to do; every write checks again.
#[derive(Debug, Clone)]
pub struct Look {
    /// The store's now, epoch milliseconds.
    pub now_ms: i64,
    /// The rows of the jobs asked for.
    pub schedules: Vec<ScheduleRow>,
    /// Runs whose lease is gone while their row says `running`.
    pub interrupted: Vec<InterruptedRun>,
}

/// A row of `schedules`. Times are epoch milliseconds.
#[derive(Debug, Clone)]
pub struct ScheduleRow {
    /// The job.
    pub job: String,
    /// The cadence of the definition.
    pub cadence: String,
    /// An operator's cadence, which wins.
    pub cadence_override: Option<String>,
    /// The origin of the grid.
    pub anchor_ms: i64,
    /// When it is due next.
    pub next_due_at_ms: Option<i64>,
    /// The slot that fired last.
    pub last_fired_for_ms: Option<i64>,
    /// A slot that waits for the lease.
    pub buffered_for_ms: Option<i64>,
    /// How often the waiting slot was tried before.
    pub buffered_attempts: i32,
    /// Slots that are to run one after another, oldest first.
    pub waiting_slots: Vec<WaitingSlot>,
    /// The run that somebody asks for.
    pub run_requested: Option<RunId>,
    /// How many runs go on over all hosts, as far as their rows say.
    pub running: i64,
    /// Whether it fires.
    pub paused: bool,
    /// Grows with each change of the definition.
    pub generation: i64,
    /// Until when the job's cluster lease is held; `None` when it is free.
    pub leased_until_ms: Option<i64>,
}

/// A run that was cut off.
#[derive(Debug, Clone)]
pub struct InterruptedRun {
    /// The run.
    pub run_id: RunId,
    /// The job.
    pub job: String,
    /// `''` for scope Cluster, the instance for scope Instance.
    pub scope_key: String,
    /// What had started it.
    pub trigger: Trigger,
    /// Its slot, epoch milliseconds.
    pub scheduled_for_ms: i64,
    /// Which attempt it was.
    pub attempt: i32,
    /// When it began, epoch milliseconds.
    pub started_at_ms: i64,
    /// Who ran it.
    pub instance_id: InstanceId,
    /// Under which token.
    pub token: i64,
}

impl InterruptedRun {
    /// The leases that it may have run under: its job's, or one of its own.
    pub(crate) fn lease_names(&self) -> [String; 2] {
        [lease_name(&self.job, &self.scope_key), run_lease_name(&self.job, self.run_id)]
    }
}

/// What became of a [`Firing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The run has begun under this lease.
    Started {
        /// The grant.
        key: LeaseKey,
        /// When it expires unless renewed, epoch milliseconds.
        expires_at_ms: i64,
        /// When the run began, epoch milliseconds.
        started_at_ms: i64,
    },
    /// The lease is held by a run that has not ended.
    Busy(Holder),
    /// Another host was first.
    Lost,
    /// There was no run to begin; misses and interrupted runs are recorded.
    Recorded,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The instance.
    pub instance: String,
    /// Until when, unless renewed; epoch milliseconds.
    pub until_ms: i64,
}

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease is held.
    Kept {
        /// Its new deadline, epoch milliseconds.
        expires_at_ms: i64,
        /// Whether somebody asks for the run to end.
        cancel_requested: bool,
    },
    /// It expired or was granted to another.
    Lost,
}

/// The end of a run.
#[derive(Clone)]
pub struct Ending {
    /// The grant that it ran under.
    pub key: LeaseKey,
    /// How it ended. The store sets `finished_at_ms`.
    pub run: RunFinished,
    /// Whether the run's row is kept.
    pub keep_row: bool,
    /// Whether its slot is to run again, because a stop cut it off.
    pub rerun: bool,
    /// Where runs are written besides `job_runs`.
    pub recorder: Arc<dyn Recorder>,
}

impl Ending {
    /// The status to record.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        self.run.status
    }
}

/// An instance that was not seen for this long does not count as alive.
const LIVE_FOR_MS: i64 = 60_000;
/// History is kept this long, and so are dead letters that are resolved.
const KEEP_RUNS_MS: i64 = 7 * 86_400_000;
/// What a dead instance left is kept this long, for the one who asks what happened.
const KEEP_DEAD_INSTANCES_MS: i64 = 86_400_000;

/// What the error of an interrupted run says.
const INTERRUPTED: &str = "the run was cut off: its lease expired before it ended (a crash, a kill, or a host that was frozen)";

/// What operators read must fit a screen, and what the database keeps be bounded: bytes of an
/// error.
const LONGEST_ERROR: usize = 4_000;

/// An error as it is kept: bounded, and without the character that a server's text cannot hold.
fn kept_error(error: &str) -> String {
    bounded(error, LONGEST_ERROR).replace('\0', "\u{fffd}")
}

/// The longest prefix of at most `longest` bytes that ends between characters.
fn bounded(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests {
    use super::{bounded, kept_error};

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(bounded("short", 10), "short");
        assert_eq!(bounded("ünïcode", 1), "");
        assert_eq!(bounded("ünïcode", 4), "ün");
    }

    #[test]
    fn a_character_that_no_server_stores_does_not_keep_an_error_from_being_recorded() {
        assert_eq!(kept_error("bad byte \0 in `x`"), "bad byte \u{fffd} in `x`");
    }
}
