//! What a test tells a host on its standard input, and what the host answers.
//!
//! | told | what the first run, which waits for it, does |
//! |---|---|
//! | `book` | goes on: books its effect, and says `booked` or `refused` |
//! | `block MS` | blocks every worker thread of the process that long, then goes on |
//!
//! `step MS` moves the clock of the whole process at once.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use scheduler_core::Shutdown;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};

use crate::clock::SteppedClock;

/// Clones are the same script.
#[derive(Clone)]
pub(crate) struct Script {
    holds: Arc<AtomicBool>,
    told: Arc<Mutex<mpsc::UnboundedReceiver<Told>>>,
}

enum Told {
    Book,
    Block(Duration),
}

impl Script {
    /// Reads standard input from now on; its end is the stop.
    pub(crate) fn read(holds: bool, clock: SteppedClock, shutdown: Shutdown) -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        // A thread of its own, which also hears while every worker is blocked.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let (word, number) = line.split_once(' ').unwrap_or((&line, "0"));
                let number: i64 = number.parse().unwrap_or_default();
                match word {
                    "step" => {
                        clock.step(number);
                        say("stepped");
                    }
                    "block" => {
                        let span = Duration::from_millis(number.unsigned_abs());
                        // A host that holds nothing any more has nobody who listens.
                        let _ = sender.send(Told::Block(span));
                    }
                    _ => {
                        let _ = sender.send(Told::Book);
                    }
                }
            }
            shutdown.stop.cancel();
        });
        Self { holds: Arc::new(AtomicBool::new(holds)), told: Arc::new(Mutex::new(told)) }
    }

    /// Whether this run is the one that waits for what it is told; says so.
    pub(crate) async fn hold(&self, inside: &str) -> bool {
        if !self.holds.swap(false, Ordering::SeqCst) {
            return false;
        }
        say(&format!("inside {inside}"));
        if let Some(Told::Block(span)) = self.told.lock().await.recv().await {
            block_every_worker(span).await;
            say("unblocked");
        }
        true
    }
}

/// One line of standard output. Nobody may be reading any more.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Blocks all worker threads at the same time: each waits for the others first.
async fn block_every_worker(span: Duration) {
    let workers = Handle::current().metrics().num_workers();
    let (handle, all) = (Handle::current(), Arc::new(Barrier::new(workers)));
    // From outside of the workers, so that each blocker is any worker's to take.
    let spawned = tokio::task::spawn_blocking(move || {
        let block = |_| {
            let all = Arc::clone(&all);
            handle.spawn(async move {
                all.wait();
                say("blocked");
                std::thread::sleep(span);
            })
        };
        (0..workers).map(block).collect::<Vec<_>>()
    });
    for blocker in spawned.await.into_iter().flatten() {
        // A blocker does not panic, and nobody aborts it.
        let _ = blocker.await;
    }
}
