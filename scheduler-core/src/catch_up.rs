//! Slots that run one after another because nobody ran them in time, decided without I/O.
//!
//! ```text
//!  waiting before      passed by now
//!  ┌─────────┐┌────────────────────────────┐
//!  too late │ runs │ waits  …  │ missed │
//! ──────────┴──────┴───────────┴────────┴──▶   Misfire::FireAll: `at_most` run and wait
//! ```
//!
//! What waits is ahead of what comes, whatever the policies say by then.

use crate::cadence::Cadence;
use crate::clock::millis;
use crate::definition::Misfire;
use crate::plan::{Due, Missed, Passed, Policies, fires_at, on_the_grid, passed, trigger_of};
use crate::run::Trigger;

/// A slot that waits for its turn in the schedule row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingSlot {
    /// The slot, epoch milliseconds.
    pub slot_ms: i64,
    /// How often it was tried before.
    pub attempts: i32,
}

/// What one look at slots that wait, or are many, comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatchUp {
    /// The slot that runs now, if the job is free.
    pub(crate) fire: Option<(WaitingSlot, Trigger)>,
    /// The slots that wait from now on, oldest first.
    pub(crate) waiting: Vec<WaitingSlot>,
    /// The newest slot that is taken off the grid; `None` when there is none.
    pub(crate) taken_ms: Option<i64>,
    /// What does not run: slots that are too late, and newer ones than may wait.
    pub(crate) missed: Vec<Missed>,
    /// The next due time.
    pub(crate) next_due_at_ms: Option<i64>,
}

/// Decides about the slots that wait and those that passed; `None` when there is nothing to do, or
/// nothing but one slot that is [`plan`](crate::plan::plan)'s. `free` says whether a run may begin.
pub(crate) fn catch_up(
    due: Option<Due>,
    waiting: &[WaitingSlot],
    cadence: &Cadence,
    policies: Policies,
    now_ms: i64,
    free: bool,
) -> Option<CatchUp> {
    let new = new_slots(due, waiting, cadence, policies, now_ms);
    if new.is_none() && (waiting.is_empty() || !free) {
        return None;
    }
    let is_late = |slot_ms| {
        let at_ms = due.map_or(slot_ms, |due| fires_at(due, cadence, policies, slot_ms));
        policies.lateness_limit.is_some_and(|limit| now_ms.saturating_sub(at_ms) > millis(limit))
    };
    let mut late: Option<Missed> = None;
    let mut waits = Vec::with_capacity(waiting.len());
    for slot in waiting {
        match is_late(slot.slot_ms) {
            false => waits.push((*slot, None)),
            // What was tried before has its own row.
            true if slot.attempts > 0 => {}
            true => grow(&mut late, slot.slot_ms, slot.slot_ms, 1),
        }
    }
    let mut surplus = None;
    let mut next_due_at_ms = due.map(|due| due.next_due_at_ms);
    if let (Some((passed, at_most)), Some(due)) = (new, due) {
        next_due_at_ms = cadence.next_after(due.anchor_ms, passed.newest_ms);
        let room = at_most.saturating_sub(waits.len());
        let oldest = oldest_in_time(due, cadence, policies, now_ms, &is_late);
        let mut slot = oldest.filter(|slot_ms| *slot_ms <= passed.newest_ms);
        let count_before = |slot_ms: i64| {
            let before = slot_ms > due.next_due_at_ms;
            if before { on_the_grid(due, cadence, slot_ms - 1).count } else { 0 }
        };
        let too_late = slot.map_or(passed.count, count_before);
        if too_late > 0 {
            let until_ms = slot.map_or(passed.newest_ms, |slot_ms| {
                on_the_grid(due, cadence, slot_ms - 1).newest_ms
            });
            grow(&mut late, due.next_due_at_ms, until_ms, too_late);
        }
        for _ in 0..room {
            let Some(slot_ms) = slot else { break };
            let trigger = trigger_of(due, cadence, slot_ms);
            waits.push((WaitingSlot { slot_ms, attempts: 0 }, Some(trigger)));
            slot = cadence.next_after(due.anchor_ms, slot_ms);
            slot = slot.filter(|slot_ms| *slot_ms <= passed.newest_ms);
        }
        if let Some(from_ms) = slot {
            let count = passed.count - count_before(from_ms);
            surplus = Some(Missed { from_ms, until_ms: passed.newest_ms, count });
        }
    }
    let fire = (free && !waits.is_empty()).then(|| waits.remove(0)).map(|(slot, trigger)| {
        let waited = if slot.attempts > 0 { Trigger::Rerun } else { Trigger::Buffered };
        (slot, trigger.unwrap_or(waited))
    });
    Some(CatchUp {
        fire,
        waiting: waits.into_iter().map(|(slot, _)| slot).collect(),
        taken_ms: new.map(|(passed, _)| passed.newest_ms),
        missed: late.into_iter().chain(surplus).collect(),
        next_due_at_ms,
    })
}

/// The slots that passed, and how many slots may wait, if they are to be caught up: several, or one
/// behind those that wait.
fn new_slots(
    due: Option<Due>,
    waiting: &[WaitingSlot],
    cadence: &Cadence,
    policies: Policies,
    now_ms: i64,
) -> Option<(Passed, usize)> {
    let Misfire::FireAll { at_most } = policies.misfire else { return None };
    let due = due.filter(|due| due.next_due_at_ms <= now_ms)?;
    let passed = passed(due, cadence, policies, now_ms)?;
    (passed.count > 1 || !waiting.is_empty()).then_some((passed, at_most as usize))
}

/// The oldest slot that is not too late, which may lie behind now.
fn oldest_in_time(
    due: Due,
    cadence: &Cadence,
    policies: Policies,
    now_ms: i64,
    is_late: &impl Fn(i64) -> bool,
) -> Option<i64> {
    let Some(limit) = policies.lateness_limit else { return Some(due.next_due_at_ms) };
    // Later slots fire later, and none is delayed beyond the next: nearly all that are too late are
    // passed over at once.
    let delay_ms = policies.jitter.map_or(0, |jitter| millis(jitter.longest));
    let delay_ms = cadence.interval_ms().map_or(delay_ms, |interval_ms| delay_ms.min(interval_ms));
    let before_ms = now_ms.saturating_sub(millis(limit)).saturating_sub(delay_ms).saturating_sub(1);
    let mut slot = Some(due.next_due_at_ms);
    if due.next_due_at_ms < before_ms {
        slot = cadence.next_after(due.anchor_ms, before_ms);
    }
    while let Some(slot_ms) = slot.filter(|slot_ms| is_late(*slot_ms)) {
        slot = cadence.next_after(due.anchor_ms, slot_ms);
    }
    slot
}

/// Older slots come first.
fn grow(missed: &mut Option<Missed>, from_ms: i64, until_ms: i64, count: i64) {
    let before = missed.unwrap_or(Missed { from_ms, until_ms, count: 0 });
    *missed = Some(Missed { until_ms, count: before.count + count, ..before });
}

#[cfg(test)]
mod tests;
