//! The way in: register jobs, then start them all or run one once.
//!
//! ```no_run
//! # async fn example(store: scheduler_core::Store) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use scheduler_core::{Cadence, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown};
//!
//! let mut scheduler = Scheduler::new(store);
//! scheduler.register(
//!     JobDefinition::new("prune_sessions", Cadence::every(Duration::from_secs(60))),
//!     |_: JobContext| async { Ok(RunSummary::new().count("pruned", 3)) },
//! )?;
//! // As a command: one cycle, on the same path as the loop.
//! let report = scheduler.run_once("prune_sessions", Duration::ZERO, &Shutdown::default()).await?;
//! println!("{}", report.status);
//! // As a service: until it is told to stop.
//! let running = scheduler.start().await?;
//! running.stop(&Shutdown::default()).await;
//! # Ok(()) }
//! ```

mod by_hand;
mod control;
mod error;
mod stepped;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use self::by_hand::begin_manual;
use crate::clock::millis;
use crate::definition::{JobDefinition, Scope, StartPolicy};
use crate::driver::Driver;
use crate::error::StoreError;
use crate::events::{Events, Teller};
use crate::executor::{Executor, Registered, RunReport};
use crate::job::Job;
use crate::local::{self, LocalJobs};
use crate::run::{InstanceId, RunId};
use crate::signal;
use crate::skew::{ClockSkew, ClockSkewError};
use crate::stop::{Phase, Shutdown, wind_down};
use crate::store::{Definitions, Instance, JobSeed, SchedulerStore, Topic};
use crate::ticker::Ticker;

pub use self::error::{RegisterError, RunOnceError, StartError};

/// Jobs, the store that they run on, and the identity of this process.
pub struct Scheduler {
    store: Arc<dyn SchedulerStore>,
    instance: Instance,
    jobs: BTreeMap<String, Registered>,
    services: Vec<Arc<dyn Service>>,
    teller: Teller,
}

/// A started scheduler. Dropping it leaves its jobs running until the runtime ends: stop it.
pub struct RunningScheduler {
    executor: Executor,
    phase: signal::Sender<Phase>,
    /// `None` in a simulation, which has a pulse of its own.
    ticker: Option<Ticker>,
    beat_ms: Arc<AtomicI64>,
    looked_at_ms: Arc<AtomicI64>,
    jobs: BTreeMap<String, Registered>,
}

/// Work of a job that goes on between its cycles: what a queue's consumer does.
#[async_trait]
pub(crate) trait Service: Send + Sync {
    /// Starts the tasks, tracked by the executor; they end by its phases.
    fn start(&self, executor: &Executor);

    /// The job.
    fn job(&self) -> &str;
}

impl Scheduler {
    /// A scheduler without jobs.
    #[must_use]
    pub fn new(store: impl SchedulerStore) -> Self {
        let instance = Instance {
            id: InstanceId::new(),
            host: host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            definitions: Definitions::new(),
        };
        Self {
            store: Arc::new(store),
            instance,
            jobs: BTreeMap::new(),
            services: Vec::new(),
            teller: Teller::new(),
        }
    }

