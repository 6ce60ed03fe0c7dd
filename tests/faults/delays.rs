//! How late this machine wakes a thread that only wants to sleep: what it adds to every figure.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use scheduler_core::{Clock, SystemClock};

/// What the thread sleeps.
const NAP: Duration = Duration::from_millis(10);
/// Shorter delays are not kept one by one.
const NOTED_MS: i64 = 5;

/// The thread, while it goes on.
pub(crate) struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Delays>,
}

/// How late it was.
#[derive(Default)]
pub(crate) struct Delays {
    naps: usize,
    /// When it should have woken up, epoch milliseconds, and by how many it was late.
    noted: Vec<(i64, i64)>,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut delays = Delays::default();
            while !told.load(Ordering::Relaxed) {
                let due_ms = SystemClock.now_ms() + 10;
                std::thread::sleep(NAP);
                delays.note(due_ms, SystemClock.now_ms() - due_ms);
            }
            delays
        });
        Self { ends, thread }
    }

    pub(crate) fn end(self) -> Delays {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sleeps")
    }
}

impl Delays {
    fn note(&mut self, due_ms: i64, late_ms: i64) {
        self.naps += 1;
        if late_ms >= NOTED_MS {
            self.noted.push((due_ms, late_ms));
        }
    }

    /// The longest that began or went on within this span.
    pub(crate) fn longest_ms(&self, span_ms: &RangeInclusive<i64>) -> i64 {
        let within = |&&(due_ms, late_ms): &&(i64, i64)| {
            due_ms <= *span_ms.end() && due_ms + late_ms >= *span_ms.start()
        };
        self.noted.iter().filter(within).map(|(_, late_ms)| *late_ms).max().unwrap_or_default()
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut late: Vec<i64> = self.noted.iter().map(|(_, late_ms)| *late_ms).collect();
        late.sort_unstable();
        // Of all naps, not of those that were noted.
        let place = late.len().checked_sub(1 + self.naps / 100);
        let most = place.and_then(|place| late.get(place)).copied().unwrap_or_default();
        let longest = late.last().copied().unwrap_or_default();
        write!(f, "a plain thread woke up {most} ms (p99), {longest} ms (max) late")
    }
}
