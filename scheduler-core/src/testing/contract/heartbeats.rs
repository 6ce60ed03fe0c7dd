//! Heartbeats: what each worker did last, over all the processes that run it.

use futures_util::future::join_all;
use serde_json::json;

use super::steps::{
    LEASE_MS, MINUTE_MS, Steps, begin, ending, manual, run, run_of, scoped, seed, started,
};
use super::{Fixture, NOON};
use crate::definition::Overlap;
use crate::heartbeat::{HealthReport, HealthStatus, WorkerHealth, WorkerStatus};
use crate::run::{InstanceId, RunStatus, Trigger};
use crate::store::{Ending, Firing, HeartbeatRollUp, JobSeed};
use crate::testing::JobEdit;

async fn health(fixture: &dyn Fixture) -> HealthReport {
    fixture.other().health().await.expect("health")
}

async fn worker(fixture: &dyn Fixture) -> WorkerHealth {
    health(fixture).await.workers.remove(0)
}

/// Runs, errors and errors in a row.
fn counts(worker: &WorkerHealth) -> (i64, i64, i64) {
    (worker.total_runs, worker.total_errors, worker.consecutive_errors)
}

/// A worker is seen from its registration on; a second start does not take anything back.
pub async fn a_worker_is_seen_before_its_first_run(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let seen = worker(fixture).await;
    assert_eq!((seen.worker.as_str(), seen.status), ("mark", WorkerStatus::NeverRun));
    assert_eq!((seen.last_started_at_ms, seen.last_completed_at_ms), (None, None));
    assert_eq!((counts(&seen), seen.stale), ((0, 0, 0), false));
    assert_eq!((seen.expected_interval_ms, seen.next_due_at_ms), (Some(MINUTE_MS), Some(NOON)));
    run(fixture.store(), manual("mark", InstanceId::new()), RunStatus::Succeeded).await;
    fixture.register(&["mark"]).await;
    let seen = worker(fixture).await;
    assert_eq!((seen.status, seen.total_runs), (WorkerStatus::Succeeded, 1));
}

/// A run is seen from its begin to its end: who has it, since when, how long it took, what it
/// did.
pub async fn a_run_is_seen_from_its_begin_to_its_end(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    fixture.advance_ms(1_000);
    let firing = manual("mark", me);
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    let seen = worker(fixture).await;
    assert_eq!((seen.status, seen.last_started_at_ms), (WorkerStatus::Running, Some(NOON + 1_000)));
    assert_eq!((seen.lease_holder, seen.last_completed_at_ms), (Some(me.to_string()), None));
    assert_eq!((seen.total_runs, seen.summary), (0, None));
    fixture.advance_ms(2_500);
    let mut end = ending(&key, run_id);
    end.run.started_at_ms = NOON + 1_000;
    end.run.summary = Some(json!({"marked": 12, "slowest": "ünï"}));
    assert!(fixture.store().finish(&end).await.expect("finished"));
    let seen = worker(fixture).await;
    assert_eq!((seen.status, seen.lease_holder), (WorkerStatus::Succeeded, None));
    assert_eq!(seen.last_started_at_ms, Some(NOON + 1_000));
    assert_eq!(seen.last_completed_at_ms, Some(NOON + 3_500));
    assert_eq!(seen.last_success_at_ms, Some(NOON + 3_500));
    assert_eq!((seen.latency_ms, seen.summary), (Some(2_500), end.run.summary));
}

