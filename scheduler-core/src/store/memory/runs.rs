//! Runs: begin and finish, each one transaction over several tables.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::heartbeats::MemoryHeartbeats;
use super::{MemoryStore, Tables};
use crate::definition::Overlap;
use crate::error::StoreError;
use crate::executor::is_of_one_run;
use crate::lease::LeaseKey;
use crate::plan::Missed;
use crate::recorder::{RecordTxn, RunFinished, RunStarted};
use crate::run::{InstanceId, RunId, RunStatus, Trigger};
use crate::store::{
    Begun, Ending, Firing, Holder, INTERRUPTED, NewRun, RunStore, Topic, WaitingSlot, WakeStore,
    kept_error,
};
use crate::testing::RunRow;

#[async_trait]
impl RunStore for MemoryStore {
    async fn begin(&self, firings: &[Firing]) -> Result<Vec<Begun>, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let begun = begin(&mut txn, firings, now_ms).await?;
        txn.commit();
        Ok(begun)
    }

    async fn finish(&self, ending: &Ending) -> Result<bool, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let finished = finish(&mut txn, ending, now_ms).await?;
        txn.commit();
        if finished && ending.rerun {
            self.wake(&Topic::Schedules);
        }
        Ok(finished)
    }
}

async fn begin(
    tables: &mut Tables,
    firings: &[Firing],
    now_ms: i64,
) -> Result<Vec<Begun>, StoreError> {
    let mut won = Vec::with_capacity(firings.len());
    for firing in firings {
        won.push(
            firing.advance.as_ref().is_none_or(|advance| tables.advance(&firing.job, advance)),
        );
    }
    for (firing, wins) in firings.iter().zip(&mut won) {
        if let Some(run) = firing.run.filter(|_| *wins && firing.requested) {
            *wins = tables.take_request(&firing.job, run.id);
        }
        *wins = *wins && close_interrupted(tables, firing, now_ms).await?;
    }

    // One lease is one run: of several firings that want it, the first may have it.
    let mut names = HashSet::new();
    let (mut granted, mut full) = (HashMap::new(), HashMap::new());
    for (position, (firing, wins)) in firings.iter().zip(&won).enumerate() {
        let Some(run) = firing.run.filter(|_| *wins) else { continue };
        if !names.insert(firing.lease_name.as_str()) {
            continue;
        }
        if let Some(holder) = tables.full(firing, now_ms) {
            full.insert(firing.lease_name.as_str(), holder);
            continue;
        }
        if let Some((token, expires_at_ms)) = tables.grant(firing, now_ms) {
            let inserted = insert_running(tables, firing, run, token, now_ms);
            granted.insert(position, (token, expires_at_ms, inserted));
        }
    }
    let held = names.iter().filter_map(|name| Some((*name, tables.holder(name, now_ms)?)));
    let held: HashMap<&str, Holder> = held.chain(full).collect();

    let mut begun = Vec::with_capacity(firings.len());
    for (position, (firing, wins)) in firings.iter().zip(won).enumerate() {
        if !wins {
            begun.push(Begun::Lost);
            continue;
        }
        for Missed { from_ms, until_ms, count } in firing.missed.iter().copied() {
            let missed = Unrun { status: RunStatus::Missed, from_ms, until_ms, count };
            record_unrun(tables, seen_by(firing), &missed, now_ms);
        }
        if let Some(older_ms) = firing.displaced() {
            record_unrun(tables, seen_by(firing), &skipped(older_ms), now_ms);
        }
        let Some(run) = firing.run else {
            begun.push(Begun::Recorded);
            continue;
        };
        let Some((token, expires_at_ms, inserted)) = granted.remove(&position) else {
            overlapped(tables, firing, run, now_ms);
            let holder = held.get(firing.lease_name.as_str()).cloned();
            begun.push(holder.map_or(Begun::Lost, Begun::Busy));
            continue;
        };
        let name = firing.lease_name.clone();
        let key = LeaseKey { name, holder: firing.instance_id, token };
        if !inserted {
            tables.release(&key, now_ms);
            begun.push(Begun::Lost);
            continue;
        }
        let started = RunStarted {
            job: firing.job.clone(),
            run_id: run.id,
            instance_id: firing.instance_id,
            scheduled_for_ms: run.scheduled_for_ms,
            started_at_ms: now_ms,
        };
        let heartbeats = MemoryHeartbeats::new(tables, now_ms);
        let record = RecordTxn { heartbeats: &heartbeats, sql: None };
        firing.recorder.started(&record, &started).await?;
        begun.push(Begun::Started { key, expires_at_ms, started_at_ms: now_ms });
    }
    Ok(begun)
}

