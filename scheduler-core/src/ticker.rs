//! The pulse of the process: the only file that names tokio-cron-scheduler.
//!
//! Every five seconds it makes the driver look again, which notices a suspended machine, a clock
//! step, rows that others changed and leases of others that expired. It is never trusted with an
//! interval, a zone, an overlap rule or a shutdown: slots are fired by the driver's own timer, so
//! a pulse that comes late, twice or never changes when nothing was wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::clock::Clock;

/// At every fifth second, UTC; six fields are required.
const EVERY_FIVE_SECONDS: &str = "*/5 * * * * *";

/// A beating pulse.
pub(crate) struct Ticker {
    scheduler: JobScheduler,
}

/// Why the pulse cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the process pulse could not be started")]
pub struct PulseError(#[from] JobSchedulerError);

impl Ticker {
    /// Starts a pulse that pokes `poke` and notes the time of each beat in `beat_ms`.
    pub(crate) async fn start(
        poke: Arc<Notify>,
        clock: Arc<dyn Clock>,
        beat_ms: Arc<AtomicI64>,
    ) -> Result<Self, PulseError> {
        let scheduler = JobScheduler::new().await?;
        let beat = Job::new(EVERY_FIVE_SECONDS, move |_, _| {
            beat_ms.store(clock.now_ms(), Ordering::Release);
            poke.notify_one();
        })?;
        scheduler.add(beat).await?;
        scheduler.start().await?;
        Ok(Self { scheduler })
    }

    /// Ends the pulse.
    pub(crate) async fn stop(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "the pulse did not stop cleanly");
        }
    }
}
