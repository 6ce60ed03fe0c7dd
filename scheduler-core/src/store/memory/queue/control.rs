//! What an operator does to a queue in memory.

use async_trait::async_trait;

use super::enqueue::place;
use super::{MemoryQueue, Rows};
use crate::error::StoreError;
use crate::store::{DeadRows, QueueControl, RowId, RowStatus, WakeStore};
use crate::testing::QueueRow;

impl MemoryQueue {
    async fn decide(&self, which: &DeadRows, decide: impl Fn(&mut QueueRow, i64)) -> u64 {
        let work = |rows: &mut Rows, now_ms: i64| {
            let dead = rows.values_mut().filter(|row| row.status == RowStatus::Dead);
            let is_meant = |id: &RowId| match which {
                DeadRows::Ids(ids) => ids.contains(id),
                DeadRows::Oldest(_) => true,
            };
            let at_most = match which {
                DeadRows::Ids(_) => usize::MAX,
                DeadRows::Oldest(at_most) => *at_most as usize,
            };
            let mut decided = 0;
            for row in dead.filter(|row| is_meant(&row.id)).take(at_most) {
                decide(row, now_ms);
                decided += 1;
            }
            decided
        };
        self.with_rows(work).await
    }
}

#[async_trait]
impl QueueControl for MemoryQueue {
    async fn set_paused(&self, paused: bool) -> Result<bool, StoreError> {
        let place = place(&self.table);
        let changed = {
            let mut txn = self.store.begin_transaction().await;
            if paused { txn.paused.insert(place) } else { txn.paused.remove(&place) }
        };
        self.store.wake(&self.table.topic());
        Ok(changed)
    }

    async fn is_paused(&self) -> Result<bool, StoreError> {
        Ok(self.store.begin_transaction().await.paused.contains(&place(&self.table)))
    }

    async fn retry_dead(&self, which: &DeadRows) -> Result<u64, StoreError> {
        let retry = |row: &mut QueueRow, now_ms| {
            row.status = RowStatus::Queued;
            row.run_at_ms = now_ms;
            row.attempt_count = 0;
            row.crash_count = 0;
            row.columns.remove("lost_count");
            row.cancel_requested = false;
            row.progress_pct = 0;
            row.completed_at_ms = None;
        };
        let retried = self.decide(which, retry).await;
        if retried > 0 {
            self.store.wake(&self.table.topic());
        }
        Ok(retried)
    }

    async fn discard_dead(&self, which: &DeadRows) -> Result<u64, StoreError> {
        let discard = |row: &mut QueueRow, now_ms| {
            row.status = RowStatus::Cancelled;
            row.completed_at_ms = Some(now_ms);
        };
        Ok(self.decide(which, discard).await)
    }
}
