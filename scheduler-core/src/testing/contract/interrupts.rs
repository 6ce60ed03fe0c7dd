//! Runs that a crash or a stop cut off: closed once, and their slot is due again.

use std::sync::Arc;

use super::steps::{
    Broken, LEASE_MS, MINUTE_MS, Steps, begin, ending, finish, fire, firing, manual, run_of,
    scoped, started,
};
use super::{Fixture, NOON};
use crate::run::{InstanceId, RunStatus, Trigger};
use crate::store::{Begun, Ending, Firing, NewRun};

/// A run that was cut off is closed once, as an error.
pub async fn an_interrupted_run_is_closed_once(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let (cut, _) = fixture.cut_off("mark").await;
    let close = |instance| Firing { interrupted: Some(cut.clone()), ..firing("mark", instance) };
    let rerun = |instance| Firing {
        run: Some(NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) }),
        ..close(instance)
    };
    let twice = [close(InstanceId::new()), close(InstanceId::new())];
    let begun = fixture.store().begin(&twice).await.expect("begun");
    assert_eq!(begun, [Begun::Recorded, Begun::Lost]);
    assert_eq!(begin(fixture.other(), rerun(InstanceId::new())).await, Begun::Lost);

    let health = fixture.store().health().await.expect("health");
    let worker = &health.workers[0];
    assert_eq!((worker.total_runs, worker.total_errors, worker.consecutive_errors), (1, 1, 1));
    assert_eq!(fixture.lines("mark").await, ["schedule|0|1|lease_lost|-|-"]);
    assert!(fixture.interrupted("mark").await.is_empty());
}

/// A slot that was cut off does not run again if its job was paused after the look: it is closed by
/// who looks then.
pub async fn a_run_that_was_cut_off_does_not_run_again_while_its_job_is_paused(
    fixture: &dyn Fixture,
) {
    fixture.register(&["mark"]).await;
    let (cut, _) = fixture.cut_off("mark").await;
    let close = Firing { interrupted: Some(cut), ..firing("mark", InstanceId::new()) };
    let run = Some(NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) });
    assert!(fixture.other().set_paused("mark", true).await.expect("paused"));
    let before = fixture.everything().await;
    assert_eq!(begin(fixture.store(), Firing { run, ..close.clone() }).await, Begun::Lost);
    assert_eq!(fixture.everything().await, before);
    assert_eq!(begin(fixture.store(), close).await, Begun::Recorded);
    assert_eq!(fixture.lines("mark").await, ["schedule|0|1|lease_lost|-|-"]);
}

/// A run whose grant lives is not closed, whatever was seen.
pub async fn a_run_whose_lease_lives_after_all_is_not_closed(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let (cut, key) = fixture.cut_off("mark").await;
    // The clock steps back: the lease lives again, and its holder renews it.
    fixture.clock().set(NOON + LEASE_MS - 1);
    fixture.store().renew(&key, LEASE_MS).await.expect("renewed");
    let before = fixture.everything().await;
    let close = Firing { interrupted: Some(cut), ..firing("mark", InstanceId::new()) };
    assert_eq!(begin(fixture.other(), close).await, Begun::Lost);
    assert_eq!(fixture.everything().await, before);
}

/// The slot of a run that a stop cut off waits to run again.
pub async fn a_run_that_a_stop_cut_off_waits_to_run_again(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    let mut cut = Ending { rerun: true, ..ending(&key, run_id) };
    cut.run.status = RunStatus::Cancelled;
    assert!(fixture.store().finish(&cut).await.expect("finished"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.buffered_for_ms, row.buffered_attempts), (Some(NOON), 1));
    assert_eq!(row.leased_until_ms, None);
}

/// A run is interrupted when its lease has expired while its row says that it runs, and not a
/// millisecond before.
pub async fn a_run_is_interrupted_at_the_expiry_of_its_lease(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    let firing = manual("mark", me);
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    fixture.advance_ms(LEASE_MS - 1);
    assert!(fixture.interrupted("mark").await.is_empty());
    fixture.store().renew(&key, 10).await.expect("renewed");
    fixture.advance_ms(9);
    assert!(fixture.interrupted("mark").await.is_empty());
    fixture.advance_ms(1);
    assert!(fixture.interrupted("clone").await.is_empty(), "nobody asked for this job");
    let cut = fixture.interrupted("mark").await;
    assert_eq!(cut.len(), 1);
    let cut = &cut[0];
    assert_eq!((cut.run_id, cut.job.as_str(), cut.scope_key.as_str()), (run_id, "mark", ""));
    assert_eq!((cut.trigger, cut.scheduled_for_ms, cut.attempt), (Trigger::Manual, NOON, 1));
    assert_eq!((cut.started_at_ms, cut.instance_id, cut.token), (NOON, me, key.token));
    // Granted to another, the first run is still one that was cut off.
    started(&begin(fixture.other(), manual("mark", InstanceId::new())).await);
    let cut = fixture.interrupted("mark").await;
    assert_eq!(cut.iter().map(|cut| cut.run_id).collect::<Vec<_>>(), [run_id]);
}

