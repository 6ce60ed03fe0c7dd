//! What to do about a schedule row, decided without I/O.
//!
//! ```text
//!  next_due          newest      now     next
//!     │  missed  │  missed │ runs │       │
//! ────┴──────────┴─────────┴──────┴───────┴──▶   Misfire::FireOnce
//! ```

use std::time::Duration;

use crate::cadence::Cadence;
use crate::clock::millis;
use crate::definition::Misfire;
use crate::run::Trigger;

/// What the plan needs to know of a schedule row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) anchor_ms: i64,
    pub(crate) next_due_at_ms: i64,
    pub(crate) last_fired_for_ms: Option<i64>,
}

/// The policies that the plan obeys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policies {
    pub(crate) misfire: Misfire,
    pub(crate) lateness_limit: Option<Duration>,
}

/// What one look at a due row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirePlan {
    /// The slot that runs now, if any.
    pub(crate) fire: Option<(i64, Trigger)>,
    /// The slots that passed and do not run.
    pub(crate) missed: Option<Missed>,
    /// The next due time: strictly later than now, on the grid; `None` when there is none.
    pub(crate) next_due_at_ms: Option<i64>,
}

/// Consecutive slots that did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The oldest slot, epoch milliseconds.
    pub from_ms: i64,
    /// The newest slot, epoch milliseconds.
    pub until_ms: i64,
    /// How many.
    pub count: i64,
}

/// A slot that is at most this late is on time: the pulse that notices a clock step or a resumed
/// machine comes every five seconds.
const ON_TIME: Duration = Duration::from_secs(5);

/// Decides about one row; `None` when it is not due.
pub(crate) fn plan(
    due: Due,
    cadence: &Cadence,
    policies: Policies,
    now_ms: i64,
) -> Option<FirePlan> {
    if due.next_due_at_ms > now_ms {
        return None;
    }
    let oldest = due.next_due_at_ms;
    // The oldest slot may lie off the grid (a start); every later one is on it.
    let (newest, count) = newest_slot(due, cadence, now_ms);
    let late_ms = now_ms.saturating_sub(newest);
    let too_late = policies.lateness_limit.is_some_and(|limit| late_ms > millis(limit))
        || (policies.misfire == Misfire::Skip && late_ms > millis(ON_TIME));
    let missed_count = if too_late { count } else { count - 1 };
    let missed = (missed_count > 0).then(|| Missed {
        from_ms: oldest,
        until_ms: if too_late { newest } else { previous_slot(due, cadence, newest) },
        count: missed_count,
    });
    Some(FirePlan {
        fire: (!too_late).then(|| (newest, trigger_of(due, cadence, newest))),
        missed,
        next_due_at_ms: cadence.next_after(due.anchor_ms, now_ms),
    })
}

/// The newest slot that is due, and how many are due from the oldest to it.
fn newest_slot(due: Due, cadence: &Cadence, now_ms: i64) -> (i64, i64) {
    let Some(interval_ms) = cadence.interval_ms() else {
        return (due.next_due_at_ms, 1);
    };
    match cadence.next_after(due.anchor_ms, due.next_due_at_ms) {
        Some(second) if second <= now_ms => {
            let after_second = (now_ms - second) / interval_ms;
            (second + after_second * interval_ms, after_second + 2)
        }
        _ => (due.next_due_at_ms, 1),
    }
}

/// The slot before `slot`, not before the oldest that is due.
fn previous_slot(due: Due, cadence: &Cadence, slot: i64) -> i64 {
    cadence
        .interval_ms()
        .map_or(due.next_due_at_ms, |interval_ms| (slot - interval_ms).max(due.next_due_at_ms))
}

