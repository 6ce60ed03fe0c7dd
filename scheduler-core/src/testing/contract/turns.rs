//! Slots that run one after another: they wait in the row, in their order, and none is lost.

use std::time::Duration;

use super::steps::{
    LEASE_MS, MINUTE_MS, Steps, advance, begin, finish, fire, firing, manual, missed, run_of, seed,
    started,
};
use super::{Fixture, NOON};
use crate::cadence::Cadence;
use crate::run::{InstanceId, Trigger};
use crate::store::{Advance, Begun, Firing, JobSeed, ScheduleRow, WaitingSlot};

/// Slots that were not tried yet, as seconds after noon.
fn slots(seconds: &[i64]) -> Vec<WaitingSlot> {
    let slot = |s: &i64| WaitingSlot { slot_ms: NOON + s * 1_000, attempts: 0 };
    seconds.iter().map(slot).collect()
}

/// What a host fires that saw `row`: one slot, and what waits after it.
fn turn(row: &ScheduleRow, trigger: Trigger, slot_s: i64, waits: &[i64]) -> Firing {
    let advance = Advance {
        next_due_at_ms: row.next_due_at_ms,
        waiting_slots: slots(waits),
        ..advance(row, NOON)
    };
    Firing {
        run: Some(run_of(trigger, NOON + slot_s * 1_000)),
        advance: Some(advance),
        ..firing(&row.job, InstanceId::new())
    }
}

/// What waits is seen by every host, and each slot has its turn on one of them.
pub async fn slots_that_wait_have_their_turn_once_over_all_hosts(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let mut row = fixture.schedule("mark").await;
    assert!(row.waiting_slots.is_empty());
    let mut next = turn(&row, Trigger::Schedule, 0, &[60, 120]);
    for (waits, later) in [([60, 120].as_slice(), [120].as_slice()), (&[120], &[]), (&[], &[])] {
        let other = Firing { run: Some(run_of(Trigger::Buffered, NOON + 7)), ..next.clone() };
        let key = started(&begin(fixture.store(), next.clone()).await);
        assert_eq!(begin(fixture.other(), other).await, Begun::Lost, "it was not as seen");
        row = fixture.schedule("mark").await;
        assert_eq!(row.waiting_slots, slots(waits));
        finish(fixture.store(), &key, &next).await;
        if let Some(slot_s) = waits.first() {
            next = turn(&row, Trigger::Buffered, *slot_s, later);
        }
    }
    let lines = [
        "schedule|0|1|succeeded|-|-",
        "buffered|60|1|succeeded|-|-",
        "buffered|120|1|succeeded|-|-",
    ];
    assert_eq!(fixture.lines("mark").await, lines);
}

/// A slot whose turn finds the lease held waits on, before the others.
pub async fn a_turn_that_finds_the_lease_held_is_not_lost(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let by_hand = manual("mark", InstanceId::new());
    let key = started(&begin(fixture.store(), by_hand.clone()).await);
    // The first of several, and one that waits: neither is a skip.
    let row = fixture.schedule("mark").await;
    let first = turn(&row, Trigger::Schedule, 0, &[60]);
    assert!(matches!(begin(fixture.other(), first).await, Begun::Busy(_)));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.waiting_slots.clone(), row.buffered_for_ms), (slots(&[0, 60]), None));
    let again = turn(&row, Trigger::Buffered, 0, &[60]);
    assert!(matches!(begin(fixture.other(), again).await, Begun::Busy(_)));
    let row = fixture.schedule("mark").await;
    assert_eq!(row.waiting_slots, slots(&[0, 60]));
    assert_eq!(fixture.lines("mark").await, ["manual|0|1|running|-|-"]);
    finish(fixture.store(), &key, &by_hand).await;
    started(&begin(fixture.other(), turn(&row, Trigger::Buffered, 0, &[60])).await);
    assert_eq!(fixture.schedule("mark").await.waiting_slots, slots(&[60]));
}

/// What waits outlives the process whose run is under way, an operator's pause and cadence, and a
/// changed definition.
pub async fn what_waits_outlives_crashes_pauses_and_definitions(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    started(&begin(fixture.store(), turn(&row, Trigger::Schedule, 0, &[60, 120])).await);
    fixture.advance_ms(LEASE_MS);
    let cut = fixture.interrupted("mark").await.remove(0);
    let close = Firing { interrupted: Some(cut), ..firing("mark", InstanceId::new()) };
    assert_eq!(begin(fixture.other(), close).await, Begun::Recorded);
    let often = Cadence::every(Duration::from_secs(7));
    assert!(fixture.other().set_paused("mark", true).await.expect("paused"));
    assert!(fixture.other().set_paused("mark", false).await.expect("resumed"));
    assert!(fixture.other().set_cadence("mark", Some(&often)).await.expect("changed"));
    for cadence in [Cadence::every(Duration::from_secs(90)), Cadence::Manual] {
        let hash = cadence.to_string();
        let changed = JobSeed { definition_hash: hash, cadence, ..seed("mark") };
        fixture.store().register_jobs(&[changed]).await.expect("registered");
    }
    let row = fixture.schedule("mark").await;
    assert_eq!(row.waiting_slots, slots(&[60, 120]));
    started(&begin(fixture.other(), turn(&row, Trigger::Buffered, 60, &[120])).await);
}

/// A slot that is not one of them obeys its overlap policy, whoever waits.
pub async fn a_slot_of_its_own_does_not_join_those_that_wait(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    started(&begin(fixture.store(), turn(&row, Trigger::Schedule, -60, &[-30])).await);
    let row = fixture.schedule("mark").await;
    let own = fire(&row, InstanceId::new());
    assert!(matches!(begin(fixture.other(), own).await, Begun::Busy(_)));
    let row = fixture.schedule("mark").await;
    assert_eq!(row.waiting_slots, slots(&[-30]));
    assert_eq!(row.next_due_at_ms, Some(NOON + MINUTE_MS));
    let lines = ["schedule|-60|1|running|-|-", "schedule|0|1|skipped_overlap|1|0"];
    assert_eq!(fixture.lines("mark").await, lines);
}

/// What is too late and what is too much are two misses of one decision.
pub async fn misses_on_both_sides_of_a_turn_are_two_rows(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    let both = [missed(-300, -180, 3), missed(0, 120, 3)].concat();
    let late = Firing { missed: both, ..turn(&row, Trigger::Schedule, -120, &[-60]) };
    started(&begin(fixture.store(), late).await);
    assert_eq!(
        fixture.lines("mark").await,
        [
            "schedule|-300|1|missed|3|-180",
            "schedule|-120|1|running|-|-",
            "schedule|0|1|missed|3|120"
        ]
    );
}
