//! Runs that somebody asks for: no slot, no pause, the same lease.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::millis;
use crate::definition::Scope;
use crate::driver::firing_of;
use crate::error::StoreError;
use crate::executor::{Executor, Granted, Registered};
use crate::local;
use crate::run::{RunId, Trigger};
use crate::skew::ClockSkewError;
use crate::stop::{Phase, reached};
use crate::store::{Begun, Firing, Holder, NewRun};

use super::RunOnceError;

/// Between two tries of a one-shot run that waits for another's lease.
const BUSY_RETRY: Duration = Duration::from_millis(500);

/// Begins a run that somebody asked for, waiting for another's lease.
pub(super) async fn begin_manual(
    executor: &Executor,
    registered: &Registered,
    wait: Duration,
    drain: bool,
) -> Result<Granted, RunOnceError> {
    let clock = executor.store.clock();
    let mut phase = executor.phase.clone();
    let deadline_ms = clock.now_ms().saturating_add(millis(wait));
    loop {
        let skew = executor.skew.get();
        if !skew.is_tolerable() {
            return Err(ClockSkewError(skew).into());
        }
        let (now_ms, mut firings) = interrupted(executor, registered).await?;
        let run = NewRun {
            id: RunId::new(),
            trigger: Trigger::Manual,
            scheduled_for_ms: now_ms,
            attempt: 1,
        };
        firings.push(firing_of(executor, registered).of_run(run));
        let asked_at_ms = clock.now_ms();
        // A run that takes no lease has its job all the same, in this process.
        let taken = local::is_local(registered) && registered.goes_on.swap(true, Ordering::AcqRel);
        let begun = if taken {
            let instance = executor.instance_id.to_string();
            Ok(Some(Begun::Busy(Holder { instance, until_ms: now_ms })))
        } else {
            executor.store.begin(&firings).await.map(|begun| begun.into_iter().next_back())
        };
        if !taken && !matches!(begun, Ok(Some(Begun::Started { .. }))) {
            registered.goes_on.store(false, Ordering::Release);
        }
        let holder = match begun? {
            Some(Begun::Started { key, started_at_ms, .. }) => {
                return Ok(Granted { run, key, asked_at_ms, started_at_ms, drain });
            }
            Some(Begun::Busy(holder)) => Some(holder),
            // The lease was given back between the grant and the look at its holder.
            Some(Begun::Lost | Begun::Recorded) | None => None,
        };
        if let Some(Holder { instance, until_ms }) = holder
            && clock.now_ms() >= deadline_ms
        {
            return Err(RunOnceError::Busy { holder: instance, until_ms });
        }
        tokio::select! {
            biased;
            () = crate::stop::wait_for(clock, BUSY_RETRY) => {}
            () = reached(&mut phase, Phase::Draining) => {
                let until_ms = clock.now_ms();
                return Err(RunOnceError::Busy { holder: "nobody any more: this process stops".into(), until_ms });
            }
        }
    }
}

/// The store's now, and the job's runs that a crash cut off: where only one-shot runs look, they
/// close them.
async fn interrupted(
    executor: &Executor,
    registered: &Registered,
) -> Result<(i64, Vec<Firing>), StoreError> {
    let look = executor.store.look(std::slice::from_ref(&registered.definition.name)).await?;
    // A driver that drives this job would run the slot again; it is left to it.
    let closes = look.schedules.is_empty() || registered.definition.scope == Scope::Instance;
    let firings = look
        .interrupted
        .into_iter()
        .filter(|_| closes)
        .map(|run| Firing { interrupted: Some(run), ..firing_of(executor, registered) })
        .collect();
    Ok((look.now_ms, firings))
}
