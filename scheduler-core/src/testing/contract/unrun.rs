//! Slots that do not run: missed, skipped, waiting; nothing is lost silently.

use super::steps::{
    LEASE_MS, Steps, advance, begin, finish, fire, firing, manual, missed, run_of, scoped, started,
};
use super::{Fixture, NOON};
use crate::definition::Overlap;
use crate::lease::LeaseKey;
use crate::plan::Missed;
use crate::run::{InstanceId, Trigger};
use crate::store::{Advance, Begun, Firing, Renewal};

/// Consecutive misses are one row; a run between them begins another.
pub async fn consecutive_misses_are_one_row_that_grows(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    let miss = |missed| Firing { missed, ..firing("mark", me) };
    assert_eq!(begin(fixture.store(), miss(missed(0, 60, 2))).await, Begun::Recorded);
    assert_eq!(begin(fixture.other(), miss(missed(120, 120, 1))).await, Begun::Recorded);
    assert_eq!(begin(fixture.store(), miss(missed(180, 360, 4))).await, Begun::Recorded);
    assert_eq!(fixture.lines("mark").await, ["schedule|0|1|missed|7|360"]);
    // A run between them ends the row; the next miss is another.
    let slot =
        Firing { run: Some(run_of(Trigger::Schedule, NOON + 420_000)), ..firing("mark", me) };
    let key = started(&begin(fixture.store(), slot.clone()).await);
    finish(fixture.store(), &key, &slot).await;
    assert_eq!(begin(fixture.store(), miss(missed(480, 480, 1))).await, Begun::Recorded);
    assert_eq!(
        fixture.lines("mark").await,
        [
            "schedule|0|1|missed|7|360",
            "schedule|420|1|succeeded|-|-",
            "schedule|480|1|missed|1|480"
        ]
    );
    // Another scope's misses are another row.
    let scoped = Firing { scope_key: me.to_string(), ..miss(missed(540, 540, 1)) };
    assert_eq!(begin(fixture.store(), scoped).await, Begun::Recorded);
    assert_eq!(fixture.lines("mark").await.len(), 4);
}

/// Slots that come while a run goes on are one row whose count grows.
pub async fn consecutive_skips_are_one_row_that_grows(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    started(&begin(fixture.store(), manual("mark", me)).await);
    for slot in 1..=3 {
        let skipped = Firing {
            run: Some(run_of(Trigger::Schedule, NOON + slot * 1_000)),
            ..firing("mark", InstanceId::new())
        };
        assert!(matches!(begin(fixture.other(), skipped).await, Begun::Busy(_)));
    }
    assert_eq!(
        fixture.lines("mark").await,
        ["manual|0|1|running|-|-", "schedule|1|1|skipped_overlap|3|3"]
    );
}

/// A waiting slot that finds the lease held waits on; the newest wins.
pub async fn a_slot_that_waits_goes_on_waiting_and_the_newest_wins(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    for (slot, waits) in
        [(NOON + 2_000, NOON + 2_000), (NOON + 1_000, NOON + 2_000), (NOON + 3_000, NOON + 3_000)]
    {
        let waiting = Firing {
            run: Some(run_of(Trigger::Buffered, slot)),
            ..firing("mark", InstanceId::new())
        };
        assert!(matches!(begin(fixture.other(), waiting).await, Begun::Busy(_)));
        assert_eq!(fixture.schedule("mark").await.buffered_for_ms, Some(waits));
    }
    assert_eq!(fixture.lines("mark").await.len(), 1, "a waiting slot is no run yet");
}

/// The slot of a job that buffers waits for the lease; one that waited before it is skipped.
pub async fn a_slot_of_a_job_that_buffers_waits_and_a_newer_one_takes_its_place(
    fixture: &dyn Fixture,
) {
    let running = overlapped(fixture, Overlap::BufferOne).await;
    let renewal = fixture.store().renew(&running, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { cancel_requested: false, .. }), "{renewal:?}");
}

