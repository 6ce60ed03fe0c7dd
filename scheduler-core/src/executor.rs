//! One run from its grant to its end: the job's task, its lease kept, its deadline, its finish.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, info_span};

use crate::definition::{History, JobDefinition, Misfire, Overlap, Scope};
use crate::events::{Event, Teller};
use crate::job::{Job, JobContext, JobResult};
use crate::keeper::{Keeper, Keeping, keep};
use crate::lease::{Lease, LeaseKey};
use crate::recorder::RunFinished;
use crate::run::{InstanceId, RunId, RunStatus, Trigger};
use crate::signal;
use crate::skew::ClockSkew;
use crate::stop::{ABORT_AFTER, Phase, reached, wait_for, wait_until};
use crate::store::{Ending, NewRun, SchedulerStore};

/// A job with its definition.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) definition: Arc<JobDefinition>,
    pub(crate) job: Arc<dyn Job>,
    /// Whether a run of it goes on in this process, for a job whose runs take no lease.
    pub(crate) goes_on: Arc<AtomicBool>,
}

/// What every run of this process shares.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) store: Arc<dyn SchedulerStore>,
    pub(crate) instance_id: InstanceId,
    pub(crate) phase: signal::Receiver<Phase>,
    pub(crate) tasks: TaskTracker,
    /// Makes the driver look again.
    pub(crate) poke: Arc<Notify>,
    /// The latest measurement. Wakes when it becomes tolerable, or ceases to be.
    pub(crate) skew: signal::Receiver<ClockSkew>,
    /// Where those listen who want to see.
    pub(crate) teller: Teller,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The run.
    pub run_id: RunId,
    /// How it ended.
    pub status: RunStatus,
    /// What it did.
    pub summary: Option<Value>,
    /// Why it failed: the whole chain.
    pub error: Option<String>,
}

/// A run that was granted its lease.
pub(crate) struct Granted {
    pub(crate) run: NewRun,
    pub(crate) key: LeaseKey,
    /// When it was asked for, on this process's clock: its lease is counted from here, whatever
    /// the database's clock says.
    pub(crate) asked_at_ms: i64,
    pub(crate) started_at_ms: i64,
    /// Whether the job is to work off everything there is.
    pub(crate) drain: bool,
}

/// Why a run was asked to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Stop,
    Deadline,
    Request,
    LeaseLost,
}

impl Cause {
    const fn status(self) -> RunStatus {
        match self {
            Self::Stop | Self::Request => RunStatus::Cancelled,
            Self::Deadline => RunStatus::TimedOut,
            Self::LeaseLost => RunStatus::LeaseLost,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Stop => "cut off by a stop of its process",
            Self::Deadline => "cut off at its deadline",
            Self::Request => "cancelled by request",
            Self::LeaseLost => "its lease was lost",
        }
    }
}

/// After an abort, a task that never yields is left behind after this long.
const ABANDON_AFTER: Duration = Duration::from_secs(1);
/// Between two tries to record an end while the database is busy or away.
const FINISH_RETRY: Duration = Duration::from_millis(200);

/// The lease that a run of this job and scope takes.
pub(crate) fn lease_name(job: &str, scope_key: &str) -> String {
    if scope_key.is_empty() { job.to_owned() } else { format!("{job}@{scope_key}") }
}

/// The lease of a run that may have others beside it. No other run ever has it.
pub(crate) fn run_lease_name(job: &str, run_id: RunId) -> String {
    format!("{job}{OF_ONE_RUN}{run_id}")
}

/// Whether this is the lease of a run that may have others beside it.
pub(crate) fn is_of_one_run(lease_name: &str) -> bool {
    lease_name.contains(OF_ONE_RUN)
}

/// No job's name has it.
const OF_ONE_RUN: char = '#';

/// A run whose job has been told to run.
pub(crate) struct Launched {
    granted: Granted,
    lease: Lease,
    /// Lives until the end is recorded: a slow finish must not lose its lease.
    keeper: Option<Keeper>,
    work: JoinHandle<Result<JobResult, Panic>>,
    cancellation: CancellationToken,
    span: Span,
}

impl Executor {
    /// Runs one granted cycle to its recorded end.
    pub(crate) async fn execute(&self, registered: &Registered, granted: Granted) -> RunReport {
        let launched = self.launch(registered, granted);
        self.conclude(registered, launched).await
    }

    /// Lets the job of a granted run begin, on a task of its own. Its end has to be seen to next, by
    /// [`conclude`](Self::conclude).
    pub(crate) fn launch(&self, registered: &Registered, granted: Granted) -> Launched {
        let length = registered.definition.lease;
        let expires_at_ms = granted.asked_at_ms.saturating_add(registered.definition.lease_ms());
        let lease = Lease::new(granted.key.clone(), expires_at_ms, self.store.as_ref());
        // Before the job: a clock that is set once it runs is noticed by who keeps its lease.
        let keeper = keep(Arc::clone(&self.store), lease.clone(), length);
        self.launch_under(registered, granted, lease, Some(keeper))
    }