/// `failed`, `timed_out` and `lease_lost` are errors that count until a success; a run that was
/// cancelled is neither.
pub async fn errors_count_until_a_success_and_a_stop_is_none(fixture: &dyn Fixture) {
    use RunStatus::{Cancelled, Failed, LeaseLost, Succeeded, TimedOut};
    let me = InstanceId::new();
    let table = [
        (Cancelled, WorkerStatus::NeverRun, (1, 0, 0)),
        (Failed, WorkerStatus::Failed, (2, 1, 1)),
        (TimedOut, WorkerStatus::Failed, (3, 2, 2)),
        (Cancelled, WorkerStatus::Failed, (4, 2, 2)),
        (LeaseLost, WorkerStatus::Failed, (5, 3, 3)),
        (Succeeded, WorkerStatus::Succeeded, (6, 3, 0)),
        (Cancelled, WorkerStatus::Succeeded, (7, 3, 0)),
        (Failed, WorkerStatus::Failed, (8, 4, 1)),
    ];
    for (position, (status, says, expected)) in table.into_iter().enumerate() {
        fixture.advance_ms(1_000);
        run(fixture.store(), manual("mark", me), status).await;
        let seen = worker(fixture).await;
        assert_eq!((seen.status, counts(&seen)), (says, expected), "{position}: {status}");
        let at_ms = NOON + 1_000 * (position as i64 + 1);
        assert_eq!(seen.last_completed_at_ms, Some(at_ms), "{position}: {status}");
        if status.is_error() {
            assert_eq!(seen.last_error, Some(format!("{status} of mark")));
            assert_eq!(seen.last_error_at_ms, Some(at_ms));
        }
        if status == Succeeded {
            assert_eq!((seen.last_error, seen.last_success_at_ms), (None, Some(at_ms)));
        }
    }
}

/// The roll-up of several hosts: totals are sums, times are the latest, and errors in a row are
/// the worst of the hosts that live.
pub async fn hosts_are_rolled_up_to_sums_latest_times_and_the_worst(fixture: &dyn Fixture) {
    let [a, b, c] = [InstanceId::new(), InstanceId::new(), InstanceId::new()];
    for id in [a, b, c] {
        fixture.announce(id).await;
    }
    let mut slot_ms = NOON;
    let mut cycle = async |id, status| {
        slot_ms += 1_000;
        fixture.advance_ms(1_000);
        run(fixture.store(), scoped("poll", id, slot_ms), status).await;
        worker(fixture).await
    };
    for errors in 1..=3 {
        assert_eq!(counts(&cycle(a, RunStatus::Failed).await), (errors, errors, errors));
    }
    let seen = cycle(b, RunStatus::Failed).await;
    assert_eq!(counts(&seen), (4, 4, 3), "b has one error in a row, a three");
    let seen = cycle(c, RunStatus::Succeeded).await;
    assert_eq!((counts(&seen), seen.status), ((5, 4, 3), WorkerStatus::Succeeded));
    assert_eq!(seen.last_success_at_ms, Some(NOON + 5_000));
    assert_eq!(seen.last_error_at_ms, Some(NOON + 4_000));
    // a stops: what it had in a row does not count any more, what it did does.
    fixture.store().seen(a, true).await.expect("seen");
    let seen = cycle(c, RunStatus::Succeeded).await;
    assert_eq!(counts(&seen), (6, 4, 1));
    // b dies without a word.
    fixture.advance_ms(MINUTE_MS);
    fixture.store().seen(c, false).await.expect("seen");
    let seen = cycle(c, RunStatus::Succeeded).await;
    assert_eq!(counts(&seen), (7, 4, 0));
    // Whoever ends a run now lives, whatever its row says.
    let seen = cycle(b, RunStatus::Failed).await;
    assert_eq!(counts(&seen), (8, 5, 2));
}

/// The lease of a worker of scope Instance is the latest of its processes'; a name that only
/// begins alike is another worker.
pub async fn the_holder_of_a_worker_is_the_one_whose_lease_is_the_latest(fixture: &dyn Fixture) {
    let (first, second) = (InstanceId::new(), InstanceId::new());
    started(&begin(fixture.store(), scoped("poll", first, NOON)).await);
    fixture.advance_ms(10);
    started(&begin(fixture.store(), scoped("poll", second, NOON)).await);
    fixture.advance_ms(10);
    started(&begin(fixture.store(), manual("poll_more", InstanceId::new())).await);
    let seen = worker(fixture).await;
    assert_eq!((seen.worker.as_str(), seen.lease_holder), ("poll", Some(second.to_string())));
    fixture.advance_ms(LEASE_MS - 11);
    assert_eq!(worker(fixture).await.lease_holder, Some(second.to_string()));
    fixture.advance_ms(1);
    let seen = worker(fixture).await;
    assert_eq!((seen.lease_holder, seen.stale), (None, true), "running without a lease");
}

