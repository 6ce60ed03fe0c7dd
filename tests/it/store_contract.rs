//! What the scheduler and the queues need of a store, as protocol: the same functions for every
//! store, called by a few lines for each.
//!
//! `runs`, `leases` and `processes` need only the traits and what a [`Fixture`] reads back;
//! `queue` needs SQL; the `sqlite_…` are about the one writer of a file, `postgres_writer` about a
//! pool.

mod leases;
#[cfg(feature = "postgres")]
mod postgres_writer;
mod processes;
mod queue;
mod runs;
mod sqlite_failures;
mod sqlite_writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::store::{Begun, Ending, Firing, JobSeed, NewRun, ScheduleRow, SchedulerStore};
use scheduler_core::testing::ManualClock;
use scheduler_core::{
    Cadence, HeartbeatRecorder, InstanceId, LeaseKey, RecordTxn, Recorder, RunFinished, RunId,
    RunStarted, RunStatus, Store, StoreError, Trigger,
};

use crate::harness::{Database, NOON};

const LEASE_MS: i64 = 30_000;
const MINUTE_MS: i64 = 60_000;

/// Two handles on one database, as two processes have them, and what is written there.
struct Fixture {
    store: Store,
    other: Store,
    clock: ManualClock,
    database: Database,
}

impl Fixture {
    async fn sqlite() -> Self {
        Self::of(Database::new().await).await
    }

    #[cfg(feature = "postgres")]
    async fn postgres() -> Option<Self> {
        Some(Self::of(Database::new_on_postgres().await?).await)
    }

    async fn of(database: Database) -> Self {
        let other = database.another_store().await;
        Self { store: database.store.clone(), other, clock: database.clock.clone(), database }
    }

    fn advance_ms(&self, span_ms: u64) {
        self.clock.advance(Duration::from_millis(span_ms));
    }

    /// A due schedule row for each of these jobs, on a grid of a minute from noon.
    async fn register(&self, jobs: &[&str]) {
        let seeds: Vec<JobSeed> = jobs.iter().map(|job| seed(job)).collect();
        store(&self.store).register_jobs(&seeds).await.expect("registered");
    }

    async fn schedule(&self, job: &str) -> ScheduleRow {
        let look = store(&self.other).look(&[job.to_owned()]).await.expect("a look");
        look.schedules.into_iter().next().expect(job)
    }

    /// The runs of a job, oldest slot first: `trigger|slot|attempt|status|missed|until`, slots
    /// as seconds after noon.
    async fn runs(&self, job: &str) -> Vec<String> {
        let sql = format!(
            "SELECT trigger, (scheduled_for_ms - {NOON}) / 1000, attempt, status, missed_count, (missed_until_ms - {NOON}) / 1000 FROM job_runs WHERE job = '{job}' ORDER BY scheduled_for_ms, attempt, trigger"
        );
        self.database.lines(&sql).await
    }

    /// Every row of the scheduler's tables, to see that nothing was written.
    async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in ["schedules", "leases", "job_runs", "worker_heartbeats", "worker_instances"] {
            let names = self.database.columns(table).await.join(", ");
            all.extend(
                self.database.lines(&format!("SELECT {names} FROM {table} ORDER BY 1")).await,
            );
        }
        all
    }
}

/// The store as the scheduler sees it.
fn store(store: &Store) -> &dyn SchedulerStore {
    store
}

fn seed(job: &str) -> JobSeed {
    JobSeed {
        job: job.to_owned(),
        cadence: Cadence::every(Duration::from_secs(60)).to_string(),
        definition_hash: "1".to_owned(),
        interval_ms: Some(MINUTE_MS),
        start_immediately: true,
        timeout_ms: None,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

/// A firing of a cluster job that does nothing yet.
fn firing(job: &str, instance_id: InstanceId) -> Firing {
    Firing {
        job: job.to_owned(),
        scope_key: String::new(),
        lease_name: job.to_owned(),
        lease_ms: LEASE_MS,
        instance_id,
        run: None,
        advance: None,
        missed: None,
        interrupted: None,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

fn run_of(trigger: Trigger, scheduled_for_ms: i64) -> NewRun {
    NewRun { id: RunId::new(), trigger, scheduled_for_ms, attempt: 1 }
}

/// A firing of a run that moves no schedule row.
fn manual(job: &str, instance_id: InstanceId) -> Firing {
    Firing { run: Some(run_of(Trigger::Manual, NOON)), ..firing(job, instance_id) }
}

async fn begin(store: &Store, firing: Firing) -> Begun {
    let mut begun = self::store(store).begin(&[firing]).await.expect("begun");
    assert_eq!(begun.len(), 1, "one answer per firing");
    begun.remove(0)
}

#[track_caller]
fn started(begun: &Begun) -> LeaseKey {
    match begun {
        Begun::Started { key, .. } => key.clone(),
        other => panic!("expected a run that started, got {other:?}"),
    }
}

fn ending(key: &LeaseKey, run_id: RunId) -> Ending {
    Ending {
        key: key.clone(),
        run: RunFinished {
            job: key.name.clone(),
            run_id,
            instance_id: key.holder,
            status: RunStatus::Succeeded,
            scheduled_for_ms: NOON,
            started_at_ms: NOON,
            finished_at_ms: NOON,
            summary: None,
            error: None,
        },
        keep_row: true,
        rerun: false,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

/// A recorder whose own table is away.
struct Broken;

fn away() -> StoreError {
    let source = sea_orm::DbErr::Custom("the recorder's table is away".to_owned());
    StoreError::database("record a run", source)
}

#[async_trait]
impl Recorder for Broken {
    async fn registered(&self, _: &RecordTxn<'_>, _: &str) -> Result<(), StoreError> {
        Err(away())
    }

    async fn started(&self, _: &RecordTxn<'_>, _: &RunStarted) -> Result<(), StoreError> {
        Err(away())
    }

    async fn finished(&self, _: &RecordTxn<'_>, _: &RunFinished) -> Result<(), StoreError> {
        Err(away())
    }
}

/// The contract's functions as tests of every store of this build.
macro_rules! on_every_pair {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Fixture::sqlite().await).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fixture) = super::Fixture::postgres().await {
                    super::$name(fixture).await;
                }
            })*
        }
    };
}
use on_every_pair;
