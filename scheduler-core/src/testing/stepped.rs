//! A scheduler whose slots a test lets come, one after another.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::ManualClock;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::error::StoreError;
use crate::events::{Event, Events};
use crate::executor::{Executor, RunReport};
use crate::scheduler::{RunOnceError, Scheduler, StartError};
use crate::signal;
use crate::stop::{Phase, Shutdown, wind_down};

/// A scheduler on a [`ManualClock`] that does nothing by itself: a test says until when its slots
/// come. Nothing sleeps, and no real time has a part in it.
///
/// It works on every store; the store's clock has to be the one that it is given.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use scheduler_core::testing::{ManualClock, MemoryStore, Runs, SteppedScheduler};
/// use scheduler_core::{Cadence, JobContext, JobDefinition, RunSummary, Scheduler};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// const NOON: i64 = 1_795_435_200_000;
/// let clock = ManualClock::at(NOON);
/// let store = MemoryStore::new(Arc::new(clock.clone()));
/// let mut scheduler = Scheduler::new(store.clone());
/// scheduler.register(
///     JobDefinition::new("mark", Cadence::every(Duration::from_secs(60))),
///     |_: JobContext| async { Ok(RunSummary::new()) },
/// )?;
///
/// let mut scheduler = SteppedScheduler::start(scheduler, &clock).await?;
/// scheduler.run_due_until(NOON + 120_000).await?;
/// let runs = Runs::of(&store, "mark").await?;
/// for slot_ms in [NOON, NOON + 60_000, NOON + 120_000] {
///     runs.assert_ran(slot_ms);
/// }
///
/// // An hour in which nobody ran.
/// clock.advance(Duration::from_secs(3_600));
/// scheduler.run_due_until(NOON + 3_720_000).await?;
/// Runs::of(&store, "mark").await?.assert_missed(NOON + 180_000);
/// # Ok(()) }
/// ```
pub struct SteppedScheduler {
    scheduler: Scheduler,
    clock: ManualClock,
    executor: Executor,
    phase: signal::Sender<Phase>,
    driver: Driver,
    jobs: Vec<String>,
    /// The runs that the driver began.
    runs: TaskTracker,
    events: Events,
}

impl SteppedScheduler {
    /// Announces the process and makes the schedule rows agree with the definitions, as
    /// [`Scheduler::start`] does. Nothing runs yet.
    ///
    /// # Errors
    /// As [`Scheduler::start`].
    pub async fn start(scheduler: Scheduler, clock: &ManualClock) -> Result<Self, StartError> {
        let (phase, skew, executor) = scheduler.enter().await?;
        scheduler.start_services(&executor);
        let (runs, looked_at_ms) = (TaskTracker::new(), Arc::new(AtomicI64::new(0)));
        let of_the_driver = Executor { tasks: runs.clone(), ..executor.clone() };
        let local = scheduler.start_local_jobs(&executor);
        let driver = scheduler.driver(of_the_driver, looked_at_ms, skew, local);
        let (clock, events) = (clock.clone(), scheduler.events());
        let jobs = scheduler.definitions().map(|job| job.name.clone()).collect();
        Ok(Self { scheduler, clock, executor, phase, driver, jobs, runs, events })
    }

    /// Lets the slots come that are due until `until_ms` (epoch milliseconds), in their order, and
    /// moves the clock with them; answers what happened. Slots of one instant run at once, and the
    /// clock stands still until their runs have ended: a job that waits on it waits for ever.
    ///
    /// Jobs without history fire beside this, on the same clock.
    ///
    /// When it returns it is quiet: the clock says `until_ms`, or later if it did before; no slot that
    /// is due then is left, no run is under way, and consumers have worked off what is claimable.
    ///
    /// # Errors
    /// The database's, of a look, a begin, or the cycle of a consumer.
    pub async fn run_due_until(&mut self, until_ms: i64) -> Result<Vec<Event>, StoreError> {
        let mut happened = Vec::new();
        loop {
            let wake_at_ms = self.driver.step(&self.jobs).await?;
            self.runs.close();
            self.runs.wait().await;
            self.runs.reopen();
            let before = happened.len();
            happened.extend(std::iter::from_fn(|| self.events.try_next()));
            let began = |event: &Event| matches!(event, Event::RunStarted { .. });
            if happened[before..].iter().any(began) {
                // What ran may have let something come that waited for its end.
                continue;
            }
            self.work_off().await?;
            let now_ms = self.clock.now_ms();
            match wake_at_ms.filter(|at_ms| *at_ms <= until_ms) {
                Some(at_ms) => self.clock.set(at_ms.max(now_ms + 1)),
                None if now_ms < until_ms => self.clock.set(until_ms),
                None => return Ok(happened),
            }
        }
    }

    /// Works off everything that is claimable now in the queue of the consumer with this name.
    ///
    /// # Errors
    /// No such consumer, a cycle of it that is under way elsewhere, or the database.
    pub async fn drain(&mut self, consumer: &str) -> Result<RunReport, RunOnceError> {
        let report = self.scheduler.run_by_hand(&self.executor, consumer).await;
        // What was done by hand has not come by itself.
        while self.events.try_next().is_some() {}
        report
    }

    async fn work_off(&mut self) -> Result<(), StoreError> {
        for consumer in self.scheduler.consumers() {
            // Busy: another process is at it.
            if let Err(RunOnceError::Store(error)) = self.drain(&consumer).await {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends the process in good order.
    ///
    /// # Errors
    /// The database's; nothing of the process runs any more all the same.
    pub async fn stop(self) -> Result<(), StoreError> {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        wind_down(&self.phase, &self.executor.tasks, &clock, &Shutdown::new(Duration::ZERO)).await;
        self.scheduler.say_that_it_stops().await
    }
}
