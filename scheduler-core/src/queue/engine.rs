//! What goes on between a consumer's cycles: claiming on wake-ups, handlers, leases, finishes.

mod keeping;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use super::consumer::ConsumerOptions;
use super::handler::{HandleError, Handler, QueueContext};
use super::outcome::{Attempts, CutOff, Ended, settle};
use crate::clock::{Clock, millis};
use crate::error::StoreError;
use crate::executor::{Executor, chain, panic_message};
use crate::run::InstanceId;
use crate::skew::ClockSkew;
use crate::stop::{ABORT_AFTER, Phase, reached, wait_for, wait_until_or_set_back};
use crate::store::wake::QueueWaker;
use crate::store::{Changes, ClaimRequest, ClaimedRow, QueueRows, RowGrant, RowStatus, SettledRow};

/// Between two tries while the database is busy or away.
const RETRY: Duration = Duration::from_millis(200);
/// Rows that one finish statement takes at most.
const FINISH_BATCH: usize = 500;

/// Counts since the last report.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) claimed: AtomicU64,
    pub(super) reclaimed: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) succeeded: AtomicU64,
    pub(super) queued_again: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) lost: AtomicU64,
}

/// A row that runs here.
struct RunningRow {
    cancellation: CancellationToken,
    cut_off: Arc<Mutex<Option<CutOff>>>,
    progress: Arc<AtomicI64>,
    /// Rows whose process died before run alone.
    alone: bool,
    /// When the lease ends unless renewed, as this process knows it.
    expires_at_ms: i64,
    lost: bool,
}

impl RunningRow {
    /// The lease is gone: what the handler writes from now on does not land.
    fn lose(&mut self) {
        self.lost = true;
        locked(&self.cut_off).get_or_insert(CutOff::LeaseLost);
        self.cancellation.cancel();
    }
}

/// One consumer's state, shared by its tasks.
pub(super) struct Engine<H> {
    pub(super) rows: Arc<dyn QueueRows>,
    pub(super) handler: Arc<H>,
    pub(super) options: ConsumerOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) waker: QueueWaker,
    pub(super) counts: Counts,
    running: Mutex<HashMap<RowGrant, RunningRow>>,
    /// Two claims at once would both count the same free places.
    claiming: tokio::sync::Mutex<()>,
    host: Mutex<Option<Host>>,
    /// Changes whenever the number of running rows does.
    pub(super) ended: Notify,
}

