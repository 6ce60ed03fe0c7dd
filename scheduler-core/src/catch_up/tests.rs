use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::Jitter;

const ALL: fn(u32) -> Misfire = |at_most| Misfire::FireAll { at_most };

/// On a grid of ten seconds from 0, times in seconds.
struct Case {
    next_due: i64,
    waiting: &'static [(i64, i32)],
    now: i64,
    policy: Misfire,
    limit: Option<u64>,
    free: bool,
}

const CASE: Case = Case {
    next_due: 10,
    waiting: &[],
    now: 65,
    policy: Misfire::FireOnce,
    limit: None,
    free: true,
};

impl Case {
    /// `runs, waits, misses, next due` in seconds; `-` where there is nothing to do.
    fn decide(&self) -> String {
        let due =
            Due { anchor_ms: 0, next_due_at_ms: self.next_due * 1_000, last_fired_for_ms: Some(0) };
        let policies = Policies {
            misfire: self.policy,
            lateness_limit: self.limit.map(Duration::from_secs),
            jitter: None,
        };
        let slot = |(slot, attempts): &(i64, i32)| WaitingSlot {
            slot_ms: slot * 1_000,
            attempts: *attempts,
        };
        let waiting: Vec<_> = self.waiting.iter().map(slot).collect();
        let cadence = Cadence::every(Duration::from_secs(10));
        let turn = catch_up(Some(due), &waiting, &cadence, policies, self.now * 1_000, self.free);
        turn.map_or("-".to_owned(), |turn| text(&turn))
    }
}

fn text(turn: &CatchUp) -> String {
    let fire = turn.fire.map_or("nothing".to_owned(), |(slot, trigger)| {
        format!("{trigger} {}#{}", slot.slot_ms / 1_000, slot.attempts + 1)
    });
    let waits: Vec<i64> = turn.waiting.iter().map(|slot| slot.slot_ms / 1_000).collect();
    let missed: Vec<String> = turn
        .missed
        .iter()
        .map(|m| format!("{}x {}..{}", m.count, m.from_ms / 1_000, m.until_ms / 1_000))
        .collect();
    let next = turn.next_due_at_ms.map_or(-1, |at_ms| at_ms / 1_000);
    format!("{fire}, waits {waits:?}, missed {missed:?}, next {next}")
}

