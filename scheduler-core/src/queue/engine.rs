//! What goes on between a consumer's cycles: claiming on wake-ups, handlers, leases, finishes.
//!
//! ```text
//!            exchange (one transaction)             next row, at once
//!  database ◀───────────────────────────▶ pump ──▶ waiting ──▶ places ──┐
//!                                          ▲                            │ ends
//!                                          └────────────────────────────┘
//! ```
//!
//! A place that becomes free takes the next row that waits here and asks nobody. Whatever ended while
//! the database was busy is recorded by the next exchange, which also claims for the room that is left.

mod handling;
mod held;
mod keeping;
mod pump;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::handling::End;
use self::held::Held;
use self::pump::{Inbox, Pass};
use super::consumer::ConsumerOptions;
use super::events::RowTeller;
use super::handler::Handler;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::executor::Executor;
use crate::run::InstanceId;
use crate::signal;
use crate::skew::ClockSkew;
use crate::stop::Phase;
use crate::store::wake::QueueWaker;
use crate::store::{QueueRows, RowStatus};

/// Between two tries while the database is busy or away.
const RETRY: Duration = Duration::from_millis(200);

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

/// One consumer's state, shared by its tasks.
pub(super) struct Engine<H> {
    pub(super) rows: Arc<dyn QueueRows>,
    pub(super) handler: Arc<H>,
    pub(super) options: ConsumerOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) waker: QueueWaker,
    pub(super) counts: Counts,
    pub(super) teller: RowTeller,
    held: Mutex<Held>,
    /// How long handlers take.
    mean: Mutex<Option<Duration>>,
    host: Mutex<Option<Host>>,
    /// A row has begun.
    begun: Notify,
    /// Changes whenever ends were recorded.
    pub(super) ended: Notify,
}

/// The process that the engine runs in.
#[derive(Clone)]
pub(super) struct Host {
    instance_id: InstanceId,
    phase: signal::Receiver<Phase>,
    skew: signal::Receiver<ClockSkew>,
    tasks: TaskTracker,
    finished: mpsc::UnboundedSender<End>,
    passes: mpsc::UnboundedSender<Pass>,
    /// Cancelled when the process stops and no row is held any more.
    done: CancellationToken,
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
        let teller = RowTeller::new(&options.name);
        Self {
            rows,
            handler: Arc::new(handler),
            options,
            clock,
            waker,
            counts: Counts::default(),
            teller,
            held: Mutex::default(),
            mean: Mutex::default(),
            host: Mutex::default(),
            begun: Notify::new(),
            ended: Notify::new(),
        }
    }

    pub(super) fn running(&self) -> usize {
        locked(&self.held).running()
    }

    /// The process that the engine runs in, once it was started.
    pub(super) fn host(&self) -> Option<Host> {
        locked(&self.host).clone()
    }

    /// Starts the tasks between the cycles; they end with the executor's phases.
    pub(super) fn start(self: &Arc<Self>, executor: &Executor) {
        let (finished, finished_rows) = mpsc::unbounded_channel();
        let (passes, asked_passes) = mpsc::unbounded_channel();
        let host = Host {
            instance_id: executor.instance_id,
            phase: executor.phase.clone(),
            skew: executor.skew.clone(),
            tasks: executor.tasks.clone(),
            finished,
            passes,
            done: CancellationToken::new(),
        };
        *locked(&self.host) = Some(host.clone());
        let inbox =
            Inbox { changes: self.waker.changes(), finished: finished_rows, passes: asked_passes };
        host.tasks.spawn(Arc::clone(self).pump(host.clone(), inbox));
        host.tasks.spawn(Arc::clone(self).keep_leases(host.clone()));
        if self.rows.ahead().claims {
            host.tasks.spawn(Arc::clone(self).note_begins(host.clone()));
        }
    }

    /// One claim, as many rows as there is room for; answers whether nothing is claimable:
    /// nothing ran here and nothing was found.
    pub(super) async fn pass(&self, host: &Host) -> Result<bool, StoreError> {
        let (tell, told) = oneshot::channel();
        let asked = host.passes.send(tell).is_ok();
        match told.await {
            Ok(answer) if asked => answer,
            // The process is stopping.
            _ => Ok(locked(&self.held).len() == 0),
        }
    }

    fn counter(&self, status: RowStatus) -> &AtomicU64 {
        match status {
            RowStatus::Succeeded => &self.counts.succeeded,
            RowStatus::Dead => &self.counts.dead,
            RowStatus::Cancelled => &self.counts.cancelled,
            RowStatus::Queued | RowStatus::Running => &self.counts.queued_again,
        }
    }
}

/// The progress of a row that has not said anything.
const NO_NEWS: i64 = -1;

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
