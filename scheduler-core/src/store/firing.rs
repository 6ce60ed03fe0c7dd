//! What a driver asks a store to begin.

use std::sync::Arc;

use super::{InterruptedRun, WaitingSlot};
use crate::definition::Overlap;
use crate::executor::{is_of_one_run, run_lease_name};
use crate::plan::Missed;
use crate::recorder::Recorder;
use crate::run::{InstanceId, RunId, Trigger};

/// How a firing moves its schedule row, if the row is still as it was seen.
#[derive(Debug, Clone)]
pub struct Advance {
    /// The due time that was seen.
    pub seen_due_at_ms: Option<i64>,
    /// The generation that was seen.
    pub seen_generation: i64,
    /// The waiting slot that was seen.
    pub seen_buffered_for_ms: Option<i64>,
    /// The slots that were seen to wait for their turn.
    pub seen_waiting_slots: Vec<WaitingSlot>,
    /// The new due time.
    pub next_due_at_ms: Option<i64>,
    /// The slot that fires, where it is newer than the last.
    pub fired_for_ms: Option<i64>,
    /// The new waiting slot.
    pub buffered_for_ms: Option<i64>,
    /// The slots that wait for their turn from now on, oldest first.
    pub waiting_slots: Vec<WaitingSlot>,
}

/// One thing to begin: a run, a miss, the end of an interrupted run, or several of them.
#[derive(Clone)]
pub struct Firing {
    /// The job.
    pub job: String,
    /// `''` for scope Cluster, the instance for scope Instance.
    pub scope_key: String,
    /// The lease to take: `job` (Cluster), `job@instance` (Instance), `job#run` (runs beside each other);
    /// the last is one that no other run has, and goes with its end.
    pub lease_name: String,
    /// Its length.
    pub lease_ms: i64,
    /// When the look was that this firing follows, epoch milliseconds: a lease that lived then and was
    /// not given back is not taken, although it may have expired since. What was cut off under it
    /// goes first, and the next look finds that. `None` takes any lease that has expired.
    pub as_of_ms: Option<i64>,
    /// Who takes it.
    pub instance_id: InstanceId,
    /// What becomes of its slot while the lease is held.
    pub overlap: Overlap,
    /// How many runs of the job may go on at once where they may go on beside each other.
    pub overlap_limit: u32,
    /// The run to begin; `None` when only misses and interrupted runs are to be recorded.
    pub run: Option<NewRun>,
    /// Whether the run is the one that the schedule row asks for: it begins only if the row still does,
    /// and the row asks no more then.
    pub requested: bool,
    /// The schedule row to move; `None` for a run that leaves it alone.
    pub advance: Option<Advance>,
    /// Slots that passed, oldest first.
    pub missed: Vec<Missed>,
    /// A run to close as `lease_lost` first; if somebody else did, nothing is begun.
    pub interrupted: Option<InterruptedRun>,
    /// Where runs are written besides `job_runs`.
    pub recorder: Arc<dyn Recorder>,
}

impl Firing {
    /// The same, beginning this run.
    pub(crate) fn of_run(self, run: NewRun) -> Self {
        let lease_name = match self.overlap {
            Overlap::Allow => run_lease_name(&self.job, run.id),
            Overlap::Skip | Overlap::BufferOne | Overlap::Replace => self.lease_name,
        };
        Self { lease_name, run: Some(run), ..self }
    }

    /// What waits from now on for its turn in the row: its slot, when it was to run again beside others
    /// and cannot yet.
    pub(crate) fn rerun_that_waits(&self) -> Option<WaitingSlot> {
        let run = self.run.filter(|run| run.trigger == Trigger::Rerun)?;
        let waits = is_of_one_run(&self.lease_name) && self.advance.is_none();
        waits.then(|| WaitingSlot {
            slot_ms: run.scheduled_for_ms,
            attempts: run.attempt.saturating_sub(1),
        })
    }

    /// Whether its slot waits for the lease when somebody holds it.
    pub(crate) fn lets_its_slot_wait(&self) -> bool {
        matches!(self.overlap, Overlap::BufferOne | Overlap::Replace) && self.scope_key.is_empty()
    }

    /// The slot that is skipped: its own where somebody holds the lease, or an older one.
    pub(crate) fn skips(&self, is_held: bool) -> Option<i64> {
        if self.lets_its_slot_wait() {
            return self.displaced();
        }
        self.slot_that_came().filter(|_| is_held)
    }

    /// The older slot that waited until the slot of this firing came, and does not run.
    pub(crate) fn displaced(&self) -> Option<i64> {
        let waited_ms = self.advance.as_ref()?.seen_buffered_for_ms;
        let came_ms = self.slot_that_came().filter(|_| self.lets_its_slot_wait())?;
        waited_ms.filter(|older_ms| *older_ms < came_ms)
    }

    /// Its slot, unless that has waited, is one of those that run one after another, or is a person's.
    fn slot_that_came(&self) -> Option<i64> {
        let came = |run: &NewRun| matches!(run.trigger, Trigger::Start | Trigger::Schedule);
        let run = self.run.filter(came).filter(|_| self.with_its_slot_first().is_none());
        run.map(|run| run.scheduled_for_ms)
    }

    /// What waits if its slot, which is one of those that run one after another, goes on to do so;
    /// `None` for any other slot.
    pub(crate) fn with_its_slot_first(&self) -> Option<Vec<WaitingSlot>> {
        let (run, advance) = (self.run?, self.advance.as_ref()?);
        let of_them = advance.waiting_slots != advance.seen_waiting_slots;
        of_them.then(|| {
            let first = WaitingSlot {
                slot_ms: run.scheduled_for_ms,
                attempts: run.attempt.saturating_sub(1),
            };
            std::iter::once(first).chain(advance.waiting_slots.iter().copied()).collect()
        })
    }
}

/// A run to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewRun {
    /// Its identity.
    pub id: RunId,
    /// What starts it.
    pub trigger: Trigger,
    /// Its slot, epoch milliseconds.
    pub scheduled_for_ms: i64,
    /// Which attempt it is.
    pub attempt: i32,
}
