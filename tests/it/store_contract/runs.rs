//! Begin and finish: one transaction each, won or lost as a whole.

use std::sync::Arc;

use scheduler_core::store::{Advance, Begun, Ending, Firing, InterruptedRun, NewRun, ScheduleRow};
use scheduler_core::{InstanceId, LeaseKey, Missed, RunStatus, Trigger};

use super::{
    Broken, Fixture, LEASE_MS, MINUTE_MS, NOON, begin, ending, firing, manual, on_sqlite, run_of,
    started, store,
};

on_sqlite! {
    several_firings_of_one_begin_each_have_their_own_answer
    a_row_that_is_not_as_it_was_seen_loses_silently
    hosts_that_saw_the_same_slot_due_run_it_once
    the_same_slot_twice_is_one_run
    two_firings_of_one_lease_are_one_run
    an_interrupted_run_is_closed_once
    a_run_whose_lease_lives_after_all_is_not_closed
    consecutive_misses_are_one_row_that_grows
    consecutive_skips_are_one_row_that_grows
    a_slot_that_waits_goes_on_waiting_and_the_newest_wins
    a_finish_without_its_lease_writes_nothing_at_all
    a_run_is_finished_once
    a_run_that_a_stop_cut_off_waits_to_run_again
    a_recorder_that_fails_rolls_the_grant_back_and_the_slot_stays_due
    a_recorder_that_fails_at_the_end_leaves_the_run_to_be_finished_again
}

/// What a host that saw `row` would fire for the slot that is due.
pub(super) fn fire(row: &ScheduleRow, instance_id: InstanceId) -> Firing {
    let slot = row.next_due_at_ms.expect("due");
    Firing {
        run: Some(run_of(Trigger::Schedule, slot)),
        advance: Some(advance(row, slot)),
        ..firing(&row.job, instance_id)
    }
}

fn advance(row: &ScheduleRow, slot_ms: i64) -> Advance {
    Advance {
        seen_due_at_ms: row.next_due_at_ms,
        seen_generation: row.generation,
        seen_buffered_for_ms: row.buffered_for_ms,
        next_due_at_ms: Some(slot_ms + MINUTE_MS),
        fired_for_ms: Some(slot_ms),
        buffered_for_ms: row.buffered_for_ms,
    }
}

/// The run of `job` that was cut off, as a look finds it.
async fn interrupted(fixture: &Fixture, job: &str) -> InterruptedRun {
    let look = store(&fixture.other).look(&[job.to_owned()]).await.expect("a look");
    look.interrupted.into_iter().next().expect("an interrupted run")
}

/// Begins a run and lets its lease expire.
async fn cut_off(fixture: &Fixture, job: &str) -> (InterruptedRun, LeaseKey) {
    let row = fixture.schedule(job).await;
    let key = started(&begin(&fixture.store, fire(&row, InstanceId::new())).await);
    fixture.advance_ms(LEASE_MS.unsigned_abs());
    (interrupted(fixture, job).await, key)
}

fn missed(from_s: i64, until_s: i64, count: i64) -> Option<Missed> {
    Some(Missed { from_ms: NOON + from_s * 1000, until_ms: NOON + until_s * 1000, count })
}

async fn several_firings_of_one_begin_each_have_their_own_answer(fixture: Fixture) {
    fixture.register(&["won", "lost", "busy", "missed", "cut"]).await;
    let (cut, _) = cut_off(&fixture, "cut").await;
    let (me, them) = (InstanceId::new(), InstanceId::new());
    let theirs = started(&begin(&fixture.other, manual("busy", them)).await);
    let mut outdated = fixture.schedule("lost").await;
    outdated.generation += 1;
    let won = fixture.schedule("won").await;
    let firings = [
        fire(&fixture.schedule("busy").await, me),
        fire(&outdated, me),
        Firing { missed: missed(-120, -60, 2), ..fire(&won, me) },
        Firing { missed: missed(0, 0, 1), ..firing("missed", me) },
        Firing {
            interrupted: Some(cut),
            run: Some(NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) }),
            ..firing("cut", me)
        },
        manual("manual", me),
    ];

    let begun = store(&fixture.store).begin(&firings).await.expect("begun");

    let busy = matches!(&begun[0], Begun::Busy(holder) if holder.instance == them.to_string());
    assert!(busy, "{begun:?}");
    assert_eq!(begun[1], Begun::Lost);
    assert_eq!(started(&begun[2]).name, "won");
    assert_eq!(begun[3], Begun::Recorded);
    assert_eq!((started(&begun[4]).name.as_str(), started(&begun[4]).token), ("cut", 2));
    assert_eq!(started(&begun[5]).name, "manual");
    assert_eq!(
        fixture.runs("busy").await,
        ["manual|0|1|running|-|-", "schedule|0|1|skipped_overlap|1|0"]
    );
    assert!(fixture.runs("lost").await.is_empty());
    assert_eq!(
        fixture.runs("won").await,
        ["schedule|-120|1|missed|2|-60", "schedule|0|1|running|-|-"]
    );
    assert_eq!(fixture.runs("missed").await, ["schedule|0|1|missed|1|0"]);
    assert_eq!(fixture.runs("cut").await, ["schedule|0|1|lease_lost|-|-", "rerun|0|2|running|-|-"]);
    assert_eq!(fixture.schedule("won").await.next_due_at_ms, Some(NOON + MINUTE_MS));
    assert_eq!(fixture.schedule("lost").await.next_due_at_ms, Some(NOON));
    let holder = store(&fixture.store).holder("busy").await.expect("holder").expect("held");
    assert_eq!(holder.instance, theirs.holder.to_string());
}

