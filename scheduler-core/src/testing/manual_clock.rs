//! A clock that moves only when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::{Clock, millis};

/// A clock for tests: it stands still until it is advanced, and then wakes every wait that is
/// over. Cheap to clone; clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use scheduler_core::{Clock, testing::ManualClock};
///
/// let clock = ManualClock::at(1_000);
/// clock.advance(Duration::from_millis(500));
/// assert_eq!(clock.now_ms(), 1_500);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    now_ms: Arc<watch::Sender<i64>>,
    waiting: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that says `now_ms` (epoch milliseconds).
    #[must_use]
    pub fn at(now_ms: i64) -> Self {
        Self { now_ms: Arc::new(watch::Sender::new(now_ms)), waiting: Arc::default() }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.now_ms.send_modify(|now_ms| *now_ms = now_ms.saturating_add(millis(by)));
    }

    /// Sets the clock, backward too: a clock step.
    pub fn set(&self, now_ms: i64) {
        self.now_ms.send_replace(now_ms);
    }

    /// How many waits are under way: a test can wait until those that it expects are.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        self.waiting.load(Ordering::Acquire)
    }
}

/// Counts a wait for as long as it lives.
struct Waiting<'a>(&'a AtomicI64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.now_ms.borrow()
    }

    async fn sleep_until(&self, at_ms: i64) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        let mut now = self.now_ms.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = now.wait_for(|now_ms| *now_ms >= at_ms).await;
    }
}