    /// The same for a run that stands nowhere in the database:
    /// [`conclude_unrecorded`](Self::conclude_unrecorded) is next.
    pub(crate) fn launch_unrecorded(&self, registered: &Registered, granted: Granted) -> Launched {
        let lease = Lease::new(granted.key.clone(), i64::MAX, self.store.as_ref());
        self.launch_under(registered, granted, lease, None)
    }

    fn launch_under(
        &self,
        registered: &Registered,
        granted: Granted,
        lease: Lease,
        keeper: Option<Keeper>,
    ) -> Launched {
        let name = registered.definition.name.as_str();
        let (run, clock) = (granted.run, self.store.clock());
        let span = info_span!("run", job = name, run_id = %run.id, attempt = run.attempt);
        span.in_scope(|| self.teller.tell(started(name, &granted)));
        let cancellation = CancellationToken::new();
        let context = JobContext {
            job: Arc::from(name),
            run_id: run.id,
            trigger: run.trigger,
            scheduled_for_ms: run.scheduled_for_ms,
            attempt: run.attempt,
            drain: granted.drain,
            clock: Arc::clone(clock),
            cancellation: cancellation.clone(),
            lease: lease.clone(),
            store: Arc::clone(&self.store),
            span: span.clone(),
        };
        let job = Arc::clone(&registered.job);
        let work = async move { AssertUnwindSafe(job.run(context)).catch_unwind().await };
        let work = tokio::spawn(work.instrument(span.clone()));
        Launched { granted, lease, keeper, work, cancellation, span }
    }

    /// Sees to the end of a run: its lease kept, its deadline, its record.
    pub(crate) async fn conclude(&self, registered: &Registered, launched: Launched) -> RunReport {
        let span = launched.span.clone();
        self.conclude_in(registered, launched).instrument(span).await
    }

    async fn conclude_in(&self, registered: &Registered, mut launched: Launched) -> RunReport {
        let definition = &registered.definition;
        let (_held, unkept) = watch::channel(Keeping::Held);
        let mut keeping = launched.keeper.as_ref().map_or(unkept, |keeper| keeper.state.clone());
        let (result, cause) = self.supervise(definition, &mut launched, &mut keeping).await;
        let Launched { granted, lease, keeper: _keeper, .. } = launched;
        let report = report(granted.run.id, result, cause);
        let status = self.record(definition, &granted, &lease, &report, cause).await;
        let report = RunReport { status, ..report };
        self.tell_end(&definition.name, &granted, &report);
        registered.goes_on.store(false, Ordering::Release);
        let something_waits = matches!(granted.run.trigger, Trigger::Rerun | Trigger::Buffered)
            || definition.overlap != Overlap::Skip
            || matches!(definition.misfire, Misfire::FireAll { .. });
        if something_waits || status == RunStatus::LeaseLost {
            self.poke.notify_one();
        }
        report
    }

    /// Sees to the end of a run that stands nowhere in the database.
    pub(crate) async fn conclude_unrecorded(
        &self,
        registered: &Registered,
        mut launched: Launched,
    ) -> RunReport {
        let definition = &registered.definition;
        let (_held, mut keeping) = watch::channel(Keeping::Held);
        let span = launched.span.clone();
        let supervised = self.supervise(definition, &mut launched, &mut keeping);
        let (result, cause) = supervised.instrument(span).await;
        let report = report(launched.granted.run.id, result, cause);
        launched.span.in_scope(|| self.tell_end(&definition.name, &launched.granted, &report));
        report
    }

    fn tell_end(&self, job: &str, granted: &Granted, report: &RunReport) {
        log(report);
        self.teller.tell(Event::RunEnded {
            job: Arc::from(job),
            run_id: report.run_id,
            status: report.status,
            took: span_of(granted.asked_at_ms, self.store.clock().now_ms()),
            error: report.error.clone(),
        });
    }

    /// Waits for the job's end, telling it to end when it must. `None`: it had to be aborted.
    async fn supervise(
        &self,
        definition: &JobDefinition,
        launched: &mut Launched,
        keeping: &mut watch::Receiver<Keeping>,
    ) -> (Option<Result<JobResult, Panic>>, Option<Cause>) {
        let clock = self.store.clock();
        let Launched { granted, work, cancellation, .. } = launched;
        let deadline_ms = definition
            .timeout
            .map(|timeout| granted.asked_at_ms.saturating_add(crate::clock::millis(timeout)));
        let mut phase = self.phase.clone();
        let cause = tokio::select! {
            biased;
            ended = &mut *work => return (ended.ok(), None),
            () = reached(&mut phase, Phase::Cancelling) => Cause::Stop,
            () = passed(clock, deadline_ms) => Cause::Deadline,
            cause = trouble(keeping) => cause,
        };
        cancellation.cancel();
        tokio::select! {
            biased;
            ended = &mut *work => return (ended.ok(), Some(cause)),
            () = reached(&mut phase, Phase::Aborting) => {}
            () = wait_for(clock, ABORT_AFTER) => {}
        }
        work.abort();
        let ended = tokio::select! {
            biased;
            ended = &mut *work => ended.ok(),
            () = wait_for(clock, ABANDON_AFTER) => None,
        };
        (ended, Some(cause))
    }

