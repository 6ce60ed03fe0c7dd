//! What a test does by hand with a scheduler that does not drive itself.

use std::time::Duration;

use super::by_hand::begin_manual;
use super::{RunOnceError, Scheduler, find};
use crate::error::StoreError;
use crate::executor::{Executor, RunReport};

impl Scheduler {
    /// The consumers among the jobs.
    pub(crate) fn consumers(&self) -> Vec<String> {
        self.services.iter().map(|service| service.job().to_owned()).collect()
    }

    /// Runs one cycle of a job to its end, working off everything there is.
    pub(crate) async fn run_by_hand(
        &self,
        executor: &Executor,
        job: &str,
    ) -> Result<RunReport, RunOnceError> {
        let registered = find(&self.jobs, job)?;
        let granted = begin_manual(executor, &registered, Duration::ZERO, true).await?;
        Ok(executor.execute(&registered, granted).await)
    }

    /// Notes that this process stops.
    pub(crate) async fn say_that_it_stops(&self) -> Result<(), StoreError> {
        self.store.seen(self.instance.id, true).await?;
        Ok(())
    }
}
