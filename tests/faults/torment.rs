//! Hosts that are killed and frozen at random, and how long what they left waited.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::database::pause;
use crate::host::Host;

/// The leases of the hosts' jobs and rows are a little shorter.
const LEASE: Duration = Duration::from_secs(1);
/// How long a torment goes on at most that waits for its work to be done.
const LONGEST: Duration = Duration::from_secs(120);

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
    freezes: u64,
    took: Duration,
    pub(crate) orphans: Orphans,
    /// Logs that say that the database was locked.
    pub(crate) locked: usize,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, kills, freezes, took, locked, .. } = self;
        let seconds = took.as_secs();
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
        let (mut kills, mut freezes) = (0, 0);
        let mut orphans = Orphans::new();
        let mut logs = Vec::new();
        let start = || Host::start(self.kind, self.url, &[]);
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
                victim.freeze();
                if let Some(instance) = victim.instance() {
                    orphans.extend(grants(&instance).await);
                }
                pause(Duration::from_millis(1_100)).await;
                victim.thaw();
                freezes += 1;
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
        logs.extend(running.into_iter().map(Host::stop));
        for log in &logs {
            assert!(!log.contains("panicked"), "seed {seed}: {log}");
        }
        let locked = logs.iter().filter(|log| log.contains("database is locked")).count();
        Done { seed, kills, freezes, took, orphans, locked }
    }
}

/// Milliseconds from the expiry of a dead process's lease until the work ran again.
pub(crate) struct Recoveries(Vec<i64>);

impl Recoveries {
    pub(crate) fn new(mut spans_ms: Vec<i64>) -> Self {
        spans_ms.sort_unstable();
        Self(spans_ms)
    }

    pub(crate) fn longest_ms(&self) -> i64 {
        self.0.last().copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Recoveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(spans) = self;
        let middle = spans.get(spans.len() / 2).copied().unwrap_or_default();
        let longest = self.longest_ms();
        write!(f, "{} orphans ran again {middle} ms (p50), {longest} ms (max) ", spans.len())?;
        f.write_str("after their lease")
    }
}