#[test]
fn each_situation_has_its_plan() {
    let table = [
        ("not due", Case { policy: ALL(3), now: 9, ..CASE }, "-"),
        ("one slot is the plan's", Case { policy: ALL(3), now: 19, ..CASE }, "-"),
        ("other policies coalesce", CASE, "-"),
        (
            "the oldest runs, the others wait",
            Case { policy: ALL(9), now: 35, ..CASE },
            "schedule 10#1, waits [20, 30], missed [], next 40",
        ),
        (
            "no more than may run",
            Case { policy: ALL(3), ..CASE },
            r#"schedule 10#1, waits [20, 30], missed ["3x 40..60"], next 70"#,
        ),
        (
            "exactly as many as may run",
            Case { policy: ALL(6), ..CASE },
            "schedule 10#1, waits [20, 30, 40, 50, 60], missed [], next 70",
        ),
        (
            "one of them",
            Case { policy: ALL(1), ..CASE },
            r#"schedule 10#1, waits [], missed ["5x 20..60"], next 70"#,
        ),
        (
            "a run is under way: all wait",
            Case { policy: ALL(2), free: false, ..CASE },
            r#"nothing, waits [10, 20], missed ["4x 30..60"], next 70"#,
        ),
        (
            "a start that nobody ran is the first",
            Case { policy: ALL(2), next_due: 12, ..CASE },
            r#"start 12#1, waits [20], missed ["4x 30..60"], next 70"#,
        ),
        (
            "what is too late is a miss",
            Case { policy: ALL(9), limit: Some(25), ..CASE },
            r#"schedule 40#1, waits [50, 60], missed ["3x 10..30"], next 70"#,
        ),
        (
            "too late on one side, too many on the other",
            Case { policy: ALL(1), limit: Some(25), ..CASE },
            r#"schedule 40#1, waits [], missed ["3x 10..30", "2x 50..60"], next 70"#,
        ),
        (
            "all are too late",
            Case { policy: ALL(9), limit: Some(4), ..CASE },
            r#"nothing, waits [], missed ["6x 10..60"], next 70"#,
        ),
        (
            "who waits has his turn",
            Case { policy: ALL(9), next_due: 70, waiting: &[(20, 0), (30, 0)], ..CASE },
            "buffered 20#1, waits [30], missed [], next 70",
        ),
        (
            "not while a run is under way",
            Case { policy: ALL(9), next_due: 70, waiting: &[(20, 0)], free: false, ..CASE },
            "-",
        ),
        (
            "a slot that comes waits behind them",
            Case { policy: ALL(9), next_due: 60, waiting: &[(20, 0)], free: false, ..CASE },
            "nothing, waits [20, 60], missed [], next 70",
        ),
        (
            "they go first",
            Case { policy: ALL(9), next_due: 60, waiting: &[(20, 0)], ..CASE },
            "buffered 20#1, waits [60], missed [], next 70",
        ),
        (
            "nobody waits behind as many as may",
            Case { policy: ALL(2), next_due: 60, waiting: &[(20, 0), (30, 0)], ..CASE },
            r#"buffered 20#1, waits [30], missed ["1x 60..60"], next 70"#,
        ),
        (
            "who waited for too long is a miss",
            Case {
                policy: ALL(9),
                next_due: 70,
                waiting: &[(20, 0), (50, 0)],
                limit: Some(20),
                ..CASE
            },
            r#"buffered 50#1, waits [], missed ["1x 20..20"], next 70"#,
        ),
        (
            "those and these that are too late are one miss",
            Case { policy: ALL(9), next_due: 30, waiting: &[(20, 0)], limit: Some(20), ..CASE },
            r#"schedule 50#1, waits [60], missed ["3x 20..40"], next 70"#,
        ),
        (
            "a slot that was cut off is tried again",
            Case { policy: ALL(9), next_due: 70, waiting: &[(20, 1), (30, 0)], ..CASE },
            "rerun 20#2, waits [30], missed [], next 70",
        ),
        (
            "or given up when it is too late: it has its row",
            Case { policy: ALL(9), next_due: 70, waiting: &[(20, 1)], limit: Some(20), ..CASE },
            "nothing, waits [], missed [], next 70",
        ),
        (
            "what waits runs whatever the policy is by then",
            Case { policy: Misfire::Skip, next_due: 60, waiting: &[(20, 0), (30, 0)], ..CASE },
            "buffered 20#1, waits [30], missed [], next 60",
        ),
        (
            "and a due slot is the plan's, then",
            Case { policy: Misfire::Skip, next_due: 60, waiting: &[(20, 0)], free: false, ..CASE },
            "-",
        ),
        (
            "a smaller number holds for those that come",
            Case { policy: ALL(1), next_due: 60, waiting: &[(20, 0), (30, 0)], ..CASE },
            r#"buffered 20#1, waits [30], missed ["1x 60..60"], next 70"#,
        ),
    ];
    for (name, case, expected) in table {
        assert_eq!(case.decide(), expected, "{name}");
    }
}

#[test]
fn what_waits_has_its_turn_although_its_job_is_not_due_by_itself_any_more() {
    let policies = Policies { misfire: ALL(3), lateness_limit: None, jitter: None };
    let waiting = [20_000, 30_000].map(|slot_ms| WaitingSlot { slot_ms, attempts: 0 });
    let turn = catch_up(None, &waiting, &Cadence::Manual, policies, 65_000, true);
    let expected = "buffered 20#1, waits [30], missed [], next -1";
    assert_eq!(turn.map(|turn| text(&turn)).as_deref(), Some(expected));
}

