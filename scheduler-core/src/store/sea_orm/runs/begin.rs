//! Begin: what is due, decided and written for all firings together.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult};
use serde_json::json;

use super::beside::{Beside, beside};
use super::unrun::{self, Unrun};
use crate::definition::Overlap;
use crate::error::StoreError;
use crate::lease::LeaseKey;
use crate::recorder::{RecordTxn, RunFinished, RunStarted, writes_heartbeats_only};
use crate::run::{RunStatus, Trigger};
use crate::store::sea_orm::Store;
use crate::store::sea_orm::heartbeats::StoreHeartbeats;
use crate::store::sea_orm::leases::{self, Granted, Held};
use crate::store::sea_orm::schedules;
use crate::store::sea_orm::sql::{ColumnType, rows_json};
use crate::store::{Begun, Firing, Holder, INTERRUPTED, InterruptedRun, NewRun};

const INSERT_COLUMNS: [(&str, ColumnType); 8] = [
    ("id", ColumnType::Text),
    ("job", ColumnType::Text),
    ("scope_key", ColumnType::Text),
    ("trigger", ColumnType::Text),
    ("scheduled_for_ms", ColumnType::Int),
    ("attempt", ColumnType::Int),
    ("instance_id", ColumnType::Text),
    ("token", ColumnType::Int),
];

/// A slot that has its run already is left alone: the unique index decides.
const INSERT_RUNNING: &str = "\
INSERT INTO job_runs (id, job, scope_key, trigger, scheduled_for_ms, attempt, status, started_at_ms, instance_id, token)
SELECT v.id, v.job, v.scope_key, v.trigger, v.scheduled_for_ms, v.attempt, 'running', {now}, v.instance_id, v.token
FROM {rows} WHERE TRUE
ON CONFLICT DO NOTHING
RETURNING id";

/// Closes a run that was cut off, unless its grant lives after all or somebody closed it. One whose
/// slot is to run again is left to the next look if its job was paused meanwhile.
const CLOSE_INTERRUPTED: &str = "\
UPDATE job_runs SET status = 'lease_lost', finished_at_ms = {now}, error = $2
WHERE id = $3 AND status = 'running' AND NOT EXISTS (
  SELECT 1 FROM leases l WHERE l.name IN ($4, $5) AND l.holder = job_runs.instance_id
    AND l.token = job_runs.token AND l.expires_at_ms > {now})
  AND NOT ($6 AND EXISTS (SELECT 1 FROM schedules s WHERE s.job = job_runs.job AND s.paused))";

pub(super) async fn begin(
    store: &Store,
    txn: &DatabaseTransaction,
    firings: &[Firing],
) -> Result<Vec<Begun>, StoreError> {
    let mut order: Vec<usize> = (0..firings.len()).collect();
    order.sort_by(|a, b| firings[*a].job.cmp(&firings[*b].job));
    let firings: Vec<&Firing> = order.iter().map(|index| &firings[*index]).collect();
    let begun = begin_in_order(store, txn, &firings).await?;
    let mut begun: Vec<_> = order.into_iter().zip(begun).collect();
    begun.sort_by_key(|(index, _)| *index);
    Ok(begun.into_iter().map(|(_, begun)| begun).collect())
}

/// Begins what is sorted by job. Every transaction of a server that takes rows of several jobs takes
/// them in one order, so that no two wait for each other: schedules, leases, runs, heartbeats, and
/// each of them by job.
async fn begin_in_order(
    store: &Store,
    txn: &DatabaseTransaction,
    firings: &[&Firing],
) -> Result<Vec<Begun>, StoreError> {
    lock_in_order(store, txn, firings).await?;
    let now_ms = store.now_ms(txn).await?;
    // A row moves once: of several firings that saw it, the first moves it.
    let mut rows = HashSet::new();
    let moving: Vec<bool> = firings
        .iter()
        .map(|firing| firing.advance.is_some() && rows.insert(firing.job.as_str()))
        .collect();
    let movers = firings.iter().copied().zip(&moving).filter(|(_, moves)| **moves);
    let movers: Vec<&Firing> = movers.map(|(firing, _)| firing).collect();
    let moved = schedules::advance(store, txn, &movers).await?;
    let mut won = Vec::with_capacity(firings.len());
    for (firing, moves) in firings.iter().zip(moving) {
        let mut wins = firing.advance.is_none() || (moves && moved.contains(&firing.job));
        if wins && let Some(run) = firing.run.filter(|_| firing.requested) {
            wins = schedules::answer_request(store, txn, &firing.job, Some(run.id), None).await?;
        }
        if wins && firing.interrupted.is_some() {
            wins = close_interrupted(store, txn, firing).await?;
        }
        won.push(wins);
    }

    // One lease is one run: of several firings that want it, the first may have it.
    let mut names = HashSet::new();
    let (wanted, late): (Vec<&Firing>, Vec<&Firing>) = firings
        .iter()
        .copied()
        .zip(&won)
        .filter(|(firing, wins)| **wins && firing.run.is_some())
        .map(|(firing, _)| firing)
        .partition(|firing| names.insert(firing.lease_name.as_str()));
    let Beside { room: wanted, full } = beside(store, txn, wanted).await?;
    let mut granted: HashMap<String, Granted> = if wanted.is_empty() {
        HashMap::new()
    } else {
        leases::grant(store, txn, &wanted)
            .await?
            .into_iter()
            .map(|granted| (granted.name.clone(), granted))
            .collect()
    };
    let inserted = insert_running(store, txn, &wanted, &granted).await?;
    let denied = wanted.iter().filter(|firing| !granted.contains_key(&firing.lease_name));
    let mut held = holders(store, txn, denied.chain(&late)).await?;
    held.extend(full);

    let mut settling = Settling {
        store,
        txn,
        inserted,
        held,
        now_ms,
        unruns: Vec::new(),
        returned: Vec::new(),
        started: Vec::with_capacity(firings.len()),
    };
    let mut begun = Vec::with_capacity(firings.len());
    for (firing, wins) in firings.iter().copied().zip(won) {
        begun.push(if wins {
            let grant = firing.run.and_then(|_| granted.remove(&firing.lease_name));
            settling.settle(firing, grant).await?
        } else {
            Begun::Lost
        });
    }
    settling.write().await?;
    Ok(begun)
}