    /// Says which program this is, for the rows that operators read.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.instance.version = version.into();
        self
    }

    /// This process.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        self.instance.id
    }

    /// Adds a job.
    ///
    /// # Errors
    /// A name that is taken, or a field of the definition that is wrong.
    pub fn register(
        &mut self,
        definition: JobDefinition,
        job: impl Job,
    ) -> Result<&mut Self, RegisterError> {
        self.register_shared(definition, Arc::new(job))
    }

    pub(crate) fn register_shared(
        &mut self,
        definition: JobDefinition,
        job: Arc<dyn Job>,
    ) -> Result<&mut Self, RegisterError> {
        definition.validate()?;
        if self.jobs.contains_key(&definition.name) {
            return Err(RegisterError::Duplicate(definition.name));
        }
        let name = definition.name.clone();
        self.instance.definitions.insert(name.clone(), definition.in_the_row());
        self.jobs.insert(
            name,
            Registered { definition: Arc::new(definition), job, goes_on: Arc::default() },
        );
        Ok(self)
    }

    /// What was registered, by name.
    pub fn definitions(&self) -> impl Iterator<Item = &JobDefinition> {
        self.jobs.values().map(|registered| registered.definition.as_ref())
    }

    /// What this scheduler does from now on; ask before [`Scheduler::start`] to miss nothing of it.
    #[must_use]
    pub fn events(&self) -> Events {
        self.teller.listen()
    }

    pub(crate) fn serve(&mut self, service: Arc<dyn Service>) {
        self.services.push(service);
    }

    /// Announces this process, makes the schedule rows agree with the definitions, and starts
    /// firing.
    ///
    /// # Errors
    /// The database cannot be written, this host's clock is too far off the database's, or the
    /// pulse cannot be started; nothing runs then.
    pub async fn start(self) -> Result<RunningScheduler, StartError> {
        self.start_with(true).await
    }

    /// As [`start`](Self::start), but whoever calls is the pulse: real time has no part in it.
    pub(crate) async fn start_without_pulse(self) -> Result<RunningScheduler, StartError> {
        self.start_with(false).await
    }

    async fn start_with(self, pulse: bool) -> Result<RunningScheduler, StartError> {
        let (phase, skew, executor) = self.enter().await?;
        let now_ms = self.store.clock().now_ms();
        let beat_ms = Arc::new(AtomicI64::new(now_ms));
        let looked_at_ms = Arc::new(AtomicI64::new(now_ms));
        let ticker = if pulse {
            let (poke, clock) = (Arc::clone(&executor.poke), Arc::clone(self.store.clock()));
            Some(Ticker::start(poke, clock, Arc::clone(&beat_ms)).await?)
        } else {
            None
        };
        self.start_services(&executor);
        let local = self.start_local_jobs(&executor);
        let driver = self.driver(executor.clone(), Arc::clone(&looked_at_ms), skew, local);
        let changes = self.store.changes(&Topic::Schedules);
        executor.tasks.spawn(driver.run(changes));
        tracing::info!(instance = %self.instance.id, jobs = self.jobs.len(), "scheduler started");
        Ok(RunningScheduler { executor, phase, ticker, beat_ms, looked_at_ms, jobs: self.jobs })
    }

    /// Announces this process, and makes the schedule rows agree with the definitions.
    pub(crate) async fn enter(
        &self,
    ) -> Result<(signal::Sender<Phase>, signal::Sender<ClockSkew>, Executor), StartError> {
        let skew = self.announce::<StartError>(&self.instance).await?;
        let entered = self.executor(skew);
        let seeds: Vec<JobSeed> =
            self.jobs.values().map(|registered| seed(&registered.definition)).collect();
        self.store.register_jobs(&seeds).await?;
        Ok(entered)
    }

    pub(crate) fn start_services(&self, executor: &Executor) {
        for service in &self.services {
            service.start(executor);
        }
    }

    /// A driver of these jobs, which has not looked yet.
    pub(crate) fn driver(
        &self,
        executor: Executor,
        looked_at_ms: Arc<AtomicI64>,
        skew: signal::Sender<ClockSkew>,
        local: watch::Sender<local::Rows>,
    ) -> Driver {
        Driver::new(executor, self.instance.clone(), self.jobs.clone(), looked_at_ms, skew, local)
    }

    /// Starts what fires jobs without history; answers where a driver puts their rows.
    pub(crate) fn start_local_jobs(&self, executor: &Executor) -> watch::Sender<local::Rows> {
        let (local, rows) = watch::channel(local::Rows::new());
        if let Some(local_jobs) = LocalJobs::of(executor, self.jobs.values(), rows) {
            executor.tasks.spawn(local_jobs.run());
        }
        local
    }

    /// Runs one cycle of a job now, through the same path as the loop: lease, recorder, job,
    /// recorder, release. Its due time and a pause are ignored and no schedule is moved.
    ///
    /// Waits up to `wait` for a run that is under way. A consumer of a queue works off everything
    /// that is claimable.
    ///
    /// # Errors
    /// [`RunOnceError::Busy`] names who holds the lease, [`RunOnceError::ClockSkew`] says that this
    /// host's clock is too far off the database's. A cycle that fails is not an error here: its
    /// report says so.
    pub async fn run_once(
        &self,
        job: &str,
        wait: Duration,
        shutdown: &Shutdown,
    ) -> Result<RunReport, RunOnceError> {
        let registered = find(&self.jobs, job)?;
        // It writes no schedule row.
        let instance = Instance { definitions: Definitions::new(), ..self.instance.clone() };
        let skew = self.announce::<RunOnceError>(&instance).await?;
        let (phase, _skew, executor) = self.executor(skew);
        self.start_services(&executor);
        let work = async {
            let report = begin_manual(&executor, &registered, wait, true).await;
            match report {
                Ok(granted) => Ok(executor.execute(&registered, granted).await),
                Err(error) => Err(error),
            }
        };
        // The run is driven to its recorded end whatever the stop says: the phases reach it.
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        let stopping = async {
            tokio::select! {
                biased;
                () = shutdown.stop.cancelled() => {}
                _ = ended => {}
            }
            wind_down(&phase, &executor.tasks, self.store.clock(), shutdown).await;
        };
        let (report, ()) = tokio::join!(
            async {
                let token = executor.tasks.token();
                let report = work.await;
                drop(token);
                drop(done);
                report
            },
            stopping
        );
        self.store.seen(self.instance.id, true).await?;
        report
    }

    /// Announces this process, and refuses it where its clock is too far off the database's.
    async fn announce<E>(&self, instance: &Instance) -> Result<ClockSkew, E>
    where
        E: From<StoreError> + From<ClockSkewError>,
    {
        let (store, id) = (&self.store, instance.id);
        store.announce(instance).await?;
        let skew = store.measure_skew().await?;
        if skew.ahead_ms() != 0 {
            store.note_skew(id, skew).await?;
        }
        if !skew.is_tolerable() {
            store.seen(id, true).await?;
            return Err(ClockSkewError(skew).into());
        }
        Ok(skew)
    }

    fn executor(
        &self,
        skew: ClockSkew,
    ) -> (signal::Sender<Phase>, signal::Sender<ClockSkew>, Executor) {
        let (sender, phase) = signal::channel(Phase::Running);
        let (skew_sender, skew) = signal::channel(skew);
        let executor = Executor {
            store: Arc::clone(&self.store),
            instance_id: self.instance.id,
            phase,
            tasks: TaskTracker::new(),
            poke: Arc::new(Notify::new()),
            skew,
            teller: self.teller.clone(),
        };
        (sender, skew_sender, executor)
    }
}

