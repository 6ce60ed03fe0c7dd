//! Jobs without history: their slots fire on this process's clock, and no statement is made for them
//! but the roll-up of their heartbeats.
//!
//! What operators say about them stands in their schedule rows. The driver reads those with the
//! others, and tells of them here.

mod tally;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::tally::Tally;
use crate::cadence::Cadence;
use crate::definition::{History, StartPolicy};
use crate::driver::effective_cadence;
use crate::events::Event;
use crate::executor::{Executor, Granted, Launched, Registered, chain, lease_name};
use crate::lease::LeaseKey;
use crate::plan::{Due, fires_at, plan};
use crate::run::{RunId, Trigger};
use crate::stop::{Phase, reached, wait_for, wait_until_or_set_back};
use crate::store::{NewRun, ScheduleRow};

/// The schedule rows of these jobs, as the driver found them last.
pub(crate) type Rows = HashMap<String, ScheduleRow>;

/// How often heartbeats are rolled up.
const ROLL_UP_EVERY: Duration = Duration::from_secs(5);

/// The jobs of this process that have no history.
pub(crate) struct LocalJobs {
    executor: Executor,
    jobs: Vec<LocalJob>,
    /// When each job fires next, epoch milliseconds, and its place among the jobs.
    agenda: BTreeSet<(i64, usize)>,
    rows: watch::Receiver<Rows>,
}

struct LocalJob {
    registered: Registered,
    cadence: Cadence,
    /// The generation of the schedule row that it follows; `None` before the first.
    generation: Option<i64>,
    /// `None` while it is paused, or not due by itself.
    due: Option<Due>,
    tally: Arc<Mutex<Tally>>,
}

/// Whether a job is one of these.
pub(crate) fn is_local(registered: &Registered) -> bool {
    registered.definition.history == History::None
}

