//! The one trait of a recurring job, and what a cycle is told.
//!
//! ```
//! use scheduler_core::{Job, JobContext, JobResult, RunSummary};
//!
//! struct Greeter;
//!
//! #[async_trait::async_trait]
//! impl Job for Greeter {
//!     async fn run(&self, context: JobContext) -> JobResult {
//!         Ok(RunSummary::new().detail("greeted_at_ms", context.now_ms()))
//!     }
//! }
//!
//! // A closure is a job too.
//! fn is_job(_: impl Job) {}
//! is_job(|_context: JobContext| async { Ok(RunSummary::new().count("greeted", 1)) });
//! ```

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::clock::Clock;
use crate::lease::Lease;
use crate::run::{RunId, RunSummary, Trigger};
use crate::store::SchedulerStore;

/// Any error that a job may end with.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

/// What a cycle comes to.
pub type JobResult = Result<RunSummary, JobError>;

/// A named recurring unit of work.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Runs one cycle.
    ///
    /// A cycle does not retry inside: the next slot is the retry. It watches
    /// [`JobContext::cancelled`] and returns soon after it; what ignores it is aborted at the
    /// next `.await` point. Side effects that must not outlive the lease are made in a
    /// transaction together with [`Lease::fence`].
    ///
    /// # Errors
    /// Any error makes the run `failed`; its chain is recorded. A panic is caught and recorded
    /// as an error.
    async fn run(&self, context: JobContext) -> JobResult;
}

#[async_trait]
impl<F, Fut> Job for F
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = JobResult> + Send,
{
    async fn run(&self, context: JobContext) -> JobResult {
        self(context).await
    }
}

/// What a cycle is told; cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    pub(crate) job: Arc<str>,
    pub(crate) run_id: RunId,
    pub(crate) trigger: Trigger,
    pub(crate) scheduled_for_ms: i64,
    pub(crate) attempt: i32,
    pub(crate) drain: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cancellation: CancellationToken,
    pub(crate) lease: Lease,
    pub(crate) store: Arc<dyn SchedulerStore>,
    pub(crate) span: Span,
}

impl JobContext {
    /// The job's name.
    #[must_use]
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The identity of this run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// What started this run.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// The slot of this run, epoch milliseconds: the key of idempotent effects.
    #[must_use]
    pub fn scheduled_for_ms(&self) -> i64 {
        self.scheduled_for_ms
    }

    /// 1, or more when an earlier run of this slot was cut off.
    #[must_use]
    pub fn attempt(&self) -> i32 {
        self.attempt
    }

    /// The library's clock: use it instead of the operating system's, so that tests can move it.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Now, epoch milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Cancelled when the run should end: a stop, its deadline, a request, or a lost lease.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Returns when the run should end. Cancellation safe.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// The lease of this run: whether it is still held, and the fence for transactions.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The span of this run, with `job`, `run_id` and `attempt`.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Whether this is a one-shot run that should work off everything there is: `--once`.
    #[must_use]
    pub fn drain(&self) -> bool {
        self.drain
    }
}

impl std::fmt::Debug for JobContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobContext")
            .field("job", &self.job)
            .field("run_id", &self.run_id)
            .field("scheduled_for_ms", &self.scheduled_for_ms)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
