//! The order of processes that write to one SQLite file: a lock on a file beside it.
//!
//! SQLite's own lock keeps writers apart, but who waits for it has to ask again and again, and gets it
//! who asks at the right moment. A lock that the system hands over needs no asking. It is for the order
//! only: who does not get it in time, or cannot have it at all, goes on without it.

use std::fs::{File, OpenOptions, TryLockError};
#[cfg(feature = "sqlite")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// A process that is frozen may hold the lock and write nothing.
const LONGEST_QUEUE: Duration = Duration::from_millis(300);

/// Threads that still wait for a lock of which their writer has despaired.
const MOST_THREADS: usize = 4;

/// Where the processes of one file queue; nowhere by default.
#[derive(Default)]
pub(super) struct Turnstile {
    path: Option<PathBuf>,
    threads: Arc<AtomicUsize>,
}

/// The right to be next. Dropped, the next process is.
pub(super) struct Passed {
    _locked: File,
}

impl Turnstile {
    /// The turnstile of this database: its name and `-turn`.
    #[cfg(feature = "sqlite")]
    pub(super) fn beside(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-turn");
        Self { path: Some(path.into()), threads: Arc::default() }
    }

    /// Waits for the turn, but not for long.
    pub(super) async fn pass(&self) -> Option<Passed> {
        // A lock belongs to an opened file: one's own is given back whatever becomes of others.
        let path = self.path.as_ref()?;
        let file = OpenOptions::new().create(true).append(true).open(path).ok()?;
        match file.try_lock() {
            Ok(()) => return Some(Passed { _locked: file }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return None,
        }
        timeout(LONGEST_QUEUE, self.lock_apart(file)?).await.ok()?.ok()
    }

    /// Waits on a thread that nobody has to wait for, as the end of a runtime would for one of its own.
    fn lock_apart(&self, file: File) -> Option<oneshot::Receiver<Passed>> {
        let waiting = Waiting::one_more(&self.threads)?;
        let (sender, receiver) = oneshot::channel();
        let wait = move || {
            let locked = file.lock();
            drop(waiting);
            if locked.is_ok() {
                // Where nobody listens any more, this gives the lock back.
                let _ = sender.send(Passed { _locked: file });
            }
        };
        std::thread::Builder::new().name("turnstile".into()).spawn(wait).ok()?;
        Some(receiver)
    }
}

struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn one_more(threads: &Arc<AtomicUsize>) -> Option<Self> {
        let waiting = Self(Arc::clone(threads));
        (threads.fetch_add(1, Ordering::AcqRel) < MOST_THREADS).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