/// A worker that should have succeeded by now is stale, unless it is paused or inside its
/// deadline; the cadence that counts is the operator's.
pub async fn a_worker_that_should_have_succeeded_is_stale(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let me = InstanceId::new();
    fixture.announce(me).await;
    fixture.advance_ms(3 * MINUTE_MS);
    fixture.store().seen(me, false).await.expect("seen");
    assert!(!worker(fixture).await.stale, "at three intervals");
    assert_eq!(health(fixture).await.status, HealthStatus::Ok);
    fixture.advance_ms(1);
    assert!(worker(fixture).await.stale, "after three intervals");
    assert_eq!(health(fixture).await.status, HealthStatus::Degraded);

    let slower = Some("every 2m".to_owned());
    fixture.edit(JobEdit::Override { job: "mark".into(), cadence: slower }).await;
    let seen = worker(fixture).await;
    assert_eq!((seen.stale, seen.expected_interval_ms), (false, Some(2 * MINUTE_MS)));
    fixture.edit(JobEdit::Override { job: "mark".into(), cadence: None }).await;
    assert!(worker(fixture).await.stale);

    // A long run under its lease is not stale inside its deadline, which a start may change.
    let slot = Firing { lease_ms: 3_600_000, ..manual("mark", me) };
    started(&begin(fixture.store(), slot).await);
    let mut seen = Vec::new();
    for timeout_ms in [None, Some(1_000), Some(1_001)] {
        let seeds = [JobSeed { timeout_ms, ..seed("mark") }];
        fixture.store().register_jobs(&seeds).await.expect("registered");
        fixture.advance_ms(i64::from(timeout_ms == Some(1_000)) * 1_001);
        seen.push(worker(fixture).await.stale);
    }
    assert_eq!(seen, [false, true, false]);
    fixture.advance_ms(1);
    assert!(worker(fixture).await.stale);
    fixture.edit(JobEdit::Pause { job: "mark".into() }).await;
    assert!(!worker(fixture).await.stale, "a pause is no failure");
}

/// An error that is too long is cut between characters in the heartbeat, too.
pub async fn a_long_error_is_cut_in_the_heartbeat(fixture: &dyn Fixture) {
    let firing =
        Firing { run: Some(run_of(Trigger::Schedule, NOON)), ..manual("mark", InstanceId::new()) };
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    let mut end = ending(&key, run_id);
    end.run.status = RunStatus::Failed;
    end.run.error = Some(format!("a{}", "ü".repeat(10_000)));
    assert!(fixture.store().finish(&end).await.expect("finished"));
    let kept = worker(fixture).await.last_error.expect("an error");
    assert_eq!(kept, format!("a{}", "ü".repeat(1_999)));
}

/// One entry per worker, by name.
pub async fn workers_are_listed_by_name(fixture: &dyn Fixture) {
    fixture.register(&["b", "a", "c"]).await;
    let names: Vec<_> = health(fixture).await.workers.into_iter().map(|w| w.worker).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(health(fixture).await.generated_at_ms, NOON);
}

