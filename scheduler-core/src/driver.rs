//! The loop that fires slots: look, decide, begin, sleep until something can be due.
//!
//! It wakes by its own timer at the earliest due time, and when a lease of its jobs can expire: what
//! its holder left is run again then. It also wakes when it is poked: by the pulse, by a run that
//! ended, by the stop, by news of the schedules from another process.

mod deciding;
mod firing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use self::deciding::{Decision, OwnGrid};
pub(crate) use self::firing::{effective_cadence, firing_of};
use self::firing::{expiry_elsewhere, more_may_begin};
use crate::clock::millis;
use crate::events::Event;
use crate::executor::{Executor, Granted, Launched, Registered, chain};
use crate::local;
use crate::signal;
use crate::skew::{ClockSample, ClockSkew};
use crate::stop::{Phase, reached, wait_until_or_set_back};
use crate::store::{Begun, Changes, Firing, Instance, Look, ScheduleRow};

/// How often a process says that it is alive.
const SEEN_EVERY: Duration = Duration::from_secs(20);
/// How often old rows are pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Rows of history that are pruned in one go.
const PRUNE_BATCH: u32 = 1_000;
/// Between two looks while the database is busy or away.
const RETRY: Duration = Duration::from_secs(1);
/// How long before something is due the rows are looked at, so that its begin waits for no read.
const LOOK_AHEAD: Duration = Duration::from_millis(100);
/// Between two looks while this host's clock is off.
const OFF_CLOCK_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Driver {
    executor: Executor,
    instance: Instance,
    jobs: BTreeMap<String, Registered>,
    /// The grids of jobs of scope Instance, which live in memory.
    own_grids: HashMap<String, OwnGrid>,
    looked_at_ms: Arc<AtomicI64>,
    /// `None` before the first look.
    seen_at_ms: Option<i64>,
    pruned_at_ms: i64,
    failing: bool,
    /// A look that found nothing to do, for what is due soon.
    kept: Option<Seen>,
    skew: signal::Sender<ClockSkew>,
    /// The rows of jobs without history, for who fires those.
    local: watch::Sender<local::Rows>,
    /// What operators see of it.
    noted_skew: ClockSkew,
}

/// A look, and how to tell the store's now from this process's clock afterwards.
struct Seen {
    look: Look,
    /// When it had come, on this process's clock.
    at_ms: i64,
}

impl Seen {
    /// Whether no more time has passed than was meant to: not so after a suspend or a freeze.
    fn is_fresh(&self, clock_ms: i64) -> bool {
        clock_ms.saturating_sub(self.at_ms) <= 2 * millis(LOOK_AHEAD)
    }

    /// The store's now, epoch milliseconds: not earlier than it was read, and never ahead of it.
    fn now_ms(&self, clock_ms: i64) -> i64 {
        self.look.now_ms.saturating_add(clock_ms.saturating_sub(self.at_ms))
    }
}

impl Driver {
    pub(crate) fn new(
        executor: Executor,
        instance: Instance,
        jobs: BTreeMap<String, Registered>,
        looked_at_ms: Arc<AtomicI64>,
        skew: signal::Sender<ClockSkew>,
        local: watch::Sender<local::Rows>,
    ) -> Self {
        let noted_skew = skew.get();
        Self {
            executor,
            instance,
            jobs,
            own_grids: HashMap::new(),
            looked_at_ms,
            seen_at_ms: None,
            pruned_at_ms: i64::MIN,
            failing: false,
            kept: None,
            skew,
            local,
            noted_skew,
        }
    }

