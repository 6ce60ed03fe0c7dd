//! Statements on `job_runs`: begin and finish, each one transaction over several tables.

mod begin;
mod beside;
mod finish;
pub(super) mod unrun;

use async_trait::async_trait;

pub(super) use self::finish::Finishes;
use super::Store;
use super::write::write_own;
use crate::error::StoreError;
use crate::store::{Begun, Ending, Firing, RunStore, Topic};

#[async_trait]
impl RunStore for Store {
    async fn begin(&self, firings: &[Firing]) -> Result<Vec<Begun>, StoreError> {
        write_own!(self, "begin runs", txn => begin::begin(self, txn, firings).await)
    }

    async fn finish(&self, ending: &Ending) -> Result<bool, StoreError> {
        let held = self.finish_shared(ending).await?;
        if held && ending.rerun {
            // This process stops: whoever drives the job beside it runs the slot again.
            self.wakes().tell_others(&Topic::Schedules);
        }
        Ok(held)
    }
}
