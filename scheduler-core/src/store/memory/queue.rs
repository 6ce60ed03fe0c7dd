//! Queue rows: claimed, renewed and settled in memory.

mod control;
mod enqueue;
mod rates;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use self::enqueue::{free_key, is_known, place};
use super::MemoryStore;
use crate::error::StoreError;
use crate::queue::{
    EnqueueError, Enqueued, NewJob, NewRow, QueueTable, TableError, check, check_rows,
};
use crate::run::InstanceId;
use crate::store::{
    Ahead, ClaimRequest, Claimed, ClaimedRow, Exchange, Exchanged, QueueControl, QueueRows,
    RenewedRow, RowColumns, RowGrant, RowId, RowProgress, RowStatus, SettledRow, WakeStore,
    gives_back, kept_error,
};
use crate::testing::QueueRow;

/// Rows by table and key. Nothing between the begin and the end of an operation on them can
/// fail, so none of them has to be taken back.
pub(super) type QueueTables = HashMap<String, Rows>;
type Rows = BTreeMap<RowId, QueueRow>;
pub(super) use self::rates::Starts;

impl MemoryStore {
    /// The rows of a queue's table as a consumer's process has them. The table is there as soon
    /// as it is named; its columns are not checked.
    ///
    /// [`QueueRows::fence`] is an error here: there is no transaction of the caller's.
    ///
    /// # Errors
    /// A name or a limit that no table can have.
    pub fn open_queue(&self, table: QueueTable) -> Result<Arc<dyn QueueRows>, TableError> {
        table.validate()?;
        Ok(Arc::new(MemoryQueue { store: self.clone(), table }))
    }

    /// The operator's side of a queue.
    ///
    /// # Errors
    /// As [`open_queue`](Self::open_queue).
    pub fn control_queue(&self, table: QueueTable) -> Result<Arc<dyn QueueControl>, TableError> {
        table.validate()?;
        Ok(Arc::new(MemoryQueue { store: self.clone(), table }))
    }

    /// Inserts a row into a queue's table, or replaces the one with its key.
    pub async fn put_row(&self, table: &str, row: QueueRow) {
        let mut txn = self.begin_transaction().await;
        txn.queues.entry(table.to_owned()).or_default().insert(row.id.clone(), row);
    }

    /// The rows of a queue's table, by key; those of one queue of the library's own as `jobs:QUEUE`.
    pub async fn rows(&self, table: &str) -> Vec<QueueRow> {
        let txn = self.begin_transaction().await;
        txn.queues.get(table).map(|rows| rows.values().cloned().collect()).unwrap_or_default()
    }
}

/// One queue on one store.
struct MemoryQueue {
    store: MemoryStore,
    table: QueueTable,
}

impl MemoryQueue {
    /// What `work` makes of the rows and of now.
    async fn with_rows<T>(&self, work: impl FnOnce(&mut Rows, i64) -> T) -> T {
        let mut txn = self.store.begin_transaction().await;
        let now_ms = txn.now_ms;
        work(txn.queues.entry(place(&self.table)).or_default(), now_ms)
    }

    /// As [`with_rows`](Self::with_rows), with the starts that may count.
    async fn with_starts<T>(&self, work: impl FnOnce(&mut Rows, &mut Starts, i64) -> T) -> T {
        let mut txn = self.store.begin_transaction().await;
        let (now_ms, place) = (txn.now_ms, place(&self.table));
        let tables: &mut super::Tables = &mut txn;
        let starts = tables.starts.entry(place.clone()).or_default();
        work(tables.queues.entry(place).or_default(), starts, now_ms)
    }

    /// Whether a row found under an expired lease had crashed or had only been claimed.
    fn reclaim(&self, rows: &mut Rows, now_ms: i64) -> Claimed {
        let mut claimed = Claimed::default();
        let expired = |row: &&mut QueueRow| {
            row.status == RowStatus::Running
                && row.lease_expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
        };
        for row in rows.values_mut().filter(expired) {
            let crashes = row.crash_count + 1;
            let quarantined =
                row.started && i64::from(crashes) >= i64::from(self.table.crash_limit);
            row.status = match (row.cancel_requested, quarantined) {
                (true, _) => RowStatus::Cancelled,
                (false, true) => RowStatus::Dead,
                (false, false) => RowStatus::Queued,
            };
            if row.status == RowStatus::Dead {
                let reason = format!("crashing: its process died {crashes} times while it ran");
                row.last_error = Some(reason);
                claimed.quarantined += 1;
            } else {
                claimed.reclaimed += 1;
            }
            row.completed_at_ms = (row.status != RowStatus::Queued).then_some(now_ms);
            if row.started {
                row.crash_count = crashes;
            } else {
                row.attempt_count -= 1;
                row.columns.insert("lost_count".to_owned(), (lost_count(row) + 1).into());
            }
            free_key(row, now_ms);
            unlease(row);
        }
        claimed
    }

