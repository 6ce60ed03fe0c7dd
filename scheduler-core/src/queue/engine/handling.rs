//! One row after the other in one place: run, judged, handed over to be recorded.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use super::super::handler::{HandleError, Handled, Handler, QueueContext};
use super::super::outcome::{Attempts, CutOff, Ended, settle};
use super::super::prefetch::mean_with;
use super::held::Begun;
use super::{Engine, Host, locked};
use crate::chance;
use crate::executor::panic_message;
use crate::stop::{ABORT_AFTER, Phase, reached, wait_for};
use crate::store::{ClaimedRow, RowColumns, RowStatus, SettledRow};

/// How a row's handler ended.
pub(super) struct End {
    pub(super) row: SettledRow,
    /// Whether the handler has written it in a transaction of its own.
    pub(super) is_recorded: bool,
}

impl<H: Handler> Engine<H> {
    /// Begins what waits, as far as there are places.
    pub(super) fn fill_places(self: &Arc<Self>, host: &Host) {
        while let Some(begun) = self.next_row(host) {
            host.tasks.spawn(Arc::clone(self).run_rows(host.clone(), begun));
        }
    }

    fn next_row(&self, host: &Host) -> Option<Begun> {
        if host.phase.get() != Phase::Running {
            return None;
        }
        locked(&self.held).begin(self.options.concurrency as usize, self.clock.now_ms())
    }

    /// Runs rows until none waits: who ends does not wait for the database before the next begins.
    async fn run_rows(self: Arc<Self>, host: Host, first: Begun) {
        let mut next = Some(first);
        while let Some(begun) = next {
            let Begun { row, .. } = &begun;
            let span = info_span!(parent: None, "row", queue = self.options.name, id = %row.grant.id, attempt = row.attempt_count);
            let end = self.run_row(&host, begun).instrument(span).await;
            locked(&self.held).end(&end.row.grant);
            next = self.next_row(&host);
            // The receiver lives until every handler of this process has ended.
            let _ = host.finished.send(end);
        }
    }

    async fn run_row(&self, host: &Host, begun: Begun) -> End {
        let Begun { row, cancellation, cut_off, progress } = begun;
        let ClaimedRow { grant, attempt_count, crash_count, max_attempts, columns } = row;
        let attempts = Attempts { attempt_count, crash_count, max_attempts };
        let was_cut_off = locked(&cut_off).is_some();
        let ended = if was_cut_off {
            // While it waited.
            Ended::Unstarted
        } else {
            self.begun.notify_one();
            let context = QueueContext {
                grant: grant.clone(),
                attempt: attempt_count,
                clock: Arc::clone(&self.clock),
                cancellation,
                progress,
                rows: Arc::clone(&self.rows),
            };
            let began = Instant::now();
            let ended = self.supervise(columns, context, &cut_off, host).await;
            let took = began.elapsed();
            self.teller.note_handled(took);
            let mut mean = locked(&self.mean);
            *mean = Some(mean_with(*mean, took));
            ended
        };
        let is_recorded = matches!(ended, Ended::Returned(Ok(Handled::Recorded(_))));
        let cut_off = *locked(&cut_off);
        let lot = chance::fraction();
        let row = settle(grant, attempts, ended, cut_off, &self.options.backoff, lot);
        report(&row);
        End { row, is_recorded }
    }

    /// What waits when the process stops goes back as if it had never been claimed.
    pub(super) fn release_waiting(&self) -> Vec<SettledRow> {
        let released = locked(&self.held).release();
        let release = |row: ClaimedRow| {
            let ClaimedRow { grant, attempt_count, crash_count, max_attempts, .. } = row;
            let attempts = Attempts { attempt_count, crash_count, max_attempts };
            let cut_off = Some(CutOff::Stop);
            settle(grant, attempts, Ended::Unstarted, cut_off, &self.options.backoff, 0.0)
        };
        released.into_iter().map(release).collect()
    }

    /// Waits for the handler's end, telling it to end when it must.
    async fn supervise(
        &self,
        columns: RowColumns,
        context: QueueContext,
        cut_off: &Mutex<Option<CutOff>>,
        host: &Host,
    ) -> Ended {
        let mut phase = host.phase.clone();
        let cancellation = context.cancellation.clone();
        let handler = Arc::clone(&self.handler);
        let handle = async move {
            match columns.read::<H::Row>() {
                Ok(row) => handler.handle(row, context).await,
                // Nothing will make this row readable by this version.
                Err(error) => Err(HandleError::permanent(error)),
            }
        };
        let span = tracing::Span::current();
        let mut work = tokio::spawn(AssertUnwindSafe(handle).catch_unwind().instrument(span));
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
