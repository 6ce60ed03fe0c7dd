//! What the rules have in common: firings and endings, and what they look at.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::DbErr;

use super::{Fixture, NOON};
use crate::cadence::Cadence;
use crate::definition::Overlap;
use crate::error::StoreError;
use crate::lease::LeaseKey;
use crate::plan::Missed;
use crate::recorder::{HeartbeatRecorder, RecordTxn, Recorder, RunFinished, RunStarted};
use crate::run::{InstanceId, RunId, RunStatus, Trigger};
use crate::store::{
    Advance, Begun, Definitions, Ending, Firing, Instance, InterruptedRun, JobSeed, NewRun,
    ScheduleRow, SchedulerStore,
};

pub(super) const LEASE_MS: i64 = 30_000;
pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const DAY_MS: i64 = 86_400_000;

/// Steps that many rules take on a fixture.
pub(super) trait Steps: Fixture {
    fn advance_ms(&self, span_ms: i64) {
        self.clock().advance(Duration::from_millis(span_ms.unsigned_abs()));
    }

    /// A due schedule row for each of these jobs, on a grid of a minute from now.
    async fn register(&self, jobs: &[&str]) {
        let seeds: Vec<JobSeed> = jobs.iter().map(|job| seed(job)).collect();
        self.store().register_jobs(&seeds).await.expect("registered");
    }

    async fn schedule(&self, job: &str) -> ScheduleRow {
        let look = self.other().look(&[job.to_owned()]).await.expect("a look");
        look.schedules.into_iter().next().expect(job)
    }

    /// The runs of `job` that were cut off, as a look finds them.
    async fn interrupted(&self, job: &str) -> Vec<InterruptedRun> {
        self.other().look(&[job.to_owned()]).await.expect("a look").interrupted
    }

    /// The runs of a job, oldest slot first: `trigger|slot|attempt|status|missed|until`, slots
    /// as seconds after noon.
    async fn lines(&self, job: &str) -> Vec<String> {
        let seconds = |at_ms: i64| (at_ms - NOON) / 1_000;
        let or_none = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        let runs = self.runs(job).await;
        let line = |run: &crate::testing::RunRow| {
            format!(
                "{}|{}|{}|{}|{}|{}",
                run.trigger,
                seconds(run.scheduled_for_ms),
                run.attempt,
                run.status,
                or_none(run.missed_count),
                or_none(run.missed_until_ms.map(seconds)),
            )
        };
        runs.iter().map(line).collect()
    }

    /// Begins a run and lets its lease expire.
    async fn cut_off(&self, job: &str) -> (InterruptedRun, LeaseKey) {
        let row = self.schedule(job).await;
        let key = started(&begin(self.store(), fire(&row, InstanceId::new())).await);
        self.advance_ms(LEASE_MS);
        (self.interrupted(job).await.remove(0), key)
    }

    async fn announce(&self, id: InstanceId) {
        let instance = Instance {
            id,
            host: "host".into(),
            pid: 1,
            version: "1".into(),
            definitions: Definitions::new(),
        };
        self.store().announce(&instance).await.expect("announced");
    }
}

impl<F: Fixture + ?Sized> Steps for F {}

