//! Simulated time: it stands still until the simulation moves it to the next timer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::clock::{Clock, millis};

/// The time of the simulated world, and its timers. Clones are the same time.
#[derive(Clone)]
pub(super) struct Time(Arc<Mutex<Timers>>);

struct Timers {
    now_ms: i64,
    /// Timers of one instant fire in the order of lots drawn.
    lots: fastrand::Rng,
    made: u64,
    waiting: BTreeMap<Timer, Option<Waker>>,
}

/// When, its lot, and its number.
type Timer = (i64, u32, u64);

impl Time {
    pub(super) fn new(now_ms: i64, lots: fastrand::Rng) -> Self {
        let waiting = BTreeMap::new();
        Self(Arc::new(Mutex::new(Timers { now_ms, lots, made: 0, waiting })))
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.timers().now_ms
    }

    /// Returns when this much time has passed, whatever any clock says.
    pub(super) fn sleep(&self, span_ms: i64) -> Sleep {
        let mut timers = self.timers();
        timers.made += 1;
        let at_ms = timers.now_ms.saturating_add(span_ms.max(0));
        let timer = (at_ms, timers.lots.u32(..), timers.made);
        timers.waiting.insert(timer, None);
        Sleep { time: self.clone(), timer }
    }

    pub(super) fn lot(&self, below: i64) -> i64 {
        self.timers().lots.i64(0..below.max(1))
    }

    pub(super) fn next_at_ms(&self) -> Option<i64> {
        self.timers().waiting.first_key_value().map(|((at_ms, ..), _)| *at_ms)
    }

    /// Moves on to the first timer, and fires it.
    pub(super) fn fire_next(&self) {
        let waker = {
            let mut timers = self.timers();
            let Some(((at_ms, ..), waker)) = timers.waiting.pop_first() else { return };
            timers.now_ms = timers.now_ms.max(at_ms);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves on to an instant that is not after the first timer.
    pub(super) fn move_to(&self, now_ms: i64) {
        let mut timers = self.timers();
        timers.now_ms = timers.now_ms.max(now_ms);
    }
}

/// One wait; dropped, its timer is gone.
pub(super) struct Sleep {
    time: Time,
    timer: Timer,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.time.timers().waiting.get_mut(&self.timer) {
            Some(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.time.timers().waiting.remove(&self.timer);
    }
}

/// The clock of one host, which may be off. Clones are the same clock.
#[derive(Clone)]
pub(super) struct HostClock {
    time: Time,
    ahead_ms: Arc<AtomicI64>,
    stepped: Arc<Notify>,
}

/// As the system's clock cuts a long wait into pieces, so that it notices a step.
const LONGEST_WAIT_MS: i64 = 5_000;

impl HostClock {
    /// A clock that is right.
    pub(super) fn new(time: Time) -> Self {
        Self { time, ahead_ms: Arc::default(), stepped: Arc::default() }
    }

    pub(super) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Sets the clock: who waits on it notices within five seconds.
    pub(super) fn set_ahead_ms(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        self.stepped.notify_waiters();
    }
}

#[async_trait]
impl Clock for HostClock {
    fn now_ms(&self) -> i64 {
        self.time.now_ms() + self.ahead_ms()
    }

    async fn sleep_until(&self, at_ms: i64) {
        let left_ms = at_ms.saturating_sub(self.now_ms());
        if left_ms <= 0 {
            return;
        }
        let ends_ms = self.time.now_ms().saturating_add(left_ms);
        tokio::select! {
            biased;
            () = self.time.sleep(left_ms) => {}
            () = self.stepped.notified() => {
                let left_ms = ends_ms - self.time.now_ms();
                self.time.sleep(self.time.lot(LONGEST_WAIT_MS).min(left_ms)).await;
            }
        }
    }

    async fn elapse(&self, span: Duration) {
        self.time.sleep(millis(span)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn time() -> Time {
        Time::new(1_000, fastrand::Rng::with_seed(1))
    }

    #[test]
    fn time_moves_from_timer_to_timer() {
        let time = time();
        let (mut late, mut soon) = (Box::pin(time.sleep(20)), Box::pin(time.sleep(10)));
        assert!((&mut late).now_or_never().is_none() && (&mut soon).now_or_never().is_none());
        assert_eq!(time.next_at_ms(), Some(1_010));
        time.fire_next();
        assert_eq!(time.now_ms(), 1_010);
        assert!((&mut late).now_or_never().is_none() && (&mut soon).now_or_never().is_some());
        drop(late);
        assert_eq!(time.next_at_ms(), None, "who is gone does not wait");
    }

    #[test]
    fn a_wait_on_a_clock_that_is_set_looks_again_within_five_seconds() {
        let time = time();
        let clock = HostClock::new(time.clone());
        let mut wait = Box::pin(clock.sleep_until(61_000));
        assert!((&mut wait).now_or_never().is_none());
        clock.set_ahead_ms(120_000);
        assert_eq!(clock.now_ms(), 121_000);
        assert!((&mut wait).now_or_never().is_none());
        time.fire_next();
        assert!((&mut wait).now_or_never().is_some());
        assert!(time.now_ms() < 6_000);
    }
}
