//! What goes wrong, and when: a pure function of the seed.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::timeline::{letter, span};
use crate::clock::millis;

/// What may go wrong in a simulation, and how often.
///
/// ```
/// use scheduler_core::testing::simulation::Faults;
///
/// // Hosts come and go, and nothing else.
/// let faults = Faults { freezes: false, clock_steps: false, store: false, ..Faults::default() };
/// assert_eq!(faults.at_most, 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// At most this many in one schedule.
    pub at_most: u32,
    /// A process dies, and is started again a while later.
    pub crashes: bool,
    /// A process is stopped in good order, and is started again a while later.
    pub stops: bool,
    /// A process does nothing for a while, up to three times the longest lease, and goes on as if
    /// nothing had happened.
    pub freezes: bool,
    /// A host's clock is set wrong, mostly by seconds, and right again later.
    pub clock_steps: bool,
    /// The store takes seconds to answer a host, or answers with an error, before or after it
    /// committed.
    pub store: bool,
    /// Wakes between processes come late, twice, or never; so does the pulse.
    pub wakes: bool,
}

impl Default for Faults {
    /// Everything, up to eight times.
    fn default() -> Self {
        Self {
            at_most: 8,
            crashes: true,
            stops: true,
            freezes: true,
            clock_steps: true,
            store: true,
            wakes: true,
        }
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) host: usize,
    pub(super) when: When,
    pub(super) fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At this time after the begin of the simulation.
    At { ms: i64 },
    /// At this call of the store by this host, counted over its restarts: before it is made, or
    /// after it was committed and before the host learns so.
    Call { number: u64, committed: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Crash {
        down_ms: i64,
    },
    Stop {
        grace_ms: i64,
        down_ms: i64,
    },
    /// For so many thousandths of the longest lease.
    Freeze {
        leases: i64,
    },
    Step {
        ahead_ms: i64,
        for_ms: i64,
    },
    Slow {
        for_ms: i64,
    },
    Failing {
        for_ms: i64,
    },
    NoAnswer,
}

/// Draws what goes wrong on so many hosts within a span.
pub(super) fn plan(
    lots: &mut fastrand::Rng,
    faults: Faults,
    hosts: usize,
    lasts: Duration,
) -> Vec<Planned> {
    let mut kinds: Vec<fn(&mut fastrand::Rng) -> Fault> = Vec::new();
    if faults.crashes {
        kinds.push(|lots| Fault::Crash { down_ms: upto(lots, 20_000) });
    }
    if faults.stops {
        kinds
            .push(|lots| Fault::Stop { grace_ms: upto(lots, 10_000), down_ms: upto(lots, 20_000) });
    }
    if faults.freezes {
        kinds.push(|lots| Fault::Freeze { leases: lots.i64(1..=3_000) });
    }
    if faults.clock_steps {
        kinds.push(|lots| Fault::Step { ahead_ms: step(lots), for_ms: upto(lots, 60_000) });
    }
    if faults.store {
        kinds.push(|lots| Fault::Slow { for_ms: upto(lots, 20_000) });
        kinds.push(|lots| Fault::Failing { for_ms: upto(lots, 20_000) });
        kinds.push(|_| Fault::NoAnswer);
    }
    if kinds.is_empty() || hosts == 0 {
        return Vec::new();
    }
    let count = lots.u32(0..=faults.at_most);
    let draw = |_| {
        let fault = kinds[lots.usize(0..kinds.len())](lots);
        let at_call = match fault {
            Fault::NoAnswer => true,
            // The interesting moments of a process are those at which it waits for the store.
            Fault::Crash { .. } | Fault::Freeze { .. } => lots.bool(),
            _ => false,
        };
        let when = if at_call {
            When::Call { number: lots.u64(0..120), committed: lots.bool() }
        } else {
            When::At { ms: lots.i64(0..millis(lasts).max(1)) }
        };
        Planned { host: lots.usize(0..hosts), when, fault }
    };
    (0..count).map(draw).collect()
}

fn upto(lots: &mut fastrand::Rng, longest_ms: i64) -> i64 {
    lots.i64(1..=longest_ms)
}

/// One in four is so far off that the host may begin nothing.
fn step(lots: &mut fastrand::Rng) -> i64 {
    let sizes: RangeInclusive<i64> = if lots.u8(0..4) == 0 { 30_000..=90_000 } else { 1..=25_000 };
    let size_ms = lots.i64(sizes);
    if lots.bool() { size_ms } else { -size_ms }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", letter(self.host), self.fault)?;
        match self.when {
            When::At { ms } => write!(f, ", after {}", span(ms)),
            When::Call { number, committed: false } => {
                write!(f, ", before call {number} of the store")
            }
            When::Call { number, committed: true } => {
                write!(f, ", when call {number} of the store has committed")
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { down_ms } => write!(f, "crashes, is back after {}", span(*down_ms)),
            Self::Stop { grace_ms, down_ms } => {
                write!(
                    f,
                    "stops with a grace of {}, is back after {}",
                    span(*grace_ms),
                    span(*down_ms)
                )
            }
            Self::Freeze { leases } => {
                write!(
                    f,
                    "freezes for {}.{:03} of the longest lease",
                    leases / 1_000,
                    leases % 1_000
                )
            }
            Self::Step { ahead_ms, for_ms } => {
                write!(f, "has a clock that is off by {} ms for {}", ahead_ms, span(*for_ms))
            }
            Self::Slow { for_ms } => write!(f, "has a slow store for {}", span(*for_ms)),
            Self::Failing { for_ms } => write!(f, "has a failing store for {}", span(*for_ms)),
            Self::NoAnswer => f.write_str("gets an error from the store"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, faults: Faults) -> Vec<Planned> {
        plan(&mut fastrand::Rng::with_seed(seed), faults, 3, Duration::from_secs(60))
    }

    #[test]
    fn a_seed_has_its_plan() {
        assert_eq!(draw(7, Faults::default()), draw(7, Faults::default()));
        assert!((0..10).any(|seed| draw(seed, Faults::default()) != draw(7, Faults::default())));
    }

    #[test]
    fn what_is_not_wanted_does_not_happen() {
        let faults = Faults {
            at_most: 5,
            freezes: false,
            clock_steps: false,
            store: false,
            ..Faults::default()
        };
        let planned: Vec<Planned> = (0..100).flat_map(|seed| draw(seed, faults)).collect();
        assert!(planned.len() > 100);
        let wanted = |fault| matches!(fault, Fault::Crash { .. } | Fault::Stop { .. });
        assert!(planned.iter().all(|planned| wanted(planned.fault)));
        let nothing = Faults { crashes: false, stops: false, ..faults };
        assert_eq!(draw(1, nothing), []);
    }
}