/// Locks what the statements of [`begin_in_order`] would take in an order of their own: rows of
/// several jobs, or the lease under an interrupted run, which is looked at after the run. One job
/// that fires needs nothing.
async fn lock_in_order(
    store: &Store,
    txn: &DatabaseTransaction,
    firings: &[&Firing],
) -> Result<(), StoreError> {
    let several = firings.windows(2).any(|pair| pair[0].job != pair[1].job);
    let interrupted = firings.iter().any(|firing| firing.interrupted.is_some());
    // Whoever counts runs beside each other counts alone.
    let beside = firings.iter().any(|firing| firing.overlap == Overlap::Allow);
    if store.backend() != DbBackend::Postgres || !(several || interrupted || beside) {
        return Ok(());
    }
    schedules::lock(store, txn, firings.iter().map(|firing| firing.job.as_str())).await?;
    if !interrupted {
        return Ok(());
    }
    let cut_off = firings.iter().filter_map(|firing| firing.interrupted.as_ref());
    let cut_off = cut_off.flat_map(InterruptedRun::lease_names);
    let wanted = firings.iter().map(|firing| firing.lease_name.clone());
    leases::lock(store, txn, wanted.chain(cut_off)).await
}

/// What the won firings come to, beside their run rows.
struct Settling<'s> {
    store: &'s Store,
    txn: &'s DatabaseTransaction,
    /// The runs that have their rows.
    inserted: HashSet<String>,
    /// Who holds the leases that were not granted.
    held: HashMap<String, Held>,
    now_ms: i64,
    /// Slots that do not run, to be written together.
    unruns: Vec<Unrun<'s>>,
    /// Grants whose slots have their runs already, to be given back together.
    returned: Vec<LeaseKey>,
    /// Runs that begin, to be told to their recorders.
    started: Vec<(&'s Firing, RunStarted)>,
}

impl<'s> Settling<'s> {
    async fn settle(
        &mut self,
        firing: &'s Firing,
        grant: Option<Granted>,
    ) -> Result<Begun, StoreError> {
        let now_ms = self.now_ms;
        self.unruns.extend(firing.missed.iter().map(|missed| Unrun::missed(firing, *missed)));
        self.unruns.extend(firing.displaced().map(|older_ms| Unrun::skipped(firing, older_ms)));
        let Some(run) = firing.run else {
            return Ok(Begun::Recorded);
        };
        let Some(grant) = grant else {
            return self.overlapped(firing, run).await;
        };
        let key = LeaseKey {
            name: firing.lease_name.clone(),
            holder: firing.instance_id,
            token: grant.token,
        };
        if !self.inserted.contains(&run.id.to_string()) {
            self.returned.push(key);
            return Ok(Begun::Lost);
        }
        let started = RunStarted {
            job: firing.job.clone(),
            run_id: run.id,
            instance_id: firing.instance_id,
            scheduled_for_ms: run.scheduled_for_ms,
            started_at_ms: now_ms,
        };
        self.started.push((firing, started));
        Ok(Begun::Started { key, expires_at_ms: grant.expires_at_ms, started_at_ms: now_ms })
    }

