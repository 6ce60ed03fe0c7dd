//! Those who ask for the same thing at the same time: while one statement or transaction is under way
//! for some of them, the next is collected.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

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

    /// Lets a caller wait, and starts the work where nobody is at it. It is a task of its own: who waits
    /// for a commit must not lose it with another.
    pub(super) fn add<F>(&self, caller: C, work: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.state();
        state.waiting.push(caller);
        // One that has finished without saying so went with its runtime.
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
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