/// The process that the engine runs in.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) instance_id: InstanceId,
    pub(super) phase: watch::Receiver<Phase>,
    skew: watch::Receiver<ClockSkew>,
    pub(super) tasks: TaskTracker,
    finished: mpsc::UnboundedSender<SettledRow>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Handler> Engine<H> {
    pub(super) fn new(
        rows: Arc<dyn QueueRows>,
        handler: H,
        options: ConsumerOptions,
        clock: Arc<dyn Clock>,
        waker: QueueWaker,
    ) -> Self {
        Self {
            rows,
            handler: Arc::new(handler),
            options,
            clock,
            waker,
            counts: Counts::default(),
            running: Mutex::default(),
            claiming: tokio::sync::Mutex::default(),
            host: Mutex::default(),
            ended: Notify::new(),
        }
    }

    pub(super) fn running(&self) -> usize {
        locked(&self.running).len()
    }

    /// The process that the engine runs in, once it was started.
    pub(super) fn host(&self) -> Option<Host> {
        locked(&self.host).clone()
    }

    /// Starts the tasks between the cycles; they end with the executor's phases.
    pub(super) fn start(self: &Arc<Self>, executor: &Executor) {
        let (finished, finished_rows) = mpsc::unbounded_channel();
        let host = Host {
            instance_id: executor.instance_id,
            phase: executor.phase.clone(),
            skew: executor.skew.clone(),
            tasks: executor.tasks.clone(),
            finished,
        };
        *locked(&self.host) = Some(host.clone());
        let changes = self.waker.changes();
        host.tasks.spawn(Arc::clone(self).claim_on_wake_ups(changes, host.clone()));
        host.tasks.spawn(Arc::clone(self).keep_leases(host.clone()));
        host.tasks.spawn(Arc::clone(self).finish_rows(host.clone(), finished_rows));
    }

    /// One claim, as many rows as there is room for; answers whether nothing is claimable:
    /// nothing ran here and nothing was found.
    pub(super) async fn pass(self: &Arc<Self>, host: &Host) -> Result<bool, StoreError> {
        let _claiming = self.claiming.lock().await;
        if *host.phase.borrow() != Phase::Running || !host.skew.borrow().is_tolerable() {
            return Ok(self.running() == 0);
        }
        let (running, alone) = {
            let running = locked(&self.running);
            (running.len(), running.values().any(|row| row.alone))
        };
        let room =
            if alone { 0 } else { (self.options.concurrency as usize).saturating_sub(running) };
        let asked_ms = self.clock.now_ms();
        let claimed = self
            .rows
            .claim(&ClaimRequest {
                holder: host.instance_id,
                limit: u32::try_from(room).unwrap_or(u32::MAX),
                lease_ms: millis(self.options.lease),
                idle: running == 0,
            })
            .await?;
        let started = claimed.rows.len();
        add(&self.counts.claimed, started as u64);
        add(&self.counts.reclaimed, claimed.reclaimed);
        add(&self.counts.quarantined, claimed.quarantined);
        for row in claimed.rows {
            self.begin(host, row, asked_ms.saturating_add(millis(self.options.lease)));
        }
        Ok(running == 0 && started == 0)
    }

    fn begin(self: &Arc<Self>, host: &Host, row: ClaimedRow, expires_at_ms: i64) {
        let grant = row.grant.clone();
        let running = RunningRow {
            cancellation: CancellationToken::new(),
            cut_off: Arc::default(),
            progress: Arc::new(AtomicI64::new(NO_NEWS)),
            alone: row.crash_count > 0,
            expires_at_ms,
            lost: false,
        };
        let context = QueueContext {
            grant: grant.clone(),
            attempt: row.attempt_count,
            clock: Arc::clone(&self.clock),
            cancellation: running.cancellation.clone(),
            progress: Arc::clone(&running.progress),
            rows: Arc::clone(&self.rows),
        };
        let cut_off = Arc::clone(&running.cut_off);
        locked(&self.running).insert(grant.clone(), running);
        let span = info_span!(parent: None, "row", queue = self.options.name, id = %grant.id, attempt = row.attempt_count);
        let engine = Arc::clone(self);
        let (phase, finished) = (host.phase.clone(), host.finished.clone());
        host.tasks.spawn(
            async move {
                let attempts = Attempts {
                    attempt_count: row.attempt_count,
                    crash_count: row.crash_count,
                    max_attempts: row.max_attempts,
                };
                let ended = match row.columns.read::<H::Row>() {
                    Ok(row) => engine.supervise(row, context, &cut_off, phase).await,
                    // Nothing will make this row readable by this version.
                    Err(error) => Ended::Returned(Err(HandleError::permanent(error))),
                };
                let cut_off = *locked(&cut_off);
                let backoff = &engine.options.backoff;
                let settled = settle(grant, attempts, ended, cut_off, backoff, fastrand::f64());
                report(&settled);
                // The receiver lives until every handler of this process has ended.
                let _ = finished.send(settled);
            }
            .instrument(span),
        );
    }

    /// Waits for the handler's end, telling it to end when it must.
    async fn supervise(
        &self,
        row: H::Row,
        context: QueueContext,
        cut_off: &Mutex<Option<CutOff>>,
        mut phase: watch::Receiver<Phase>,
    ) -> Ended {
        let cancellation = context.cancellation.clone();
        let handler = Arc::clone(&self.handler);
        let span = tracing::Span::current();
        let mut work = tokio::spawn(
            async move { AssertUnwindSafe(handler.handle(row, context)).catch_unwind().await }
                .instrument(span),
        );
        let ended = |joined: Result<Result<_, Box<dyn std::any::Any + Send>>, _>| match joined {
            Ok(Ok(returned)) => Ended::Returned(returned),
            Ok(Err(panic)) => Ended::Panicked(panic_message(panic.as_ref())),
            Err(_) => Ended::Aborted,
        };
        let deadline = async {
            match self.options.timeout {
                Some(timeout) => wait_for(&self.clock, timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            joined = &mut work => return ended(joined),
            () = reached(&mut phase, Phase::Cancelling) => {
                locked(cut_off).get_or_insert(CutOff::Stop);
            }
            () = deadline => {
                locked(cut_off).get_or_insert(CutOff::Deadline);
            }
            // Somebody asked for it, or the lease is lost: the keeper has said which.
            () = cancellation.cancelled() => {}
        }
        cancellation.cancel();
        tokio::select! {
            joined = &mut work => return ended(joined),
            () = reached(&mut phase, Phase::Aborting) => {}
            () = wait_for(&self.clock, ABORT_AFTER) => {}
        }
        work.abort();
        tokio::select! {
            joined = &mut work => ended(joined),
            () = wait_for(&self.clock, Duration::from_secs(1)) => Ended::Aborted,
        }
    }

    /// Claims when told to, and when something can have become due.
    async fn claim_on_wake_ups(self: Arc<Self>, mut changes: Changes, mut host: Host) {
        // What another process claims after a look expires one lease length later at the earliest:
        // looking again until then, nobody's orphan is found late.
        let look_again = self.options.poll.min(self.options.lease);
        while *host.phase.borrow() == Phase::Running {
            let next_in = match self.rows.next_in_ms(host.instance_id).await {
                Ok(next_in_ms) => next_in_ms
                    .map(|in_ms| Duration::from_millis(u64::try_from(in_ms).unwrap_or(0).max(1)))
                    .filter(|next_in| *next_in <= look_again),
                // The consumer's own cycle claims, and says what is wrong.
                Err(_) => None,
            };
            let look_at_ms =
                self.clock.now_ms().saturating_add(millis(next_in.unwrap_or(look_again)));
            let claims = tokio::select! {
                () = changes.changed() => true,
                () = clock_is_back(&mut host.skew) => true,
                () = self.ended.notified() => true,
                () = wait_until_or_set_back(&self.clock, look_at_ms) => next_in.is_some(),
                () = reached(&mut host.phase, Phase::Draining) => return,
            };
            if claims && let Err(error) = self.pass(&host).await {
                tracing::warn!(
                    queue = self.options.name,
                    error = chain(&error),
                    "a queue could not be claimed from"
                );
                wait_for(&self.clock, RETRY).await;
            }
        }
    }

    /// Writes ends in batches: what ended while one batch was written is the next.
    async fn finish_rows(
        self: Arc<Self>,
        mut host: Host,
        mut finished: mpsc::UnboundedReceiver<SettledRow>,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = finished.recv_many(&mut batch, FINISH_BATCH) => {}
                () = self.all_ended(&mut host) => return,
            }
            self.finish(&batch).await;
            batch.clear();
        }
    }

    async fn finish(&self, batch: &[SettledRow]) {
        let give_up_ms = self.clock.now_ms().saturating_add(millis(self.options.lease));
        let settled = loop {
            match self.rows.settle(batch).await {
                Ok(settled) => break settled,
                Err(error) if self.clock.now_ms() < give_up_ms => {
                    tracing::warn!(
                        queue = self.options.name,
                        error = chain(&error),
                        "the ends of rows are not recorded yet"
                    );
                    wait_for(&self.clock, RETRY).await;
                }
                Err(error) => {
                    tracing::error!(
                        queue = self.options.name,
                        error = chain(&error),
                        "the ends of rows were not recorded; they will run again"
                    );
                    break Vec::new();
                }
            }
        };
        {
            let mut running = locked(&self.running);
            for row in batch {
                running.remove(&row.grant);
            }
        }
        for row in batch {
            if settled.contains(&row.grant) {
                add(self.counter(row.status), 1);
            } else {
                add(&self.counts.lost, 1);
                tracing::error!(
                    queue = self.options.name,
                    id = %row.grant.id,
                    "a row's lease was lost: its end was not recorded"
                );
            }
        }
        self.ended.notify_waiters();
        self.ended.notify_one();
    }

    fn counter(&self, status: RowStatus) -> &AtomicU64 {
        match status {
            RowStatus::Succeeded => &self.counts.succeeded,
            RowStatus::Dead => &self.counts.dead,
            RowStatus::Cancelled => &self.counts.cancelled,
            RowStatus::Queued | RowStatus::Running => &self.counts.queued_again,
        }
    }

    /// Returns when the process stops and no row runs any more.
    async fn all_ended(&self, host: &mut Host) {
        reached(&mut host.phase, Phase::Draining).await;
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Register interest before looking: an end in between must not be missed.
            ended.as_mut().enable();
            // A claim under way when the phase changed may still start rows.
            let claiming = self.claiming.lock().await;
            if self.running() == 0 {
                return;
            }
            drop(claiming);
            ended.await;
        }
    }
}

/// What became claimable while this host's clock was off waits for nobody else to say so.
async fn clock_is_back(skew: &mut watch::Receiver<ClockSkew>) {
    while skew.changed().await.is_ok() {
        if skew.borrow_and_update().is_tolerable() {
            return;
        }
    }
    // A one-shot run measures once.
    std::future::pending::<()>().await;
}

/// The progress of a row that has not said anything.
const NO_NEWS: i64 = -1;

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// A failure is logged once, here.
fn report(row: &SettledRow) {
    match (row.status, &row.error) {
        (RowStatus::Dead, Some(error)) => tracing::error!(error, "row is dead"),
        (RowStatus::Queued, Some(error)) => {
            tracing::warn!(error, delay_ms = row.delay_ms, "row failed; it will be tried again");
        }
        (status, _) => tracing::debug!(%status, "row ended"),
    }
}
