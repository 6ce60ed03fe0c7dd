//! Time, injected: every instant that the library reads comes from a [`Clock`].
//!
//! Instants are epoch milliseconds (`i64`), in Rust as in SQL. Production uses [`SystemClock`];
//! tests use [`ManualClock`, which moves only when told to.
//!
//! ```
//! use scheduler_core::{Clock, SystemClock};
//! assert!(SystemClock.now_ms() > 1_700_000_000_000);
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

/// A source of now and of waiting.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Returns at the first moment at which [`now_ms`](Clock::now_ms) is at least `at_ms`.
    ///
    /// May return early after a long wait or a clock step; callers look at the clock again.
    /// Cancellation safe: dropping the future forgets the wait.
    async fn sleep_until(&self, at_ms: i64);

    /// Returns when a span has passed, whatever steps the clock makes meanwhile. Cancellation safe.
    ///
    /// The machine's own timer, as it is unless a clock says otherwise: patience with a database that
    /// does not answer is not measured by a clock that somebody sets.
    async fn elapse(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// Whether a database server's own clock is to be used for what stands in the database.
    /// True for the system's clock: hosts differ, their database is one. False for a clock that a
    /// test moves.
    fn yields_to_database(&self) -> bool {
        false
    }
}

/// The operating system's clock with tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// A wait is cut into pieces of this length, so that a clock step or a suspended machine is
/// noticed: tokio's timer is monotonic and does not see either.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[async_trait]
impl Clock for SystemClock {
    fn yields_to_database(&self) -> bool {
        true
    }

    fn now_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    async fn sleep_until(&self, at_ms: i64) {
        let left_ms = at_ms.saturating_sub(self.now_ms());
        if let Ok(left_ms) = u64::try_from(left_ms) {
            tokio::time::sleep(Duration::from_millis(left_ms).min(LONGEST_WAIT)).await;
        }
    }
}

/// The longest span that is reckoned with: a thousand years, which can be added to any instant, in a
/// database, too.
const LONGEST_SPAN_MS: i64 = 1_000 * 365 * 86_400_000;

/// A span as whole milliseconds; one without end is a very long one.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX).min(LONGEST_SPAN_MS)
}
