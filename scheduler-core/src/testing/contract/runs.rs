//! Begin: the schedule row, the grant and the run's row are one decision, won or lost as a whole.

use std::sync::Arc;

use super::steps::{
    Broken, MINUTE_MS, Steps, begin, finish, fire, firing, manual, missed, run_of, scoped, started,
};
use super::{Fixture, NOON};
use crate::run::{InstanceId, RunStatus, Trigger};
use crate::store::{Advance, Begun, Firing, NewRun, WaitingSlot};
use crate::testing::JobEdit;

/// Jobs that are due together share a transaction and nothing else.
pub async fn several_firings_of_one_begin_each_have_their_own_answer(fixture: &dyn Fixture) {
    fixture.register(&["won", "lost", "busy", "missed", "cut"]).await;
    let (cut, _) = fixture.cut_off("cut").await;
    let (me, them) = (InstanceId::new(), InstanceId::new());
    let theirs = started(&begin(fixture.other(), manual("busy", them)).await);
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

    let begun = fixture.store().begin(&firings).await.expect("begun");

    let busy = matches!(&begun[0], Begun::Busy(holder) if holder.instance == them.to_string());
    assert!(busy, "{begun:?}");
    assert_eq!(begun[1], Begun::Lost);
    assert_eq!(started(&begun[2]).name, "won");
    assert_eq!(begun[3], Begun::Recorded);
    assert_eq!((started(&begun[4]).name.as_str(), started(&begun[4]).token), ("cut", 2));
    assert_eq!(started(&begun[5]).name, "manual");
    assert_eq!(
        fixture.lines("busy").await,
        ["manual|0|1|running|-|-", "schedule|0|1|skipped_overlap|1|0"]
    );
    assert!(fixture.lines("lost").await.is_empty());
    assert_eq!(
        fixture.lines("won").await,
        ["schedule|-120|1|missed|2|-60", "schedule|0|1|running|-|-"]
    );
    assert_eq!(fixture.lines("missed").await, ["schedule|0|1|missed|1|0"]);
    assert_eq!(
        fixture.lines("cut").await,
        ["schedule|0|1|lease_lost|-|-", "rerun|0|2|running|-|-"]
    );
    assert_eq!(fixture.schedule("won").await.next_due_at_ms, Some(NOON + MINUTE_MS));
    assert_eq!(fixture.schedule("lost").await.next_due_at_ms, Some(NOON));
    let holder = fixture.store().holder("busy").await.expect("holder").expect("held");
    assert_eq!(holder.instance, theirs.holder.to_string());
}

/// Whoever does not find the row as it was seen has lost the slot, and writes nothing.
pub async fn a_row_that_is_not_as_it_was_seen_loses_silently(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    type Change = fn(&mut Advance);
    let seen: [(&str, Change); 6] = [
        ("generation", |seen| seen.seen_generation += 1),
        ("older generation", |seen| seen.seen_generation -= 1),
        ("due", |seen| seen.seen_due_at_ms = Some(NOON - 1)),
        ("no due", |seen| seen.seen_due_at_ms = None),
        ("waiting slot", |seen| seen.seen_buffered_for_ms = Some(NOON)),
        ("waiting slots", |seen| {
            seen.seen_waiting_slots = vec![WaitingSlot { slot_ms: NOON, attempts: 0 }];
        }),
    ];
    let before = fixture.everything().await;
    for (what, change) in seen {
        let mut firing = fire(&row, InstanceId::new());
        change(firing.advance.as_mut().expect("an advance"));
        let firing = Firing { missed: missed(-60, -60, 1), ..firing };
        assert_eq!(begin(fixture.store(), firing).await, Begun::Lost, "{what}");
        assert_eq!(fixture.everything().await, before, "{what}");
    }
    fixture.edit(JobEdit::Pause { job: "mark".into() }).await;
    let before = fixture.everything().await;
    assert_eq!(begin(fixture.store(), fire(&row, InstanceId::new())).await, Begun::Lost, "paused");
    assert_eq!(fixture.everything().await, before, "paused");
    // A person's run ignores the pause.
    started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
}

