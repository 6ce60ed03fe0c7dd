//! Work on the CPU, off the threads that keep leases alive.
//!
//! ```
//! use scheduler_core::{JobContext, JobResult, RunSummary};
//!
//! async fn count_primes(context: JobContext) -> JobResult {
//!     let primes = context
//!         .compute(|cancelled| {
//!             // A loop that is to end soon after it is told to looks now and then.
//!             let candidates = (2_u32..10_000).take_while(|_| !cancelled.is_cancelled());
//!             candidates.filter(|n| (2..*n).all(|d| n % d != 0)).count() as u64
//!         })
//!         .await;
//!     Ok(RunSummary::new().count("primes", primes))
//! }
//! ```

use std::panic::resume_unwind;

use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::job::JobContext;
use crate::queue::QueueContext;

impl JobContext {
    /// Runs work on the CPU on a thread for blocking work, so that leases are kept meanwhile, and
    /// answers what it comes to.
    ///
    /// The work is given a token that is cancelled when the run should end, and when this future is
    /// dropped (an abort): it looks at it now and then, since nothing else can end a thread.
    ///
    /// # Panics
    /// When the work does: a panic of a job is caught and recorded.
    pub async fn compute<T, W>(&self, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce(&CancellationToken) -> T + Send + 'static,
    {
        compute(&self.cancellation, work).await
    }
}

impl QueueContext {
    /// Runs work on the CPU, as [`JobContext::compute`] does.
    ///
    /// # Panics
    /// When the work does: a panic of a handler is caught and counts as an error.
    pub async fn compute<T, W>(&self, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce(&CancellationToken) -> T + Send + 'static,
    {
        compute(&self.cancellation, work).await
    }
}

async fn compute<T, W>(cancellation: &CancellationToken, work: W) -> T
where
    T: Send + 'static,
    W: FnOnce(&CancellationToken) -> T + Send + 'static,
{
    let cancelled = cancellation.child_token();
    let _tells_the_thread = cancelled.clone().drop_guard();
    let span = Span::current();
    let thread = tokio::task::spawn_blocking(move || span.in_scope(|| work(&cancelled)));
    match thread.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends before the thread began; this task ends with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_the_thread_comes_to_is_the_answer() {
        assert_eq!(compute(&CancellationToken::new(), |_| 6 * 7).await, 42);
    }

    #[tokio::test]
    async fn a_panic_of_the_thread_is_one_of_the_job() {
        let cancellation = CancellationToken::new();
        let work = compute(&cancellation, |_| panic!("no such bar"));
        let panic = AssertUnwindSafe(work).catch_unwind().await.expect_err("a panic");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"no such bar"));
    }

    /// Blocks until it is told to end, then says so.
    fn obedient(ends: mpsc::Sender<()>) -> impl FnOnce(&CancellationToken) + Send + 'static {
        move |cancelled| {
            while !cancelled.is_cancelled() {
                std::thread::yield_now();
            }
            ends.send(()).expect("the test waits");
        }
    }

    #[tokio::test]
    async fn the_thread_learns_of_a_cancellation() {
        let (ends, ended) = mpsc::channel();
        let cancellation = CancellationToken::new();
        let work = compute(&cancellation, obedient(ends));
        cancellation.cancel();
        work.await;
        assert_eq!(ended.recv(), Ok(()));
    }

    #[tokio::test]
    async fn the_thread_learns_that_its_job_was_aborted() {
        let (ends, ended) = mpsc::channel();
        let cancellation = CancellationToken::new();
        let mut work = Box::pin(compute(&cancellation, obedient(ends)));
        assert!(work.as_mut().now_or_never().is_none(), "under way");
        drop(work);
        assert_eq!(ended.recv(), Ok(()));
    }
}
