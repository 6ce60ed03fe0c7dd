//! Hosts that are killed and frozen at random, and how long what they left waited.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use scheduler_core::{Clock, SystemClock};

use crate::database::pause;
use crate::delays::{Delays, Watch};
use crate::host::Host;

/// The leases of the hosts' jobs and rows are a little shorter.
const LEASE: Duration = Duration::from_secs(1);
/// How long a torment goes on at most that waits for its work to be done.
const LONGEST: Duration = Duration::from_secs(120);
/// What a dead process left runs again within its lease and so much.
const PROMISE_MS: i64 = 1_000;

/// Who is tormented.
pub(crate) struct Torment<'t> {
    pub(crate) kind: &'static str,
    pub(crate) url: &'t str,
    pub(crate) hosts: usize,
}

/// The grants that died with their process, as `(name, token)`, and when each expired.
pub(crate) type Orphans = HashMap<(String, i64), i64>;

/// What was done to the hosts.
pub(crate) struct Done {
    seed: u64,
    kills: u64,
    /// When hosts were frozen, epoch milliseconds.
    freezes: Vec<RangeInclusive<i64>>,
    took: Duration,
    pub(crate) orphans: Orphans,
    /// How late the machine was meanwhile.
    delays: Delays,
    /// Logs that say that the database was locked.
    pub(crate) locked: usize,
}

impl Done {
    /// How fast what was left was found, and what was in the way.
    pub(crate) fn figures_of(&self, recoveries: &Recoveries) -> String {
        recoveries.beside(&self.delays, &self.freezes)
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, kills, freezes, took, locked, .. } = self;
        let (seconds, freezes) = (took.as_secs(), freezes.len());
        write!(f, "seed {seed}: {kills} kills, {freezes} freezes in {seconds} s, {locked} locked")
    }
}

/// `FAULT_SEED`, or a new one.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or_else(|| fastrand::u64(..))
}

/// `FAULT_KILLS`: how many kills a longer run makes before it ends.
pub(crate) fn wanted_kills() -> Option<u64> {
    std::env::var("FAULT_KILLS").ok().map(|kills| kills.parse().expect("FAULT_KILLS is a number"))
}

impl Torment<'_> {
    /// Kills and freezes hosts until `enough`, or as often as `FAULT_KILLS` says; lets them work
    /// off what is left until `idle`; then stops them all. `grants` answers the grants of an
    /// instance and when they expire.
    pub(crate) async fn run(
        &self,
        mut enough: impl AsyncFnMut() -> bool,
        mut idle: impl AsyncFnMut() -> bool,
        mut grants: impl AsyncFnMut(&str) -> Orphans,
    ) -> Done {
        let seed = seed();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut kills, mut freezes) = (0, Vec::new());
        let mut orphans = Orphans::new();
        let mut logs = Vec::new();
        let start = || Host::start(self.kind, self.url, &[]);
        let watch = Watch::begin();
        let mut running: Vec<Host> = (0..self.hosts).map(|_| start()).collect();
        let began = Instant::now();
        loop {
            let done = enough().await;
            match wanted_kills() {
                Some(wanted) if kills >= wanted => break,
                Some(_) => {}
                None if done || began.elapsed() >= LONGEST => break,
                None => {}
            }
            pause(Duration::from_millis(random.u64(100..500))).await;
            let victim = &mut running[random.usize(..self.hosts)];
            if random.u8(..4) == 0 {
                // Frozen past its lease, and woken.
                let from_ms = SystemClock.now_ms();
                victim.freeze();
                if let Some(instance) = victim.instance() {
                    orphans.extend(grants(&instance).await);
                }
                pause(Duration::from_millis(1_100)).await;
                victim.thaw();
                freezes.push(from_ms..=SystemClock.now_ms());
            } else {
                logs.push(victim.kill());
                if let Some(instance) = victim.instance() {
                    orphans.extend(grants(&instance).await);
                }
                *victim = start();
                kills += 1;
            }
        }
        let took = began.elapsed();
        // The last victim's lease expires, and somebody finds what it left.
        pause(3 * LEASE).await;
        let calm = Instant::now();
        while !idle().await {
            assert!(calm.elapsed() < LONGEST, "seed {seed}: the hosts do not get done");
            pause(Duration::from_millis(100)).await;
        }
        let delays = watch.end();
        logs.extend(running.into_iter().map(Host::stop));
        for log in &logs {
            assert!(!log.contains("panicked"), "seed {seed}: {log}");
        }
        let locked = logs.iter().filter(|log| log.contains("database is locked")).count();
        Done { seed, kills, freezes, took, orphans, delays, locked }
    }
}

/// Work that ran again: when the lease of its dead process expired and when it began, epoch
/// milliseconds.
pub(crate) struct Recoveries(Vec<Recovery>);

#[derive(Clone, Copy)]
pub(crate) struct Recovery {
    pub(crate) expired_ms: i64,
    pub(crate) began_ms: i64,
}

impl Recovery {
    fn took_ms(&self) -> i64 {
        self.began_ms - self.expired_ms
    }
}

impl Recoveries {
    pub(crate) fn new(mut recoveries: Vec<Recovery>) -> Self {
        recoveries.sort_unstable_by_key(Recovery::took_ms);
        Self(recoveries)
    }

    pub(crate) fn longest_ms(&self) -> i64 {
        self.0.last().map(Recovery::took_ms).unwrap_or_default()
    }

    /// How many came later than is promised, and what was in their way: a machine that wakes nobody
    /// in time, or a host that was frozen inside of a transaction and kept the others out of its rows.
    pub(crate) fn beside(&self, delays: &Delays, freezes: &[RangeInclusive<i64>]) -> String {
        let late = self.0.iter().filter(|recovery| recovery.took_ms() > PROMISE_MS);
        let (mut each, mut by_themselves) = (Vec::new(), 0);
        for late in late {
            let span_ms = late.expired_ms..=late.began_ms;
            let frozen_ms: i64 = freezes.iter().map(|frozen| common_ms(frozen, &span_ms)).sum();
            let thread_ms = delays.longest_ms(&span_ms);
            by_themselves += usize::from(late.took_ms() - frozen_ms > PROMISE_MS);
            each.push(format!("{} ms ({frozen_ms} frozen, {thread_ms} asleep)", late.took_ms()));
        }
        let (count, of) = (each.len(), self.0.len());
        format!(
            "{self}; {count} of {of} later than {PROMISE_MS} ms, {by_themselves} of them also without \
             what hosts were frozen for [{}]; {delays}",
            each.join(", ")
        )
    }
}

/// How much two spans have in common.
fn common_ms(one: &RangeInclusive<i64>, other: &RangeInclusive<i64>) -> i64 {
    (one.end().min(other.end()) - one.start().max(other.start())).max(0)
}

impl std::fmt::Display for Recoveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(recoveries) = self;
        let at = |percent: usize| {
            let place = (recoveries.len() * percent / 100).min(recoveries.len().saturating_sub(1));
            recoveries.get(place).map(Recovery::took_ms).unwrap_or_default()
        };
        let (middle, most, longest) = (at(50), at(99), self.longest_ms());
        write!(
            f,
            "{} orphans ran again {middle} ms (p50), {most} ms (p99), {longest} ms (max) after \
             their lease",
            recoveries.len()
        )
    }
}
