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
    pub(crate) jitter: Option<Jitter>,
}

/// What one look at a due row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirePlan {
    /// The slot that runs now, if any.
    pub(crate) fire: Option<(i64, Trigger)>,
    /// The slots that passed and do not run.
    pub(crate) missed: Option<Missed>,
    /// The next due time, on the grid: what fires later than now, unless so many slots of a cron
    /// expression passed that the rest is left to the next look. `None` when there is none.
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

/// How slots are spread, so that hosts, jobs and others who live by round times do not all come at
/// once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jitter {
    /// Tells jobs apart.
    pub(crate) key: u64,
    /// The longest delay.
    pub(crate) longest: Duration,
}

/// When a slot fires: the same for every host, before the next slot is due.
pub(crate) fn fires_at(due: Due, cadence: &Cadence, policies: Policies, slot: i64) -> i64 {
    let Some(Jitter { key, longest }) = policies.jitter else { return slot };
    if trigger_of(due, cadence, slot) == Trigger::Start {
        return slot;
    }
    let next = cadence.next_after(due.anchor_ms, slot).unwrap_or(i64::MAX);
    let spread = millis(longest).saturating_add(1).min(next.saturating_sub(slot)).max(1);
    slot.saturating_add((mixed(key ^ slot.cast_unsigned()) % spread.cast_unsigned()).cast_signed())
}

/// Neighbours in, strangers out: the last steps of SplitMix64.
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Decides about one row; `None` when it is not due. Slots that are to run one after another are
/// [`catch_up`](crate::catch_up)'s.
pub(crate) fn plan(
    due: Due,
    cadence: &Cadence,
    policies: Policies,
    now_ms: i64,
) -> Option<FirePlan> {
    if due.next_due_at_ms > now_ms {
        return None;
    }
    let passed = passed(due, cadence, policies, now_ms)?;
    let newest = passed.newest_ms;
    let late_ms = now_ms.saturating_sub(fires_at(due, cadence, policies, newest));
    let too_late = policies.lateness_limit.is_some_and(|limit| late_ms > millis(limit))
        || (policies.misfire == Misfire::Skip && late_ms > millis(ON_TIME))
        || passed.more;
    let missed_count = if too_late { passed.count } else { passed.count - 1 };
    let missed = (missed_count > 0).then_some(Missed {
        from_ms: due.next_due_at_ms,
        until_ms: if too_late { newest } else { passed.before_newest_ms },
        count: missed_count,
    });
    Some(FirePlan {
        fire: (!too_late).then(|| (newest, trigger_of(due, cadence, newest))),
        missed,
        next_due_at_ms: cadence.next_after(due.anchor_ms, newest),
    })
}

/// The slots that are due: the oldest may lie off the grid (a start), every later one is on it.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    pub(crate) newest_ms: i64,
    /// The slot before the newest; the newest itself when it is the only one.
    before_newest_ms: i64,
    /// How many, from the oldest to the newest.
    pub(crate) count: i64,
    /// Whether there are more than were counted, all of them later.
    more: bool,
}

/// Slots of a cron expression that are counted in one look: some tenths of a second.
const MOST_COUNTED: i64 = 100_000;

/// What passed by now; `None` when the only slot waits for its jitter.
pub(crate) fn passed(
    due: Due,
    cadence: &Cadence,
    policies: Policies,
    now_ms: i64,
) -> Option<Passed> {
    let passed = on_the_grid(due, cadence, now_ms);
    let newest = passed.newest_ms;
    if fires_at(due, cadence, policies, newest) <= now_ms {
        return Some(passed);
    }
    // Only the newest can wait: the others fire before the one after them is due.
    (newest > due.next_due_at_ms).then(|| on_the_grid(due, cadence, newest - 1))
}

