//! Keeps a lease alive on a task of its own, and tells the run when it cannot.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::clock::{Clock, millis};
use crate::lease::Lease;
use crate::stop::{wait_until, wait_until_or_set_back};
use crate::store::{Renewal, SchedulerStore};

/// What the keeper found at its last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    Held,
    CancelRequested,
    Lost,
}

/// A running keeper; dropping it ends it.
pub(crate) struct Keeper {
    pub(crate) state: watch::Receiver<Keeping>,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A cancel request is seen after at most this long, however long the lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two tries while the database is busy or away.
const RETRY: Duration = Duration::from_millis(200);

/// Renews `lease` at a third of its length until the keeper is dropped.
pub(crate) fn keep(store: Arc<dyn SchedulerStore>, lease: Lease, length: Duration) -> Keeper {
    let (sender, state) = watch::channel(Keeping::Held);
    let task = tokio::spawn(async move {
        let pause = (length / 3).min(LONGEST_PAUSE);
        // From the grant, not from now: the first steps of a run may have been slow.
        let mut next_ms = lease.expires_at_ms() - millis(length) + millis(pause);
        loop {
            let expires_at_ms = lease.expires_at_ms();
            wait_until_or_set_back(store.clock(), next_ms.min(expires_at_ms)).await;
            // From the time of asking: a slow answer must not delay the next renewal.
            let asked_ms = store.clock().now_ms();
            let renewed = tokio::select! {
                biased;
                renewed = store.renew(lease.key(), millis(length)) => renewed,
                // The database has gone silent: the run must not go on meanwhile.
                () = expired_unfenced(store.clock(), &lease, pause) => break,
            };
            let pause = match renewed {
                Ok(Renewal::Kept { cancel_requested, .. }) => {
                    lease.renewed_until(asked_ms.saturating_add(millis(length)));
                    if cancel_requested {
                        sender.send_replace(Keeping::CancelRequested);
                    }
                    pause
                }
                Ok(Renewal::Lost) => break,
                Err(_) if !lease.is_held() => break,
                Err(error) => {
                    tracing::warn!(
                        lease = lease.key().name,
                        error = crate::executor::chain(&error),
                        "a lease could not be renewed yet"
                    );
                    RETRY
                }
            };
            next_ms = asked_ms.saturating_add(millis(pause));
        }
        lease.mark_lost();
        sender.send_replace(Keeping::Lost);
    });
    Keeper { state, task: task.abort_handle() }
}

/// Returns when the lease has ended, not before `patience`. A fence of the run's own holds the row
/// that the renewal waits for, and nobody else can have it meanwhile: that is no loss.
async fn expired_unfenced(clock: &Arc<dyn Clock>, lease: &Lease, patience: Duration) {
    // Whatever the clock says, which may just have been set beyond the lease.
    clock.elapse(patience).await;
    wait_until(clock, lease.expires_at_ms()).await;
    if lease.fenced_since_renewal() {
        std::future::pending::<()>().await;
    }
}
