//! Where the workers meet the scheduler.

use std::time::Duration;

use anyhow::Context;
use domain::workers::backtests::{self, BacktestsOptions};
use scheduler_core::{Clock, RunReport, RunningScheduler, Scheduler, Shutdown, Store, SystemClock};

use crate::failure::Failure;
use crate::pulse::Pulse;

/// What is written beside each instance of this program.
const VERSION: &str = concat!("arena ", env!("CARGO_PKG_VERSION"));

/// The scheduler looks at least every five seconds; silent for longer than this, it hangs.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// The workers of this process at work.
#[allow(missing_debug_implementations, reason = "a scheduler has none")]
pub struct Workers {
    running: RunningScheduler,
}

impl Workers {
    /// Starts the workers and watches their scheduler in `pulse`.
    ///
    /// # Errors
    /// [`Failure::Work`] when the database does not answer; [`Failure::Usage`] when this machine's
    /// clock is too far off the database's.
    pub async fn start(
        store: &Store,
        options: &BacktestsOptions,
        pulse: &Pulse,
    ) -> Result<Self, Failure> {
        let running = register(store, options).await?.start().await?;
        let signs = running.signs_of_life();
        pulse.watch("scheduler", LONGEST_SILENCE, move || {
            let silent_ms = SystemClock.now_ms().saturating_sub(signs.oldest_ms());
            Duration::from_millis(u64::try_from(silent_ms).unwrap_or_default())
        });
        Ok(Self { running })
    }

    /// Stops claiming, lets running work end within the grace period, cuts off the rest.
    pub async fn stop(self, shutdown: &Shutdown) {
        self.running.stop(shutdown).await;
    }
}

/// Runs one cycle of the back-tests worker on the path of the long-running process: works off
/// what is claimable. Waits at most `wait` for a lease that another host holds. A cycle that fails
/// is no error here: its report says so.
///
/// # Errors
/// [`Failure::Busy`] names who holds the lease; [`Failure::Work`] when the database fails;
/// [`Failure::Usage`] when this machine's clock is too far off the database's.
pub async fn run_backtests_once(
    store: &Store,
    options: &BacktestsOptions,
    wait: Duration,
    shutdown: &Shutdown,
) -> Result<RunReport, Failure> {
    let scheduler = register(store, options).await?;
    Ok(scheduler.run_once(backtests::NAME, wait, shutdown).await?)
}

async fn register(store: &Store, options: &BacktestsOptions) -> Result<Scheduler, Failure> {
    let mut scheduler = Scheduler::new(store.clone()).with_version(VERSION);
    backtests::register(&mut scheduler, store, options)
        .await
        .context("the back-tests worker cannot be registered")?;
    Ok(scheduler)
}