/// The same where the newer one need not wait any more: the run before it ended a moment ago.
pub async fn a_slot_that_fires_takes_the_place_of_an_older_one_that_waits(fixture: &dyn Fixture) {
    let running = overlapped(fixture, Overlap::BufferOne).await;
    let row = fixture.schedule("mark").await;
    let before = manual("mark", running.holder);
    finish(fixture.store(), &running, &before).await;
    let mut next = Firing { overlap: Overlap::BufferOne, ..fire(&row, InstanceId::new()) };
    next.advance.as_mut().expect("an advance").buffered_for_ms = None;
    started(&begin(fixture.other(), next).await);
    assert_eq!(fixture.schedule("mark").await.buffered_for_ms, None);
    let lines = fixture.lines("mark").await;
    assert_eq!(
        lines[1..],
        ["schedule|60|1|skipped_overlap|2|120", "schedule|180|1|running|-|-"],
        "it is skipped, and recorded as such"
    );
}

/// The same for a job that replaces, whose run is asked to end, too.
pub async fn a_slot_that_replaces_asks_the_run_to_end_and_waits_for_it(fixture: &dyn Fixture) {
    let running = overlapped(fixture, Overlap::Replace).await;
    let renewal = fixture.store().renew(&running, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { cancel_requested: true, .. }), "{renewal:?}");
}

/// Two slots that come while a run goes on; answers the grant of the run.
async fn overlapped(fixture: &dyn Fixture, overlap: Overlap) -> LeaseKey {
    fixture.register(&["mark"]).await;
    let running = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(fixture.store(), running).await);
    for slot in [60_000, 120_000] {
        let row = fixture.schedule("mark").await;
        let next = Firing { overlap, ..fire(&row, InstanceId::new()) };
        assert!(matches!(begin(fixture.other(), next).await, Begun::Busy(_)));
        assert_eq!(fixture.schedule("mark").await.buffered_for_ms, Some(NOON + slot));
    }
    assert_eq!(
        fixture.lines("mark").await,
        ["schedule|0|1|running|-|-", "schedule|60|1|skipped_overlap|1|60"]
    );
    key
}

/// A rerun that finds the lease held waits as well: its slot is not a skip.
pub async fn a_rerun_that_finds_the_lease_held_waits_for_it(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let manual = manual("mark", InstanceId::new());
    let key = started(&begin(fixture.store(), manual.clone()).await);
    let run = Some(run_of(Trigger::Rerun, NOON));
    let rerun = Firing { run, ..firing("mark", InstanceId::new()) };
    assert!(matches!(begin(fixture.other(), rerun).await, Begun::Busy(_)));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.buffered_for_ms, row.buffered_attempts), (Some(NOON), 0));
    finish(fixture.store(), &key, &manual).await;

    // Whoever finds it waiting fires it, once.
    let waits = Firing {
        run: Some(run_of(Trigger::Buffered, NOON)),
        advance: Some(Advance {
            next_due_at_ms: row.next_due_at_ms,
            fired_for_ms: None,
            buffered_for_ms: None,
            ..advance(&row, NOON)
        }),
        ..firing("mark", InstanceId::new())
    };
    let again = Firing { run: Some(run_of(Trigger::Buffered, NOON)), ..waits.clone() };
    started(&begin(fixture.store(), waits).await);
    assert_eq!(begin(fixture.other(), again).await, Begun::Lost);
    let row = fixture.schedule("mark").await;
    assert_eq!((row.buffered_for_ms, row.next_due_at_ms), (None, Some(NOON)));
    assert_eq!(
        fixture.lines("mark").await,
        ["buffered|0|1|running|-|-", "manual|0|1|succeeded|-|-"]
    );
}

/// A skip does not grow a miss, nor a miss a skip: a row has one reason.
pub async fn a_miss_and_a_skip_are_two_rows(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    let miss = |missed| Firing { missed, ..firing("mark", me) };
    let slot = |seconds: i64| Firing {
        run: Some(run_of(Trigger::Schedule, NOON + seconds * 1_000)),
        ..firing("mark", InstanceId::new())
    };
    assert_eq!(begin(fixture.store(), miss(missed(0, 60, 2))).await, Begun::Recorded);
    started(&begin(fixture.store(), manual("mark", me)).await);
    assert!(matches!(begin(fixture.other(), slot(120)).await, Begun::Busy(_)));
    assert!(matches!(begin(fixture.other(), slot(180)).await, Begun::Busy(_)));
    assert_eq!(begin(fixture.store(), miss(missed(240, 240, 1))).await, Begun::Recorded);
    assert_eq!(
        fixture.lines("mark").await,
        [
            "manual|0|1|running|-|-",
            "schedule|0|1|missed|2|60",
            "schedule|120|1|skipped_overlap|2|180",
            "schedule|240|1|missed|1|240",
        ]
    );
}

