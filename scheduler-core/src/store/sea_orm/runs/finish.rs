//! Finish: the ends of runs, written together where their recorders write nothing of their own.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr};
use serde_json::json;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::executor::is_of_one_run;
use crate::recorder::{RecordTxn, RunFinished, writes_heartbeats_only};
use crate::store::sea_orm::Store;
use crate::store::sea_orm::heartbeats::StoreHeartbeats;
use crate::store::sea_orm::sql::{ColumnType, rows_json};
use crate::store::sea_orm::together::Together;
use crate::store::sea_orm::write::write_own;
use crate::store::sea_orm::{leases, schedules};
use crate::store::{Ending, WaitingSlot, kept_error};

const OPERATION: &str = "finish runs";

/// Ends that one transaction takes at most: others wait for the writer meanwhile.
const MOST_ENDINGS: usize = 500;

const FINISHED: [(&str, ColumnType); 4] = [
    ("run_id", ColumnType::Text),
    ("ended_as", ColumnType::Text),
    ("outcome", ColumnType::Text),
    ("why", ColumnType::Text),
];

const FINISH: &str = "\
UPDATE job_runs SET status = v.ended_as, finished_at_ms = {now}, summary = v.outcome, error = v.why
FROM {rows} WHERE id = v.run_id AND status = 'running'";

const FORGET: &str =
    "DELETE FROM job_runs WHERE status = 'running' AND id IN (SELECT v.run_id FROM {rows})";

const ATTEMPT: &str = "SELECT attempt FROM job_runs WHERE id = $1";

/// Runs that end at the same time: while one transaction is under way, the next is collected.
pub(in super::super) type Finishes = Together<Caller>;

pub(in super::super) struct Caller {
    ending: Ending,
    tell: oneshot::Sender<Result<bool, StoreError>>,
}

impl Store {
    /// Ends a run, in a transaction that is shared with others that end meanwhile. What writes more
    /// than those does so alone: nobody waits for another's rows.
    pub(super) async fn finish_shared(&self, ending: &Ending) -> Result<bool, StoreError> {
        if ending.rerun || !writes_heartbeats_only(ending.recorder.as_ref()) {
            let held = self.finish_together(&[ending]).await?;
            return Ok(held == [true]);
        }
        let (tell, told) = oneshot::channel();
        let caller = Caller { ending: ending.clone(), tell };
        let work = || self.clone().finish_those_who_wait();
        self.inner.finishes.wait(caller, told, work).await.unwrap_or_else(|| {
            let ended = DbErr::Custom("the runtime ended before the run was finished".into());
            Err(StoreError::database(OPERATION, ended))
        })
    }

    async fn finish_those_who_wait(self) {
        loop {
            let callers = self.inner.finishes.next(MOST_ENDINGS, |_| 1);
            if callers.is_empty() {
                return;
            }
            let endings: Vec<&Ending> = callers.iter().map(|caller| &caller.ending).collect();
            match self.finish_together(&endings).await {
                Ok(held) => {
                    for (caller, held) in callers.into_iter().zip(held) {
                        // Who was dropped meanwhile does not hear it.
                        let _ = caller.tell.send(Ok(held));
                    }
                }
                // The database's trouble is everybody's.
                Err(error) if callers.len() == 1 || error.is_transient() => {
                    for caller in callers {
                        let _ = caller.tell.send(Err(error.clone()));
                    }
                }
                // One of them is at fault, and fails alone.
                Err(_) => {
                    for caller in callers {
                        let alone = self.finish_together(&[&caller.ending]).await;
                        let _ = caller.tell.send(alone.map(|held| held == [true]));
                    }
                }
            }
        }
    }

    /// Answers in their order whether the leases were still held.
    async fn finish_together(&self, endings: &[&Ending]) -> Result<Vec<bool>, StoreError> {
        write_own!(self, OPERATION, txn => finish(self, txn, endings).await)
    }
}

