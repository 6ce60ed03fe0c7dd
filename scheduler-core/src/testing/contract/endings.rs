//! Finish: one fenced transaction, or nothing at all.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::steps::{Broken, LEASE_MS, MINUTE_MS, Steps, begin, ending, fire, manual, started};
use super::{Fixture, NOON};
use crate::clock::Clock;
use crate::lease::LeaseKey;
use crate::run::{InstanceId, RunStatus};
use crate::store::{Begun, Ending, Firing};

/// A finish under a lease that is lost, for whatever reason, writes nothing.
pub async fn a_finish_without_its_lease_writes_nothing_at_all(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    let refused = |key: LeaseKey| Ending { rerun: true, ..ending(&key, run_id) };
    let before = fixture.everything().await;
    for (what, key) in [
        ("a foreign holder", LeaseKey { holder: InstanceId::new(), ..key.clone() }),
        ("an older token", LeaseKey { token: key.token - 1, ..key.clone() }),
        ("another name", LeaseKey { name: "clone".into(), ..key.clone() }),
    ] {
        assert!(!fixture.store().finish(&refused(key)).await.expect(what), "{what}");
        assert_eq!(fixture.everything().await, before, "{what}");
    }
    fixture.advance_ms(LEASE_MS);
    for ending in [refused(key.clone()), Ending { keep_row: false, ..refused(key.clone()) }] {
        assert!(!fixture.store().finish(&ending).await.expect("expired"), "at its expiry");
        assert_eq!(fixture.everything().await, before, "at its expiry");
    }
    started(&begin(fixture.other(), manual("mark", InstanceId::new())).await);
    let before = fixture.everything().await;
    assert!(!fixture.store().finish(&refused(key)).await.expect("taken"));
    assert_eq!(fixture.everything().await, before, "taken by another");
}