async fn a_row_that_is_not_as_it_was_seen_loses_silently(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    type Change = fn(&mut Advance);
    let seen: [(&str, Change); 5] = [
        ("generation", |seen| seen.seen_generation += 1),
        ("older generation", |seen| seen.seen_generation -= 1),
        ("due", |seen| seen.seen_due_at_ms = Some(NOON - 1)),
        ("no due", |seen| seen.seen_due_at_ms = None),
        ("waiting slot", |seen| seen.seen_buffered_for_ms = Some(NOON)),
    ];
    let before = fixture.everything().await;
    for (what, change) in seen {
        let mut firing = fire(&row, InstanceId::new());
        change(firing.advance.as_mut().expect("an advance"));
        let firing = Firing { missed: missed(-60, -60, 1), ..firing };
        assert_eq!(begin(&fixture.store, firing).await, Begun::Lost, "{what}");
        assert_eq!(fixture.everything().await, before, "{what}");
    }
    fixture.database.execute("UPDATE schedules SET paused = TRUE").await;
    let before = fixture.everything().await;
    assert_eq!(begin(&fixture.store, fire(&row, InstanceId::new())).await, Begun::Lost, "paused");
    assert_eq!(fixture.everything().await, before, "paused");
    // A person's run ignores the pause.
    started(&begin(&fixture.store, manual("mark", InstanceId::new())).await);
}

async fn hosts_that_saw_the_same_slot_due_run_it_once(fixture: Fixture) {
    let jobs = ["a", "b", "c"];
    fixture.register(&jobs).await;
    for round in 0..20 {
        let mut rows = Vec::new();
        for job in jobs {
            rows.push(fixture.schedule(job).await);
        }
        let firings = |instance| rows.iter().map(|row| fire(row, instance)).collect::<Vec<_>>();
        let (ours, theirs) = (firings(InstanceId::new()), firings(InstanceId::new()));
        let begun =
            tokio::join!(store(&fixture.store).begin(&ours), store(&fixture.other).begin(&theirs));
        let begun = (begun.0.expect("begun"), begun.1.expect("begun"));
        for (position, job) in jobs.iter().enumerate() {
            match (&begun.0[position], &begun.1[position]) {
                (Begun::Started { key, .. }, Begun::Lost) => {
                    finish(&fixture, key, &ours[position]).await;
                }
                (Begun::Lost, Begun::Started { key, .. }) => {
                    finish(&fixture, key, &theirs[position]).await;
                }
                both => panic!("round {round}, {job}: {both:?}"),
            }
            assert_eq!(fixture.runs(job).await.len(), round + 1);
        }
        fixture.advance_ms(MINUTE_MS.unsigned_abs());
    }
}

pub(super) async fn finish(fixture: &Fixture, key: &LeaseKey, firing: &Firing) {
    let ending = ending(key, firing.run.expect("a run").id);
    assert!(store(&fixture.store).finish(&ending).await.expect("finished"));
}

async fn the_same_slot_twice_is_one_run(fixture: Fixture) {
    let slot = |instance| Firing {
        run: Some(run_of(Trigger::Schedule, NOON)),
        ..firing("mark", instance)
    };
    let first = slot(InstanceId::new());
    let key = started(&begin(&fixture.store, first.clone()).await);
    finish(&fixture, &key, &first).await;
    assert_eq!(begin(&fixture.other, slot(InstanceId::new())).await, Begun::Lost);
    assert_eq!(fixture.runs("mark").await, ["schedule|0|1|succeeded|-|-"]);
    assert_eq!(store(&fixture.store).holder("mark").await.expect("holder"), None);
    // Another attempt of the slot, and a person's run at the same instant, are other runs.
    let again = NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) };
    let again = Firing { run: Some(again), ..firing("mark", InstanceId::new()) };
    let key = started(&begin(&fixture.other, again.clone()).await);
    finish(&fixture, &key, &again).await;
    started(&begin(&fixture.other, manual("mark", InstanceId::new())).await);
}