    /// The running rows with a value in the limited column, by that value.
    fn busy_keys(&self, rows: &Rows) -> HashMap<Value, u32> {
        let mut busy = HashMap::new();
        for row in rows.values().filter(|row| row.status == RowStatus::Running) {
            if let Some(key) = self.key_of(row) {
                *busy.entry(key.clone()).or_default() += 1;
            }
        }
        busy
    }

    fn key_of<'r>(&self, row: &'r QueueRow) -> Option<&'r Value> {
        let (column, _) = self.table.key.as_ref()?;
        row.columns.get(column).filter(|value| !value.is_null())
    }

    /// The next row that may run: one whose process died before, or one that is innocent; while
    /// a suspect waits that could run, no innocent one may.
    fn next(&self, rows: &Rows, starts: &Starts, suspect: bool, now_ms: i64) -> Option<RowId> {
        if !starts.has_room(&self.table, now_ms) {
            return None;
        }
        let running = rows.values().filter(|row| row.status == RowStatus::Running).count();
        if self.table.limit.is_some_and(|limit| running >= limit as usize) {
            return None;
        }
        let busy = self.busy_keys(rows);
        let limit = self.table.key.as_ref().map_or(u32::MAX, |(_, limit)| *limit);
        let could_run = |row: &&QueueRow| {
            row.status == RowStatus::Queued
                && row.run_at_ms <= now_ms
                && is_known(&self.table, row)
                && self.key_of(row).is_none_or(|key| busy.get(key).is_none_or(|n| *n < limit))
                && starts.has_room_for(&self.table, row, now_ms)
        };
        let ready = rows.values().filter(could_run);
        if !suspect && ready.clone().any(|row| row.crash_count > 0) {
            return None;
        }
        ready
            .filter(|row| (row.crash_count > 0) == suspect)
            .min_by_key(|row| (row.priority, row.run_at_ms, &row.id))
            .map(|row| row.id.clone())
    }

    fn claim_from(
        &self,
        (rows, starts): (&mut Rows, &mut Starts),
        request: &ClaimRequest,
        ahead: bool,
        paused: bool,
        now_ms: i64,
    ) -> Claimed {
        let mut claimed = self.reclaim(rows, now_ms);
        if paused {
            return claimed;
        }
        if request.idle
            && request.limit > 0
            && let Some(id) = self.next(rows, starts, true, now_ms)
        {
            claimed.rows.push(self.take(rows, &id, request, false, now_ms));
            starts.note(&self.table, rows.get(&id), now_ms);
        }
        if claimed.rows.is_empty() {
            for _ in 0..request.limit {
                let Some(id) = self.next(rows, starts, false, now_ms) else { break };
                claimed.rows.push(self.take(rows, &id, request, ahead, now_ms));
                starts.note(&self.table, rows.get(&id), now_ms);
            }
        }
        claimed
    }

    fn take(
        &self,
        rows: &mut Rows,
        id: &RowId,
        request: &ClaimRequest,
        ahead: bool,
        now_ms: i64,
    ) -> ClaimedRow {
        let key = rows.get(id).and_then(|row| self.key_of(row)).cloned();
        let of_key = |row: &QueueRow| key.is_some() && self.key_of(row) == key.as_ref();
        let key_slots: HashSet<i64> =
            running_slots(rows, |row| row.concurrency_slot.filter(|_| of_key(row)));
        let queue_slots = running_slots(rows, |row| row.queue_slot);
        let key_limit = self.table.key.as_ref().filter(|_| key.is_some()).map(|(_, limit)| *limit);
        let queue_limit = self.table.limit;
        let row = rows.entry(id.clone()).or_insert_with(|| QueueRow::queued(id.clone()));
        row.status = RowStatus::Running;
        row.attempt_count += 1;
        row.leased_by = Some(request.holder);
        row.lease_token += 1;
        row.lease_expires_at_ms = Some(now_ms.saturating_add(request.lease_ms));
        row.started = !ahead || lost_count(row) > 0;
        row.started_at_ms = Some(now_ms);
        row.concurrency_slot = key_limit.and_then(|limit| lowest_free(&key_slots, limit));
        row.queue_slot = queue_limit.and_then(|limit| lowest_free(&queue_slots, limit));
        free_key(row, now_ms);
        ClaimedRow {
            grant: RowGrant { id: id.clone(), token: row.lease_token, holder: request.holder },
            attempt_count: row.attempt_count,
            crash_count: row.crash_count,
            max_attempts: row.max_attempts,
            columns: RowColumns::Values(row.columns.clone()),
        }
    }
}