impl RunningScheduler {
    /// This process.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        self.executor.instance_id
    }

    /// When the pulse last beat and when the driver last looked, epoch milliseconds; a liveness
    /// probe compares them with now.
    #[must_use]
    pub fn last_signs_of_life_ms(&self) -> (i64, i64) {
        (self.beat_ms.load(Ordering::Acquire), self.looked_at_ms.load(Ordering::Acquire))
    }

    /// A handle on the signs of life, for a probe that outlives this borrow.
    #[must_use]
    pub fn signs_of_life(&self) -> SignsOfLife {
        SignsOfLife {
            beat_ms: Arc::clone(&self.beat_ms),
            looked_at_ms: Arc::clone(&self.looked_at_ms),
        }
    }

    /// How far this host's clock was off the database's at the last look. While it is not
    /// tolerable, nothing begins here; what runs goes on and keeps its leases.
    #[must_use]
    pub fn clock_skew(&self) -> ClockSkew {
        self.executor.skew.get()
    }

    /// Begins a run of a job now and answers its id without waiting for its end.
    ///
    /// # Errors
    /// No such job, a run of it that is under way, a clock that is too far off, or the database.
    pub async fn run_now(&self, job: &str) -> Result<RunId, RunOnceError> {
        let registered = find(&self.jobs, job)?;
        let granted = begin_manual(&self.executor, &registered, Duration::ZERO, false).await?;
        let id = granted.run.id;
        let executor = self.executor.clone();
        self.executor.tasks.spawn(async move { executor.execute(&registered, granted).await });
        Ok(id)
    }

    /// What this scheduler does from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.executor.teller.listen()
    }

    /// Makes the driver look at the schedules now.
    pub fn poke(&self) {
        self.executor.poke.notify_one();
    }

    /// Stops in phases and returns when nothing of this scheduler runs any more: no new work;
    /// running work may end within the grace period, its leases kept alive; then its tokens are
    /// cancelled; what ignores that for five seconds is aborted and its lease given back.
    ///
    /// Dropping the future half-way leaves the stop unfinished.
    pub async fn stop(self, shutdown: &Shutdown) {
        let Self { executor, phase, ticker, .. } = self;
        let store = Arc::clone(&executor.store);
        if let Err(error) = store.seen(executor.instance_id, true).await {
            tracing::warn!(%error, "this instance could not say that it is stopping");
        }
        wind_down(&phase, &executor.tasks, store.clock(), shutdown).await;
        if let Some(ticker) = ticker {
            ticker.stop().await;
        }
        tracing::info!(instance = %executor.instance_id, "scheduler stopped");
    }
}

/// Tells whether a scheduler's loops still tick.
#[derive(Debug, Clone)]
pub struct SignsOfLife {
    beat_ms: Arc<AtomicI64>,
    looked_at_ms: Arc<AtomicI64>,
}

impl SignsOfLife {
    /// The older of the last beat of the pulse and the last look of the driver, epoch
    /// milliseconds. Both come at least every five seconds while all is well.
    #[must_use]
    pub fn oldest_ms(&self) -> i64 {
        self.beat_ms.load(Ordering::Acquire).min(self.looked_at_ms.load(Ordering::Acquire))
    }
}

fn find(jobs: &BTreeMap<String, Registered>, name: &str) -> Result<Registered, RunOnceError> {
    jobs.get(name).cloned().ok_or_else(|| RunOnceError::Unknown {
        name: name.to_owned(),
        known: jobs.keys().cloned().collect::<Vec<_>>().join(", "),
    })
}

fn seed(definition: &JobDefinition) -> JobSeed {
    let in_the_row = definition.scope == Scope::Cluster;
    JobSeed {
        job: definition.name.clone(),
        cadence: definition.cadence.clone(),
        definition_hash: definition.fingerprint(),
        due_by_row: in_the_row,
        start_immediately: in_the_row && definition.start == StartPolicy::Immediate,
        timeout_ms: definition.timeout.map(millis),
        recorder: Arc::clone(&definition.recorder),
    }
}

/// The host's name, for people; `unknown` where it cannot be read.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
