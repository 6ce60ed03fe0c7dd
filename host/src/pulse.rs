//! Whether the loops of this process still turn: what `GET /livez` asks.
//!
//! ```ignore
//! let pulse = Pulse::default();
//! let signs = running.signs_of_life();
//! pulse.watch("scheduler", Duration::from_secs(30), move || since(signs.oldest_ms()));
//! assert!(pulse.stalled().is_empty());
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The loops that must keep turning. Empty until somebody [`watch`](Self::watch)es one: a process
/// without loops is alive as long as it answers.
#[derive(Default)]
pub struct Pulse {
    loops: Mutex<Vec<Loop>>,
}

struct Loop {
    name: &'static str,
    allowed: Duration,
    silence: Box<dyn Fn() -> Duration + Send + Sync>,
}

/// A loop that has been silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// The loop.
    pub name: &'static str,
    /// How long ago it last turned.
    pub silent: Duration,
    /// The longest silence that is well.
    pub allowed: Duration,
}

impl Pulse {
    /// Watches a loop: `silence` tells how long ago it last turned and must not block; `allowed`
    /// is the longest silence that is well.
    pub fn watch(
        &self,
        name: &'static str,
        allowed: Duration,
        silence: impl Fn() -> Duration + Send + Sync + 'static,
    ) {
        let watched = Loop { name, allowed, silence: Box::new(silence) };
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// The loops that stand still now, in the order in which they were watched.
    #[must_use]
    pub fn stalled(&self) -> Vec<Stalled> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.iter().filter_map(Loop::stalled).collect()
    }
}

impl Loop {
    fn stalled(&self) -> Option<Stalled> {
        let silent = (self.silence)();
        (silent > self.allowed).then_some(Stalled {
            name: self.name,
            silent,
            allowed: self.allowed,
        })
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").field("stalled", &self.stalled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loop_silent_for_longer_than_allowed_has_stalled() {
        let pulse = Pulse::default();
        assert_eq!(pulse.stalled(), [], "no loops");
        let allowed = Duration::from_secs(30);
        pulse.watch("turning", allowed, move || allowed);
        let silent = Duration::from_secs(31);
        pulse.watch("hanging", allowed, move || silent);
        assert_eq!(pulse.stalled(), [Stalled { name: "hanging", silent, allowed }]);
    }
}
