//! What is said about a seed that breaks a rule.

use std::fmt;

use super::SEED;
use super::timeline::Timeline;

/// A seed with which a rule is broken; shown, it says how to repeat it and what happened.
#[derive(Clone, PartialEq, Eq)]
pub struct SimulationFailure {
    pub(super) seed: u64,
    pub(super) broken: String,
    pub(super) faults: Vec<String>,
    pub(super) planned: usize,
    pub(super) timeline: Timeline,
}

impl SimulationFailure {
    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Which rule is broken, by what.
    #[must_use]
    pub fn broken(&self) -> &str {
        &self.broken
    }

    /// What happened until then.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

impl fmt::Display for SimulationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, broken, faults, planned, timeline } = self;
        writeln!(f, "seed {seed} breaks a rule\n  {broken}")?;
        writeln!(f, "again: {SEED}={seed} cargo test …, or Simulation::run({seed})")?;
        writeln!(f, "{} of its {planned} faults are enough:", faults.len())?;
        for fault in faults {
            writeln!(f, "  {fault}")?;
        }
        write!(f, "what happened (time of day, process, event):\n{timeline}")
    }
}

impl fmt::Debug for SimulationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SimulationFailure {}