/// A slot that was due while the lease lived does not take what is left of it: the slot that was cut
/// off under it goes first. A lease that was given back since is free.
pub async fn a_lease_that_expires_after_a_look_is_not_taken_by_what_was_seen(
    fixture: &dyn Fixture,
) {
    fixture.register(&["mark", "other"]).await;
    let first = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(fixture.store(), first).await);
    let other = manual("other", InstanceId::new());
    let given_back = started(&begin(fixture.store(), other.clone()).await);
    let at = |as_of_ms, firing| Firing { as_of_ms: Some(as_of_ms), ..firing };
    let slot = || fire_at(NOON + MINUTE_MS);
    fixture.advance_ms(LEASE_MS - 1);
    finish(fixture.store(), &given_back, &other).await;
    fixture.advance_ms(1);
    let seen_ms = NOON + LEASE_MS - 1;
    assert_eq!(begin(fixture.other(), at(seen_ms, slot())).await, Begun::Lost);
    let lines = ["schedule|0|1|running|-|-", "schedule|60|1|skipped_overlap|1|60"];
    assert_eq!(fixture.lines("mark").await, lines);
    assert_eq!(fixture.interrupted("mark").await.len(), 1, "nothing else was taken");
    started(&begin(fixture.other(), at(seen_ms, manual("other", InstanceId::new()))).await);
    // A look at the expiry or later takes it, as does who did not look.
    let firing = at(seen_ms + 1, fire_at(NOON + 2 * MINUTE_MS));
    let later = started(&begin(fixture.other(), firing).await);
    assert_eq!(later.token, key.token + 1);
    fixture.advance_ms(LEASE_MS);
    started(&begin(fixture.other(), manual("mark", InstanceId::new())).await);
}

/// A firing of a slot that moves no row.
fn fire_at(slot_ms: i64) -> Firing {
    Firing { run: Some(run_of(Trigger::Schedule, slot_ms)), ..firing("mark", InstanceId::new()) }
}

/// A run of scope Instance is interrupted by the end of its own process's lease.
pub async fn a_run_of_one_process_is_interrupted_by_its_own_lease(fixture: &dyn Fixture) {
    let (me, them) = (InstanceId::new(), InstanceId::new());
    let key = started(&begin(fixture.store(), scoped("poll", me, NOON)).await);
    started(&begin(fixture.other(), scoped("poll", them, NOON)).await);
    fixture.advance_ms(LEASE_MS - 1);
    fixture.store().renew(&key, LEASE_MS).await.expect("renewed");
    fixture.advance_ms(1);
    let cut = fixture.interrupted("poll").await;
    assert_eq!(cut.len(), 1);
    assert_eq!((cut[0].scope_key.clone(), cut[0].instance_id), (them.to_string(), them));
    let close = Firing { interrupted: Some(cut[0].clone()), ..firing("poll", me) };
    assert_eq!(begin(fixture.store(), close).await, Begun::Recorded);
    let stands: Vec<_> =
        fixture.runs("poll").await.into_iter().map(|run| (run.instance_id, run.status)).collect();
    assert_eq!(stands.len(), 2);
    assert!(stands.contains(&(me, RunStatus::Running)), "{stands:?}");
    assert!(stands.contains(&(them, RunStatus::LeaseLost)), "{stands:?}");
}

/// An interrupted run is closed in the transaction of the new grant: both, or neither.
pub async fn an_interrupted_run_is_closed_with_the_grant_of_its_rerun(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let (cut, key) = fixture.cut_off("mark").await;
    let rerun = |recorder| Firing {
        interrupted: Some(cut.clone()),
        run: Some(NewRun { attempt: 2, ..run_of(Trigger::Rerun, NOON) }),
        recorder,
        ..firing("mark", InstanceId::new())
    };
    let before = fixture.everything().await;
    let broken = fixture.store().begin(&[rerun(Arc::new(Broken))]).await;
    broken.expect_err("the recorder failed");
    assert_eq!(fixture.everything().await, before);
    let sound = rerun(firing("mark", InstanceId::new()).recorder);
    assert_eq!(started(&begin(fixture.other(), sound).await).token, key.token + 1);
    let closed = &fixture.runs("mark").await[0];
    assert_eq!((closed.status, closed.attempt), (RunStatus::LeaseLost, 1));
    assert_eq!(closed.finished_at_ms, Some(NOON + LEASE_MS));
    assert!(closed.error.as_deref().is_some_and(|error| error.contains("cut off")), "{closed:?}");
    // What the first would still write does not land.
    assert!(!fixture.store().finish(&ending(&key, cut.run_id)).await.expect("answered"));
    assert_eq!(
        fixture.lines("mark").await,
        ["schedule|0|1|lease_lost|-|-", "rerun|0|2|running|-|-"]
    );
}

/// A stop puts a slot back only where no newer one waits already.
pub async fn a_stop_does_not_replace_a_newer_slot_that_waits(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let first = fire(&fixture.schedule("mark").await, InstanceId::new());
    let run_id = first.run.expect("a run").id;
    let key = started(&begin(fixture.store(), first).await);
    let newer = Firing {
        run: Some(run_of(Trigger::Buffered, NOON + 1_000)),
        ..firing("mark", InstanceId::new())
    };
    assert!(matches!(begin(fixture.other(), newer).await, Begun::Busy(_)));
    let mut cut = Ending { rerun: true, ..ending(&key, run_id) };
    cut.run.status = RunStatus::Cancelled;
    assert!(fixture.store().finish(&cut).await.expect("finished"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.buffered_for_ms, row.buffered_attempts), (Some(NOON + 1_000), 0));
}
