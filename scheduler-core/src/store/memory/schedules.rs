//! Schedules: what definitions make of them, what is due, who fires.

use async_trait::async_trait;

use super::heartbeats::MemoryHeartbeats;
use super::runs::record_given_up;
use super::{MemoryStore, Tables};
use crate::error::StoreError;
use crate::executor::{lease_name, run_lease_name};
use crate::recorder::RecordTxn;
use crate::run::{RunId, RunStatus, Trigger};
use crate::store::waiting::with;
use crate::store::{
    Advance, InterruptedRun, JobSeed, Look, ScheduleRow, ScheduleStore, Topic, WaitingSlot,
    WakeStore,
};
use crate::testing::RunRow;

#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) cadence: String,
    pub(super) cadence_override: Option<String>,
    definition_hash: String,
    anchor_ms: i64,
    pub(super) next_due_at_ms: Option<i64>,
    last_fired_for_ms: Option<i64>,
    buffered_for_ms: Option<i64>,
    pub(super) waiting_slots: Vec<WaitingSlot>,
    pub(super) run_requested: Option<RunId>,
    pub(super) timeout_ms: Option<i64>,
    pub(super) paused: bool,
    generation: i64,
}

impl Schedule {
    /// A row as a definition first makes it.
    fn of(seed: &JobSeed, now_ms: i64) -> Self {
        let first_due = |(slot_ms, _)| if seed.start_immediately { now_ms } else { slot_ms };
        Self {
            cadence: seed.cadence.to_string(),
            cadence_override: None,
            definition_hash: seed.definition_hash.clone(),
            anchor_ms: now_ms,
            next_due_at_ms: seed.first_slot(now_ms).map(first_due),
            last_fired_for_ms: None,
            buffered_for_ms: None,
            waiting_slots: Vec::new(),
            run_requested: None,
            timeout_ms: seed.timeout_ms,
            paused: false,
            generation: 1,
        }
    }

    fn is_redefined_by(&self, seed: &JobSeed) -> bool {
        self.definition_hash != seed.definition_hash
    }

    /// A changed definition starts a new grid; an unchanged one leaves the row alone. A start
    /// makes the job due at once, if its last fire is at least one interval old.
    fn follow(&mut self, seed: &JobSeed, now_ms: i64) {
        if self.is_redefined_by(seed) {
            let kept = self.clone();
            *self = Self {
                cadence_override: kept.cadence_override,
                last_fired_for_ms: kept.last_fired_for_ms,
                buffered_for_ms: kept.buffered_for_ms,
                waiting_slots: kept.waiting_slots,
                run_requested: kept.run_requested,
                paused: kept.paused,
                generation: kept.generation + 1,
                ..Self::of(seed, now_ms)
            };
        }
        self.timeout_ms = seed.timeout_ms;
        let (Some((slot_ms, spacing_ms)), Some(due_ms)) =
            (seed.first_slot(now_ms), self.next_due_at_ms)
        else {
            return;
        };
        let fired_lately = self.last_fired_for_ms.is_some_and(|fired| fired > now_ms - spacing_ms);
        if fired_lately && due_ms == now_ms && self.anchor_ms == now_ms {
            self.next_due_at_ms = Some(slot_ms);
        } else if !fired_lately && seed.start_immediately && due_ms > now_ms && !self.paused {
            self.next_due_at_ms = Some(now_ms);
        }
    }
}

impl Schedule {
    /// Becomes what an operator made of the row.
    pub(super) fn obey(&mut self, row: &ScheduleRow) {
        self.cadence_override.clone_from(&row.cadence_override);
        self.anchor_ms = row.anchor_ms;
        self.next_due_at_ms = row.next_due_at_ms;
        self.paused = row.paused;
        self.generation = row.generation;
    }
}

impl Tables {
    /// Moves a row if it is as it was seen; losing is silent.
    pub(super) fn advance(&mut self, job: &str, advance: &Advance) -> bool {
        let as_seen = self.schedules.get(job).is_some_and(|row| {
            !row.paused
                && row.generation == advance.seen_generation
                && row.next_due_at_ms == advance.seen_due_at_ms
                && row.buffered_for_ms == advance.seen_buffered_for_ms
                && row.waiting_slots == advance.seen_waiting_slots
        });
        as_seen
            && self.schedules.edit(job, |row| {
                row.last_fired_for_ms = advance.fired_for_ms.or(row.last_fired_for_ms);
                row.next_due_at_ms = advance.next_due_at_ms;
                row.buffered_for_ms = advance.buffered_for_ms;
                row.waiting_slots.clone_from(&advance.waiting_slots);
            })
    }

    /// Lets a slot wait for the lease; a newer one that waits already wins.
    pub(super) fn buffer(&mut self, job: &str, slot_ms: i64) {
        self.schedules
            .edit(job, |row| row.buffered_for_ms = row.buffered_for_ms.max(Some(slot_ms)));
    }

