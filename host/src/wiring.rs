//! Where the workers meet the scheduler.

use std::time::Duration;

use anyhow::Context;
use domain::workers::arena_entry::{self, ArenaEntryOptions};
use domain::workers::audition_evaluator::{self, AuditionEvaluatorOptions};
use domain::workers::backtests::{self, BacktestsOptions};
use domain::workers::clone_decisions::{self, CloneDecisionsOptions};
use domain::workers::ingestion::{self, IngestionOptions};
use domain::workers::mark_to_market::{self, MarkToMarketOptions};
use domain::workers::prop_decisions::{self, PropDecisionsOptions};
use domain::workers::retention::{self, RetentionOptions};
use scheduler_core::queue::QueueWaker;
use scheduler_core::{Clock, RunReport, RunningScheduler, Scheduler, Shutdown, Store, SystemClock};

use crate::failure::Failure;
use crate::pulse::Pulse;

/// What is written beside each instance of this program.
const VERSION: &str = concat!("arena ", env!("CARGO_PKG_VERSION"));

/// The scheduler looks at least every five seconds; silent for longer than this, it hangs.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Which workers a process runs, and how.
#[derive(Debug, Clone, Default)]
pub struct WorkerSet {
    /// Market data.
    pub ingestion: Option<IngestionOptions>,
    /// Decisions of clones.
    pub clone_decisions: Option<CloneDecisionsOptions>,
    /// Decisions of prop accounts.
    pub prop_decisions: Option<PropDecisionsOptions>,
    /// Equity of prop accounts.
    pub mark_to_market: Option<MarkToMarketOptions>,
    /// Queued back-tests.
    pub backtests: Option<BacktestsOptions>,
    /// Auditions that are due.
    pub audition_evaluator: Option<AuditionEvaluatorOptions>,
    /// Promotions into the arena.
    pub arena_entry: Option<ArenaEntryOptions>,
    /// What is deleted when it is old. Beside any other: of all processes one does it.
    pub retention: Option<RetentionOptions>,
}

impl WorkerSet {
    /// All there are, as they are by default: for what is asked about any of them.
    #[must_use]
    pub fn every() -> Self {
        Self {
            ingestion: Some(IngestionOptions::default()),
            clone_decisions: Some(CloneDecisionsOptions::default()),
            prop_decisions: Some(PropDecisionsOptions::default()),
            mark_to_market: Some(MarkToMarketOptions::default()),
            backtests: Some(BacktestsOptions::default()),
            audition_evaluator: Some(AuditionEvaluatorOptions::default()),
            arena_entry: Some(ArenaEntryOptions::default()),
            retention: Some(RetentionOptions::default()),
        }
    }

    /// Each worker but ingestion and retention on its own, under the name of its job, in the order in which they
    /// build on each other.
    fn one_by_one(self) -> Vec<(&'static str, Self)> {
        let Self {
            ingestion: _,
            retention: _,
            clone_decisions,
            prop_decisions,
            mark_to_market,
            backtests,
            audition_evaluator,
            arena_entry,
        } = self;
        let alone = Self::default;
        [
            (clone_decisions::NAME, Self { clone_decisions, ..alone() }),
            (prop_decisions::NAME, Self { prop_decisions, ..alone() }),
            (mark_to_market::NAME, Self { mark_to_market, ..alone() }),
            (backtests::NAME, Self { backtests, ..alone() }),
            (audition_evaluator::NAME, Self { audition_evaluator, ..alone() }),
            (arena_entry::NAME, Self { arena_entry, ..alone() }),
        ]
        .into_iter()
        .filter(|(_, worker)| worker.is_any())
        .collect()
    }

    fn is_any(&self) -> bool {
        self.clone_decisions.is_some()
            || self.prop_decisions.is_some()
            || self.mark_to_market.is_some()
            || self.backtests.is_some()
            || self.audition_evaluator.is_some()
            || self.arena_entry.is_some()
    }

    /// A scheduler with these workers that does not run, to look at.
    ///
    /// # Errors
    /// [`Failure::Work`] when a worker cannot be registered.
    pub async fn scheduler(&self, store: &Store) -> Result<Scheduler, Failure> {
        Ok(self.register(store).await?.0)
    }