fn running_slots(rows: &Rows, slot: impl Fn(&QueueRow) -> Option<i64>) -> HashSet<i64> {
    rows.values().filter(|row| row.status == RowStatus::Running).filter_map(slot).collect()
}

/// The lowest slot below the limit that no running row occupies.
fn lowest_free(occupied: &HashSet<i64>, limit: u32) -> Option<i64> {
    (0..i64::from(limit)).find(|slot| !occupied.contains(slot))
}

/// How often a process died with the row before it had begun.
fn lost_count(row: &QueueRow) -> i64 {
    row.columns.get("lost_count").and_then(Value::as_i64).unwrap_or_default()
}

fn unlease(row: &mut QueueRow) {
    row.leased_by = None;
    row.lease_expires_at_ms = None;
    row.started = false;
    row.concurrency_slot = None;
    row.queue_slot = None;
}

/// The row of a grant that is still held.
fn held<'r>(rows: &'r mut Rows, grant: &RowGrant, now_ms: i64) -> Option<&'r mut QueueRow> {
    rows.get_mut(&grant.id).filter(|row| {
        row.status == RowStatus::Running
            && row.lease_token == grant.token
            && row.leased_by == Some(grant.holder)
            && row.lease_expires_at_ms.is_some_and(|at_ms| at_ms > now_ms)
    })
}

fn settle(row: &mut QueueRow, end: &SettledRow, now_ms: i64) {
    row.status = end.status;
    if let Some(delay_ms) = end.delay_ms {
        row.run_at_ms = now_ms.saturating_add(delay_ms);
    }
    if end.give_attempt_back {
        row.attempt_count -= 1;
    }
    if end.status == RowStatus::Succeeded {
        row.last_error = None;
        row.progress_pct = 100;
    } else if let Some(error) = &end.error {
        row.last_error = Some(kept_error(error));
    }
    if end.result.is_some() {
        row.result.clone_from(&end.result);
    }
    row.completed_at_ms = (end.status != RowStatus::Queued).then_some(now_ms);
    free_key(row, now_ms);
    unlease(row);
}

/// Writes the ends of what is still held; answers which that was.
fn settle_all(rows: &mut Rows, ends: &[SettledRow], now_ms: i64) -> Vec<RowGrant> {
    let settled = ends.iter().filter_map(|end| {
        settle(held(rows, &end.grant, now_ms)?, end, now_ms);
        Some(end.grant.clone())
    });
    settled.collect()
}

impl MemoryQueue {
    /// What waited for the slots of these, or they themselves, may run elsewhere.
    fn tell_of_room(&self, ends: &[SettledRow], settled: &[RowGrant]) {
        if (self.table.has_slots() || gives_back(ends)) && !settled.is_empty() {
            self.store.wake(&self.table.topic());
        }
    }
}

