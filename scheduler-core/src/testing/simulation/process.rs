//! One process of a simulated host: a runtime of its own that runs only when the simulation says so.
//!
//! So a freeze is a runtime that is not run, and a crash one that is dropped: its tasks end where
//! they wait.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, Runtime};

pub(super) struct Process {
    runtime: Runtime,
    idle: Arc<Idle>,
}

/// Tells that every task of a runtime waits.
#[derive(Default)]
struct Idle {
    reached: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Process {
    /// # Errors
    /// The operating system's.
    pub(super) fn start() -> std::io::Result<Self> {
        let idle = Arc::new(Idle::default());
        let signal = Arc::clone(&idle);
        // No timers and no sockets: what waits for real time or for the world outside would not
        // repeat itself, and is told so by tokio.
        let runtime =
            Builder::new_current_thread().on_thread_park(move || signal.tell()).build()?;
        Ok(Self { runtime, idle })
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Whether a task was woken since the process was last run.
    pub(super) fn has_work(&self) -> bool {
        self.runtime.metrics().global_queue_depth() > 0
    }

    /// Runs until every task waits.
    pub(super) fn run_until_idle(&self) {
        self.idle.reached.store(false, Ordering::Relaxed);
        self.runtime.block_on(poll_fn(|context| {
            if self.idle.reached.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            *self.idle.waker.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(context.waker().clone());
            Poll::Pending
        }));
    }
}

impl Idle {
    fn tell(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of `run_until_idle` nobody asks.
        if let Some(waker) = waker {
            self.reached.store(true, Ordering::Relaxed);
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::Process;

    #[test]
    fn a_process_runs_until_its_tasks_wait_and_only_when_told_to() {
        let process = Process::start().expect("a process");
        let (asks, mut asked) = mpsc::unbounded_channel();
        let (answers, mut answered) = mpsc::unbounded_channel();
        process.spawn(async move {
            while let Some(number) = asked.recv().await {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let answers = answers.clone();
                tokio::spawn(async move { answers.send(number + 1) });
            }
        });
        process.run_until_idle();
        asks.send(1).expect("somebody listens");
        assert!(process.has_work() && answered.try_recv().is_err(), "it is not run");
        process.run_until_idle();
        assert_eq!(answered.try_recv(), Ok(2));
        assert!(!process.has_work());
        drop(process);
        assert!(asks.is_closed(), "its tasks ended with it");
    }
}