    /// The previous run is still under its lease: a slot is skipped and recorded, a waiting slot
    /// goes on waiting, a manual run is told who holds it.
    async fn overlapped(&mut self, firing: &'s Firing, run: NewRun) -> Result<Begun, StoreError> {
        let (store, txn, slot_ms) = (self.store, self.txn, run.scheduled_for_ms);
        if let Some(slot) = firing.rerun_that_waits() {
            schedules::wait_again(store, txn, &firing.job, slot).await?;
            return Ok(self.busy(firing));
        }
        if firing.requested {
            schedules::answer_request(store, txn, &firing.job, None, Some(run.id)).await?;
            return Ok(self.busy(firing));
        }
        let waiting = firing.with_its_slot_first();
        match (run.trigger, waiting) {
            (_, Some(waiting)) => schedules::wait(store, txn, &firing.job, &waiting).await?,
            (Trigger::Start | Trigger::Schedule, None) if firing.lets_its_slot_wait() => {
                schedules::buffer(store, txn, &firing.job, slot_ms).await?;
                if firing.overlap == Overlap::Replace {
                    leases::request_cancel(store, txn, &firing.lease_name).await?;
                }
            }
            (Trigger::Start | Trigger::Schedule, None) => {
                self.unruns.push(Unrun::skipped(firing, slot_ms));
            }
            (Trigger::Buffered | Trigger::Rerun, None) if firing.scope_key.is_empty() => {
                schedules::buffer(store, txn, &firing.job, slot_ms).await?;
            }
            (Trigger::Buffered | Trigger::Rerun | Trigger::Manual, None) => {}
        }
        Ok(self.busy(firing))
    }

    fn busy(&self, firing: &Firing) -> Begun {
        self.held.get(&firing.lease_name).map_or(Begun::Lost, |held| {
            Begun::Busy(Holder { instance: held.holder.clone(), until_ms: held.expires_at_ms })
        })
    }

    /// Writes what was put together, and tells the recorders by job: what has no rows but heartbeats
    /// is written together, between those that write rows of their own.
    async fn write(self) -> Result<(), StoreError> {
        let Self { store, txn, unruns, returned, started, .. } = self;
        unrun::record(store, txn, &unruns).await?;
        leases::release(store, txn, &returned).await?;
        let heartbeats = StoreHeartbeats { store, txn };
        let record = RecordTxn { heartbeats: &heartbeats, sql: Some(txn) };
        let mut alike = Vec::with_capacity(started.len());
        for (firing, run) in started {
            if writes_heartbeats_only(firing.recorder.as_ref()) {
                alike.push(run);
                continue;
            }
            heartbeats.started(&std::mem::take(&mut alike)).await?;
            firing.recorder.started(&record, &run).await?;
        }
        heartbeats.started(&alike).await
    }
}

async fn insert_running(
    store: &Store,
    txn: &DatabaseTransaction,
    wanted: &[&Firing],
    granted: &HashMap<String, Granted>,
) -> Result<HashSet<String>, StoreError> {
    const OPERATION: &str = "insert run rows";
    let rows: Vec<_> = wanted
        .iter()
        .filter_map(|firing| Some((firing, firing.run?, granted.get(&firing.lease_name)?)))
        .map(|(firing, run, grant)| {
            vec![
                json!(run.id.to_string()),
                json!(firing.job),
                json!(firing.scope_key),
                json!(run.trigger.as_str()),
                json!(run.scheduled_for_ms),
                json!(run.attempt),
                json!(firing.instance_id.to_string()),
                json!(grant.token),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let failed = |source| StoreError::database(OPERATION, source);
    let statement = store.statement_with_rows(INSERT_RUNNING, &INSERT_COLUMNS, [rows_json(&rows)]);
    let inserted: Vec<QueryResult> = txn.query_all_raw(statement).await.map_err(failed)?;
    inserted.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>().map_err(failed)
}

/// Who holds the leases that these firings did not get.
async fn holders<'f>(
    store: &Store,
    txn: &DatabaseTransaction,
    denied: impl Iterator<Item = &'f &'f Firing>,
) -> Result<HashMap<String, Held>, StoreError> {
    let names: Vec<&str> = denied.map(|firing| firing.lease_name.as_str()).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let held = leases::holders(store, txn, &names).await?;
    Ok(held.into_iter().map(|held| (held.name.clone(), held)).collect())
}

async fn close_interrupted(
    store: &Store,
    txn: &DatabaseTransaction,
    firing: &Firing,
) -> Result<bool, StoreError> {
    let Some(run) = &firing.interrupted else {
        return Ok(true);
    };
    let [of_job, of_run] = run.lease_names();
    let values = [
        INTERRUPTED.into(),
        run.run_id.to_string().into(),
        of_job.into(),
        of_run.into(),
        firing.run.is_some().into(),
    ];
    let closed = txn
        .execute_raw(store.statement(CLOSE_INTERRUPTED, values))
        .await
        .map_err(|source| StoreError::database("close an interrupted run", source))?;
    if closed.rows_affected() == 0 {
        return Ok(false);
    }
    let finished = RunFinished {
        job: run.job.clone(),
        run_id: run.run_id,
        instance_id: run.instance_id,
        status: RunStatus::LeaseLost,
        scheduled_for_ms: run.scheduled_for_ms,
        started_at_ms: run.started_at_ms,
        finished_at_ms: store.now_ms(txn).await?,
        summary: None,
        error: Some(INTERRUPTED.to_owned()),
    };
    let heartbeats = StoreHeartbeats { store, txn };
    let record = RecordTxn { heartbeats: &heartbeats, sql: Some(txn) };
    firing.recorder.finished(&record, &finished).await?;
    Ok(true)
}