    /// Registers them with a new scheduler. Answers what wakes the back-tests worker, where it is
    /// among them.
    async fn register(&self, store: &Store) -> Result<(Scheduler, Option<QueueWaker>), Failure> {
        let mut scheduler = Scheduler::new(store.clone()).with_version(VERSION);
        if let Some(options) = &self.ingestion {
            let _jobs = ingestion::register(&mut scheduler, store, options)
                .context("ingestion cannot be registered")?;
        }
        if let Some(options) = &self.clone_decisions {
            clone_decisions::register(&mut scheduler, store, options)
                .context("the clone decisions worker cannot be registered")?;
        }
        if let Some(options) = &self.prop_decisions {
            prop_decisions::register(&mut scheduler, store, options)
                .context("the prop decisions worker cannot be registered")?;
        }
        if let Some(options) = &self.mark_to_market {
            mark_to_market::register(&mut scheduler, store, options)
                .context("the mark-to-market worker cannot be registered")?;
        }
        if let Some(options) = &self.audition_evaluator {
            audition_evaluator::register(&mut scheduler, store, options)
                .context("the audition evaluator cannot be registered")?;
        }
        if let Some(options) = &self.arena_entry {
            arena_entry::register(&mut scheduler, store, options)
                .context("the arena entry worker cannot be registered")?;
        }
        if let Some(options) = &self.retention {
            retention::register(&mut scheduler, store, options)
                .context("the retention cannot be registered")?;
        }
        let waker = match &self.backtests {
            Some(options) => {
                let registered = backtests::register(&mut scheduler, store, options).await;
                Some(registered.context("the back-tests worker cannot be registered")?)
            }
            None => None,
        };
        Ok((scheduler, waker))
    }
}

/// The workers of this process at work.
#[allow(missing_debug_implementations, reason = "a scheduler has none")]
pub struct Workers {
    running: RunningScheduler,
    /// To be woken after a back-test was submitted in this process; `None` where they are not
    /// played here.
    pub backtests: Option<QueueWaker>,
}

impl Workers {
    /// Starts the workers and watches their scheduler in `pulse`.
    ///
    /// # Errors
    /// [`Failure::Work`] when the database does not answer; [`Failure::Usage`] when this machine's
    /// clock is too far off the database's.
    pub async fn start(store: &Store, workers: &WorkerSet, pulse: &Pulse) -> Result<Self, Failure> {
        let (scheduler, backtests) = workers.register(store).await?;
        let running = scheduler.start().await?;
        let signs = running.signs_of_life();
        pulse.watch("scheduler", LONGEST_SILENCE, move || {
            let silent_ms = SystemClock.now_ms().saturating_sub(signs.oldest_ms());
            Duration::from_millis(u64::try_from(silent_ms).unwrap_or_default())
        });
        Ok(Self { running, backtests })
    }

    /// Stops claiming, lets running work end within the grace period, cuts off the rest.
    pub async fn stop(self, shutdown: &Shutdown) {
        self.running.stop(shutdown).await;
    }
}

/// What came of one worker's cycle.
pub type Cycle = (String, Result<RunReport, Failure>);

/// Runs one cycle of each worker on the path of the long-running process, one after the other; the
/// back-tests worker works off what is claimable. Waits at most `wait` for a lease that another host
/// holds. A cycle that fails is no error here: its report says so. A worker that cannot run does not
/// keep the others from theirs; a stop does.
///
/// The failures: [`Failure::Busy`] names who holds the lease; [`Failure::Work`] when the database
/// fails; [`Failure::Usage`] when this machine's clock is too far off the database's.
pub async fn run_once(
    store: &Store,
    workers: WorkerSet,
    wait: Duration,
    shutdown: &Shutdown,
) -> Vec<Cycle> {
    let mut cycles = Vec::new();
    for (name, worker) in workers.one_by_one() {
        if shutdown.stop.is_cancelled() {
            cycles.push((name.to_owned(), Err(stopped())));
            continue;
        }
        // A scheduler of its own: a consumer would work beside the cycles of the others.
        let cycle = async {
            let (scheduler, _) = worker.register(store).await?;
            Ok(scheduler.run_once(name, wait, shutdown).await?)
        };
        cycles.push((name.to_owned(), cycle.await));
    }
    cycles
}

fn stopped() -> Failure {
    Failure::work("stopped before its turn")
}

/// Runs each channel of ingestion once, on the path of the long-running process, one after the other;
/// a stream ends at its first datum. As [`run_once`] otherwise.
///
/// # Errors
/// [`Failure::Work`] when the clients of the venues cannot be made.
pub async fn ingest_once(
    store: &Store,
    options: &IngestionOptions,
    shutdown: &Shutdown,
) -> Result<Vec<Cycle>, Failure> {
    let mut scheduler = Scheduler::new(store.clone()).with_version(VERSION);
    let jobs = ingestion::register(&mut scheduler, store, options)
        .context("ingestion cannot be registered")?;
    let mut cycles = Vec::new();
    for job in jobs {
        if shutdown.stop.is_cancelled() {
            cycles.push((job, Err(stopped())));
            continue;
        }
        let cycle = scheduler.run_once(&job, Duration::ZERO, shutdown).await;
        cycles.push((job, cycle.map_err(Failure::from)));
    }
    Ok(cycles)
}
