//! How many handlers have begun in this process, and when the last of them did.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

static COUNT: AtomicU64 = AtomicU64::new(0);
static WANTED: AtomicU64 = AtomicU64::new(u64::MAX);
static LAST_NANOS: AtomicU64 = AtomicU64::new(0);
static REACHED: Notify = Notify::const_new();
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A handler has begun: its first line.
pub fn handled() {
    let nanos = u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX);
    LAST_NANOS.store(nanos, Ordering::SeqCst);
    if COUNT.fetch_add(1, Ordering::SeqCst) + 1 >= WANTED.load(Ordering::SeqCst) {
        REACHED.notify_one();
    }
}

pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// Nanoseconds of this process so far, on the clock of [`last_nanos`].
pub(crate) fn now_nanos() -> u64 {
    u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// When the last handler began.
pub(crate) fn last_nanos() -> u64 {
    LAST_NANOS.load(Ordering::SeqCst)
}

/// Waits until so many have begun.
pub(crate) async fn reach(wanted: u64) {
    WANTED.store(wanted, Ordering::SeqCst);
    while count() < wanted {
        REACHED.notified().await;
    }
}
