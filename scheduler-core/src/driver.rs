//! The loop that fires slots: look, decide, begin, sleep until something can be due.
//!
//! It wakes by its own timer at the earliest due time, and when a lease of its jobs can expire: what
//! its holder left is run again then. It also wakes when it is poked: by the pulse, by a run that
//! ended, by the stop, by news of the schedules from another process.

mod firing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use self::firing::{cluster_due, expiry_elsewhere, is_free, more_may_begin, unmoved};
pub(crate) use self::firing::{effective_cadence, firing_of};
use crate::cadence::Cadence;
use crate::catch_up::{CatchUp, catch_up};
use crate::clock::millis;
use crate::definition::{Overlap, Scope, StartPolicy};
use crate::events::Event;
use crate::executor::{Executor, Granted, Registered, chain};
use crate::local;
use crate::plan::{Due, FirePlan, fires_at, plan};
use crate::run::{RunId, Trigger};
use crate::signal;
use crate::skew::{ClockSample, ClockSkew};
use crate::stop::{Phase, reached, wait_until_or_set_back};
use crate::store::{
    Advance, Begun, Changes, Firing, Instance, InterruptedRun, Look, NewRun, ScheduleRow,
};

/// How often a process says that it is alive.
const SEEN_EVERY: Duration = Duration::from_secs(20);
/// How often old rows are pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Rows of history that are pruned in one go.
const PRUNE_BATCH: u32 = 1_000;
/// Between two looks while the database is busy or away.
const RETRY: Duration = Duration::from_secs(1);
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
    skew: signal::Sender<ClockSkew>,
    /// The rows of jobs without history, for who fires those.
    local: watch::Sender<local::Rows>,
    /// What operators see of it.
    noted_skew: ClockSkew,
}

/// When a job of scope Instance is due in this process.
struct OwnGrid {
    /// The generation of the schedule row that it follows.
    generation: i64,
    /// `None` when it is not due by itself.
    due: Option<Due>,
}