async fn two_firings_of_one_lease_are_one_run(fixture: Fixture) {
    let me = InstanceId::new();
    let of = |slot| Firing { run: Some(run_of(Trigger::Schedule, slot)), ..firing("mark", me) };
    let begun = store(&fixture.store).begin(&[of(NOON), of(NOON + 1_000)]).await.expect("begun");
    started(&begun[0]);
    assert!(
        matches!(&begun[1], Begun::Busy(holder) if holder.instance == me.to_string()),
        "{begun:?}"
    );
    assert_eq!(
        fixture.runs("mark").await,
        ["schedule|0|1|running|-|-", "schedule|1|1|skipped_overlap|1|1"]
    );
}

async fn an_interrupted_run_is_closed_once(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let (cut, _) = cut_off(&fixture, "mark").await;
    let close = |instance| Firing { interrupted: Some(cut.clone()), ..firing("mark", instance) };
    let rerun = |instance| Firing {
        run: Some(NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) }),
        ..close(instance)
    };
    let twice = [close(InstanceId::new()), close(InstanceId::new())];
    let begun = store(&fixture.store).begin(&twice).await.expect("begun");
    assert_eq!(begun, [Begun::Recorded, Begun::Lost]);
    assert_eq!(begin(&fixture.other, rerun(InstanceId::new())).await, Begun::Lost);

    let health = store(&fixture.store).health().await.expect("health");
    let worker = &health.workers[0];
    assert_eq!((worker.total_runs, worker.total_errors, worker.consecutive_errors), (1, 1, 1));
    assert_eq!(fixture.runs("mark").await, ["schedule|0|1|lease_lost|-|-"]);
    let look = store(&fixture.store).look(&["mark".to_owned()]).await.expect("a look");
    assert!(look.interrupted.is_empty());
}

async fn a_run_whose_lease_lives_after_all_is_not_closed(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let (cut, key) = cut_off(&fixture, "mark").await;
    // The clock steps back: the lease lives again, and its holder renews it.
    fixture.clock.set(NOON + LEASE_MS - 1);
    store(&fixture.store).renew(&key, LEASE_MS).await.expect("renewed");
    let before = fixture.everything().await;
    let close = Firing { interrupted: Some(cut), ..firing("mark", InstanceId::new()) };
    assert_eq!(begin(&fixture.other, close).await, Begun::Lost);
    assert_eq!(fixture.everything().await, before);
}

async fn consecutive_misses_are_one_row_that_grows(fixture: Fixture) {
    let me = InstanceId::new();
    let miss = |missed| Firing { missed, ..firing("mark", me) };
    assert_eq!(begin(&fixture.store, miss(missed(0, 60, 2))).await, Begun::Recorded);
    assert_eq!(begin(&fixture.other, miss(missed(120, 120, 1))).await, Begun::Recorded);
    assert_eq!(begin(&fixture.store, miss(missed(180, 360, 4))).await, Begun::Recorded);
    assert_eq!(fixture.runs("mark").await, ["schedule|0|1|missed|7|360"]);
    // A run between them ends the row; the next miss is another.
    let slot =
        Firing { run: Some(run_of(Trigger::Schedule, NOON + 420_000)), ..firing("mark", me) };
    let key = started(&begin(&fixture.store, slot.clone()).await);
    finish(&fixture, &key, &slot).await;
    assert_eq!(begin(&fixture.store, miss(missed(480, 480, 1))).await, Begun::Recorded);
    assert_eq!(
        fixture.runs("mark").await,
        [
            "schedule|0|1|missed|7|360",
            "schedule|420|1|succeeded|-|-",
            "schedule|480|1|missed|1|480"
        ]
    );
    // Another scope's misses are another row.
    let scoped = Firing { scope_key: me.to_string(), ..miss(missed(540, 540, 1)) };
    assert_eq!(begin(&fixture.store, scoped).await, Begun::Recorded);
    assert_eq!(fixture.runs("mark").await.len(), 4);
}

async fn consecutive_skips_are_one_row_that_grows(fixture: Fixture) {
    let me = InstanceId::new();
    started(&begin(&fixture.store, manual("mark", me)).await);
    for slot in 1..=3 {
        let skipped = Firing {
            run: Some(run_of(Trigger::Schedule, NOON + slot * 1_000)),
            ..firing("mark", InstanceId::new())
        };
        assert!(matches!(begin(&fixture.other, skipped).await, Begun::Busy(_)));
    }
    assert_eq!(
        fixture.runs("mark").await,
        ["manual|0|1|running|-|-", "schedule|1|1|skipped_overlap|3|3"]
    );
}