/// Several hosts that see one slot due at once run it once.
pub async fn hosts_that_saw_the_same_slot_due_run_it_once(fixture: &dyn Fixture) {
    let jobs = ["a", "b", "c"];
    fixture.register(&jobs).await;
    for round in 0..20 {
        let mut rows = Vec::new();
        for job in jobs {
            rows.push(fixture.schedule(job).await);
        }
        let firings = |instance| rows.iter().map(|row| fire(row, instance)).collect::<Vec<_>>();
        let (ours, theirs) = (firings(InstanceId::new()), firings(InstanceId::new()));
        let begun = tokio::join!(fixture.store().begin(&ours), fixture.other().begin(&theirs));
        let begun = (begun.0.expect("begun"), begun.1.expect("begun"));
        for (position, job) in jobs.iter().enumerate() {
            match (&begun.0[position], &begun.1[position]) {
                (Begun::Started { key, .. }, Begun::Lost) => {
                    finish(fixture.store(), key, &ours[position]).await;
                }
                (Begun::Lost, Begun::Started { key, .. }) => {
                    finish(fixture.store(), key, &theirs[position]).await;
                }
                both => panic!("round {round}, {job}: {both:?}"),
            }
            assert_eq!(fixture.lines(job).await.len(), round + 1);
        }
        fixture.advance_ms(MINUTE_MS);
    }
}

/// A slot has one run per attempt; a run by hand is none of them.
pub async fn the_same_slot_twice_is_one_run(fixture: &dyn Fixture) {
    let slot = |instance| Firing {
        run: Some(run_of(Trigger::Schedule, NOON)),
        ..firing("mark", instance)
    };
    let first = slot(InstanceId::new());
    let key = started(&begin(fixture.store(), first.clone()).await);
    finish(fixture.store(), &key, &first).await;
    assert_eq!(begin(fixture.other(), slot(InstanceId::new())).await, Begun::Lost);
    assert_eq!(fixture.lines("mark").await, ["schedule|0|1|succeeded|-|-"]);
    assert_eq!(fixture.store().holder("mark").await.expect("holder"), None);
    // Another attempt of the slot, and a person's run at the same instant, are other runs.
    let again = NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) };
    let again = Firing { run: Some(again), ..firing("mark", InstanceId::new()) };
    let key = started(&begin(fixture.other(), again.clone()).await);
    finish(fixture.store(), &key, &again).await;
    started(&begin(fixture.other(), manual("mark", InstanceId::new())).await);
}

/// Of two firings that want one lease at once, the first has it.
pub async fn two_firings_of_one_lease_are_one_run(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    let of = |slot| Firing { run: Some(run_of(Trigger::Schedule, slot)), ..firing("mark", me) };
    let begun = fixture.store().begin(&[of(NOON), of(NOON + 1_000)]).await.expect("begun");
    started(&begun[0]);
    assert!(
        matches!(&begun[1], Begun::Busy(holder) if holder.instance == me.to_string()),
        "{begun:?}"
    );
    assert_eq!(
        fixture.lines("mark").await,
        ["schedule|0|1|running|-|-", "schedule|1|1|skipped_overlap|1|1"]
    );
}

/// A recorder that fails at the start undoes the whole begin.
pub async fn a_recorder_that_fails_rolls_the_grant_back_and_the_slot_stays_due(
    fixture: &dyn Fixture,
) {
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
    let error = fixture.store().begin(&firings).await.expect_err("the recorder failed");
    assert!(error.to_string().contains("record a run"), "{error}");
    assert_eq!(fixture.everything().await, before);
    for job in ["mark", "sound"] {
        let row = fixture.schedule(job).await;
        assert_eq!(row.next_due_at_ms, Some(NOON), "{job} stays due");
        started(&begin(fixture.store(), fire(&row, me)).await);
    }
}

/// Of two firings that move one row in one begin, the first moves it and the other has lost.
pub async fn two_firings_of_one_row_in_one_begin_move_it_once(fixture: &dyn Fixture) {
    fixture.register(&["mark", "other"]).await;
    let (row, me) = (fixture.schedule("mark").await, InstanceId::new());
    let mut later = Firing { missed: missed(-60, -60, 1), ..fire(&row, me) };
    later.advance.as_mut().expect("an advance").next_due_at_ms = Some(NOON + 9 * MINUTE_MS);
    let firings = [fire(&row, me), fire(&fixture.schedule("other").await, me), later];
    let begun = fixture.store().begin(&firings).await.expect("begun");
    started(&begun[0]);
    started(&begun[1]);
    assert_eq!(begun[2], Begun::Lost, "the row is not as it was seen any more");
    assert_eq!(fixture.schedule("mark").await.next_due_at_ms, Some(NOON + MINUTE_MS));
    assert_eq!(fixture.lines("mark").await, ["schedule|0|1|running|-|-"]);
}

