//! Those who ask for the same thing at the same time: while one statement or transaction is under way
//! for some of them, the next is collected.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// After so long, who waits looks whether somebody is at it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Callers that share what a task does for them.
pub(super) struct Together<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    waiting: Vec<C>,
    /// Works for those who wait.
    task: Option<JoinHandle<()>>,
}

impl<C> Default for Together<C> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: Vec::new(), task: None }) }
    }
}

impl<C> Together<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a caller wait for what he is told, and starts the work where nobody is at it. It is a task of
    /// its own: who waits for a commit must not lose it with another. `None` where the work was cut off
    /// that this caller had come to.
    pub(super) async fn wait<A, F>(
        &self,
        caller: C,
        mut told: oneshot::Receiver<A>,
        work: impl Fn() -> F,
    ) -> Option<A>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.state().waiting.push(caller);
        loop {
            self.see_to_a_task(&work);
            // The runtime that the task is on may end, and another one wait here.
            if let Ok(told) = timeout(LOOK_AGAIN, &mut told).await {
                return told.ok();
            }
        }
    }

    fn see_to_a_task<F>(&self, work: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.state();
        // One that has finished without saying so went with its runtime, or panicked.
        let is_idle = state.task.as_ref().is_none_or(JoinHandle::is_finished);
        if is_idle && !state.waiting.is_empty() {
            state.task = Some(tokio::spawn(work()));
        }
    }

    /// Who comes next, in the order in which they came: as many as come to `most`, and one at the least.
    /// Where nobody does, the task is to end.
    pub(super) fn next(&self, most: usize, size: impl Fn(&C) -> usize) -> Vec<C> {
        let mut state = self.state();
        let (mut callers, mut sum) = (0, 0);
        for caller in &state.waiting {
            sum += size(caller);
            if callers > 0 && sum > most {
                break;
            }
            callers += 1;
        }
        if callers == 0 {
            state.task = None;
        }
        state.waiting.drain(..callers).collect()
    }
}