pub(super) fn seed(job: &str) -> JobSeed {
    JobSeed {
        job: job.to_owned(),
        cadence: Cadence::every(Duration::from_secs(60)),
        definition_hash: "1".to_owned(),
        due_by_row: true,
        start_immediately: true,
        timeout_ms: None,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

/// A firing of a cluster job that does nothing yet.
pub(super) fn firing(job: &str, instance_id: InstanceId) -> Firing {
    Firing {
        job: job.to_owned(),
        scope_key: String::new(),
        lease_name: job.to_owned(),
        lease_ms: LEASE_MS,
        as_of_ms: None,
        instance_id,
        run: None,
        advance: None,
        missed: Vec::new(),
        interrupted: None,
        overlap: Overlap::Skip,
        overlap_limit: 10,
        requested: false,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

/// What a host that saw `row` would fire for the slot that is due.
pub(super) fn fire(row: &ScheduleRow, instance_id: InstanceId) -> Firing {
    let slot = row.next_due_at_ms.expect("due");
    Firing {
        run: Some(run_of(Trigger::Schedule, slot)),
        advance: Some(advance(row, slot)),
        ..firing(&row.job, instance_id)
    }
}

pub(super) fn advance(row: &ScheduleRow, slot_ms: i64) -> Advance {
    Advance {
        seen_due_at_ms: row.next_due_at_ms,
        seen_generation: row.generation,
        seen_buffered_for_ms: row.buffered_for_ms,
        seen_waiting_slots: row.waiting_slots.clone(),
        next_due_at_ms: Some(slot_ms + MINUTE_MS),
        fired_for_ms: Some(slot_ms),
        buffered_for_ms: row.buffered_for_ms,
        waiting_slots: row.waiting_slots.clone(),
    }
}

pub(super) fn run_of(trigger: Trigger, scheduled_for_ms: i64) -> NewRun {
    NewRun { id: RunId::new(), trigger, scheduled_for_ms, attempt: 1 }
}

/// A firing of a run that moves no schedule row.
pub(super) fn manual(job: &str, instance_id: InstanceId) -> Firing {
    Firing { run: Some(run_of(Trigger::Manual, NOON)), ..firing(job, instance_id) }
}

/// A firing of a job of scope Instance.
pub(super) fn scoped(job: &str, instance_id: InstanceId, slot_ms: i64) -> Firing {
    Firing {
        scope_key: instance_id.to_string(),
        lease_name: format!("{job}@{instance_id}"),
        run: Some(run_of(Trigger::Schedule, slot_ms)),
        ..firing(job, instance_id)
    }
}

/// Slots that nobody ran, as seconds after noon.
pub(super) fn missed(from_s: i64, until_s: i64, count: i64) -> Vec<Missed> {
    vec![Missed { from_ms: NOON + from_s * 1_000, until_ms: NOON + until_s * 1_000, count }]
}

pub(super) async fn begin(store: &dyn SchedulerStore, firing: Firing) -> Begun {
    let mut begun = store.begin(&[firing]).await.expect("begun");
    assert_eq!(begun.len(), 1, "one answer per firing");
    begun.remove(0)
}

#[track_caller]
pub(super) fn started(begun: &Begun) -> LeaseKey {
    match begun {
        Begun::Started { key, .. } => key.clone(),
        other => panic!("expected a run that started, got {other:?}"),
    }
}

/// A success that is kept.
pub(super) fn ending(key: &LeaseKey, run_id: RunId) -> Ending {
    Ending {
        key: key.clone(),
        run: RunFinished {
            job: key.name.split(['@', '#']).next().expect("a name").to_owned(),
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

pub(super) async fn finish(store: &dyn SchedulerStore, key: &LeaseKey, firing: &Firing) {
    let ending = ending(key, firing.run.expect("a run").id);
    assert!(store.finish(&ending).await.expect("finished"));
}

/// Begins and ends a run in one go.
pub(super) async fn run(store: &dyn SchedulerStore, firing: Firing, status: RunStatus) {
    let key = started(&begin(store, firing.clone()).await);
    let mut ending = ending(&key, firing.run.expect("a run").id);
    ending.run.status = status;
    ending.run.error = status.is_error().then(|| format!("{status} of {}", firing.job));
    assert!(store.finish(&ending).await.expect("finished"));
}

/// A recorder whose own table is away.
pub(super) struct Broken;

fn away() -> StoreError {
    let source = DbErr::Custom("the recorder's table is away".to_owned());
    StoreError::database("record a run", source)
}

#[async_trait]
impl Recorder for Broken {
    async fn registered(&self, _: &RecordTxn<'_>, _: &str) -> Result<(), StoreError> {
        Err(away())
    }

    async fn started(&self, txn: &RecordTxn<'_>, run: &RunStarted) -> Result<(), StoreError> {
        txn.heartbeats.heartbeat_started(run).await?;
        Err(away())
    }

    async fn finished(&self, txn: &RecordTxn<'_>, run: &RunFinished) -> Result<(), StoreError> {
        txn.heartbeats.heartbeat_finished(run).await?;
        Err(away())
    }
}
