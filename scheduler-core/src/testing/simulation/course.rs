//! The course of one simulation: hosts that come and go while time moves from event to event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::faults::{Fault, Planned, When};
use super::process::Process;
use super::record::Record;
use super::store::SimulatedStore;
use super::time::Time;
use super::timeline::{Event, Name, Timeline, clock};
use super::world::{World, locked};
use super::{Rule, Simulation};
use crate::clock::{Clock, millis};
use crate::definition::{JobDefinition, Scope};
use crate::executor::chain;
use crate::run::InstanceId;
use crate::scheduler::RunningScheduler;
use crate::stop::Shutdown;
use crate::store::Topic;

/// How a simulation ended.
pub(super) struct Outcome {
    pub(super) timeline: Timeline,
    pub(super) broken: Option<String>,
}

pub(super) struct Course<'s, W> {
    simulation: &'s Simulation<W>,
    user: W,
    world: Arc<World>,
    hosts: Vec<Host>,
    /// What is to be done when, in the order of asking.
    agenda: BTreeMap<(i64, u64), (usize, Action)>,
    asked: u64,
    faulty: bool,
}

/// A host: it has a process, or none for a while.
#[derive(Default)]
struct Host {
    starts: u32,
    process: Option<Alive>,
}

struct Alive {
    process: Process,
    name: Name,
    store: SimulatedStore,
    frozen: bool,
    progress: Arc<Mutex<Progress>>,
}

/// What a process says about itself.
#[derive(Default)]
struct Progress {
    instance: Option<InstanceId>,
    running: Option<RunningScheduler>,
    definitions: Vec<JobDefinition>,
    /// Why it did not start.
    refused: Option<String>,
    stopped: bool,
}

#[derive(Clone, Copy)]
enum Action {
    Suffer(Fault),
    Start,
    /// Of the process with this number.
    Thaw(u32),
    SetClockRight,
    Pulse(u32),
}

/// A process that could not start is started again.
const RESTART_MS: i64 = 2_000;
/// A process that has not stopped after this never will.
const LONGEST_STOP_MS: i64 = 120_000;
/// Slots that came this short before the end may be under way.
const SLACK_MS: i64 = 6_000;

