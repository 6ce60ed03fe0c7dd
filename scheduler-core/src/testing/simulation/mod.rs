//! Your jobs on several simulated hosts, through schedules of faults that a seed decides.
//!
//! The hosts are real [`Scheduler`]s of this library on one store in memory. What is simulated is
//! the world: time, which moves from one timer to the next; processes that crash, stop, freeze past
//! their leases and wake up; clocks that are set wrong and right; a store that is slow or answers
//! with an error before or after it has committed; wakes that come late, twice or never. A seed
//! decides about all of it, and the same seed has the same timeline.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use scheduler_core::testing::simulation::{SimulatedStore, Simulation};
//! use scheduler_core::{Cadence, JobContext, JobDefinition, RunSummary, Scheduler};
//!
//! /// What the jobs have an effect on: the slots that were paid.
//! type Paid = Arc<Mutex<Vec<i64>>>;
//!
//! let simulation = Simulation::new(Paid::default, |store: SimulatedStore, paid: Paid| async move {
//!     let mut scheduler = Scheduler::new(store.clone());
//!     scheduler.register(
//!         JobDefinition::new("pay", Cadence::every(Duration::from_secs(20))),
//!         move |context: JobContext| {
//!             let (store, paid) = (store.clone(), Arc::clone(&paid));
//!             async move {
//!                 let slot = context.scheduled_for_ms();
//!                 let pay = || {
//!                     let mut paid = paid.lock().expect("not poisoned");
//!                     // The slot is the key that makes a rerun harmless.
//!                     if !paid.contains(&slot) {
//!                         paid.push(slot);
//!                     }
//!                 };
//!                 store.fenced(context.lease(), pay).await?;
//!                 Ok(RunSummary::new())
//!             }
//!         },
//!     )?;
//!     Ok(scheduler)
//! })
//! .lasting(Duration::from_secs(120))
//! .at_each_step("no slot is paid twice", |paid: &Paid| {
//!     let mut slots = paid.lock().expect("not poisoned").clone();
//!     slots.sort_unstable();
//!     let count = slots.len();
//!     slots.dedup();
//!     if slots.len() == count { Ok(()) } else { Err(format!("{} too many", count - slots.len())) }
//! });
//! simulation.assert_holds(0..20);
//! ```
//!
//! # What always has to hold
//!
//! - A slot that a schedule moved past has begun, waits for the run before it, or is a recorded miss
//!   or skip. It runs again only if its run was cut off.
//! - No two runs of a job are under a lease at once, unless the job allows it.
//! - Tokens only grow. What is written under a lease, an end or an effect that is
//!   [fenced](SimulatedStore::fenced), lands under its newest token and before its deadline.
//! - A process that has stopped leaves nothing running. When faults end, every slot is dealt with
//!   within two lease lengths and half a minute, and every process stops.
//!
//! # What makes it repeat itself
//!
//! Each process has a runtime of its own, all on one thread. It has no timers and no sockets: a job
//! waits on [`JobContext::clock`](crate::JobContext::clock), and the outside of your jobs is a fake.
//! `tokio::time` panics, which the run records. Threads (`spawn_blocking`), real clocks, the order of
//! a `HashMap`, random numbers but those of `fastrand`, `tokio::select!` without `biased` and
//! `tokio::sync::watch` with several receivers draw lots that no seed decides.

mod course;
mod failure;
mod faults;
mod process;
mod record;
mod store;
mod time;
mod timeline;
mod world;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use self::course::{Course, Outcome};
pub use self::failure::SimulationFailure;
pub use self::faults::Faults;
use self::faults::Planned;
pub use self::store::SimulatedStore;
pub use self::timeline::Timeline;
use crate::chance::SeededThread;
use crate::job::JobError;
use crate::scheduler::Scheduler;

/// Jobs, hosts that run them, what goes wrong, and what has to hold all the same; see the
/// [module](self).
pub struct Simulation<W> {
    hosts: usize,
    begins_at_ms: i64,
    lasts: Duration,
    faults: Faults,
    world: Box<dyn Fn() -> W + Send + Sync>,
    host: Box<dyn Fn(SimulatedStore, W) -> Made + Send + Sync>,
    rules: Vec<Rule<W>>,
}

type Made = Pin<Box<dyn Future<Output = Result<Scheduler, JobError>> + Send>>;

/// What has to hold of the user's world.
struct Rule<W> {
    name: String,
    at_each_step: bool,
    holds: Holds<W>,
}

type Holds<W> = Box<dyn Fn(&W) -> Result<(), String> + Send + Sync>;

/// Repeats one seed instead of those that a test asks for.
const SEED: &str = "SIMULATION_SEED";
/// 2026-11-23 12:00:00 UTC.
const NOON: i64 = 1_795_435_200_000;