/// What one look comes to.
struct Decision {
    firings: Vec<Firing>,
    /// When something is due or a lease expires next, epoch milliseconds of the store's clock.
    next_at_ms: Option<i64>,
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
            let wake_at_ms = match self.step(&names).await {
                Ok(wake_at_ms) => {
                    self.failing = false;
                    wake_at_ms
                }
                Err(error) => {
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
            tokio::select! {
                biased;
                () = reached(&mut phase, Phase::Draining) => {}
                () = poke.notified() => {}
                () = changes.changed() => {}
                () = async {
                    match wake_at_ms {
                        Some(at_ms) => wait_until_or_set_back(&clock, at_ms).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// One look and what follows from it; answers when to look again, on this process's clock.
    pub(crate) async fn step(
        &mut self,
        names: &[String],
    ) -> Result<Option<i64>, crate::StoreError> {
        let store = Arc::clone(&self.executor.store);
        let before_ms = store.clock().now_ms();
        let look = store.look(names).await?;
        let after_ms = store.clock().now_ms();
        if self.seen_at_ms.is_none() {
            self.seen_at_ms = Some(look.now_ms);
        }
        let sample = ClockSample { before_ms, database_ms: look.now_ms, after_ms };
        if !self.may_begin(sample).await? {
            self.keep_house(look.now_ms).await?;
            return Ok(Some(store.clock().now_ms().saturating_add(millis(OFF_CLOCK_PAUSE))));
        }
        let ahead_ms = look.now_ms - after_ms;
        self.tell_local_jobs(&look);
        let Decision { firings, mut next_at_ms } = self.decide(&look);
        if !firings.is_empty() {
            let asked_at_ms = store.clock().now_ms();
            let begun = store.begin(&firings).await;
            let begun = begun.inspect_err(|_| firings.iter().for_each(|f| self.let_go(f)))?;
            for (firing, begun) in firings.iter().zip(begun) {
                let expiry_ms = expiry_elsewhere(firing, &begun, asked_at_ms + ahead_ms);
                let at_once_ms = more_may_begin(firing, &begun).then_some(look.now_ms);
                next_at_ms = [next_at_ms, expiry_ms, at_once_ms].into_iter().flatten().min();
                self.tell(firing, &begun);
                self.follow(firing, begun, asked_at_ms);
            }
        }
        self.keep_house(look.now_ms).await?;
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

    fn follow(&self, firing: &Firing, begun: Begun, asked_at_ms: i64) {
        let (Some(run), Begun::Started { key, started_at_ms, .. }) = (firing.run, begun) else {
            return self.let_go(firing);
        };
        let Some(registered) = self.jobs.get(&firing.job).cloned() else {
            return;
        };
        let executor = self.executor.clone();
        let granted = Granted { run, key, asked_at_ms, started_at_ms, drain: false };
        self.executor.tasks.spawn(async move { executor.execute(&registered, granted).await });
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

    /// What is to be done about what was seen.
    fn decide(&mut self, look: &Look) -> Decision {
        let mut firings = Vec::new();
        let mut next_at_ms: Option<i64> = None;
        let mut taken = HashSet::new();
        for run in &look.interrupted {
            let Some(registered) = self.jobs.get(&run.job) else { continue };
            let row = look.schedules.iter().find(|row| row.job == run.job);
            let firing = self.close(registered, run, row, look.now_ms);
            let beside = registered.definition.overlap == Overlap::Allow;
            if firing.run.is_some()
                && !beside
                && row.is_some_and(|row| row.leased_until_ms.is_none())
            {
                taken.insert(run.job.clone());
            }
            firings.push(firing);
        }
        for row in &look.schedules {
            let Some(registered) = self.jobs.get(&row.job) else { continue };
            firings.extend(self.requested(registered, row, look.now_ms));
            if row.paused || local::is_local(registered) {
                continue;
            }
            let cadence = effective_cadence(row, &registered.definition.cadence);
            let (due, buffered) = match registered.definition.scope {
                Scope::Cluster => (cluster_due(row), row.buffered_for_ms),
                Scope::Instance => {
                    let (grids, start) = (&mut self.own_grids, registered.definition.start);
                    (own_due(grids, start, row, &cadence, look.now_ms), None)
                }
            };
            let policies = registered.definition.policies();
            let mut next = due.map(|due| fires_at(due, &cadence, policies, due.next_due_at_ms));
            let waiting = &row.waiting_slots;
            let goes_first = |slot_ms| waiting.first().is_none_or(|first| slot_ms <= first.slot_ms);
            let free = is_free(row, &registered.definition);
            if taken.contains(&row.job) {
                // The rerun of an interrupted slot goes first; newer slots wait for its end.
                next = None;
            } else if let Some(slot_ms) = buffered.filter(|slot_ms| free && goes_first(*slot_ms)) {
                firings.push(self.waited(registered, row, slot_ms));
                next = None;
            } else if let Some(turn) = catch_up(due, waiting, &cadence, policies, look.now_ms, free)
            {
                next = due
                    .zip(turn.next_due_at_ms)
                    .map(|(due, at)| fires_at(due, &cadence, policies, at));
                firings.push(self.take_turn(registered, row, turn));
            } else if let Some(due) = due
                && let Some(fire) = plan(due, &cadence, policies, look.now_ms)
            {
                next = fire.next_due_at_ms.map(|at| fires_at(due, &cadence, policies, at));
                firings.push(self.fire(registered, row, fire));
                self.move_own_grid(&row.job, fire);
            }
            next_at_ms = [next_at_ms, next, row.leased_until_ms].into_iter().flatten().min();
        }
        for firing in &mut firings {
            firing.as_of_ms = Some(look.now_ms);
        }
        Decision { firings, next_at_ms }
    }

    /// Closes an interrupted run, and runs its slot again where the policy says so: it waits while
    /// another run has the lease.
    fn close(
        &self,
        registered: &Registered,
        run: &InterruptedRun,
        row: Option<&ScheduleRow>,
        now_ms: i64,
    ) -> Firing {
        let definition = &registered.definition;
        let late_ms = now_ms.saturating_sub(run.scheduled_for_ms);
        let reruns = definition.scope == Scope::Cluster
            && run.trigger != Trigger::Manual
            && definition.on_interrupt.allows_another(run.attempt)
            && definition.lateness_limit.is_none_or(|limit| late_ms <= millis(limit))
            && row.is_some_and(|row| !row.paused);
        let closes = Firing { interrupted: Some(run.clone()), ..self.firing(registered) };
        if !reruns {
            return closes;
        }
        closes.of_run(NewRun {
            id: RunId::new(),
            trigger: Trigger::Rerun,
            scheduled_for_ms: run.scheduled_for_ms,
            attempt: run.attempt.saturating_add(1),
        })
    }

    /// Begins the run that somebody asks for, if none is under way.
    fn requested(&self, registered: &Registered, row: &ScheduleRow, now_ms: i64) -> Option<Firing> {
        let id = row.run_requested.filter(|_| is_free(row, &registered.definition))?;
        if local::is_local(registered) && registered.goes_on.swap(true, Ordering::AcqRel) {
            return None;
        }
        let run = NewRun { id, trigger: Trigger::Manual, scheduled_for_ms: now_ms, attempt: 1 };
        Some(Firing { requested: true, ..self.firing(registered) }.of_run(run))
    }

    /// Takes back that these runs go on, which did not begin.
    fn let_go(&self, firing: &Firing) {
        if let Some(registered) = self.jobs.get(&firing.job).filter(|_| firing.requested) {
            registered.goes_on.store(false, Ordering::Release);
        }
    }

    /// Fires a slot that waited for the lease.
    fn waited(&self, registered: &Registered, row: &ScheduleRow, slot_ms: i64) -> Firing {
        let trigger = if row.buffered_attempts > 0 { Trigger::Rerun } else { Trigger::Buffered };
        let advance = Some(Advance { buffered_for_ms: None, ..unmoved(row) });
        Firing { advance, ..self.firing(registered) }.of_run(NewRun {
            id: RunId::new(),
            trigger,
            scheduled_for_ms: slot_ms,
            attempt: row.buffered_attempts.saturating_add(1),
        })
    }

    /// Fires what the plan says. Where slots wait for each other, an older one that waits is skipped
    /// for it, whether it gets the lease or waits in its place.
    fn fire(&self, registered: &Registered, row: &ScheduleRow, fire: FirePlan) -> Firing {
        let fired_for_ms = fire.fire.map(|(slot_ms, _)| slot_ms);
        let displaces = |older_ms: &i64| {
            matches!(registered.definition.overlap, Overlap::BufferOne | Overlap::Replace)
                && Some(*older_ms) < fired_for_ms
        };
        let advance = (registered.definition.scope == Scope::Cluster).then(|| Advance {
            next_due_at_ms: fire.next_due_at_ms,
            fired_for_ms,
            buffered_for_ms: row.buffered_for_ms.filter(|older_ms| !displaces(older_ms)),
            ..unmoved(row)
        });
        let missed = fire.missed.into_iter().collect();
        let firing = Firing { missed, advance, ..self.firing(registered) };
        match fire.fire {
            Some((scheduled_for_ms, trigger)) => {
                firing.of_run(NewRun { id: RunId::new(), trigger, scheduled_for_ms, attempt: 1 })
            }
            None => firing,
        }
    }

    /// Fires the first of the slots that run one after another, and lets the others wait.
    fn take_turn(&self, registered: &Registered, row: &ScheduleRow, turn: CatchUp) -> Firing {
        let advance = Advance {
            next_due_at_ms: turn.next_due_at_ms,
            fired_for_ms: turn.taken_ms,
            waiting_slots: turn.waiting,
            ..unmoved(row)
        };
        let firing = self.firing(registered);
        let firing = Firing { missed: turn.missed, advance: Some(advance), ..firing };
        match turn.fire {
            Some((slot, trigger)) => firing.of_run(NewRun {
                id: RunId::new(),
                trigger,
                scheduled_for_ms: slot.slot_ms,
                attempt: slot.attempts.saturating_add(1),
            }),
            None => firing,
        }
    }

    /// What all firings of a job have in common.
    fn firing(&self, registered: &Registered) -> Firing {
        firing_of(&self.executor, registered)
    }

    fn move_own_grid(&mut self, job: &str, fire: FirePlan) {
        let Some(grid) = self.own_grids.get_mut(job) else { return };
        grid.due = grid.due.zip(fire.next_due_at_ms).map(|(due, next_due_at_ms)| Due {
            last_fired_for_ms: fire.fire.map(|(slot_ms, _)| slot_ms).or(due.last_fired_for_ms),
            next_due_at_ms,
            ..due
        });
    }
}

/// When a job of scope Instance is due: on a grid from the start of this process, or from the look
/// that found a change of an operator's.
fn own_due(
    grids: &mut HashMap<String, OwnGrid>,
    start: StartPolicy,
    row: &ScheduleRow,
    cadence: &Cadence,
    now_ms: i64,
) -> Option<Due> {
    let known = grids.get(&row.job);
    if let Some(grid) = known.filter(|grid| grid.generation == row.generation) {
        return grid.due;
    }
    let starts = known.is_none() && start == StartPolicy::Immediate;
    let due = cadence.next_after(now_ms, now_ms).map(|slot_ms| Due {
        anchor_ms: now_ms,
        next_due_at_ms: if starts { now_ms } else { slot_ms },
        last_fired_for_ms: None,
    });
    grids.insert(row.job.clone(), OwnGrid { generation: row.generation, due });
    due
}
