//! Runs of one job beside each other: each under a lease of its own, up to a limit.

use super::steps::{
    LEASE_MS, MINUTE_MS, Steps, begin, ending, finish, fire, firing, manual, run_of, started,
};
use super::{Fixture, NOON};
use crate::definition::Overlap;
use crate::run::{InstanceId, RunStatus, Trigger};
use crate::store::{Begun, Ending, Firing, NewRun, Renewal, WaitingSlot};

fn allowed(firing: Firing, overlap_limit: u32) -> Firing {
    let run = firing.run.expect("a run");
    Firing { overlap: Overlap::Allow, overlap_limit, ..firing }.of_run(run)
}

/// The slot that is due now, beside at most so many.
async fn due(fixture: &dyn Fixture, overlap_limit: u32) -> Firing {
    allowed(fire(&fixture.schedule("mark").await, InstanceId::new()), overlap_limit)
}

/// Runs go on beside each other over all hosts, each under its own lease, until the limit: the slot
/// that comes then is a skip, and a run by hand is told whose lease ends first.
pub async fn runs_go_on_beside_each_other_up_to_the_limit(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let first = due(fixture, 2).await;
    let one = started(&begin(fixture.store(), first.clone()).await);
    assert_eq!(one.name, format!("mark#{}", first.run.expect("a run").id));
    fixture.advance_ms(1_000);
    let second = due(fixture, 2).await;
    let two = started(&begin(fixture.other(), second).await);
    assert_eq!(fixture.schedule("mark").await.running, 2);
    let busy = begin(fixture.store(), due(fixture, 2).await).await;
    let by_hand = allowed(manual("mark", InstanceId::new()), 2);
    let told = begin(fixture.other(), by_hand).await;
    for busy in [busy, told] {
        let first = matches!(&busy, Begun::Busy(holder)
            if holder.instance == one.holder.to_string() && holder.until_ms == NOON + LEASE_MS);
        assert!(first, "{busy:?}");
    }
    let lines = [
        "schedule|0|1|running|-|-",
        "schedule|60|1|running|-|-",
        "schedule|120|1|skipped_overlap|1|120",
    ];
    assert_eq!(fixture.lines("mark").await, lines);
    // Each ends on its own, and makes room.
    finish(fixture.store(), &one, &first).await;
    let renewal = fixture.other().renew(&two, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { .. }), "{renewal:?}");
    let renewal = fixture.store().renew(&one, LEASE_MS).await.expect("answered");
    assert_eq!(renewal, Renewal::Lost, "its lease went with it");
    started(&begin(fixture.other(), allowed(manual("mark", InstanceId::new()), 2)).await);
}

/// Hosts that begin at once do not exceed the limit, by hand or not.
pub async fn hosts_that_begin_at_once_do_not_exceed_the_limit(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    for round in 1..=10 {
        let hands = [(); 4].map(|()| allowed(manual("mark", InstanceId::new()), 2));
        let (a, b) =
            tokio::join!(fixture.store().begin(&hands[..2]), fixture.other().begin(&hands[2..]));
        let begun: Vec<Begun> = a.expect("begun").into_iter().chain(b.expect("begun")).collect();
        let mut ran = 0;
        for (begun, firing) in begun.iter().zip(&hands) {
            if let Begun::Started { key, .. } = begun {
                finish(fixture.store(), key, firing).await;
                ran += 1;
            }
        }
        assert_eq!(ran, 2, "round {round}: {begun:?}");
    }
}

/// Of several runs beside each other, each that crashed is found, closed once, and runs again; the
/// others go on.
pub async fn each_run_that_crashed_is_closed_and_runs_again(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    started(&begin(fixture.store(), due(fixture, 3).await).await);
    started(&begin(fixture.store(), due(fixture, 3).await).await);
    fixture.advance_ms(1_000);
    let lives = due(fixture, 3).await;
    let key = started(&begin(fixture.other(), lives.clone()).await);
    assert!(fixture.interrupted("mark").await.is_empty());
    fixture.advance_ms(LEASE_MS - 1_000);
    let cut = fixture.interrupted("mark").await;
    let slots: Vec<i64> = cut.iter().map(|cut| cut.scheduled_for_ms - NOON).collect();
    assert_eq!(slots, [0, MINUTE_MS]);
    let rerun = |cut: &crate::store::InterruptedRun| {
        let run = NewRun { attempt: 2, ..run_of(Trigger::Rerun, cut.scheduled_for_ms) };
        let interrupted = Some(cut.clone());
        let again = Firing { interrupted, run: Some(run), ..firing("mark", InstanceId::new()) };
        allowed(again, 2)
    };
    // One lives, so one finds room; the other waits for its turn.
    let firings = [rerun(&cut[0]), rerun(&cut[1])];
    let begun = fixture.other().begin(&firings).await.expect("begun");
    started(&begun[0]);
    assert!(matches!(begun[1], Begun::Busy(_)), "{begun:?}");
    assert_eq!(begin(fixture.store(), rerun(&cut[0])).await, Begun::Lost, "closed once");
    let row = fixture.schedule("mark").await;
    let waits = WaitingSlot { slot_ms: NOON + MINUTE_MS, attempts: 1 };
    assert_eq!((row.waiting_slots, row.buffered_for_ms), (vec![waits], None));
    assert!(fixture.interrupted("mark").await.is_empty());
    finish(fixture.other(), &key, &lives).await;
    assert_eq!(
        fixture.lines("mark").await,
        [
            "schedule|0|1|lease_lost|-|-",
            "rerun|0|2|running|-|-",
            "schedule|60|1|lease_lost|-|-",
            "schedule|120|1|succeeded|-|-"
        ]
    );
}

/// A stop that cuts several off lets each of them wait to run again.
pub async fn a_stop_that_cuts_several_off_loses_none(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let mut cut_off = Vec::new();
    for _ in 0..2 {
        let firing = due(fixture, 3).await;
        cut_off.push((started(&begin(fixture.store(), firing.clone()).await), firing));
    }
    for (key, firing) in cut_off.iter().rev() {
        let run = firing.run.expect("a run");
        let mut cut = Ending { rerun: true, ..ending(key, run.id) };
        cut.run.status = RunStatus::Cancelled;
        cut.run.scheduled_for_ms = run.scheduled_for_ms;
        assert!(fixture.store().finish(&cut).await.expect("finished"));
    }
    let row = fixture.schedule("mark").await;
    let waits = [0, MINUTE_MS].map(|at| WaitingSlot { slot_ms: NOON + at, attempts: 1 });
    assert_eq!((row.waiting_slots.as_slice(), row.buffered_for_ms), (waits.as_slice(), None));
}

/// A worker whose runs go on beside each other is held by the one whose lease is the latest, and what
/// crashed runs left is pruned.
pub async fn the_leases_of_single_runs_are_seen_and_pruned(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    started(&begin(fixture.store(), due(fixture, 3).await).await);
    fixture.advance_ms(1_000);
    let key = started(&begin(fixture.store(), due(fixture, 3).await).await);
    let worker = fixture.store().health().await.expect("health").workers.remove(0);
    assert_eq!(worker.lease_holder, Some(key.holder.to_string()));
    fixture.advance_ms(86_400_000 + LEASE_MS + 1);
    assert_eq!(fixture.store().prune(1_000).await.expect("pruned"), 2);
}