impl<W: Clone + Send + Sync + 'static> Simulation<W> {
    /// Three hosts for ten minutes, with every fault.
    ///
    /// `world` makes what the jobs have effects on, anew for each seed and shared by its hosts.
    /// `host` makes a host's scheduler at each start of its process, on the store that it is given
    /// or on a wrapper around it; it runs in that process.
    pub fn new<F>(
        world: impl Fn() -> W + Send + Sync + 'static,
        host: impl Fn(SimulatedStore, W) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Scheduler, JobError>> + Send + 'static,
    {
        Self {
            hosts: 3,
            begins_at_ms: NOON,
            lasts: Duration::from_secs(600),
            faults: Faults::default(),
            world: Box::new(world),
            host: Box::new(move |store, world| Box::pin(host(store, world))),
            rules: Vec::new(),
        }
    }

    /// With so many hosts, 1 to 26.
    ///
    /// # Panics
    /// Another number.
    #[must_use]
    #[track_caller]
    pub fn hosts(mut self, hosts: usize) -> Self {
        assert!((1..=26).contains(&hosts), "`hosts` is {hosts}; expected 1 to 26");
        self.hosts = hosts;
        self
    }

    /// From this instant on, epoch milliseconds: the night in which the clocks change, for one.
    #[must_use]
    pub fn beginning_at_ms(mut self, begins_at_ms: i64) -> Self {
        self.begins_at_ms = begins_at_ms;
        self
    }

    /// For this long, and then without faults until everything has come right.
    #[must_use]
    pub fn lasting(mut self, lasts: Duration) -> Self {
        self.lasts = lasts;
        self
    }

    /// With these faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Something that has to hold whenever all processes wait. An error says what is wrong.
    #[must_use]
    pub fn at_each_step(
        mut self,
        name: impl Into<String>,
        holds: impl Fn(&W) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.rules.push(Rule { name: name.into(), at_each_step: true, holds: Box::new(holds) });
        self
    }

    /// Something that has to hold when everything has come right and every process has stopped.
    #[must_use]
    pub fn at_the_end(
        mut self,
        name: impl Into<String>,
        holds: impl Fn(&W) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.rules.push(Rule { name: name.into(), at_each_step: false, holds: Box::new(holds) });
        self
    }

    /// Runs one seed.
    ///
    /// # Errors
    /// A rule is broken: which, by how few of the faults, and what happened.
    pub fn run(&self, seed: u64) -> Result<Timeline, Box<SimulationFailure>> {
        // On a thread of its own: whoever calls may be on a runtime.
        std::thread::scope(|threads| {
            let run = threads.spawn(|| self.try_seed(seed));
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs seeds until one fails, or only the one that the environment variable `SIMULATION_SEED`
    /// names.
    ///
    /// # Panics
    /// A rule is broken; the message has the seed, the faults that it takes, and the timeline. Or the
    /// variable is no seed.
    #[track_caller]
    pub fn assert_holds(&self, seeds: impl IntoIterator<Item = u64>) {
        let seeds: Vec<u64> = match std::env::var(SEED) {
            Ok(seed) => match seed.parse() {
                Ok(seed) => vec![seed],
                Err(_) => {
                    panic!("`{SEED}` is `{seed}`; expected a whole number, or no such variable")
                }
            },
            Err(_) => seeds.into_iter().collect(),
        };
        let failure = std::thread::scope(|threads| {
            let run =
                threads.spawn(|| seeds.into_iter().find_map(|seed| self.try_seed(seed).err()));
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        if let Some(failure) = failure {
            panic!("{failure}");
        }
    }

    fn try_seed(&self, seed: u64) -> Result<Timeline, Box<SimulationFailure>> {
        let mut lots = fastrand::Rng::with_seed(seed);
        let planned = faults::plan(&mut lots, self.faults, self.hosts, self.lasts);
        let outcome = self.try_faults(seed, &planned);
        let Some(broken) = outcome.broken else { return Ok(outcome.timeline) };
        // The shortest beginning of the faults that is enough.
        let fewer = (0..planned.len()).find_map(|count| {
            let outcome = self.try_faults(seed, &planned[..count]);
            Some((count, outcome.broken?, outcome.timeline))
        });
        let (count, broken, timeline) = fewer.unwrap_or((planned.len(), broken, outcome.timeline));
        let faults = planned[..count].iter().map(ToString::to_string).collect();
        Err(Box::new(SimulationFailure { seed, broken, faults, planned: planned.len(), timeline }))
    }

    fn try_faults(&self, seed: u64, faults: &[Planned]) -> Outcome {
        let _seeded = SeededThread::new(seed);
        let course = Course::new(self, seed, faults);
        course.run().expect("the operating system gives a runtime what it needs")
    }
}

impl<W> std::fmt::Debug for Simulation<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("hosts", &self.hosts)
            .field("begins_at_ms", &self.begins_at_ms)
            .field("lasts", &self.lasts)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}
