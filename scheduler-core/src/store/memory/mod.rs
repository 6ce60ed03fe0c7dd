//! The store in memory: what the SQL store means, without SQL and without a file.
//!
//! One lock makes every operation a transaction: nobody sees half of it, and what fails or is
//! dropped half-way is taken back. Each file here has the name of the file of `store/sea_orm`
//! whose meaning it has.

mod audit;
mod control;
mod heartbeats;
mod instances;
mod leases;
mod letters;
mod queue;
mod runs;
mod schedules;
mod table;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use self::heartbeats::Heartbeat;
use self::instances::InstanceRow;
use self::leases::LeaseRow;
use self::letters::LetterRow;
use self::queue::QueueTables;
use self::schedules::Schedule;
use self::table::Table;
use crate::clock::Clock;
use crate::store::wake::Hub;
use crate::store::{Changes, SchedulerStore, Topic, WakeStore};
use crate::testing::{JobEdit, RunRow};

/// A store in memory, for tests: schedules, leases, runs, heartbeats, dead letters and queue rows mean what
/// they mean on a SQL database, and nothing waits for a disk.
///
/// Clones are handles on the same memory: give each of several schedulers one, and they are hosts
/// on one database. Its now is its clock's.
///
/// Not in memory: [`Store::write`](crate::Store::write), [`Lease::fence`](crate::Lease::fence)
/// and [`QueueContext::fence`](crate::queue::QueueContext::fence), which are about a transaction
/// of the caller's; a [`Consumer`](crate::queue::Consumer), whose rows are made of what a SQL
/// database answers (its rows can be claimed through [`open_queue`](Self::open_queue)).
/// [`RecordTxn::sql`](crate::RecordTxn::sql) is `None`.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use scheduler_core::testing::{ManualClock, MemoryStore};
/// use scheduler_core::{
///     Cadence, JobContext, JobDefinition, RunStatus, RunSummary, Scheduler, Shutdown,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new(Arc::new(ManualClock::at(1_795_435_200_000)));
/// let mut scheduler = Scheduler::new(store.clone());
/// scheduler.register(
///     JobDefinition::new("prune_sessions", Cadence::every(Duration::from_secs(60))),
///     |_: JobContext| async { Ok(RunSummary::new().count("pruned", 3)) },
/// )?;
/// scheduler.run_once("prune_sessions", Duration::ZERO, &Shutdown::default()).await?;
///
/// let runs = store.runs("prune_sessions").await;
/// assert_eq!(runs[0].status, RunStatus::Succeeded);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Tables {
    instances: Table<String, InstanceRow>,
    schedules: Table<String, Schedule>,
    leases: Table<String, LeaseRow>,
    runs: Table<String, RunRow>,
    heartbeats: Table<String, Heartbeat>,
    /// By worker and instance.
    worker_instances: Table<(String, String), Heartbeat>,
    /// By job and item.
    letters: Table<(String, String), LetterRow>,
    queues: QueueTables,
    /// Of queues with a rate: key and instant of each start that may count, by their places.
    starts: HashMap<String, queue::Starts>,
    /// Queues of which nothing is claimed, by their places.
    paused: HashSet<String>,
}

impl Tables {
    fn commit(&mut self) {
        self.instances.commit();
        self.schedules.commit();
        self.leases.commit();
        self.runs.commit();
        self.heartbeats.commit();
        self.worker_instances.commit();
        self.letters.commit();
    }

    fn roll_back(&mut self) {
        self.instances.roll_back();
        self.schedules.roll_back();
        self.leases.roll_back();
        self.runs.roll_back();
        self.heartbeats.roll_back();
        self.worker_instances.roll_back();
        self.letters.roll_back();
    }
}

/// The tables for one operation, which nobody else sees meanwhile; dropped without a commit, it
/// changed nothing.
struct Transaction<'s> {
    tables: MutexGuard<'s, Tables>,
    now_ms: i64,
}

impl Transaction<'_> {
    fn commit(mut self) {
        self.tables.commit();
    }
}

impl Deref for Transaction<'_> {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.tables.roll_back();
    }
}

impl MemoryStore {
    /// An empty store whose now is this clock's.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { tables: Arc::default(), hub: Arc::default(), clock }
    }

    /// The runs of a job, oldest slot first, then by attempt and trigger.
    pub async fn runs(&self, job: &str) -> Vec<RunRow> {
        let txn = self.begin_transaction().await;
        let mut runs: Vec<RunRow> = txn.runs.rows().filter(|run| run.job == job).cloned().collect();
        runs.sort_by(|a, b| a.order().cmp(&b.order()));
        runs
    }

    /// Every row but the queues', as text, one line each: to see that nothing was written.
    pub async fn everything(&self) -> Vec<String> {
        fn lines<K: Debug + Ord + Clone, R: Debug + Clone>(
            table: &Table<K, R>,
        ) -> impl Iterator<Item = String> {
            table.entries().map(|entry| format!("{entry:?}"))
        }
        let txn = self.begin_transaction().await;
        lines(&txn.instances)
            .chain(lines(&txn.schedules))
            .chain(lines(&txn.leases))
            .chain(lines(&txn.runs))
            .chain(lines(&txn.heartbeats))
            .chain(lines(&txn.worker_instances))
            .chain(lines(&txn.letters))
            .collect()
    }

    /// Changes a job's rows as an operator does; answers whether there was a row to change.
    pub async fn edit(&self, edit: &JobEdit) -> bool {
        let mut txn = self.begin_transaction().await;
        let edited = match edit {
            JobEdit::Pause { job } => txn.schedules.edit(job, |row| row.paused = true),
            JobEdit::Override { job, cadence } => {
                txn.schedules.edit(job, |row| row.cadence_override.clone_from(cadence))
            }
            JobEdit::Due { job, at_ms } => {
                txn.schedules.edit(job, |row| row.next_due_at_ms = Some(*at_ms))
            }
            JobEdit::Cancel { lease } => txn.leases.edit(lease, |row| row.cancel_requested = true),
        };
        txn.commit();
        edited
    }

    async fn begin_transaction(&self) -> Transaction<'_> {
        let tables = self.tables.lock().await;
        Transaction { tables, now_ms: self.clock.now_ms() }
    }
}

impl SchedulerStore for MemoryStore {
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl WakeStore for MemoryStore {
    fn changes(&self, topic: &Topic) -> Changes {
        self.hub.changes(topic)
    }

    fn wake(&self, topic: &Topic) {
        self.hub.tell(topic);
    }
}

impl Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