impl<'s, W: Clone + Send + Sync + 'static> Course<'s, W> {
    pub(super) fn new(simulation: &'s Simulation<W>, seed: u64, faults: &[Planned]) -> Self {
        let lots = fastrand::Rng::with_seed(seed);
        let time = Time::new(simulation.begins_at_ms, lots);
        let world = Arc::new(World::new(time, simulation.hosts, faults));
        let mut course = Self {
            simulation,
            user: (simulation.world)(),
            world,
            hosts: (0..simulation.hosts).map(|_| Host::default()).collect(),
            agenda: BTreeMap::new(),
            asked: 0,
            faulty: true,
        };
        for host in 0..simulation.hosts {
            let after_ms = course.world.time.lot(500);
            course.later(after_ms, host, Action::Start);
        }
        for planned in faults {
            if let When::At { ms } = planned.when {
                course.later(ms, planned.host, Action::Suffer(planned.fault));
            }
        }
        course
    }

    /// Lets the hosts run to the end, or until a rule is broken.
    pub(super) fn run(mut self) -> std::io::Result<Outcome> {
        let lasts_ms = millis(self.simulation.lasts);
        self.run_until(self.simulation.begins_at_ms.saturating_add(lasts_ms))?;
        if !self.is_broken() {
            self.settle()?;
        }
        let Record { entries, broken, .. } = std::mem::take(&mut *self.world.record());
        let begins_at_ms = self.simulation.begins_at_ms;
        Ok(Outcome { timeline: Timeline { begins_at_ms, entries }, broken })
    }

    fn run_until(&mut self, end_ms: i64) -> std::io::Result<()> {
        while !self.is_broken() {
            let asked = self.agenda.first_key_value().map(|((at_ms, _), _)| *at_ms);
            let timer = self.world.time.next_at_ms();
            let next = [asked, timer].into_iter().flatten().min();
            let Some(next_ms) = next.filter(|next_ms| *next_ms <= end_ms) else { break };
            if asked.is_some_and(|asked_ms| asked_ms <= next_ms) {
                self.world.time.move_to(next_ms);
                if let Some((_, (host, action))) = self.agenda.pop_first() {
                    self.act(host, action)?;
                }
            } else {
                self.world.time.fire_next();
            }
            self.drive();
            self.check(|rule| rule.at_each_step);
        }
        self.world.time.move_to(end_ms);
        Ok(())
    }

    /// Nothing goes wrong any more: everything has to come right, and to stop.
    fn settle(&mut self) -> std::io::Result<()> {
        self.faulty = false;
        self.world.note(Name { host: 0, start: 0 }, Event::FaultsEnd);
        self.world.end_faults();
        self.agenda.retain(|_, (_, action)| !matches!(action, Action::Suffer(_)));
        for host in 0..self.hosts.len() {
            match &mut self.hosts[host].process {
                Some(alive) if alive.frozen => self.thaw(host),
                Some(_) => {}
                None => {
                    self.agenda.retain(|_, (other, action)| {
                        *other != host || !matches!(action, Action::Start)
                    });
                    self.start(host)?;
                }
            }
        }
        self.drive();
        let longest_ms = 2 * self.longest_lease_ms() + 2 * SLACK_MS;
        self.run_until(self.world.time.now_ms() + longest_ms)?;
        if self.is_broken() {
            return Ok(());
        }
        self.check_nothing_waits();
        for host in 0..self.hosts.len() {
            self.stop(host, Duration::from_secs(30));
        }
        self.drive();
        let give_up_ms = self.world.time.now_ms() + LONGEST_STOP_MS;
        while self.hosts.iter().any(|host| host.process.is_some()) && !self.is_broken() {
            let now_ms = self.world.time.now_ms();
            if self.world.time.next_at_ms().is_none_or(|at_ms| at_ms > give_up_ms) {
                self.world
                    .record()
                    .breaks(|| format!("{}: a process does not stop", clock(now_ms)));
                break;
            }
            self.world.time.fire_next();
            self.drive();
        }
        if !self.is_broken() {
            if let Some(run) = look(self.world.memory.running()).into_iter().flatten().next() {
                let slot = clock(run.scheduled_for_ms).to_string();
                let what = || format!("{} of {slot}: running, although all have stopped", run.job);
                self.world.record().breaks(what);
            }
            self.check(|rule| !rule.at_each_step);
        }
        Ok(())
    }

    /// Every slot of every job has been dealt with.
    fn check_nothing_waits(&self) {
        let now_ms = self.world.time.now_ms();
        let definitions = self.definitions();
        for definition in definitions.iter().filter(|job| job.scope == Scope::Cluster) {
            let Some(row) = look(self.world.memory.schedule(&definition.name)).flatten() else {
                continue;
            };
            let jitter_ms = definition.jitter.map_or(0, millis);
            let overdue = row.next_due_at_ms.filter(|due_ms| {
                due_ms.saturating_add(jitter_ms + SLACK_MS) < now_ms && !row.paused
            });
            let waits = row.buffered_for_ms.filter(|_| row.leased_until_ms.is_none());
            let waits = waits.filter(|slot_ms| slot_ms.saturating_add(SLACK_MS) < now_ms);
            if let Some(slot_ms) = overdue.or(waits) {
                let (now, slot) = (clock(now_ms), clock(slot_ms));
                let what = format!("{} of {slot}: nobody runs it by {now}", definition.name);
                self.world.record().breaks(|| what);
            }
        }
    }

    fn later(&mut self, after_ms: i64, host: usize, action: Action) {
        self.asked += 1;
        let at_ms = self.world.time.now_ms().saturating_add(after_ms);
        self.agenda.insert((at_ms, self.asked), (host, action));
    }

    fn act(&mut self, host: usize, action: Action) -> std::io::Result<()> {
        match action {
            Action::Suffer(fault) => self.suffer(host, fault),
            Action::Start => self.start(host)?,
            Action::Thaw(start) => {
                if self.hosts[host].starts == start {
                    self.thaw(host);
                }
            }
            Action::SetClockRight => {
                let name = Name { host, start: self.hosts[host].starts };
                self.world.set_clock(host, 0);
                self.world.note(name, Event::ClockIsSet { ahead_ms: 0 });
            }
            Action::Pulse(start) => {
                if self.hosts[host].starts == start {
                    self.pulse(host);
                }
            }
        }
        Ok(())
    }

    fn suffer(&mut self, host: usize, fault: Fault) {
        let name = Name { host, start: self.hosts[host].starts };
        if !self.faulty {
            return;
        }
        match fault {
            Fault::Crash { down_ms } => {
                if self.hosts[host].process.take().is_some() {
                    self.world.note(name, Event::Crashes);
                    self.later(down_ms, host, Action::Start);
                }
            }
            Fault::Stop { grace_ms, down_ms } => {
                let grace = Duration::from_millis(grace_ms.unsigned_abs());
                if self.stop(host, grace) {
                    self.later(grace_ms + down_ms, host, Action::Start);
                }
            }
            Fault::Freeze { leases } => {
                let for_ms = self.longest_lease_ms().saturating_mul(leases) / 1_000;
                if let Some(alive) = &mut self.hosts[host].process
                    && !std::mem::replace(&mut alive.frozen, true)
                {
                    self.world.note(name, Event::Freezes { for_ms });
                    self.world.trouble(host);
                    self.later(for_ms, host, Action::Thaw(name.start));
                }
            }
            Fault::Step { ahead_ms, for_ms } => {
                self.world.set_clock(host, ahead_ms);
                self.world.note(name, Event::ClockIsSet { ahead_ms });
                self.later(for_ms, host, Action::SetClockRight);
            }
            Fault::Slow { for_ms } => {
                self.world.slow_down(host, for_ms);
                self.world.note(name, Event::StoreIsSlow { for_ms });
            }
            Fault::Failing { for_ms } => {
                self.world.let_fail(host, for_ms);
                self.world.note(name, Event::StoreFails { for_ms });
            }
            Fault::NoAnswer => {}
        }
    }

    /// Starts a process, unless the host has one that is about to stop: then it tries again later.
    fn start(&mut self, host: usize) -> std::io::Result<()> {
        if self.hosts[host].process.is_some() {
            self.later(RESTART_MS, host, Action::Start);
            return Ok(());
        }
        self.hosts[host].starts += 1;
        let name = Name { host, start: self.hosts[host].starts };
        self.world.note(name, Event::Starts);
        self.world.calm_down(host);
        let clock: Arc<dyn Clock> = Arc::new(self.world.machines[host].clock.clone());
        let world = Arc::clone(&self.world);
        let store = SimulatedStore { world, process: name, hub: Arc::default(), clock };
        let process = Process::start()?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        let made = (self.simulation.host)(store.clone(), self.user.clone());
        let says = Arc::clone(&progress);
        process.spawn(async move {
            let started = async {
                let scheduler = made.await.map_err(|error| chain(error.as_ref()))?;
                {
                    let mut says = locked(&says);
                    says.instance = Some(scheduler.instance_id());
                    says.definitions = scheduler.definitions().cloned().collect();
                }
                scheduler.start_without_pulse().await.map_err(|error| chain(&error))
            };
            match started.await {
                Ok(running) => locked(&says).running = Some(running),
                Err(error) => locked(&says).refused = Some(error),
            }
        });
        self.hosts[host].process = Some(Alive { process, name, store, frozen: false, progress });
        self.later_pulse(host);
        Ok(())
    }

    /// Tells the process to stop; answers whether it has one that runs.
    fn stop(&mut self, host: usize, grace: Duration) -> bool {
        let Some(alive) = &self.hosts[host].process else { return false };
        let Some(running) = locked(&alive.progress).running.take() else { return false };
        self.world.note(alive.name, Event::Stops);
        let says = Arc::clone(&alive.progress);
        alive.process.spawn(async move {
            running.stop(&Shutdown::new(grace)).await;
            locked(&says).stopped = true;
        });
        true
    }

    fn thaw(&mut self, host: usize) {
        if let Some(alive) = &mut self.hosts[host].process
            && std::mem::replace(&mut alive.frozen, false)
        {
            self.world.note(alive.name, Event::Wakes);
        }
    }

    /// The pulse is a hint: it comes now and then.
    fn pulse(&mut self, host: usize) {
        if let Some(alive) = &self.hosts[host].process {
            if let Some(running) = &locked(&alive.progress).running {
                running.poke();
            }
            self.later_pulse(host);
        }
    }

    fn later_pulse(&mut self, host: usize) {
        let longest_ms = if self.faulty && self.simulation.faults.wakes { 60_000 } else { 5_000 };
        let after_ms = self.world.time.lot(longest_ms) + 1;
        self.later(after_ms, host, Action::Pulse(self.hosts[host].starts));
    }

    /// Runs every process that has something to do, until all wait.
    fn drive(&mut self) {
        loop {
            let mut idle = true;
            for host in 0..self.hosts.len() {
                let Some(alive) = &self.hosts[host].process else { continue };
                if alive.frozen || !alive.process.has_work() {
                    continue;
                }
                idle = false;
                alive.process.run_until_idle();
                for (host, fault) in self.world.take_requests() {
                    self.suffer(host, fault);
                }
                self.follow(host);
                self.relay();
            }
            if idle {
                return;
            }
        }
    }

    /// Does what follows from what a process says about itself.
    fn follow(&mut self, host: usize) {
        let Some(alive) = &self.hosts[host].process else { return };
        let name = alive.name;
        let (stopped, refused, instance) = {
            let mut says = locked(&alive.progress);
            (says.stopped, says.refused.take(), says.instance)
        };
        if stopped {
            self.world.note(name, Event::Stopped);
            if let Some(instance) = instance.filter(|_| !self.world.is_troubled(host)) {
                self.world.record().stopped(self.world.time.now_ms(), instance);
            }
            self.hosts[host].process = None;
        } else if let Some(error) = refused {
            self.world.note(name, Event::NotStarted(error));
            self.hosts[host].process = None;
            self.later(RESTART_MS, host, Action::Start);
        }
    }

    /// Passes news on to every process, each at its time.
    fn relay(&mut self) {
        for topic in self.world.take_news() {
            for host in 0..self.hosts.len() {
                let lots = if self.faulty && self.simulation.faults.wakes { 20 } else { 1 };
                let lot = self.world.time.lot(lots);
                let Some(alive) = &self.hosts[host].process else { continue };
                match lot {
                    // Lost, doubled, late.
                    19 => {}
                    17 | 18 => {
                        self.tell(alive, &topic, 0);
                        self.tell(alive, &topic, self.world.time.lot(5_000));
                    }
                    13..=16 => self.tell(alive, &topic, self.world.time.lot(5_000)),
                    _ => self.tell(alive, &topic, 0),
                }
            }
        }
    }

    fn tell(&self, alive: &Alive, topic: &Topic, after_ms: i64) {
        let hub = Arc::clone(&alive.store.hub);
        if after_ms == 0 {
            hub.tell(topic);
            return;
        }
        let (topic, asleep) = (topic.clone(), self.world.time.sleep(after_ms));
        alive.process.spawn(async move {
            asleep.await;
            hub.tell(&topic);
        });
    }

    fn definitions(&self) -> Vec<JobDefinition> {
        let alive = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let mut known: BTreeMap<String, JobDefinition> = BTreeMap::new();
        for alive in alive {
            for definition in &locked(&alive.progress).definitions {
                known.entry(definition.name.clone()).or_insert_with(|| definition.clone());
            }
        }
        known.into_values().collect()
    }

    fn longest_lease_ms(&self) -> i64 {
        let leases = self.definitions().into_iter().map(|definition| definition.lease_ms());
        leases.max().unwrap_or(30_000)
    }

    fn is_broken(&self) -> bool {
        self.world.record().broken.is_some()
    }

    /// Checks the user's own rules.
    fn check(&self, wanted: impl Fn(&Rule<W>) -> bool) {
        for rule in self.simulation.rules.iter().filter(|rule| wanted(rule)) {
            if let Err(error) = (rule.holds)(&self.user) {
                self.world.record().breaks(|| format!("{}: {error}", rule.name));
            }
        }
    }
}

/// Nobody holds the memory while every process waits, but one that was frozen inside of it.
fn look<T>(answer: impl Future<Output = T>) -> Option<T> {
    futures_util::FutureExt::now_or_never(answer)
}