/// What a firing says about its row is what the next host sees there.
pub async fn a_firing_moves_its_row_for_every_host(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    assert_eq!((row.last_fired_for_ms, row.leased_until_ms), (None, None));
    let mut first = fire(&row, InstanceId::new());
    first.advance.as_mut().expect("an advance").buffered_for_ms = Some(NOON - 5);
    let key = started(&begin(fixture.store(), first.clone()).await);
    let row = fixture.schedule("mark").await;
    assert_eq!(row.next_due_at_ms, Some(NOON + MINUTE_MS));
    assert_eq!((row.last_fired_for_ms, row.buffered_for_ms), (Some(NOON), Some(NOON - 5)));
    assert_eq!(row.leased_until_ms, Some(NOON + first.lease_ms));
    finish(fixture.store(), &key, &first).await;
    // Nothing runs: the due time moves, the last fire does not.
    let row = fixture.schedule("mark").await;
    let mut nothing = Firing { run: None, ..fire(&row, InstanceId::new()) };
    let advance = nothing.advance.as_mut().expect("an advance");
    (advance.fired_for_ms, advance.next_due_at_ms) = (None, None);
    assert_eq!(begin(fixture.other(), nothing).await, Begun::Recorded);
    let row = fixture.schedule("mark").await;
    assert_eq!((row.last_fired_for_ms, row.next_due_at_ms), (Some(NOON), None));
    assert_eq!(row.leased_until_ms, None);
}

/// A run says what started it, when, for whom and under which grant.
pub async fn a_run_says_who_runs_it_and_since_when(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    fixture.advance_ms(7);
    let firing = manual("mark", me);
    let begun = begin(fixture.store(), firing.clone()).await;
    let Begun::Started { key, expires_at_ms, started_at_ms } = begun else {
        panic!("expected a run that started, got {begun:?}");
    };
    assert_eq!((key.name.as_str(), key.holder, key.token), ("mark", me, 1));
    assert_eq!((expires_at_ms, started_at_ms), (NOON + 7 + firing.lease_ms, NOON + 7));
    let run = fixture.runs("mark").await.remove(0);
    assert_eq!(run.id, firing.run.expect("a run").id);
    assert_eq!((run.job.as_str(), run.scope_key.as_str()), ("mark", ""));
    assert_eq!((run.trigger, run.status), (Trigger::Manual, RunStatus::Running));
    assert_eq!((run.scheduled_for_ms, run.attempt), (NOON, 1));
    assert_eq!((run.started_at_ms, run.finished_at_ms), (Some(NOON + 7), None));
    assert_eq!((run.instance_id, run.token), (me, Some(1)));
    assert_eq!((run.summary, run.error), (None, None));
    assert_eq!((run.missed_count, run.missed_until_ms), (None, None));
}

/// Two runs by hand at one instant are two runs; they take the same lease, one after the other.
pub async fn runs_by_hand_share_no_slot_and_move_no_row(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let before = format!("{:?}", fixture.schedule("mark").await);
    for runs in 1..=2 {
        let firing = manual("mark", InstanceId::new());
        let key = started(&begin(fixture.store(), firing.clone()).await);
        let busy = begin(fixture.other(), manual("mark", InstanceId::new())).await;
        assert!(matches!(busy, Begun::Busy(_)), "{busy:?}");
        finish(fixture.store(), &key, &firing).await;
        assert_eq!(fixture.lines("mark").await, vec!["manual|0|1|succeeded|-|-"; runs]);
    }
    assert_eq!(format!("{:?}", fixture.schedule("mark").await), before);
}

/// A job of scope Instance runs each slot once in each process, under a lease of the process.
pub async fn each_process_has_its_own_run_of_a_slot(fixture: &dyn Fixture) {
    let (me, them) = (InstanceId::new(), InstanceId::new());
    let ours = scoped("poll", me, NOON);
    let key = started(&begin(fixture.store(), ours.clone()).await);
    assert_eq!(key.name, format!("poll@{me}"));
    started(&begin(fixture.other(), scoped("poll", them, NOON)).await);
    assert_eq!(fixture.lines("poll").await, ["schedule|0|1|running|-|-"; 2]);
    let busy = begin(fixture.store(), scoped("poll", me, NOON + 1_000)).await;
    assert!(matches!(&busy, Begun::Busy(holder) if holder.instance == me.to_string()), "{busy:?}");
    finish(fixture.store(), &key, &ours).await;
    assert_eq!(begin(fixture.store(), scoped("poll", me, NOON)).await, Begun::Lost);
    let mut scopes: Vec<String> =
        fixture.runs("poll").await.into_iter().map(|run| run.scope_key).collect();
    scopes.sort();
    scopes.dedup();
    assert_eq!(scopes.len(), 2);
}

/// Nothing to begin begins nothing.
pub async fn a_begin_of_nothing_writes_nothing(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let before = fixture.everything().await;
    assert_eq!(fixture.store().begin(&[]).await.expect("begun"), []);
    let nothing = firing("mark", InstanceId::new());
    assert_eq!(begin(fixture.store(), nothing).await, Begun::Recorded);
    assert_eq!(fixture.everything().await, before);
}