#[async_trait]
impl QueueRows for MemoryQueue {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        let paused = QueueControl::is_paused(self).await?;
        let claim = |rows: &mut Rows, starts: &mut Starts, now_ms| {
            self.claim_from((rows, starts), request, false, paused, now_ms)
        };
        Ok(self.with_starts(claim).await)
    }

    async fn exchange(&self, exchange: &Exchange<'_>) -> Result<Exchanged, StoreError> {
        let (ahead, paused) =
            (exchange.ahead && self.ahead().claims, QueueControl::is_paused(self).await?);
        let work = |rows: &mut Rows, starts: &mut Starts, now_ms| {
            let settled = settle_all(rows, exchange.ends, now_ms);
            let claimed = match &exchange.claim {
                Some(request) => self.claim_from((rows, starts), request, ahead, paused, now_ms),
                None => Claimed::default(),
            };
            Exchanged { settled, claimed: Ok(claimed) }
        };
        let exchanged = self.with_starts(work).await;
        self.tell_of_room(exchange.ends, &exchanged.settled);
        Ok(exchanged)
    }

    fn ahead(&self) -> Ahead {
        let claims = self.table.queue.is_some() && !self.table.is_limited();
        Ahead { claims, ..Ahead::default() }
    }

    async fn is_paused(&self) -> Result<bool, StoreError> {
        QueueControl::is_paused(self).await
    }

    async fn mark_started(&self, rows: &[RowGrant]) -> Result<(), StoreError> {
        let mark = |table: &mut Rows, now_ms| {
            for grant in rows {
                if let Some(row) = held(table, grant, now_ms) {
                    row.started = true;
                }
            }
        };
        self.with_rows(mark).await;
        Ok(())
    }

    async fn renew(
        &self,
        rows: &[RowProgress],
        length_ms: i64,
    ) -> Result<Vec<RenewedRow>, StoreError> {
        let renew = |table: &mut Rows, now_ms: i64| {
            let renewed = rows.iter().filter_map(|RowProgress { grant, progress_pct }| {
                let row = held(table, grant, now_ms)?;
                row.lease_expires_at_ms = Some(now_ms.saturating_add(length_ms));
                row.progress_pct = progress_pct.unwrap_or(row.progress_pct);
                let cancel_requested = row.cancel_requested;
                Some(RenewedRow { grant: grant.clone(), is_renewed: true, cancel_requested })
            });
            renewed.collect()
        };
        Ok(self.with_rows(renew).await)
    }

    async fn settle(&self, rows: &[SettledRow]) -> Result<Vec<RowGrant>, StoreError> {
        let settle = |table: &mut Rows, now_ms| settle_all(table, rows, now_ms);
        let settled = self.with_rows(settle).await;
        self.tell_of_room(rows, &settled);
        Ok(settled)
    }

    async fn next_in_ms(&self, holder: InstanceId) -> Result<Option<i64>, StoreError> {
        let next = |rows: &mut Rows, starts: &mut Starts, now_ms| {
            let is_due =
                |row: &QueueRow| row.status == RowStatus::Queued && row.run_at_ms <= now_ms;
            let waits = rows.values().any(is_due);
            let freed = starts.next_ms(&self.table, now_ms).filter(|_| waits);
            let next = rows.values().filter_map(|row| match row.status {
                RowStatus::Queued => Some(row.run_at_ms).filter(|at_ms| *at_ms > now_ms),
                RowStatus::Running if row.leased_by != Some(holder) => row.lease_expires_at_ms,
                _ => None,
            });
            next.chain(freed).min().map(|at_ms| at_ms - now_ms)
        };
        Ok(self.with_starts(next).await)
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
        let Some(queue) = &self.table.queue else { return Err(StoreError::NO_JOBS.into()) };
        check(jobs)?;
        let mut txn = self.store.begin_transaction().await;
        let now_ms = txn.now_ms;
        Ok(enqueue::enqueue(&mut txn, queue, jobs, now_ms))
    }

    async fn enqueue_rows(
        &self,
        txn: Option<&sea_orm::DatabaseTransaction>,
        rows: &[NewRow],
    ) -> Result<Vec<Enqueued<RowId>>, EnqueueError> {
        if self.table.queue.is_some() {
            return Err(StoreError::ONLY_JOBS.into());
        }
        if txn.is_some() {
            return Err(StoreError::Unsupported {
                operation: "enqueue rows",
                reason: "rows in memory are in no transaction of the caller's",
            }
            .into());
        }
        check_rows(&self.table, rows)?;
        let enqueue = |table: &mut Rows, now_ms| -> Result<_, EnqueueError> {
            let is_taken = |row: &&NewRow| row.id().is_some_and(|id| table.contains_key(&id));
            if let Some(row) = rows.iter().find(is_taken) {
                let reason = format!("its `id` is taken: {:?}", row.columns.get("id"));
                return Err(EnqueueError::Row { reason });
            }
            Ok(rows.iter().map(|row| enqueue::enqueue_row(table, row, now_ms)).collect())
        };
        self.with_rows(enqueue).await
    }

    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        let Some(keep_ms) = self.table.keep_ms else { return Ok(0) };
        let prune = |rows: &mut Rows, now_ms: i64| {
            let is_over = |row: &&QueueRow| {
                matches!(row.status, RowStatus::Succeeded | RowStatus::Cancelled)
                    && row
                        .completed_at_ms
                        .is_some_and(|at_ms| at_ms < now_ms.saturating_sub(keep_ms))
                    && !enqueue::is_in_window(&row.columns, now_ms)
            };
            let mut old: Vec<_> = rows
                .values()
                .filter(is_over)
                .map(|row| (row.completed_at_ms, row.id.clone()))
                .collect();
            old.sort();
            old.truncate(at_most as usize);
            old.iter().for_each(|(_, id)| _ = rows.remove(id));
            old.len() as u64
        };
        Ok(self.with_rows(prune).await)
    }

    async fn keep_checkpoint(
        &self,
        txn: Option<&sea_orm::DatabaseTransaction>,
        grant: &RowGrant,
        checkpoint: &str,
    ) -> Result<bool, StoreError> {
        if txn.is_some() {
            return Err(StoreError::Unsupported {
                operation: "keep a checkpoint",
                reason: "rows in memory are in no transaction of the caller's",
            });
        }
        let keep = |rows: &mut Rows, now_ms| match held(rows, grant, now_ms) {
            Some(row) => {
                row.columns.insert("checkpoint".to_owned(), checkpoint.into());
                true
            }
            None => false,
        };
        Ok(self.with_rows(keep).await)
    }

    async fn fence(
        &self,
        _: &sea_orm::DatabaseTransaction,
        _: &RowGrant,
    ) -> Result<bool, StoreError> {
        Err(StoreError::Unsupported {
            operation: "fence a write",
            reason: "rows in memory are in no transaction of the caller's",
        })
    }
}
