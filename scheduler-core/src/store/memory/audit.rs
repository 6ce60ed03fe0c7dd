//! What a simulation reads to see whether the rules of the protocol hold, and its fenced effects.

use super::MemoryStore;
use crate::lease::LeaseKey;
use crate::run::{RunId, RunStatus};
use crate::store::ScheduleRow;
use crate::testing::RunRow;

impl MemoryStore {
    /// Does something while a lease is held; answers whether it was.
    pub(crate) async fn fenced(&self, key: &LeaseKey, effect: impl FnOnce()) -> bool {
        let txn = self.begin_transaction().await;
        let held = txn.is_held(key, txn.now_ms);
        if held {
            effect();
        }
        held
    }

    pub(crate) async fn schedule(&self, job: &str) -> Option<ScheduleRow> {
        let txn = self.begin_transaction().await;
        txn.schedule_row(job, txn.now_ms)
    }

    /// The first of these slots of a job that neither began nor is recorded as one that did not.
    pub(crate) async fn untold_of(&self, job: &str, slots: &[i64]) -> Option<i64> {
        let txn = self.begin_transaction().await;
        let told = |slot_ms: i64| {
            txn.runs.rows().any(|run| {
                let until_ms = run.missed_until_ms.unwrap_or(run.scheduled_for_ms);
                run.job == job
                    && run.scope_key.is_empty()
                    && (run.scheduled_for_ms..=until_ms).contains(&slot_ms)
            })
        };
        slots.iter().copied().find(|slot_ms| !told(*slot_ms))
    }

    pub(crate) async fn status(&self, id: RunId) -> Option<RunStatus> {
        let txn = self.begin_transaction().await;
        txn.runs.get(&id.to_string()).map(|run| run.status)
    }

    pub(crate) async fn running(&self) -> Vec<RunRow> {
        let txn = self.begin_transaction().await;
        txn.runs.rows().filter(|run| run.status == RunStatus::Running).cloned().collect()
    }
}
