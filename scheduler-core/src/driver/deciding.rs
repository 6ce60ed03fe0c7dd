//! What is to be done about what a look found, decided without I/O.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::Driver;
use super::firing::{cluster_due, effective_cadence, firing_of, is_free, unmoved};
use crate::cadence::Cadence;
use crate::catch_up::{CatchUp, catch_up};
use crate::clock::millis;
use crate::definition::{Overlap, Scope, StartPolicy};
use crate::executor::Registered;
use crate::local;
use crate::plan::{Due, FirePlan, fires_at, plan};
use crate::run::{RunId, Trigger};
use crate::store::{Advance, Firing, InterruptedRun, Look, NewRun, ScheduleRow};

/// When a job of scope Instance is due in this process.
pub(super) struct OwnGrid {
    /// The generation of the schedule row that it follows.
    generation: i64,
    /// `None` when it is not due by itself.
    due: Option<Due>,
}

/// What one look comes to.
pub(super) struct Decision {
    pub(super) firings: Vec<Firing>,
    /// When something is due or a lease expires next, epoch milliseconds of the store's clock.
    pub(super) next_at_ms: Option<i64>,
}

impl Driver {
    /// What is to be done about what was seen.
    pub(super) fn decide(&mut self, look: &Look, now_ms: i64) -> Decision {
        let mut firings = Vec::new();
        let mut next_at_ms: Option<i64> = None;
        let mut taken = HashSet::new();
        for run in &look.interrupted {
            let Some(registered) = self.jobs.get(&run.job) else { continue };
            let row = look.schedules.iter().find(|row| row.job == run.job);
            let firing = self.close(registered, run, row, now_ms);
            let beside = registered.definition.overlap == Overlap::Allow;
            if firing.run.is_some()
                && !beside
                && row.is_some_and(|row| row.leased_until_ms.is_none())
            {
                taken.insert(run.job.clone());
            }
            firings.push(firing);
        }
        for row in &look.schedules {
            let Some(registered) = self.jobs.get(&row.job) else { continue };
            firings.extend(self.requested(registered, row, now_ms));
            if row.paused || local::is_local(registered) {
                continue;
            }
            let cadence = effective_cadence(row, &registered.definition.cadence);
            let (due, buffered) = match registered.definition.scope {
                Scope::Cluster => (cluster_due(row), row.buffered_for_ms),
                Scope::Instance => {
                    let (grids, start) = (&mut self.own_grids, registered.definition.start);
                    (own_due(grids, start, row, &cadence, now_ms), None)
                }
            };
            let policies = registered.definition.policies();
            let mut next = due.map(|due| fires_at(due, &cadence, policies, due.next_due_at_ms));
            let waiting = &row.waiting_slots;
            let goes_first = |slot_ms| waiting.first().is_none_or(|first| slot_ms <= first.slot_ms);
            let free = is_free(row, &registered.definition);
            if taken.contains(&row.job) {
                // The rerun of an interrupted slot goes first; newer slots wait for its end.
                next = None;
            } else if let Some(slot_ms) = buffered.filter(|slot_ms| free && goes_first(*slot_ms)) {
                firings.push(self.waited(registered, row, slot_ms));
                next = None;
            } else if let Some(turn) = catch_up(due, waiting, &cadence, policies, now_ms, free) {
                next = due
                    .zip(turn.next_due_at_ms)
                    .map(|(due, at)| fires_at(due, &cadence, policies, at));
                firings.push(self.take_turn(registered, row, turn));
            } else if let Some(due) = due
                && let Some(fire) = plan(due, &cadence, policies, now_ms)
            {
                next = fire.next_due_at_ms.map(|at| fires_at(due, &cadence, policies, at));
                firings.push(self.fire(registered, row, fire));
                self.move_own_grid(&row.job, fire);
            }
            next_at_ms = [next_at_ms, next, row.leased_until_ms].into_iter().flatten().min();
        }
        for firing in &mut firings {
            firing.as_of_ms = Some(look.now_ms);
        }
        Decision { firings, next_at_ms }
    }

    /// Closes an interrupted run, and runs its slot again where the policy says so: it waits while
    /// another run has the lease.
    fn close(
        &self,
        registered: &Registered,
        run: &InterruptedRun,
        row: Option<&ScheduleRow>,
        now_ms: i64,
    ) -> Firing {
        let definition = &registered.definition;
        let late_ms = now_ms.saturating_sub(run.scheduled_for_ms);
        let reruns = definition.scope == Scope::Cluster
            && run.trigger != Trigger::Manual
            && definition.on_interrupt.allows_another(run.attempt)
            && definition.lateness_limit.is_none_or(|limit| late_ms <= millis(limit))
            && row.is_some_and(|row| !row.paused);
        let closes = Firing { interrupted: Some(run.clone()), ..self.firing(registered) };
        if !reruns {
            return closes;
        }
        closes.of_run(NewRun {
            id: RunId::new(),
            trigger: Trigger::Rerun,
            scheduled_for_ms: run.scheduled_for_ms,
            attempt: run.attempt.saturating_add(1),
        })
    }