/// The release is the fence, too: of a run whose lease it does not find, nothing else is written.
async fn finish(
    store: &Store,
    txn: &DatabaseTransaction,
    endings: &[&Ending],
) -> Result<Vec<bool>, StoreError> {
    if store.backend() == DbBackend::Postgres {
        lock_in_order(store, txn, endings).await?;
    }
    let keys: Vec<_> = endings.iter().map(|ending| ending.key.clone()).collect();
    let mut released = leases::release(store, txn, &keys).await?;
    // The same run twice ends once.
    let held: Vec<bool> =
        keys.into_iter().map(|key| released.remove(&(key.name, key.token))).collect();
    let ours = || endings.iter().zip(&held).filter(|(_, held)| **held).map(|(ending, _)| *ending);
    if ours().next().is_none() {
        return Ok(held);
    }
    let now_ms = store.now_ms(txn).await?;
    let failed = |source| StoreError::database(OPERATION, source);
    for (keep, sql) in [(true, FINISH), (false, FORGET)] {
        let rows: Vec<_> = ours().filter(|ending| ending.keep_row == keep).map(row).collect();
        if !rows.is_empty() {
            let statement = store.statement_with_rows(sql, &FINISHED, [rows_json(&rows)]);
            txn.execute_raw(statement).await.map_err(failed)?;
        }
    }
    let heartbeats = StoreHeartbeats { store, txn };
    let record = RecordTxn { heartbeats: &heartbeats, sql: Some(txn) };
    let mut alike = Vec::with_capacity(endings.len());
    let mut ours: Vec<&Ending> = ours().collect();
    ours.sort_by(|a, b| a.run.job.cmp(&b.run.job));
    for ending in ours {
        let run = RunFinished { finished_at_ms: now_ms, ..ending.run.clone() };
        if ending.rerun {
            put_back(store, txn, ending, &run).await?;
        }
        if writes_heartbeats_only(ending.recorder.as_ref()) {
            alike.push(run);
            continue;
        }
        heartbeats.finished(&std::mem::take(&mut alike)).await?;
        ending.recorder.finished(&record, &run).await?;
    }
    heartbeats.finished(&alike).await?;
    Ok(held)
}

/// Locks in the order of whoever begins runs: schedules, then leases, each by name. One that ends
/// alone, and moves no schedule, needs nothing.
async fn lock_in_order(
    store: &Store,
    txn: &DatabaseTransaction,
    endings: &[&Ending],
) -> Result<(), StoreError> {
    if endings.iter().any(|ending| ending.rerun) {
        let reruns = endings.iter().filter(|ending| ending.rerun);
        schedules::lock(store, txn, reruns.map(|ending| ending.run.job.as_str())).await?;
    }
    if endings.len() < 2 {
        return Ok(());
    }
    leases::lock(store, txn, endings.iter().map(|ending| ending.key.name.clone())).await
}

fn row(ending: &Ending) -> Vec<serde_json::Value> {
    let run = &ending.run;
    vec![
        json!(run.run_id.to_string()),
        json!(run.status.as_str()),
        json!(run.summary.as_ref().map(ToString::to_string)),
        json!(run.error.as_deref().map(kept_error)),
    ]
}

/// The slot of a run that a stop cut off waits to run again.
async fn put_back(
    store: &Store,
    txn: &DatabaseTransaction,
    ending: &Ending,
    run: &RunFinished,
) -> Result<(), StoreError> {
    if !is_of_one_run(&ending.key.name) {
        return schedules::buffer(store, txn, &run.job, run.scheduled_for_ms).await;
    }
    let failed = |source| StoreError::database("read the attempt of a run", source);
    let id = [run.run_id.to_string().into()];
    let row = store.statement_without_now(ATTEMPT, id);
    let row = txn.query_one_raw(row).await.map_err(failed)?;
    let attempts = row.map_or(Ok(1), |row| row.try_get("", "attempt")).map_err(failed)?;
    let slot = WaitingSlot { slot_ms: run.scheduled_for_ms, attempts };
    schedules::wait_again(store, txn, &run.job, slot).await
}