/// The slots that are due by now and that nobody will fire, since their grid goes or stands still.
pub(crate) fn given_up(due: Due, cadence: &Cadence, now_ms: i64) -> Option<Missed> {
    if due.next_due_at_ms > now_ms {
        return None;
    }
    let mut all = Missed { from_ms: due.next_due_at_ms, until_ms: due.next_due_at_ms, count: 0 };
    let mut rest = Some(due);
    while let Some(due) = rest {
        let passed = on_the_grid(due, cadence, now_ms);
        all.until_ms = passed.newest_ms;
        all.count += passed.count;
        rest = cadence
            .next_after(due.anchor_ms, passed.newest_ms)
            .filter(|next_ms| *next_ms <= now_ms)
            .map(|next_due_at_ms| Due { next_due_at_ms, ..due });
    }
    Some(all)
}

/// The slots from the due time to `now_ms`, which is not before it.
pub(crate) fn on_the_grid(due: Due, cadence: &Cadence, now_ms: i64) -> Passed {
    let oldest_ms = due.next_due_at_ms;
    let mut passed =
        Passed { newest_ms: oldest_ms, before_newest_ms: oldest_ms, count: 1, more: false };
    let Some(interval_ms) = cadence.interval_ms() else {
        while let Some(slot_ms) = cadence.next_after(due.anchor_ms, passed.newest_ms) {
            if slot_ms > now_ms {
                break;
            }
            if passed.count == MOST_COUNTED {
                return Passed { more: true, ..passed };
            }
            passed.before_newest_ms = std::mem::replace(&mut passed.newest_ms, slot_ms);
            passed.count += 1;
        }
        return passed;
    };
    match cadence.next_after(due.anchor_ms, oldest_ms) {
        Some(second_ms) if second_ms <= now_ms => {
            let after_second = (now_ms - second_ms) / interval_ms;
            let newest_ms = second_ms + after_second * interval_ms;
            Passed {
                newest_ms,
                before_newest_ms: (newest_ms - interval_ms).max(oldest_ms),
                count: after_second + 2,
                more: false,
            }
        }
        _ => passed,
    }
}