    /// Begins the run that somebody asks for, if none is under way.
    fn requested(&self, registered: &Registered, row: &ScheduleRow, now_ms: i64) -> Option<Firing> {
        let id = row.run_requested.filter(|_| is_free(row, &registered.definition))?;
        if local::is_local(registered) && registered.goes_on.swap(true, Ordering::AcqRel) {
            return None;
        }
        let run = NewRun { id, trigger: Trigger::Manual, scheduled_for_ms: now_ms, attempt: 1 };
        Some(Firing { requested: true, ..self.firing(registered) }.of_run(run))
    }

    /// Fires a slot that waited for the lease.
    fn waited(&self, registered: &Registered, row: &ScheduleRow, slot_ms: i64) -> Firing {
        let trigger = if row.buffered_attempts > 0 { Trigger::Rerun } else { Trigger::Buffered };
        let advance = Some(Advance { buffered_for_ms: None, ..unmoved(row) });
        Firing { advance, ..self.firing(registered) }.of_run(NewRun {
            id: RunId::new(),
            trigger,
            scheduled_for_ms: slot_ms,
            attempt: row.buffered_attempts.saturating_add(1),
        })
    }

    /// Fires what the plan says. Where slots wait for each other, an older one that waits is skipped
    /// for it, whether it gets the lease or waits in its place.
    fn fire(&self, registered: &Registered, row: &ScheduleRow, fire: FirePlan) -> Firing {
        let fired_for_ms = fire.fire.map(|(slot_ms, _)| slot_ms);
        let displaces = |older_ms: &i64| {
            matches!(registered.definition.overlap, Overlap::BufferOne | Overlap::Replace)
                && Some(*older_ms) < fired_for_ms
        };
        let advance = (registered.definition.scope == Scope::Cluster).then(|| Advance {
            next_due_at_ms: fire.next_due_at_ms,
            fired_for_ms,
            buffered_for_ms: row.buffered_for_ms.filter(|older_ms| !displaces(older_ms)),
            ..unmoved(row)
        });
        let missed = fire.missed.into_iter().collect();
        let firing = Firing { missed, advance, ..self.firing(registered) };
        match fire.fire {
            Some((scheduled_for_ms, trigger)) => {
                firing.of_run(NewRun { id: RunId::new(), trigger, scheduled_for_ms, attempt: 1 })
            }
            None => firing,
        }
    }

    /// Fires the first of the slots that run one after another, and lets the others wait.
    fn take_turn(&self, registered: &Registered, row: &ScheduleRow, turn: CatchUp) -> Firing {
        let advance = Advance {
            next_due_at_ms: turn.next_due_at_ms,
            fired_for_ms: turn.taken_ms,
            waiting_slots: turn.waiting,
            ..unmoved(row)
        };
        let firing = self.firing(registered);
        let firing = Firing { missed: turn.missed, advance: Some(advance), ..firing };
        match turn.fire {
            Some((slot, trigger)) => firing.of_run(NewRun {
                id: RunId::new(),
                trigger,
                scheduled_for_ms: slot.slot_ms,
                attempt: slot.attempts.saturating_add(1),
            }),
            None => firing,
        }
    }

    /// What all firings of a job have in common.
    fn firing(&self, registered: &Registered) -> Firing {
        firing_of(&self.executor, registered)
    }

    fn move_own_grid(&mut self, job: &str, fire: FirePlan) {
        let Some(grid) = self.own_grids.get_mut(job) else { return };
        grid.due = grid.due.zip(fire.next_due_at_ms).map(|(due, next_due_at_ms)| Due {
            last_fired_for_ms: fire.fire.map(|(slot_ms, _)| slot_ms).or(due.last_fired_for_ms),
            next_due_at_ms,
            ..due
        });
    }
}

/// When a job of scope Instance is due: on a grid from the start of this process, or from the look
/// that found a change of an operator's.
fn own_due(
    grids: &mut HashMap<String, OwnGrid>,
    start: StartPolicy,
    row: &ScheduleRow,
    cadence: &Cadence,
    now_ms: i64,
) -> Option<Due> {
    let known = grids.get(&row.job);
    if let Some(grid) = known.filter(|grid| grid.generation == row.generation) {
        return grid.due;
    }
    let starts = known.is_none() && start == StartPolicy::Immediate;
    let due = cadence.next_after(now_ms, now_ms).map(|slot_ms| Due {
        anchor_ms: now_ms,
        next_due_at_ms: if starts { now_ms } else { slot_ms },
        last_fired_for_ms: None,
    });
    grids.insert(row.job.clone(), OwnGrid { generation: row.generation, due });
    due
}
