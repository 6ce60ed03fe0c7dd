//! The operator's part of the schedules.

use async_trait::async_trait;

use super::MemoryStore;
use super::runs::record_given_up;
use crate::cadence::Cadence;
use crate::error::StoreError;
use crate::run::RunId;
use crate::store::{Granted, ScheduleControl, Topic, WakeStore, Wish};

#[async_trait]
impl ScheduleControl for MemoryStore {
    async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError> {
        self.change(job, &Wish::Paused(paused)).await
    }

    async fn set_cadence(&self, job: &str, cadence: Option<&Cadence>) -> Result<bool, StoreError> {
        self.change(job, &Wish::Cadence(cadence.cloned())).await
    }

    async fn request_run(&self, job: &str) -> Result<Option<RunId>, StoreError> {
        let mut txn = self.begin_transaction().await;
        let asked = RunId::new();
        txn.schedules.edit(job, |row| row.run_requested = row.run_requested.or(Some(asked)));
        let stands = txn.schedules.get(job).and_then(|row| row.run_requested);
        txn.commit();
        self.wake(&Topic::Schedules);
        Ok(stands)
    }
}

impl MemoryStore {
    async fn change(&self, job: &str, wish: &Wish) -> Result<bool, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let Some(row) = txn.schedule_row(job, now_ms) else { return Ok(false) };
        let Granted { row, given_up } = wish.grant(row, now_ms)?;
        if let Some(missed) = given_up {
            record_given_up(&mut txn, job, missed, now_ms);
        }
        txn.schedules.edit(job, |schedule| schedule.obey(&row));
        txn.commit();
        self.wake(&Topic::Schedules);
        Ok(true)
    }
}