/// A miss is over when it is written, belongs to who found it, and is no error of the worker.
pub async fn what_did_not_run_is_no_error(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    fixture.register(&["mark"]).await;
    fixture.advance_ms(300_000);
    let miss = Firing { missed: missed(0, 240, 5), ..firing("mark", me) };
    assert_eq!(begin(fixture.store(), miss).await, Begun::Recorded);
    started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    let slot = Firing { run: Some(run_of(Trigger::Start, NOON + 300_000)), ..firing("mark", me) };
    assert!(matches!(begin(fixture.other(), slot).await, Begun::Busy(_)));
    for row in fixture.runs("mark").await.iter().filter(|run| run.trigger != Trigger::Manual) {
        assert_eq!((row.started_at_ms, row.finished_at_ms), (None, Some(NOON + 300_000)));
        assert_eq!((row.instance_id, row.token), (me, None));
    }
    let worker = fixture.store().health().await.expect("health").workers.remove(0);
    assert_eq!((worker.total_runs, worker.total_errors, worker.consecutive_errors), (0, 0, 0));
}

/// A miss is written in the transaction of the run that fires: both are there or neither.
pub async fn a_miss_and_the_run_that_fires_beside_it_are_one_decision(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    let fired = Firing {
        run: Some(run_of(Trigger::Schedule, NOON + 120_000)),
        missed: missed(0, 60, 2),
        ..fire(&row, InstanceId::new())
    };
    let again = Firing { run: Some(run_of(Trigger::Schedule, NOON + 120_000)), ..fired.clone() };
    started(&begin(fixture.store(), fired).await);
    assert_eq!(begin(fixture.other(), again).await, Begun::Lost);
    assert_eq!(
        fixture.lines("mark").await,
        ["schedule|0|1|missed|2|60", "schedule|120|1|running|-|-"]
    );
}

/// What did not run of several jobs is recorded together: some of it grows a row, some begins one,
/// and of one job each comes after the one before.
pub async fn what_did_not_run_of_several_jobs_is_recorded_of_each(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    let of = |job: &str, slots: Vec<Missed>| Firing { missed: slots, ..firing(job, me) };
    let begin = async |firings: &[Firing]| {
        let begun = fixture.store().begin(firings).await.expect("begun");
        assert!(begun.iter().all(|begun| *begun == Begun::Recorded), "{begun:?}");
    };
    begin(&[of("grows", missed(0, 0, 1)), of("grows_too", missed(0, 60, 2))]).await;
    let twice = [missed(120, 120, 1), missed(180, 240, 2)].concat();
    begin(&[
        of("grows", missed(60, 60, 1)),
        of("is_new", missed(60, 60, 1)),
        of("grows_too", twice.clone()),
        of("is_new_twice", twice),
        scoped_misses("grows", me),
    ])
    .await;
    assert_eq!(
        fixture.lines("grows").await,
        ["schedule|0|1|missed|2|60", "schedule|60|1|missed|1|60"]
    );
    assert_eq!(fixture.lines("grows_too").await, ["schedule|0|1|missed|5|240"]);
    assert_eq!(fixture.lines("is_new").await, ["schedule|60|1|missed|1|60"]);
    assert_eq!(fixture.lines("is_new_twice").await, ["schedule|120|1|missed|3|240"]);
}

/// A slot that one process missed of a job whose name others have, too.
fn scoped_misses(job: &str, me: InstanceId) -> Firing {
    let firing = scoped(job, me, NOON);
    Firing { run: None, missed: missed(60, 60, 1), ..firing }
}