    /// Drives until the stop.
    pub(crate) async fn run(mut self, mut changes: Changes) {
        let names: Vec<String> = self.jobs.keys().cloned().collect();
        let clock = Arc::clone(self.executor.store.clock());
        let poke = Arc::clone(&self.executor.poke);
        let mut phase = self.executor.phase.clone();
        while phase.get() == Phase::Running {
            let kept = self.kept.take();
            let stepped = match kept.filter(|seen| seen.is_fresh(clock.now_ms())) {
                Some(seen) => self.act(seen).await,
                None => self.step(&names).await,
            };
            let wake_at_ms = match stepped {
                Ok(due_at_ms) => {
                    self.failing = false;
                    due_at_ms.map(|due_at_ms| self.look_ahead(due_at_ms, clock.now_ms()))
                }
                Err(error) => {
                    self.kept = None;
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(
                            error = chain(&error),
                            "the schedules cannot be driven; trying again every second"
                        );
                    }
                    Some(clock.now_ms().saturating_add(millis(RETRY)))
                }
            };
            self.looked_at_ms.store(clock.now_ms(), Ordering::Release);
            let came = async {
                match wake_at_ms {
                    Some(at_ms) => wait_until_or_set_back(&clock, at_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = reached(&mut phase, Phase::Draining) => {}
                // There is more to see than was seen.
                () = poke.notified() => self.kept = None,
                () = changes.changed() => self.kept = None,
                () = came => {}
            }
        }
    }

    /// When to wake for what is due at `due_at_ms`: a little before, to look, unless the last look will
    /// do. What it did not see in between, whoever writes finds out: a row that was changed is lost,
    /// and a lease that lived is not taken.
    fn look_ahead(&mut self, due_at_ms: i64, now_ms: i64) -> i64 {
        let ahead_ms = due_at_ms.saturating_sub(millis(LOOK_AHEAD));
        if ahead_ms > now_ms {
            self.kept = None;
            return ahead_ms;
        }
        due_at_ms
    }

    /// One look and what follows from it; answers when something is due next, on this process's clock.
    pub(crate) async fn step(
        &mut self,
        names: &[String],
    ) -> Result<Option<i64>, crate::StoreError> {
        let store = Arc::clone(&self.executor.store);
        let before_ms = store.clock().now_ms();
        let look = store.look(names).await?;
        let at_ms = store.clock().now_ms();
        if self.seen_at_ms.is_none() {
            self.seen_at_ms = Some(look.now_ms);
        }
        let sample = ClockSample { before_ms, database_ms: look.now_ms, after_ms: at_ms };
        if !self.may_begin(sample).await? {
            self.keep_house(look.now_ms).await?;
            return Ok(Some(store.clock().now_ms().saturating_add(millis(OFF_CLOCK_PAUSE))));
        }
        self.tell_local_jobs(&look);
        let now_ms = look.now_ms;
        self.act_at(Seen { look, at_ms }, now_ms).await
    }

    /// What follows by now from a look that was kept; answers as [`step`](Self::step).
    async fn act(&mut self, seen: Seen) -> Result<Option<i64>, crate::StoreError> {
        let now_ms = seen.now_ms(self.executor.store.clock().now_ms());
        let next_at_ms = self.act_at(seen, now_ms).await;
        // Once is enough.
        self.kept = None;
        next_at_ms
    }

    async fn act_at(&mut self, seen: Seen, now_ms: i64) -> Result<Option<i64>, crate::StoreError> {
        let store = Arc::clone(&self.executor.store);
        let ahead_ms = seen.look.now_ms - seen.at_ms;
        let Decision { firings, mut next_at_ms } = self.decide(&seen.look, now_ms);
        if firings.is_empty() {
            self.kept = Some(seen);
        } else {
            let asked_at_ms = store.clock().now_ms();
            let begun = store.begin(&firings).await;
            let begun = begun.inspect_err(|_| firings.iter().for_each(|f| self.let_go(f)))?;
            let mut launched = Vec::with_capacity(firings.len());
            for (firing, begun) in firings.iter().zip(begun) {
                let expiry_ms = expiry_elsewhere(firing, &begun, asked_at_ms + ahead_ms);
                let at_once_ms = more_may_begin(firing, &begun).then_some(now_ms);
                next_at_ms = [next_at_ms, expiry_ms, at_once_ms].into_iter().flatten().min();
                self.tell(firing, &begun);
                launched.extend(self.launch(firing, begun, asked_at_ms));
            }
            self.conclude(launched);
        }
        self.keep_house(now_ms).await?;
        Ok(next_at_ms.map(|at_ms| at_ms - ahead_ms))
    }

    /// Whether this host's clock is near enough to the database's to begin something. Every look
    /// compares them; only where the look was too slow to tell is there a measurement of its own.
    async fn may_begin(&mut self, sample: ClockSample) -> Result<bool, crate::StoreError> {
        let store = &self.executor.store;
        let skew = match sample.clear_skew() {
            Some(skew) => skew,
            None => store.measure_skew().await?,
        };
        let mut changed = false;
        self.skew.send_if_modified(|known| {
            changed = known.is_tolerable() != skew.is_tolerable();
            *known = skew;
            changed
        });
        match skew.is_tolerable() {
            false if changed => tracing::error!(
                ahead_ms = skew.ahead_ms(),
                limit_ms = millis(ClockSkew::LIMIT),
                "the clock of this host is {skew} the database's: nothing begins here until both \
                 are synchronised (NTP); what runs goes on"
            ),
            true if changed => tracing::info!(
                ahead_ms = skew.ahead_ms(),
                "the clock of this host is near the database's again: jobs begin"
            ),
            _ => {}
        }
        if changed || skew.is_news_beside(self.noted_skew) {
            store.note_skew(self.instance.id, skew).await?;
            self.noted_skew = skew;
        }
        Ok(skew.is_tolerable())
    }

    /// Says that this process is alive, and prunes now and then.
    async fn keep_house(&mut self, now_ms: i64) -> Result<(), crate::StoreError> {
        let store = &self.executor.store;
        if self.seen_at_ms.is_none_or(|seen_at_ms| now_ms - seen_at_ms >= millis(SEEN_EVERY)) {
            if !store.seen(self.instance.id, false).await? {
                // Frozen for so long that another process took it for dead.
                store.announce(&self.instance).await?;
            }
            self.seen_at_ms = Some(now_ms);
        }
        if now_ms.saturating_sub(self.pruned_at_ms) >= millis(PRUNE_EVERY) {
            let pruned = store.prune(PRUNE_BATCH).await?;
            if pruned < u64::from(PRUNE_BATCH) {
                self.pruned_at_ms = now_ms;
            }
            tracing::debug!(pruned, "old rows were pruned");
        }
        Ok(())
    }

    /// Lets the job of a run begin that has begun in the database.
    fn launch(
        &self,
        firing: &Firing,
        begun: Begun,
        asked_at_ms: i64,
    ) -> Option<(Registered, Launched)> {
        let (Some(run), Begun::Started { key, started_at_ms, .. }) = (firing.run, begun) else {
            self.let_go(firing);
            return None;
        };
        let registered = self.jobs.get(&firing.job)?;
        let granted = Granted { run, key, asked_at_ms, started_at_ms, drain: false };
        Some((registered.clone(), self.executor.launch(registered, granted)))
    }

    /// Sees to the ends of runs, after all jobs that are due have been told to begin.
    fn conclude(&self, launched: Vec<(Registered, Launched)>) {
        for (registered, launched) in launched {
            let executor = self.executor.clone();
            self.executor
                .tasks
                .spawn(async move { executor.conclude(&registered, launched).await });
        }
    }

    /// Hands on what operators said about jobs without history.
    fn tell_local_jobs(&self, look: &Look) {
        let is_local = |row: &&ScheduleRow| self.jobs.get(&row.job).is_some_and(local::is_local);
        self.local.send_if_modified(|known| {
            let mut changed = false;
            for row in look.schedules.iter().filter(is_local) {
                let before = known.insert(row.job.clone(), row.clone());
                changed |= before.is_none_or(|before| before.generation != row.generation);
            }
            changed
        });
    }

    /// Tells what was recorded besides a run that began, which its own task tells.
    fn tell(&self, firing: &Firing, begun: &Begun) {
        if *begun == Begun::Lost {
            return;
        }
        let job: Arc<str> = Arc::from(firing.job.as_str());
        let teller = &self.executor.teller;
        if let Some(run) = &firing.interrupted {
            teller.tell(Event::RunCutOff {
                job: Arc::clone(&job),
                run_id: run.run_id,
                scheduled_for_ms: run.scheduled_for_ms,
                attempt: run.attempt,
            });
        }
        for missed in firing.missed.iter().copied() {
            teller.tell(Event::SlotsMissed { job: Arc::clone(&job), missed });
        }
        if let Some(scheduled_for_ms) = firing.skips(matches!(begun, Begun::Busy(_))) {
            teller.tell(Event::SlotSkipped { job, scheduled_for_ms });
        }
    }

    /// Takes back that these runs go on, which did not begin.
    fn let_go(&self, firing: &Firing) {
        if let Some(registered) = self.jobs.get(&firing.job).filter(|_| firing.requested) {
            registered.goes_on.store(false, Ordering::Release);
        }
    }
}