#[test]
fn slots_of_a_cron_expression_are_caught_up_on_the_days_when_clocks_change() {
    // Two o'clock does not come in Berlin on 2027-03-28: that day's slot is at three.
    let cadence = Cadence::cron("30 2 * * *", "Europe/Berlin").unwrap();
    let day = 86_400_000;
    let first = 1_805_936_400_000 + 5_400_000 - 2 * day;
    let mut slots = vec![cadence.next_after(0, first - 1).expect("a slot")];
    while slots.len() < 5 {
        slots.push(cadence.next_after(0, slots[slots.len() - 1]).expect("a slot"));
    }
    let due =
        Due { anchor_ms: 7, next_due_at_ms: slots[0], last_fired_for_ms: Some(slots[0] - day) };
    let policies = Policies { misfire: ALL(3), lateness_limit: None, jitter: None };
    let turn = catch_up(Some(due), &[], &cadence, policies, slots[4], true).expect("a turn");
    assert_eq!(turn.fire.map(|(slot, _)| slot.slot_ms), Some(slots[0]));
    assert_eq!(turn.waiting.iter().map(|slot| slot.slot_ms).collect::<Vec<_>>(), slots[1..3]);
    let missed = Missed { from_ms: slots[3], until_ms: slots[4], count: 2 };
    assert_eq!((turn.missed, turn.next_due_at_ms > Some(slots[4])), (vec![missed], true));
}

#[test]
fn a_long_absence_costs_no_more_than_what_is_caught_up() {
    let cadence = Cadence::every(Duration::from_millis(1));
    let due = Due { anchor_ms: 0, next_due_at_ms: 1, last_fired_for_ms: Some(0) };
    let limit = Some(Duration::from_millis(500));
    let policies = Policies { misfire: ALL(2), lateness_limit: limit, jitter: None };
    let year = 31_536_000_000;
    let turn = catch_up(Some(due), &[], &cadence, policies, year, true).expect("a turn");
    let missed = [
        Missed { from_ms: 1, until_ms: year - 501, count: year - 501 },
        Missed { from_ms: year - 498, until_ms: year, count: 499 },
    ];
    assert_eq!(turn.missed, missed);
    assert_eq!(turn.next_due_at_ms, Some(year + 1));
}

proptest! {
    /// Whoever looks whenever: every slot runs or is missed, once, and those that run keep their
    /// order; the next due time is later than now.
    #[test]
    fn no_slot_is_lost_and_none_overtakes(
        interval in 1_i64..50, at_most in 1_u32..8, limit in proptest::option::of(1_u64..400),
        longest in proptest::option::of(1_u64..80),
        steps in proptest::collection::vec((1_i64..300, any::<bool>()), 1..40),
    ) {
        let cadence = Cadence::every(Duration::from_millis(interval.unsigned_abs()));
        let policies = Policies {
            misfire: ALL(at_most),
            lateness_limit: limit.map(Duration::from_millis),
            jitter: longest.map(|ms| Jitter { key: 3, longest: Duration::from_millis(ms) }),
        };
        let mut due = Due { anchor_ms: 0, next_due_at_ms: interval, last_fired_for_ms: Some(0) };
        let (mut waiting, mut now, mut ran, mut missed) = (Vec::new(), 0, Vec::new(), 0);
        for (step, free) in steps {
            now += step;
            if let Some(turn) = catch_up(Some(due), &waiting, &cadence, policies, now, free) {
                prop_assert!(turn.waiting.len() <= at_most as usize);
                for m in &turn.missed {
                    // Others may have been missed in between, for another reason.
                    prop_assert!((m.until_ms - m.from_ms) / interval + 1 >= m.count);
                    missed += m.count;
                }
                ran.extend(turn.fire.map(|(slot, _)| slot.slot_ms));
                waiting = turn.waiting;
                due.next_due_at_ms = turn.next_due_at_ms.expect("an interval has a next slot");
            } else if let Some(fire) = crate::plan::plan(due, &cadence, policies, now) {
                ran.extend(fire.fire.map(|(slot_ms, _)| slot_ms));
                missed += fire.missed.map_or(0, |m| m.count);
                due.next_due_at_ms = fire.next_due_at_ms.expect("an interval has a next slot");
            }
            prop_assert!(fires_at(due, &cadence, policies, due.next_due_at_ms) > now);
            prop_assert!(ran.is_sorted_by(|a, b| a < b), "{:?}", ran);
            let decided = due.next_due_at_ms / interval - 1;
            let known = i64::try_from(ran.len() + waiting.len()).expect("few") + missed;
            prop_assert_eq!(decided, known);
        }
    }
}
