//! What goes wrong, and when: on demand for tests, at random for soaks.
//!
//! A [`Fault`] spoils one answer of an [`Endpoint`]. A [`Step`] spoils a stream: the steps of a
//! stream are played in order, each once, by whichever of its connections comes first.

mod chaos;
mod fault;
mod script;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

pub use self::chaos::Chaos;
pub use self::fault::Fault;
pub use self::script::Step;

use super::Host;
use super::endpoint::Endpoint;

/// Changes a document, and says whether it has.
type Edit = Arc<dyn Fn(&mut Value) -> bool + Send + Sync>;

/// The fault plan of running venues. Everything takes effect at once, on open connections too.
pub struct Faults {
    plan: Mutex<Plan>,
    /// Counts the changes, so that streams look at the plan without delay.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Plan {
    answers: HashMap<Endpoint, VecDeque<Fault>>,
    always: HashMap<Endpoint, Fault>,
    steps: HashMap<Endpoint, VecDeque<Step>>,
    edits: HashMap<Endpoint, (usize, Edit)>,
    poisoned: BTreeSet<String>,
    refused: HashSet<Host>,
    clock_offset_ms: i64,
    chaos: Option<(Chaos, i64)>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { plan: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Faults {
    /// Spoils the next answer that is not spoiled yet.
    pub fn push(&self, endpoint: Endpoint, fault: Fault) {
        self.change(|plan| plan.answers.entry(endpoint).or_default().push_back(fault));
    }

    /// Spoils as many answers.
    pub fn push_times(&self, endpoint: Endpoint, fault: &Fault, times: usize) {
        let faults = vec![fault.clone(); times];
        self.change(|plan| plan.answers.entry(endpoint).or_default().extend(faults));
    }

    /// Spoils every answer, until [`clear`](Self::clear).
    pub fn always(&self, endpoint: Endpoint, fault: Fault) {
        self.change(|plan| {
            plan.always.insert(endpoint, fault);
        });
    }

    /// Adds to the script of a stream.
    pub fn script(&self, stream: Endpoint, steps: impl IntoIterator<Item = Step>) {
        let steps: Vec<_> = steps.into_iter().collect();
        self.change(|plan| plan.steps.entry(stream).or_default().extend(steps));
    }

    /// Changes the next `times` frames of data of a stream; one that `edit` answers false for does
    /// not count.
    pub fn edit_frames(
        &self,
        stream: Endpoint,
        times: usize,
        edit: impl Fn(&mut Value) -> bool + Send + Sync + 'static,
    ) {
        self.change(|plan| {
            plan.edits.insert(stream, (times, Arc::new(edit)));
        });
    }

    /// Lets a coin kill every connection that subscribes to it.
    pub fn poison(&self, coin: &str) {
        self.change(|plan| {
            plan.poisoned.insert(coin.to_owned());
        });
    }

    /// Takes connections of a host no more, or again.
    pub fn refuse(&self, host: Host, refuse: bool) {
        self.change(|plan| {
            if refuse {
                plan.refused.insert(host);
            } else {
                plan.refused.remove(&host);
            }
        });
    }

    /// Sets the venues' clock off, in milliseconds; ahead where positive.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.change(|plan| plan.clock_offset_ms = offset_ms);
    }

    /// Lets things go wrong at random from now on.
    pub fn rage(&self, chaos: Chaos) {
        self.change(|plan| plan.chaos = Some((chaos, 0)));
    }

    /// Forgets everything that was planned. What a connection has become it stays.
    pub fn clear(&self) {
        self.change(|plan| *plan = Plan::default());
    }

    /// How many planned faults of an endpoint or a stream have not happened yet.
    #[must_use]
    pub fn left(&self, endpoint: Endpoint) -> usize {
        let plan = self.plan();
        let answers = plan.answers.get(&endpoint).map_or(0, VecDeque::len);
        let steps = plan.steps.get(&endpoint).map_or(0, VecDeque::len);
        let edits = plan.edits.get(&endpoint).map_or(0, |(times, _)| *times);
        answers + steps + edits
    }

    /// The fault of the next answer.
    pub(crate) fn take(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut plan = self.plan();
        let planned = plan.answers.get_mut(&endpoint).and_then(VecDeque::pop_front);
        if let Some(fault) = planned.or_else(|| plan.always.get(&endpoint).cloned()) {
            return Some(fault);
        }
        let (chaos, count) = plan.chaos.as_mut()?;
        *count += 1;
        chaos.fault(*count)
    }

    /// The next step of a script, if it is due on a connection that has brought so many frames.
    pub(crate) fn next_step(&self, stream: Endpoint, brought: u64) -> Option<Step> {
        let mut plan = self.plan();
        let steps = plan.steps.get_mut(&stream)?;
        match steps.front()? {
            Step::AfterFrames(frames) if brought < *frames => None,
            // For the next connection.
            Step::Refuse => None,
            _ => steps.pop_front(),
        }
    }

    /// Whether the script refuses the connection that is about to open.
    pub(crate) fn refuses_stream(&self, stream: Endpoint) -> bool {
        let mut plan = self.plan();
        let Some(steps) = plan.steps.get_mut(&stream) else { return false };
        let refuses = matches!(steps.front(), Some(Step::Refuse));
        if refuses {
            steps.pop_front();
        }
        refuses
    }

    /// Lets chance add to the script of a stream.
    pub(crate) fn stir(&self, stream: Endpoint) {
        let mut plan = self.plan();
        let Some((chaos, count)) = plan.chaos.as_mut() else { return };
        *count += 1;
        let Some(step) = chaos.step(*count) else { return };
        let steps = plan.steps.entry(stream).or_default();
        if step == Step::Refuse {
            // There is no next connection before this one has ended.
            steps.push_back(Step::Drop);
        }
        steps.push_back(step);
    }

    pub(crate) fn edit(&self, stream: Endpoint, frame: &mut Value) {
        let edit = self.plan().edits.get(&stream).map(|(_, edit)| Arc::clone(edit));
        let Some(edit) = edit else { return };
        if edit(frame) {
            let mut plan = self.plan();
            if let Some((times, _)) = plan.edits.get_mut(&stream) {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    plan.edits.remove(&stream);
                }
            }
        }
    }

    pub(crate) fn is_poisoned(&self, coin: &str) -> bool {
        self.plan().poisoned.contains(coin)
    }

    pub(crate) fn is_refused(&self, host: Host) -> bool {
        self.plan().refused.contains(&host)
    }

    pub(crate) fn clock_offset_ms(&self) -> i64 {
        self.plan().clock_offset_ms
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan());
        self.changed.send_modify(|count| *count += 1);
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}
