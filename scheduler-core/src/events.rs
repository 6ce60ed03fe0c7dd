//! What this process's scheduler does, told to those who listen.
//!
//! Events are for seeing: logs, a dashboard, a test. They are told after what they tell is
//! committed, they are of this process alone, and who listens too slowly loses the oldest of them
//! and is told how many. What must not be lost stands in `job_runs`.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use scheduler_core::testing::MemoryStore;
//! use scheduler_core::{
//!     Cadence, Event, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown, SystemClock,
//! };
//!
//! let mut scheduler = Scheduler::new(MemoryStore::new(std::sync::Arc::new(SystemClock)));
//! scheduler.register(JobDefinition::new("greet", Cadence::Manual), |_: JobContext| async {
//!     Ok(RunSummary::new())
//! })?;
//! let mut events = scheduler.events();
//! let running = scheduler.start().await?;
//! let run = running.run_now("greet").await?;
//! while let Some(event) = events.next().await {
//!     if let Event::RunEnded { run_id, status, .. } = event {
//!         println!("{run_id} {status}");
//!         assert_eq!(run_id, run);
//!         break;
//!     }
//! }
//! running.stop(&Shutdown::default()).await;
//! # Ok(()) }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use crate::plan::Missed;
use crate::run::{RunId, RunStatus, Trigger};

/// Something that a scheduler did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A run began under its lease.
    RunStarted {
        /// The job.
        job: Arc<str>,
        /// The run.
        run_id: RunId,
        /// What started it.
        trigger: Trigger,
        /// Its slot, epoch milliseconds.
        scheduled_for_ms: i64,
        /// Which attempt it is, from 1.
        attempt: i32,
        /// How long after its slot it began.
        late: Duration,
    },
    /// A run ended, and its end is recorded; but for `lease_lost`, which is recorded by whoever
    /// looks next.
    RunEnded {
        /// The job.
        job: Arc<str>,
        /// The run.
        run_id: RunId,
        /// How it ended.
        status: RunStatus,
        /// How long it took.
        took: Duration,
        /// Why it failed: the whole chain.
        error: Option<String>,
    },
    /// A run that a crash or a freeze had cut off, here or elsewhere, was closed as `lease_lost`.
    RunCutOff {
        /// The job.
        job: Arc<str>,
        /// The run.
        run_id: RunId,
        /// Its slot, epoch milliseconds.
        scheduled_for_ms: i64,
        /// Which attempt it was, from 1.
        attempt: i32,
    },
    /// Slots passed that nobody ran.
    SlotsMissed {
        /// The job.
        job: Arc<str>,
        /// Which, and how many.
        missed: Missed,
    },
    /// A slot came while the previous run was under its lease, and was skipped.
    SlotSkipped {
        /// The job.
        job: Arc<str>,
        /// The slot, epoch milliseconds.
        scheduled_for_ms: i64,
    },
    /// This listener was too slow: the oldest events that it had not seen are gone.
    Overrun {
        /// How many.
        lost: u64,
    },
}

/// Events that an idle listener may fall behind before it loses the oldest.
const KEPT: usize = 1_024;

/// The events of one scheduler, from when it was asked for; see [`Scheduler::events`](crate::Scheduler::events).
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` when the scheduler is gone. Cancellation safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(lost)) => Some(Event::Overrun { lost }),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event that is there already.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Lagged(lost)) => Some(Event::Overrun { lost }),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// Where the scheduler tells.
#[derive(Clone)]
pub(crate) struct Teller(broadcast::Sender<Event>);

impl Teller {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }

    pub(crate) fn listen(&self) -> Events {
        Events(self.0.subscribe())
    }

    pub(crate) fn tell(&self, event: Event) {
        #[cfg(feature = "metrics")]
        crate::metrics::count(&event);
        // Nobody listens: nobody misses anything.
        let _ = self.0.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(scheduled_for_ms: i64) -> Event {
        Event::SlotSkipped { job: Arc::from("a"), scheduled_for_ms }
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_how_many_it_lost_and_goes_on() {
        let teller = Teller::new();
        let mut events = teller.listen();
        for slot in 0..1_026 {
            teller.tell(skipped(slot));
        }
        drop(teller);
        assert_eq!(events.next().await, Some(Event::Overrun { lost: 2 }));
        assert_eq!(events.next().await, Some(skipped(2)));
        let mut rest = 0;
        while events.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, 1_023);
    }
}