/// Two hosts that finish one run at once finish it once.
pub async fn a_run_is_finished_once(fixture: &dyn Fixture) {
    let firing = manual("mark", InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    let ending = ending(&key, run_id);
    let (first, second) =
        tokio::join!(fixture.store().finish(&ending), fixture.other().finish(&ending));
    let mut answers = [first.expect("finished"), second.expect("finished")];
    answers.sort_unstable();
    assert_eq!(answers, [false, true]);
    let health = fixture.store().health().await.expect("health");
    assert_eq!(health.workers[0].total_runs, 1);
}

/// Runs that end at the same time may share a transaction, and share nothing else: whoever lost his
/// lease has ended nothing, and the others have.
pub async fn runs_that_end_at_once_each_have_their_own_answer(fixture: &dyn Fixture) {
    let jobs: Vec<String> = (0..12).map(|number| format!("job{number}")).collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    fixture.register(&jobs).await;
    let me = InstanceId::new();
    let mut firings = Vec::new();
    for job in &jobs {
        firings.push(fire(&fixture.schedule(job).await, me));
    }
    let begun = fixture.store().begin(&firings).await.expect("begun");
    let of =
        |(firing, begun): (&Firing, &Begun)| ending(&started(begun), firing.run.expect("a run").id);
    let mut endings: Vec<Ending> = firings.iter().zip(&begun).map(of).collect();
    endings[1].key.token -= 1;
    endings[4].run.status = RunStatus::Failed;
    endings[4].run.error = Some("refused".into());
    endings[7].keep_row = false;
    endings[9].key.holder = InstanceId::new();
    endings.push(endings[11].clone());

    let ends = endings.iter().map(|ending| fixture.store().finish(ending));
    let ended: Vec<bool> =
        join_all(ends).await.into_iter().map(|ended| ended.expect("ended")).collect();

    let mut expected = [true; 13];
    (expected[1], expected[9]) = (false, false);
    assert_eq!(ended[..11], expected[..11]);
    assert_ne!(ended[11], ended[12], "the same run ends once");
    let health = fixture.other().health().await.expect("health");
    for (position, job) in jobs.iter().enumerate() {
        let (line, runs, holder) = match position {
            1 | 9 => (Some("running"), 0, Some(me.to_string())),
            4 => (Some("failed"), 1, None),
            7 => (None, 1, None),
            _ => (Some("succeeded"), 1, None),
        };
        let line = line.map(|status| format!("schedule|0|1|{status}|-|-"));
        assert_eq!(fixture.lines(job).await, Vec::from_iter(line), "{job}");
        let seen = health.workers.iter().find(|worker| worker.worker == *job).expect(job);
        assert_eq!((seen.total_runs, seen.lease_holder.clone()), (runs, holder), "{job}");
        assert_eq!(seen.total_errors, i64::from(position == 4), "{job}");
    }
}

/// A recorder that fails at the end undoes the finish; it can be tried again.
pub async fn a_recorder_that_fails_at_the_end_leaves_the_run_to_be_finished_again(
    fixture: &dyn Fixture,
) {
    let firing = manual("mark", InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    let before = fixture.everything().await;
    let broken = Ending { recorder: Arc::new(Broken), rerun: true, ..ending(&key, run_id) };
    fixture.store().finish(&broken).await.expect_err("the recorder failed");
    assert_eq!(fixture.everything().await, before);
    assert!(fixture.store().finish(&ending(&key, run_id)).await.expect("finished"));
}

/// How a run ended stands in its row: status, time, summary, and an error that is cut between
/// characters when it is too long.
pub async fn the_end_of_a_run_says_how_and_when(fixture: &dyn Fixture) {
    let long = "ü".repeat(10_000);
    let ends = [
        (RunStatus::Succeeded, Some(json!({"n": 1, "slowest": "ünï"})), None, None),
        (RunStatus::Failed, None, Some("connection refused"), Some("connection refused")),
        (RunStatus::TimedOut, None, Some(long.as_str()), Some(&long[..4_000])),
        (RunStatus::Cancelled, None, Some("by request"), Some("by request")),
    ];
    for (position, (status, summary, error, kept)) in ends.into_iter().enumerate() {
        let firing = manual("mark", InstanceId::new());
        let run_id = firing.run.expect("a run").id;
        let key = started(&begin(fixture.store(), firing).await);
        fixture.advance_ms(1_000);
        let mut end = ending(&key, run_id);
        end.run.status = status;
        end.run.summary = summary.clone();
        end.run.error = error.map(str::to_owned);
        assert!(fixture.store().finish(&end).await.expect("finished"));
        let runs = fixture.runs("mark").await;
        assert_eq!(runs.len(), position + 1);
        let run = runs.into_iter().find(|run| run.id == run_id).expect("its row");
        assert_eq!((run.status, run.summary), (status, summary));
        assert_eq!(run.error.as_deref(), kept);
        assert_eq!(run.finished_at_ms, Some(fixture.clock().now_ms()));
    }
}

/// A success that history does not keep leaves no row; its heartbeat counts it.
pub async fn a_run_that_is_not_kept_leaves_no_row_and_counts(fixture: &dyn Fixture) {
    fixture.register(&["tick"]).await;
    let first = fire(&fixture.schedule("tick").await, InstanceId::new());
    let run_id = first.run.expect("a run").id;
    let key = started(&begin(fixture.store(), first).await);
    let forgotten = Ending { keep_row: false, ..ending(&key, run_id) };
    assert!(fixture.store().finish(&forgotten).await.expect("finished"));
    assert!(fixture.lines("tick").await.is_empty());
    assert!(fixture.interrupted("tick").await.is_empty());
    let health = fixture.store().health().await.expect("health");
    assert_eq!((health.workers[0].total_runs, health.workers[0].total_errors), (1, 0));
    assert_eq!(fixture.store().holder("tick").await.expect("holder"), None);
    let row = fixture.schedule("tick").await;
    assert_eq!((row.last_fired_for_ms, row.next_due_at_ms), (Some(NOON), Some(NOON + MINUTE_MS)));
}