/// A start lies off the grid, or is the very first slot.
fn trigger_of(due: Due, cadence: &Cadence, slot: i64) -> Trigger {
    let on_grid = cadence
        .interval_ms()
        .is_some_and(|interval_ms| (slot - due.anchor_ms).rem_euclid(interval_ms) == 0);
    let first = due.last_fired_for_ms.is_none() && slot == due.anchor_ms;
    if first || !on_grid { Trigger::Start } else { Trigger::Schedule }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANCHOR: i64 = 1_000;

    fn check(next_due: i64, now: i64, misfire: Misfire, limit_ms: Option<u64>) -> Option<FirePlan> {
        let due = Due { anchor_ms: ANCHOR, next_due_at_ms: next_due, last_fired_for_ms: Some(0) };
        let policies = Policies { misfire, lateness_limit: limit_ms.map(Duration::from_millis) };
        plan(due, &Cadence::every(Duration::from_secs(10)), policies, now)
    }

    #[test]
    fn each_situation_has_its_plan() {
        use Misfire::{FireOnce, Skip};
        use Trigger::{Schedule, Start};
        let missed = |from_ms, until_ms, count| Some(Missed { from_ms, until_ms, count });
        let table = [
            // (next due, now, policy, limit) -> (fires, missed, next due)
            ("on time", (11_000, 11_000, FireOnce, None), (Some((11_000, Schedule)), None, 21_000)),
            (
                "a little late",
                (11_000, 14_000, Skip, None),
                (Some((11_000, Schedule)), None, 21_000),
            ),
            (
                "one slot late",
                (11_000, 21_000, FireOnce, None),
                (Some((21_000, Schedule)), missed(11_000, 11_000, 1), 31_000),
            ),
            (
                "a long stall",
                (11_000, 65_000, FireOnce, None),
                (Some((61_000, Schedule)), missed(11_000, 51_000, 5), 71_000),
            ),
            (
                "skip: all are missed",
                (11_000, 67_000, Skip, None),
                (None, missed(11_000, 61_000, 6), 71_000),
            ),
            (
                "skip: the newest is on time",
                (11_000, 62_000, Skip, None),
                (Some((61_000, Schedule)), missed(11_000, 51_000, 5), 71_000),
            ),
            (
                "over the lateness limit",
                (11_000, 64_001, FireOnce, Some(3_000)),
                (None, missed(11_000, 61_000, 6), 71_000),
            ),
            (
                "at the lateness limit",
                (11_000, 64_000, FireOnce, Some(3_000)),
                (Some((61_000, Schedule)), missed(11_000, 51_000, 5), 71_000),
            ),
            (
                "a start off the grid",
                (12_345, 12_345, FireOnce, None),
                (Some((12_345, Start)), None, 21_000),
            ),
            (
                "a start that nobody ran",
                (12_345, 33_000, FireOnce, None),
                (Some((31_000, Schedule)), missed(12_345, 21_000, 2), 41_000),
            ),
        ];
        for (name, (due, now, misfire, limit), (fire, missed, next)) in table {
            let expected = FirePlan { fire, missed, next_due_at_ms: Some(next) };
            assert_eq!(check(due, now, misfire, limit), Some(expected), "{name}");
        }
        assert_eq!(check(11_000, 10_999, FireOnce, None), None, "not due");
    }

    #[test]
    fn the_first_slot_of_all_is_a_start() {
        let due = Due { anchor_ms: ANCHOR, next_due_at_ms: ANCHOR, last_fired_for_ms: None };
        let policies = Policies { misfire: Misfire::FireOnce, lateness_limit: None };
        let plan = plan(due, &Cadence::every(Duration::from_secs(1)), policies, ANCHOR);
        assert_eq!(plan.and_then(|plan| plan.fire), Some((ANCHOR, Trigger::Start)));
    }

    proptest! {
        /// Every slot between the due time and now either runs or is inside the miss.
        #[test]
        fn no_slot_is_lost(
            anchor in -10_000_i64..10_000, interval in 1_u64..500, behind in 0_i64..50_000, offset in 0_i64..500,
        ) {
            let cadence = Cadence::every(Duration::from_millis(interval));
            let next_due_at_ms = anchor + offset;
            let now = next_due_at_ms + behind;
            let due = Due { anchor_ms: anchor, next_due_at_ms, last_fired_for_ms: Some(0) };
            for misfire in [Misfire::FireOnce, Misfire::Skip] {
                let plan = plan(due, &cadence, Policies { misfire, lateness_limit: None }, now).expect("due");
                let mut slots = vec![next_due_at_ms];
                while let Some(next) = cadence.next_after(anchor, *slots.last().expect("one")).filter(|next| *next <= now) {
                    slots.push(next);
                }
                let missed = plan.missed.map_or(0, |missed| missed.count);
                let fired = i64::from(plan.fire.is_some());
                prop_assert_eq!(missed + fired, slots.len() as i64);
                if let Some((slot, _)) = plan.fire { prop_assert_eq!(Some(&slot), slots.last()); }
                if let Some(missed) = plan.missed {
                    prop_assert_eq!(missed.from_ms, slots[0]);
                    prop_assert_eq!(missed.until_ms, slots[missed.count as usize - 1]);
                }
                let next = plan.next_due_at_ms.expect("an interval has a next slot");
                prop_assert!(next > now);
                prop_assert_eq!((next - anchor).rem_euclid(interval as i64), 0);
            }
        }
    }
}