    /// Records the end under the lease; answers the status that stands in the database.
    async fn record(
        &self,
        definition: &JobDefinition,
        granted: &Granted,
        lease: &Lease,
        report: &RunReport,
        cause: Option<Cause>,
    ) -> RunStatus {
        if report.status == RunStatus::LeaseLost {
            // The next driver that looks closes the run, in the transaction of the next grant.
            return RunStatus::LeaseLost;
        }
        let cut_off_by_a_stop = report.status == RunStatus::Cancelled && cause == Some(Cause::Stop);
        let ending = Ending {
            key: granted.key.clone(),
            run: RunFinished {
                job: definition.name.clone(),
                run_id: granted.run.id,
                instance_id: self.instance_id,
                status: report.status,
                scheduled_for_ms: granted.run.scheduled_for_ms,
                started_at_ms: granted.started_at_ms,
                finished_at_ms: granted.started_at_ms,
                summary: report.summary.clone(),
                error: report.error.clone(),
            },
            keep_row: definition.history == History::All || report.status != RunStatus::Succeeded,
            rerun: cut_off_by_a_stop
                && granted.run.trigger != Trigger::Manual
                && definition.scope == Scope::Cluster
                && definition.on_interrupt.allows_another(granted.run.attempt),
            recorder: Arc::clone(&definition.recorder),
        };
        loop {
            match self.store.finish(&ending).await {
                Ok(true) => return report.status,
                Ok(false) => return RunStatus::LeaseLost,
                Err(error) if lease.is_held() => {
                    tracing::warn!(error = chain(&error), "the end of a run is not recorded yet");
                    wait_for(self.store.clock(), FINISH_RETRY).await;
                }
                Err(error) => {
                    tracing::error!(error = chain(&error), "the end of a run was not recorded");
                    return RunStatus::LeaseLost;
                }
            }
        }
    }
}

fn started(job: &str, granted: &Granted) -> Event {
    let run = granted.run;
    Event::RunStarted {
        job: Arc::from(job),
        run_id: run.id,
        trigger: run.trigger,
        scheduled_for_ms: run.scheduled_for_ms,
        attempt: run.attempt,
        late: span_of(run.scheduled_for_ms, granted.started_at_ms),
    }
}

/// The span between two instants, in epoch milliseconds; none when the clock was set back.
fn span_of(from_ms: i64, until_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(until_ms.saturating_sub(from_ms)).unwrap_or(0))
}

type Panic = Box<dyn Any + Send>;

async fn passed(clock: &Arc<dyn crate::clock::Clock>, deadline_ms: Option<i64>) {
    match deadline_ms {
        Some(deadline_ms) => wait_until(clock, deadline_ms).await,
        None => std::future::pending().await,
    }
}

async fn trouble(keeping: &mut watch::Receiver<Keeping>) -> Cause {
    let found = keeping.wait_for(|keeping| *keeping != Keeping::Held).await.map(|found| *found);
    match found {
        Ok(Keeping::CancelRequested) => Cause::Request,
        Ok(Keeping::Lost | Keeping::Held) | Err(_) => Cause::LeaseLost,
    }
}

fn report(
    run_id: RunId,
    result: Option<Result<JobResult, Panic>>,
    cause: Option<Cause>,
) -> RunReport {
    let (status, summary, error) = match (result, cause) {
        (_, Some(Cause::LeaseLost)) => {
            (RunStatus::LeaseLost, None, Some(Cause::LeaseLost.message().to_owned()))
        }
        (Some(Ok(Ok(summary))), _) => (RunStatus::Succeeded, Some(summary.to_json()), None),
        (Some(Ok(Err(error))), None) => (RunStatus::Failed, None, Some(chain(error.as_ref()))),
        (Some(Ok(Err(error))), Some(cause)) => {
            (cause.status(), None, Some(format!("{}: {}", cause.message(), chain(error.as_ref()))))
        }
        (Some(Err(panic)), _) => (RunStatus::Failed, None, Some(panic_message(panic.as_ref()))),
        (None, Some(cause)) => (cause.status(), None, Some(cause.message().to_owned())),
        (None, None) => (RunStatus::Failed, None, Some("its task was aborted".to_owned())),
    };
    RunReport { run_id, status, summary, error }
}

/// A failure is logged once, here, with its whole chain.
fn log(report: &RunReport) {
    let error = report.error.as_deref().unwrap_or_default();
    match report.status {
        RunStatus::Succeeded => tracing::debug!("run succeeded"),
        RunStatus::Cancelled => tracing::info!(error, "run cancelled"),
        status => tracing::error!(%status, error, "run did not succeed"),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Wrappers that print their source would say everything twice.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("panicked: {said}")
}
