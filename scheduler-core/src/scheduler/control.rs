//! What an operator says about a job of a running scheduler; all hosts obey.

use super::RunningScheduler;
use crate::cadence::Cadence;
use crate::error::StoreError;
use crate::run::RunId;

impl RunningScheduler {
    /// Has a job not fire on any host, or fire again; as
    /// [`set_paused`](crate::store::ScheduleControl::set_paused), and this host looks at once.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError> {
        let known = self.executor.store.set_paused(job, paused).await?;
        self.poke();
        Ok(known)
    }

    /// Asks for one run of a job, now, on whichever host has it; as
    /// [`request_run`](crate::store::ScheduleControl::request_run), and this host looks at once.
    /// [`run_now`](Self::run_now) is for a job of this process.
    ///
    /// # Errors
    /// The database's.
    pub async fn request_run(&self, job: &str) -> Result<Option<RunId>, StoreError> {
        let requested = self.executor.store.request_run(job).await?;
        self.poke();
        Ok(requested)
    }

    /// Gives a job another cadence on all hosts, or takes it back; as
    /// [`set_cadence`](crate::store::ScheduleControl::set_cadence), and this host looks at once.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_cadence(
        &self,
        job: &str,
        cadence: Option<&Cadence>,
    ) -> Result<bool, StoreError> {
        let known = self.executor.store.set_cadence(job, cadence).await?;
        self.poke();
        Ok(known)
    }
}
