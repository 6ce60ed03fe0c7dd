//! The system's clock, and what somebody's hand on it does: steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use scheduler_core::{Clock, SystemClock};

/// Clones are the same clock.
#[derive(Clone, Default)]
pub(crate) struct SteppedClock {
    ahead_ms: Arc<AtomicI64>,
}

impl SteppedClock {
    pub(crate) fn step(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Clock for SteppedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.ahead_ms()
    }

    async fn sleep_until(&self, at_ms: i64) {
        SystemClock.sleep_until(at_ms.saturating_sub(self.ahead_ms())).await;
    }

    fn yields_to_database(&self) -> bool {
        SystemClock.yields_to_database()
    }
}