/// Closes the run that a firing found cut off, unless its grant lives after all or somebody
/// closed it, or its slot is to run again and its job is paused; answers whether the firing may go on.
async fn close_interrupted(
    tables: &mut Tables,
    firing: &Firing,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some(run) = &firing.interrupted else { return Ok(true) };
    let id = run.run_id.to_string();
    let cut_off = tables
        .runs
        .get(&id)
        .is_some_and(|row| row.status == RunStatus::Running && !tables.lives(row, now_ms));
    let paused = tables.schedules.get(&run.job).is_some_and(|schedule| schedule.paused);
    if !cut_off || (firing.run.is_some() && paused) {
        return Ok(false);
    }
    tables.runs.edit(&id, |row| {
        row.status = RunStatus::LeaseLost;
        row.finished_at_ms = Some(now_ms);
        row.error = Some(INTERRUPTED.to_owned());
    });
    let finished = RunFinished {
        job: run.job.clone(),
        run_id: run.run_id,
        instance_id: run.instance_id,
        status: RunStatus::LeaseLost,
        scheduled_for_ms: run.scheduled_for_ms,
        started_at_ms: run.started_at_ms,
        finished_at_ms: now_ms,
        summary: None,
        error: Some(INTERRUPTED.to_owned()),
    };
    let heartbeats = MemoryHeartbeats::new(tables, now_ms);
    let record = RecordTxn { heartbeats: &heartbeats, sql: None };
    firing.recorder.finished(&record, &finished).await?;
    Ok(true)
}

/// The previous run is still under its lease: a slot is skipped and recorded, a waiting slot
/// goes on waiting.
fn overlapped(tables: &mut Tables, firing: &Firing, run: NewRun, now_ms: i64) {
    let slot_ms = run.scheduled_for_ms;
    if let Some(slot) = firing.rerun_that_waits() {
        tables.wait_again(&firing.job, slot);
        return;
    }
    if firing.requested {
        tables.schedules.edit(&firing.job, |row| row.run_requested = Some(run.id));
        return;
    }
    if let Some(waiting) = firing.with_its_slot_first() {
        tables.schedules.edit(&firing.job, |row| row.waiting_slots = waiting);
        return;
    }
    match run.trigger {
        Trigger::Start | Trigger::Schedule if firing.lets_its_slot_wait() => {
            tables.buffer(&firing.job, slot_ms);
            if firing.overlap == Overlap::Replace {
                tables.request_cancel(&firing.lease_name, now_ms);
            }
        }
        Trigger::Start | Trigger::Schedule => {
            record_unrun(tables, seen_by(firing), &skipped(slot_ms), now_ms);
        }
        Trigger::Buffered | Trigger::Rerun if firing.scope_key.is_empty() => {
            tables.buffer(&firing.job, slot_ms);
        }
        Trigger::Buffered | Trigger::Rerun | Trigger::Manual => {}
    }
}

fn skipped(slot_ms: i64) -> Unrun {
    Unrun { status: RunStatus::SkippedOverlap, from_ms: slot_ms, until_ms: slot_ms, count: 1 }
}

/// Records slots of a cluster job that were due when its schedule was changed.
pub(super) fn record_given_up(tables: &mut Tables, job: &str, missed: Missed, now_ms: i64) {
    let Missed { from_ms, until_ms, count } = missed;
    let missed = Unrun { status: RunStatus::Missed, from_ms, until_ms, count };
    let of = Of { job, scope_key: "", instance_id: InstanceId::NOBODY };
    record_unrun(tables, of, &missed, now_ms);
}

/// Whose row it is.
#[derive(Clone, Copy)]
struct Of<'a> {
    job: &'a str,
    scope_key: &'a str,
    instance_id: InstanceId,
}

fn seen_by(firing: &Firing) -> Of<'_> {
    let Firing { job, scope_key, instance_id, .. } = firing;
    Of { job, scope_key, instance_id: *instance_id }
}

