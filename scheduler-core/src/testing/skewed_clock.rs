//! A clock that goes like the system's, but wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};

/// A clock for tests of hosts whose clock is off: the system's, and a span that can be changed. The
/// database's own clock stays the one that counts, as in production. Cheap to clone; clones are the
/// same clock.
///
/// ```
/// use scheduler_core::{Clock, SystemClock, testing::SkewedClock};
///
/// let clock = SkewedClock::ahead_by_ms(-60_000);
/// assert!(clock.now_ms() < SystemClock.now_ms());
/// ```
#[derive(Debug, Clone)]
pub struct SkewedClock {
    ahead_ms: Arc<watch::Sender<i64>>,
}

impl SkewedClock {
    /// A clock that is ahead of the system's by this much; behind, where it is negative.
    #[must_use]
    pub fn ahead_by_ms(ahead_ms: i64) -> Self {
        Self { ahead_ms: Arc::new(watch::Sender::new(ahead_ms)) }
    }

    /// Sets the clock: a step.
    pub fn set_ahead_by_ms(&self, ahead_ms: i64) {
        self.ahead_ms.send_replace(ahead_ms);
    }
}

#[async_trait]
impl Clock for SkewedClock {
    fn yields_to_database(&self) -> bool {
        true
    }

    fn now_ms(&self) -> i64 {
        SystemClock.now_ms().saturating_add(*self.ahead_ms.borrow())
    }

    async fn sleep_until(&self, at_ms: i64) {
        let mut steps = self.ahead_ms.subscribe();
        let left_ms = u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(left_ms)) => {}
            // The sender lives as long as `self`.
            _ = steps.changed() => {}
        }
    }
}