async fn a_slot_that_waits_goes_on_waiting_and_the_newest_wins(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    started(&begin(&fixture.store, manual("mark", InstanceId::new())).await);
    for (slot, waits) in
        [(NOON + 2_000, NOON + 2_000), (NOON + 1_000, NOON + 2_000), (NOON + 3_000, NOON + 3_000)]
    {
        let waiting = Firing {
            run: Some(run_of(Trigger::Buffered, slot)),
            ..firing("mark", InstanceId::new())
        };
        assert!(matches!(begin(&fixture.other, waiting).await, Begun::Busy(_)));
        assert_eq!(fixture.schedule("mark").await.buffered_for_ms, Some(waits));
    }
    assert_eq!(fixture.runs("mark").await.len(), 1, "a waiting slot is no run yet");
}

async fn a_finish_without_its_lease_writes_nothing_at_all(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(&fixture.store, firing).await);
    let refused = |key: LeaseKey| Ending { rerun: true, ..ending(&key, run_id) };
    let before = fixture.everything().await;
    for (what, key) in [
        ("a foreign holder", LeaseKey { holder: InstanceId::new(), ..key.clone() }),
        ("an older token", LeaseKey { token: key.token - 1, ..key.clone() }),
        ("another name", LeaseKey { name: "clone".into(), ..key.clone() }),
    ] {
        assert!(!store(&fixture.store).finish(&refused(key)).await.expect(what), "{what}");
        assert_eq!(fixture.everything().await, before, "{what}");
    }
    fixture.advance_ms(LEASE_MS.unsigned_abs());
    for ending in [refused(key.clone()), Ending { keep_row: false, ..refused(key.clone()) }] {
        assert!(!store(&fixture.store).finish(&ending).await.expect("expired"), "at its expiry");
        assert_eq!(fixture.everything().await, before, "at its expiry");
    }
    started(&begin(&fixture.other, manual("mark", InstanceId::new())).await);
    let before = fixture.everything().await;
    assert!(!store(&fixture.store).finish(&refused(key)).await.expect("taken"));
    assert_eq!(fixture.everything().await, before, "taken by another");
}

async fn a_run_is_finished_once(fixture: Fixture) {
    let firing = manual("mark", InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(&fixture.store, firing).await);
    let ending = ending(&key, run_id);
    let (first, second) =
        tokio::join!(store(&fixture.store).finish(&ending), store(&fixture.other).finish(&ending));
    let mut answers = [first.expect("finished"), second.expect("finished")];
    answers.sort_unstable();
    assert_eq!(answers, [false, true]);
    let health = store(&fixture.store).health().await.expect("health");
    assert_eq!(health.workers[0].total_runs, 1);
}

async fn a_run_that_a_stop_cut_off_waits_to_run_again(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(&fixture.store, firing).await);
    let mut cut = Ending { rerun: true, ..ending(&key, run_id) };
    cut.run.status = RunStatus::Cancelled;
    assert!(store(&fixture.store).finish(&cut).await.expect("finished"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.buffered_for_ms, row.buffered_attempts), (Some(NOON), 1));
    assert_eq!(row.leased_until_ms, None);
}

async fn a_recorder_that_fails_rolls_the_grant_back_and_the_slot_stays_due(fixture: Fixture) {
    fixture.register(&["mark", "sound"]).await;
    let me = InstanceId::new();
    let before = fixture.everything().await;
    let broken = Firing {
        recorder: Arc::new(Broken),
        missed: missed(-60, -60, 1),
        ..fire(&fixture.schedule("mark").await, me)
    };
    // What shares the transaction shares its fate.
    let firings = [fire(&fixture.schedule("sound").await, me), broken];
    let error = store(&fixture.store).begin(&firings).await.expect_err("the recorder failed");
    assert!(error.to_string().contains("record a run"), "{error}");
    assert_eq!(fixture.everything().await, before);
    for job in ["mark", "sound"] {
        let row = fixture.schedule(job).await;
        assert_eq!(row.next_due_at_ms, Some(NOON), "{job} stays due");
        started(&begin(&fixture.store, fire(&row, me)).await);
    }
}

async fn a_recorder_that_fails_at_the_end_leaves_the_run_to_be_finished_again(fixture: Fixture) {
    let firing = manual("mark", InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(&fixture.store, firing).await);
    let before = fixture.everything().await;
    let broken = Ending { recorder: Arc::new(Broken), rerun: true, ..ending(&key, run_id) };
    store(&fixture.store).finish(&broken).await.expect_err("the recorder failed");
    assert_eq!(fixture.everything().await, before);
    assert!(store(&fixture.store).finish(&ending(&key, run_id)).await.expect("finished"));
}