/// What runs without rows did is added to what is known, in each process and in all.
pub async fn runs_without_rows_are_rolled_up(fixture: &dyn Fixture) {
    let (me, them) = (InstanceId::new(), InstanceId::new());
    fixture.announce(me).await;
    fixture.announce(them).await;
    fixture.register(&["tick"]).await;
    fixture.advance_ms(10_000);
    let now_ms = NOON + 10_000;
    let ticks = HeartbeatRollUp {
        worker: "tick".into(),
        instance_id: me,
        runs: 5,
        errors: 2,
        errors_in_a_row: 1,
        started_ago_ms: Some(300),
        ended_ago_ms: Some(200),
        success_ago_ms: Some(1_200),
        error_ago_ms: Some(200),
        last_error: Some("ünï".into()),
        summary: Some(json!({"n": 3})),
        latency_ms: 100,
        status: Some(WorkerStatus::Failed),
    };
    let theirs = HeartbeatRollUp { instance_id: them, errors_in_a_row: 2, ..ticks.clone() };
    let other = HeartbeatRollUp { worker: "other".into(), ..ticks.clone() };
    fixture.store().roll_up(&[ticks.clone(), other]).await.expect("rolled up");
    fixture.other().roll_up(&[theirs]).await.expect("rolled up");
    let workers = health(fixture).await.workers;
    let names: Vec<&str> = workers.iter().map(|worker| worker.worker.as_str()).collect();
    assert_eq!(names, ["other", "tick"]);
    let seen = &workers[1];
    assert_eq!((counts(seen), seen.status), ((10, 4, 2), WorkerStatus::Failed));
    assert_eq!(
        (seen.last_started_at_ms, seen.last_completed_at_ms),
        (Some(now_ms - 300), Some(now_ms - 200))
    );
    assert_eq!(
        (seen.last_success_at_ms, seen.last_error_at_ms),
        (Some(now_ms - 1_200), Some(now_ms - 200))
    );
    assert_eq!((seen.last_error.as_deref(), seen.latency_ms), (Some("ünï"), Some(100)));
    assert_eq!(seen.summary, Some(json!({"n": 3})));

    // Errors go on to count where none succeeded; a stop changes no status.
    let failing = HeartbeatRollUp {
        runs: 2,
        errors: 1,
        errors_in_a_row: 1,
        success_ago_ms: None,
        last_error: Some("again".into()),
        summary: None,
        status: None,
        ..ticks.clone()
    };
    fixture.other().roll_up(&[failing]).await.expect("rolled up");
    let seen = health(fixture).await.workers.remove(1);
    assert_eq!((counts(&seen), seen.status), ((12, 5, 2), WorkerStatus::Failed));
    assert_eq!(seen.last_success_at_ms, Some(now_ms - 1_200));
    assert_eq!((seen.last_error.as_deref(), seen.summary), (Some("again"), Some(json!({"n": 3}))));

    let well = HeartbeatRollUp {
        errors: 0,
        errors_in_a_row: 0,
        error_ago_ms: None,
        last_error: None,
        status: Some(WorkerStatus::Succeeded),
        ..ticks
    };
    let rows = [HeartbeatRollUp { instance_id: them, ..well.clone() }, well];
    for row in rows {
        fixture.store().roll_up(&[row]).await.expect("rolled up");
    }
    let seen = health(fixture).await.workers.remove(1);
    assert_eq!((counts(&seen), seen.status), ((22, 5, 0), WorkerStatus::Succeeded));
    assert_eq!((seen.last_error, seen.last_error_at_ms), (None, Some(now_ms - 200)));
    fixture.store().roll_up(&[]).await.expect("nothing");
}

/// Runs of one worker that begin and end together are all counted.
pub async fn runs_of_one_worker_that_end_at_once_are_all_counted(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    let runs = [RunStatus::Failed, RunStatus::Failed, RunStatus::Cancelled, RunStatus::TimedOut];
    let beside = runs.map(|_| {
        let firing = manual("mark", me);
        let run = firing.run.expect("a run");
        Firing { overlap: Overlap::Allow, ..firing }.of_run(run)
    });
    let begun = fixture.store().begin(&beside).await.expect("begun");
    let endings: Vec<Ending> = begun
        .iter()
        .zip(&beside)
        .zip(runs)
        .map(|((begun, firing), status)| {
            let mut ending = ending(&started(begun), firing.run.expect("a run").id);
            ending.run.status = status;
            ending
        })
        .collect();
    let ends = endings.iter().map(|ending| fixture.store().finish(ending));
    for ended in join_all(ends).await {
        assert!(ended.expect("ended"));
    }
    let seen = worker(fixture).await;
    assert_eq!((seen.status, counts(&seen)), (WorkerStatus::Failed, (4, 3, 3)));
    assert_eq!(seen.lease_holder, None);
}
