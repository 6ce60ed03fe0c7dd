//! The phases of stopping, shared by everything that runs.
//!
//! ```text
//! Running ──▶ Draining ──grace──▶ Cancelling ──5 s──▶ Aborting
//!             no new work,         tokens are          what is left is aborted
//!             leases stay alive    cancelled           and its lease given back
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, millis};
use crate::signal;

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    Draining,
    Cancelling,
    Aborting,
}

/// How long cancelled work may take to return before it is aborted.
pub(crate) const ABORT_AFTER: Duration = Duration::from_secs(5);

/// How a stop is asked for.
///
/// ```
/// use std::time::Duration;
/// use scheduler_core::Shutdown;
///
/// let shutdown = Shutdown::new(Duration::from_secs(30));
/// shutdown.stop.cancel();  // the first signal
/// shutdown.hurry.cancel(); // the second: no grace
/// ```
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelled to ask for the stop.
    pub stop: CancellationToken,
    /// Cancelled to cut the grace period short.
    pub hurry: CancellationToken,
    /// How long running work may go on before its tokens are cancelled.
    pub grace: Duration,
}

impl Shutdown {
    /// A stop that nobody has asked for yet.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { stop: CancellationToken::new(), hurry: CancellationToken::new(), grace }
    }
}

impl Default for Shutdown {
    /// A grace period of 30 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

/// Goes through the phases until every task of `tasks` has ended.
pub(crate) async fn wind_down(
    phase: &signal::Sender<Phase>,
    tasks: &TaskTracker,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) {
    tasks.close();
    phase.send(Phase::Draining);
    tokio::select! {
        biased;
        () = tasks.wait() => return,
        () = wait_for(clock, shutdown.grace) => {}
        () = shutdown.hurry.cancelled() => {}
    }
    phase.send(Phase::Cancelling);
    tokio::select! {
        biased;
        () = tasks.wait() => return,
        () = wait_for(clock, ABORT_AFTER) => {}
    }
    phase.send(Phase::Aborting);
    tasks.wait().await;
}

/// Returns when the phase is at least `wanted`, or nobody can change it any more.
pub(crate) async fn reached(phase: &mut signal::Receiver<Phase>, wanted: Phase) {
    phase.wait_for(|phase| phase >= wanted).await;
}

/// Waits a span on the clock, however long: the clock itself may return early.
pub(crate) async fn wait_for(clock: &Arc<dyn Clock>, span: Duration) {
    wait_until(clock, clock.now_ms().saturating_add(millis(span))).await;
}

/// Waits for an instant on the clock, however far.
pub(crate) async fn wait_until(clock: &Arc<dyn Clock>, at_ms: i64) {
    while clock.now_ms() < at_ms {
        clock.sleep_until(at_ms).await;
    }
}

/// Waits for an instant on the clock, but not longer because the clock was set back meanwhile: a
/// lease that the database counts expires all the same. Whoever waits looks again then.
///
/// A step that is shorter than the piece of the wait that it falls into delays the return by
/// itself, which is less than the wait.
pub(crate) async fn wait_until_or_set_back(clock: &Arc<dyn Clock>, at_ms: i64) {
    let mut seen_ms = clock.now_ms();
    while seen_ms < at_ms {
        clock.sleep_until(at_ms).await;
        let now_ms = clock.now_ms();
        if now_ms < seen_ms {
            return;
        }
        seen_ms = now_ms;
    }
}