    /// Puts the slot of a run that is to run again among those that wait.
    pub(super) fn wait_again(&mut self, job: &str, slot: WaitingSlot) {
        self.schedules.edit(job, |row| {
            row.waiting_slots = with(std::mem::take(&mut row.waiting_slots), slot);
        });
    }

    /// Takes a request for a run up, if it still stands.
    pub(super) fn take_request(&mut self, job: &str, id: RunId) -> bool {
        let stands = self.schedules.get(job).is_some_and(|row| row.run_requested == Some(id));
        stands && self.schedules.edit(job, |row| row.run_requested = None)
    }

    fn running(&self, job: &str) -> i64 {
        let of_job = |run: &&RunRow| run.job == job && run.scope_key.is_empty();
        let running = |run: &&RunRow| of_job(run) && run.status == RunStatus::Running;
        i64::try_from(self.runs.rows().filter(running).count()).unwrap_or(i64::MAX)
    }

    /// Whether the grant that a run began under still lives.
    pub(super) fn lives(&self, run: &RunRow, now_ms: i64) -> bool {
        let holder = run.instance_id.to_string();
        let token = run.token.unwrap_or_default();
        [lease_name(&run.job, &run.scope_key), run_lease_name(&run.job, run.id)].iter().any(
            |name| {
                let lease = self.leases.get(name);
                lease.is_some_and(|lease| lease.is_granted(&holder, token, now_ms))
            },
        )
    }

    pub(super) fn schedule_row(&self, job: &str, now_ms: i64) -> Option<ScheduleRow> {
        let row = self.schedules.get(job)?;
        let attempts = |slot_ms| {
            let of_slot = |run: &&RunRow| {
                run.job == job
                    && run.scope_key.is_empty()
                    && run.scheduled_for_ms == slot_ms
                    && run.trigger != Trigger::Manual
            };
            self.runs.rows().filter(of_slot).map(|run| run.attempt).max().unwrap_or(0)
        };
        Some(ScheduleRow {
            job: job.to_owned(),
            cadence: row.cadence.clone(),
            cadence_override: row.cadence_override.clone(),
            anchor_ms: row.anchor_ms,
            next_due_at_ms: row.next_due_at_ms,
            last_fired_for_ms: row.last_fired_for_ms,
            buffered_for_ms: row.buffered_for_ms,
            buffered_attempts: row.buffered_for_ms.map_or(0, attempts),
            waiting_slots: row.waiting_slots.clone(),
            run_requested: row.run_requested,
            running: self.running(job),
            paused: row.paused,
            generation: row.generation,
            leased_until_ms: self.holder(job, now_ms).map(|holder| holder.until_ms),
        })
    }

    fn interrupted(&self, jobs: &[String], now_ms: i64) -> Vec<InterruptedRun> {
        let mut cut_off: Vec<&RunRow> = self
            .runs
            .rows()
            .filter(|run| run.status == RunStatus::Running && jobs.contains(&run.job))
            .filter(|run| !self.lives(run, now_ms))
            .collect();
        cut_off.sort_by_key(|run| (run.scheduled_for_ms, run.attempt));
        cut_off
            .into_iter()
            .map(|run| InterruptedRun {
                run_id: run.id,
                job: run.job.clone(),
                scope_key: run.scope_key.clone(),
                trigger: run.trigger,
                scheduled_for_ms: run.scheduled_for_ms,
                attempt: run.attempt,
                started_at_ms: run.started_at_ms.unwrap_or(run.scheduled_for_ms),
                instance_id: run.instance_id,
                token: run.token.unwrap_or_default(),
            })
            .collect()
    }
}

#[async_trait]
impl ScheduleStore for MemoryStore {
    async fn register_jobs(&self, jobs: &[JobSeed]) -> Result<(), StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        for seed in jobs {
            let redefined =
                txn.schedules.get(&seed.job).is_some_and(|row| row.is_redefined_by(seed));
            if let Some(row) = txn.schedule_row(&seed.job, now_ms).filter(|_| redefined)
                && let Some(missed) = row.gives_up(now_ms - 1)?
            {
                record_given_up(&mut txn, &seed.job, missed, now_ms);
            }
            if !txn.schedules.edit(&seed.job, |row| row.follow(seed, now_ms)) {
                txn.schedules.put(seed.job.clone(), Schedule::of(seed, now_ms));
            }
        }
        for seed in jobs {
            let heartbeats = MemoryHeartbeats::new(&mut txn, now_ms);
            let record = RecordTxn { heartbeats: &heartbeats, sql: None };
            seed.recorder.registered(&record, &seed.job).await?;
        }
        txn.commit();
        self.wake(&Topic::Schedules);
        Ok(())
    }

    async fn look(&self, jobs: &[String]) -> Result<Look, StoreError> {
        let txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let schedules = jobs.iter().filter_map(|job| txn.schedule_row(job, now_ms)).collect();
        Ok(Look { now_ms, schedules, interrupted: txn.interrupted(jobs, now_ms) })
    }
}