impl LocalJobs {
    /// Those among these jobs that have no history; `None` when all have.
    pub(crate) fn of<'j>(
        executor: &Executor,
        jobs: impl Iterator<Item = &'j Registered>,
        rows: watch::Receiver<Rows>,
    ) -> Option<Self> {
        let jobs: Vec<LocalJob> = jobs
            .filter(|registered| is_local(registered))
            .map(|registered| LocalJob {
                registered: registered.clone(),
                cadence: registered.definition.cadence.clone(),
                generation: None,
                due: None,
                tally: Arc::default(),
            })
            .collect();
        let executor = executor.clone();
        (!jobs.is_empty()).then(|| Self { executor, jobs, agenda: BTreeSet::new(), rows })
    }

    /// Fires until the stop, and returns when the last run has ended and is rolled up.
    pub(crate) async fn run(mut self) {
        let ended = CancellationToken::new();
        let tallies: Vec<_> = self
            .jobs
            .iter()
            .map(|job| (job.registered.definition.name.clone(), Arc::clone(&job.tally)))
            .collect();
        let roller = roll_up_until(self.executor.clone(), tallies, ended.clone());
        let fire = async {
            let runs = TaskTracker::new();
            self.fire_until_the_stop(&runs).await;
            runs.close();
            runs.wait().await;
            ended.cancel();
        };
        tokio::join!(fire, roller);
    }

    async fn fire_until_the_stop(&mut self, runs: &TaskTracker) {
        let clock = Arc::clone(self.executor.store.clock());
        let mut phase = self.executor.phase.clone();
        let mut skew = self.executor.skew.clone();
        while phase.get() == Phase::Running {
            let now_ms = clock.now_ms();
            if self.rows.has_changed().unwrap_or(false) {
                self.obey(now_ms);
            }
            // A host whose clock is off begins nothing, here as elsewhere.
            let may_begin = skew.get().is_tolerable();
            let mut launched = Vec::new();
            while may_begin
                && let Some((at_ms, place)) = self.agenda.first().copied()
                && at_ms <= now_ms
            {
                self.agenda.pop_first();
                launched.extend(self.look(place, now_ms).map(|run| (place, run)));
                let next_ms = self.jobs.get(place).and_then(LocalJob::fires_at);
                self.agenda.extend(next_ms.map(|at_ms| (at_ms, place)));
            }
            // After all jobs that are due have been told to begin.
            for (place, run) in launched {
                if let Some(job) = self.jobs.get(place) {
                    job.conclude(&self.executor, run, now_ms, runs);
                }
            }
            let next_ms = self.agenda.first().filter(|_| may_begin).map(|(at_ms, _)| *at_ms);
            tokio::select! {
                biased;
                () = reached(&mut phase, Phase::Draining) => {}
                changed = self.rows.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.rows.mark_changed();
                }
                _ = skew.changed() => {}
                () = async {
                    match next_ms {
                        Some(at_ms) => wait_until_or_set_back(&clock, at_ms).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Follows what operators said since the rows were seen last.
    fn obey(&mut self, now_ms: i64) {
        let rows = self.rows.borrow_and_update();
        for (place, job) in self.jobs.iter_mut().enumerate() {
            let Some(row) = rows.get(&job.registered.definition.name) else { continue };
            if job.generation == Some(row.generation) {
                continue;
            }
            self.agenda.retain(|(_, other)| *other != place);
            job.follow(row, now_ms);
            self.agenda.extend(job.fires_at().map(|at_ms| (at_ms, place)));
        }
    }

    /// Fires a job that is due, if its slot is to run.
    fn look(&mut self, place: usize, now_ms: i64) -> Option<Launched> {
        let job = self.jobs.get_mut(place)?;
        let (due, definition) = (job.due?, Arc::clone(&job.registered.definition));
        let fire = plan(due, &job.cadence, definition.policies(), now_ms)?;
        let slot_ms = fire.fire.map(|(slot_ms, _)| slot_ms);
        job.due = fire.next_due_at_ms.map(|next_due_at_ms| Due {
            next_due_at_ms,
            last_fired_for_ms: slot_ms.or(due.last_fired_for_ms),
            ..due
        });
        let teller = &self.executor.teller;
        if let Some(missed) = fire.missed {
            teller.tell(Event::SlotsMissed { job: Arc::from(definition.name.as_str()), missed });
        }
        let (scheduled_for_ms, trigger) = fire.fire?;
        if job.registered.goes_on.swap(true, Ordering::AcqRel) {
            let job = Arc::from(definition.name.as_str());
            teller.tell(Event::SlotSkipped { job, scheduled_for_ms });
            return None;
        }
        Some(job.launch(&self.executor, trigger, scheduled_for_ms, now_ms))
    }
}

impl LocalJob {
    /// A grid of its own from now; at the start of the process it may be due at once.
    fn follow(&mut self, row: &ScheduleRow, now_ms: i64) {
        let definition = &self.registered.definition;
        let starts = self.generation.is_none() && definition.start == StartPolicy::Immediate;
        self.generation = Some(row.generation);
        self.cadence = effective_cadence(row, &definition.cadence);
        let slot = self.cadence.next_after(now_ms, now_ms).filter(|_| !row.paused);
        self.due = slot.map(|slot_ms| Due {
            anchor_ms: now_ms,
            next_due_at_ms: if starts { now_ms } else { slot_ms },
            last_fired_for_ms: None,
        });
    }

    fn fires_at(&self) -> Option<i64> {
        let (due, policies) = (self.due?, self.registered.definition.policies());
        Some(fires_at(due, &self.cadence, policies, due.next_due_at_ms))
    }

    /// Lets a run begin. Nothing of it but its job runs yet.
    fn launch(
        &self,
        executor: &Executor,
        trigger: Trigger,
        scheduled_for_ms: i64,
        now_ms: i64,
    ) -> Launched {
        let holder = executor.instance_id;
        let name = lease_name(&self.registered.definition.name, &holder.to_string());
        let granted = Granted {
            run: NewRun { id: RunId::new(), trigger, scheduled_for_ms, attempt: 1 },
            key: LeaseKey { name, holder, token: 0 },
            asked_at_ms: now_ms,
            started_at_ms: now_ms,
            drain: false,
        };
        executor.launch_unrecorded(&self.registered, granted)
    }

    /// Sees to the end of a run.
    fn conclude(&self, executor: &Executor, launched: Launched, now_ms: i64, runs: &TaskTracker) {
        let (executor, registered) = (executor.clone(), self.registered.clone());
        let tally = Arc::clone(&self.tally);
        runs.spawn(async move {
            let report = executor.conclude_unrecorded(&registered, launched).await;
            let ended_at_ms = executor.store.clock().now_ms();
            locked(&tally).count(&report, now_ms, ended_at_ms);
            registered.goes_on.store(false, Ordering::Release);
        });
    }
}

fn locked(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rolls up what was counted, now and then and once more at the end. It is a task beside the one that
/// fires, which no database shall delay.
async fn roll_up_until(
    executor: Executor,
    tallies: Vec<(String, Arc<Mutex<Tally>>)>,
    ended: CancellationToken,
) {
    loop {
        let last = tokio::select! {
            biased;
            () = ended.cancelled() => true,
            () = wait_for(executor.store.clock(), ROLL_UP_EVERY) => false,
        };
        let taken: Vec<_> = tallies
            .iter()
            .map(|(job, tally)| (job, tally, std::mem::take(&mut *locked(tally))))
            .filter(|(_, _, taken)| !taken.is_empty())
            .collect();
        let now_ms = executor.store.clock().now_ms();
        let rows: Vec<_> = taken
            .iter()
            .map(|(job, _, taken)| taken.to_row(job, executor.instance_id, now_ms))
            .collect();
        if !rows.is_empty()
            && let Err(error) = executor.store.roll_up(&rows).await
        {
            tracing::warn!(error = chain(&error), "heartbeats are not rolled up yet");
            for (_, tally, taken) in taken {
                locked(tally).put_back(taken);
            }
        }
        if last {
            return;
        }
    }
}