/// A start lies off the grid, or is the very first slot.
pub(crate) fn trigger_of(due: Due, cadence: &Cadence, slot: i64) -> Trigger {
    let on_grid = cadence.next_after(due.anchor_ms, slot - 1) == Some(slot);
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
        let policies =
            Policies { misfire, lateness_limit: limit_ms.map(Duration::from_millis), jitter: None };
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
        let policies = Policies { misfire: Misfire::FireOnce, lateness_limit: None, jitter: None };
        let plan = plan(due, &Cadence::every(Duration::from_secs(1)), policies, ANCHOR);
        assert_eq!(plan.and_then(|plan| plan.fire), Some((ANCHOR, Trigger::Start)));
    }

    #[test]
    fn slots_of_a_cron_expression_are_decided_about_like_those_of_an_interval() {
        let cadence = Cadence::cron("0 9 * * *", "Europe/Berlin").unwrap();
        let day = 86_400_000;
        // Nine o'clock in Berlin on 2026-11-23.
        let nine = 1_795_420_800_000;
        let decide = |now_ms, misfire, lateness_limit| {
            let due =
                Due { anchor_ms: 7, next_due_at_ms: nine, last_fired_for_ms: Some(nine - day) };
            plan(due, &cadence, Policies { misfire, lateness_limit, jitter: None }, now_ms)
                .expect("due")
        };
        let on_time = decide(nine, Misfire::FireOnce, None);
        assert_eq!(on_time.fire, Some((nine, Trigger::Schedule)));
        assert_eq!((on_time.missed, on_time.next_due_at_ms), (None, Some(nine + day)));

        let late = decide(nine + 3 * day + 1, Misfire::FireOnce, None);
        let missed = Missed { from_ms: nine, until_ms: nine + 2 * day, count: 3 };
        assert_eq!(late.fire, Some((nine + 3 * day, Trigger::Schedule)));
        assert_eq!((late.missed, late.next_due_at_ms), (Some(missed), Some(nine + 4 * day)));

        let minute = Some(Duration::from_secs(60));
        let too_late = decide(nine + day + 60_001, Misfire::FireOnce, minute);
        let missed = Missed { from_ms: nine, until_ms: nine + day, count: 2 };
        assert_eq!((too_late.fire, too_late.missed), (None, Some(missed)));
    }

    #[test]
    fn a_long_absence_of_a_frequent_cron_job_is_counted_in_several_looks() {
        let cadence = Cadence::cron("* * * * * *", "UTC").unwrap();
        let policies = Policies { misfire: Misfire::FireOnce, lateness_limit: None, jitter: None };
        let now_ms = 250_000_000;
        let mut due = Due { anchor_ms: 0, next_due_at_ms: 1_000, last_fired_for_ms: Some(0) };
        let mut missed = 0;
        let fired = loop {
            let fire = plan(due, &cadence, policies, now_ms).expect("due");
            missed += fire.missed.map_or(0, |missed| missed.count);
            due.next_due_at_ms = fire.next_due_at_ms.expect("a next slot");
            if let Some((slot_ms, _)) = fire.fire {
                break slot_ms;
            }
        };
        assert_eq!((fired, missed, due.next_due_at_ms), (now_ms, 249_999, now_ms + 1_000));
    }

    const DELAYED: Policies = Policies {
        misfire: Misfire::Skip,
        lateness_limit: None,
        jitter: Some(Jitter { key: 7, longest: Duration::from_secs(3_600) }),
    };

    #[test]
    fn jitter_delays_a_slot_and_not_its_name() {
        let minutely = Cadence::every(Duration::from_secs(60));
        let due = Due { anchor_ms: 0, next_due_at_ms: 60_000, last_fired_for_ms: Some(0) };
        let fires_at_ms = fires_at(due, &minutely, DELAYED, 60_000);
        assert!((60_001..120_000).contains(&fires_at_ms), "{fires_at_ms}");
        assert_eq!(plan(due, &minutely, DELAYED, fires_at_ms - 1), None, "it waits");
        let fire = plan(due, &minutely, DELAYED, fires_at_ms).expect("due");
        assert_eq!(fire.fire, Some((60_000, Trigger::Schedule)), "its slot is the grid's");
        assert_eq!((fire.missed, fire.next_due_at_ms), (None, Some(120_000)));
        // A delay is no lateness: the next look that comes six seconds after it is.
        let late = plan(due, &minutely, DELAYED, fires_at_ms + 5_001).expect("due");
        assert_eq!(late.fire, None);
        // A start does not wait: nobody else comes at its time.
        let start = Due { next_due_at_ms: 61_234, ..due };
        assert_eq!(fires_at(start, &minutely, DELAYED, 61_234), 61_234);
    }

    proptest! {
        /// Whoever looks whenever: slots fire in their order, each before the next is due, and all
        /// hosts agree when.
        #[test]
        fn jitter_never_reorders_slots(
            interval in 1_u64..5_000, longest in 1_u64..10_000, key in any::<u64>(), step in 1_i64..7_000,
        ) {
            let cadence = Cadence::every(Duration::from_millis(interval));
            let jitter = Some(Jitter { key, longest: Duration::from_millis(longest) });
            let policies = Policies { misfire: Misfire::FireOnce, lateness_limit: None, jitter };
            let interval = interval.cast_signed();
            let mut due = Due { anchor_ms: 0, next_due_at_ms: interval, last_fired_for_ms: Some(0) };
            let mut now = 0;
            for _ in 0..50 {
                now += step;
                let Some(fire) = plan(due, &cadence, policies, now) else {
                    prop_assert!(fires_at(due, &cadence, policies, due.next_due_at_ms) > now);
                    continue;
                };
                let (slot, _) = fire.fire.expect("it fires");
                let missed = fire.missed.map_or(0, |missed| missed.count);
                prop_assert_eq!(due.next_due_at_ms + missed * interval, slot);
                let at = fires_at(due, &cadence, policies, slot);
                prop_assert!(slot <= at && at <= now && at < slot + interval);
                prop_assert!(at - slot <= longest.cast_signed());
                due.next_due_at_ms = fire.next_due_at_ms.expect("a next slot");
                due.last_fired_for_ms = Some(slot);
                prop_assert!(fires_at(due, &cadence, policies, due.next_due_at_ms) > now);
            }
        }

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
                let plan = plan(due, &cadence, Policies { misfire, lateness_limit: None, jitter: None }, now).expect("due");
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