/// A run that says nothing yet.
fn row_of(of: Of<'_>, run: NewRun) -> RunRow {
    RunRow {
        id: run.id,
        job: of.job.to_owned(),
        scope_key: of.scope_key.to_owned(),
        trigger: run.trigger,
        scheduled_for_ms: run.scheduled_for_ms,
        attempt: run.attempt,
        status: RunStatus::Running,
        missed_count: None,
        missed_until_ms: None,
        started_at_ms: None,
        finished_at_ms: None,
        summary: None,
        error: None,
        instance_id: of.instance_id,
        token: None,
    }
}

/// Inserts a row unless it, or another run of its slot, is there already.
fn insert(tables: &mut Tables, row: RunRow) -> bool {
    let id = row.id.to_string();
    let same_slot = |other: &RunRow| {
        row.trigger != Trigger::Manual
            && other.trigger != Trigger::Manual
            && (&other.job, &other.scope_key) == (&row.job, &row.scope_key)
            && (other.scheduled_for_ms, other.attempt) == (row.scheduled_for_ms, row.attempt)
    };
    if tables.runs.get(&id).is_some() || tables.runs.rows().any(same_slot) {
        return false;
    }
    tables.runs.put(id, row);
    true
}

fn insert_running(
    tables: &mut Tables,
    firing: &Firing,
    run: NewRun,
    token: i64,
    now_ms: i64,
) -> bool {
    let started_at_ms = Some(now_ms);
    insert(tables, RunRow { started_at_ms, token: Some(token), ..row_of(seen_by(firing), run) })
}

/// Slots that did not run, with the reason.
struct Unrun {
    status: RunStatus,
    from_ms: i64,
    until_ms: i64,
    count: i64,
}

/// Consecutive slots that did not run, and for the same reason, are one row.
fn record_unrun(tables: &mut Tables, of: Of<'_>, unrun: &Unrun, now_ms: i64) {
    let last = tables
        .runs
        .rows()
        .filter(|run| (run.job.as_str(), run.scope_key.as_str()) == (of.job, of.scope_key))
        .filter(|run| run.trigger != Trigger::Manual && run.scheduled_for_ms < unrun.from_ms)
        .max_by_key(|run| (run.scheduled_for_ms, run.attempt))
        .filter(|run| run.status == unrun.status)
        .map(|run| run.id.to_string());
    if let Some(id) = last {
        tables.runs.edit(&id, |row| {
            row.missed_count = row.missed_count.map(|count| count + unrun.count);
            row.missed_until_ms = Some(unrun.until_ms);
            row.finished_at_ms = Some(now_ms);
        });
        return;
    }
    let slot = NewRun {
        id: RunId::new(),
        trigger: Trigger::Schedule,
        scheduled_for_ms: unrun.from_ms,
        attempt: 1,
    };
    let row = RunRow {
        status: unrun.status,
        missed_count: Some(unrun.count),
        missed_until_ms: Some(unrun.until_ms),
        finished_at_ms: Some(now_ms),
        ..row_of(of, slot)
    };
    insert(tables, row);
}

async fn finish(tables: &mut Tables, ending: &Ending, now_ms: i64) -> Result<bool, StoreError> {
    if !tables.release(&ending.key, now_ms) {
        return Ok(false);
    }
    let run = RunFinished { finished_at_ms: now_ms, ..ending.run.clone() };
    let id = run.run_id.to_string();
    let running = |row: &RunRow| row.status == RunStatus::Running;
    if !ending.keep_row {
        tables.runs.delete(|key, row| *key == id && running(row));
    } else if tables.runs.get(&id).is_some_and(running) {
        tables.runs.edit(&id, |row| {
            let error = run.error.as_deref();
            row.status = run.status;
            row.finished_at_ms = Some(now_ms);
            row.summary.clone_from(&run.summary);
            row.error = error.map(kept_error);
        });
    }
    if ending.rerun && is_of_one_run(&ending.key.name) {
        let attempts = tables.runs.get(&id).map_or(1, |row| row.attempt);
        tables.wait_again(&run.job, WaitingSlot { slot_ms: run.scheduled_for_ms, attempts });
    } else if ending.rerun {
        tables.buffer(&run.job, run.scheduled_for_ms);
    }
    let heartbeats = MemoryHeartbeats::new(tables, now_ms);
    let record = RecordTxn { heartbeats: &heartbeats, sql: None };
    ending.recorder.finished(&record, &run).await?;
    Ok(true)
}
