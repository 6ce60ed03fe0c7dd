//! How a process is seen, and what a dead one leaves.

use super::steps::{DAY_MS, MINUTE_MS, Steps, begin, firing, manual, run, run_of, scoped, started};
use super::{Fixture, NOON};
use crate::heartbeat::HealthStatus;
use crate::run::{InstanceId, RunStatus, Trigger};
use crate::store::{Disagreement, Firing, Instance};

/// A process whose row others pruned is told so, and can announce itself again.
pub async fn an_instance_that_others_took_for_dead_is_told_so(fixture: &dyn Fixture) {
    let (frozen, other) = (InstanceId::new(), InstanceId::new());
    fixture.announce(frozen).await;
    fixture.advance_ms(2 * DAY_MS);
    fixture.announce(other).await;
    fixture.other().prune(1_000).await.expect("pruned");

    assert!(fixture.other().seen(other, false).await.expect("seen"));
    assert!(!fixture.store().seen(frozen, false).await.expect("seen"), "it is not known");
    let health = fixture.store().health().await.expect("health");
    assert_eq!(health.status, HealthStatus::Ok, "the other is alive");
    fixture.announce(frozen).await;
    assert!(fixture.store().seen(frozen, false).await.expect("seen"));
}

/// A process is alive for less than a minute after its last sign of life.
pub async fn a_process_is_alive_for_a_minute_after_its_last_sign(fixture: &dyn Fixture) {
    let health = async || fixture.other().health().await.expect("health").status;
    assert_eq!(health().await, HealthStatus::Down, "nobody was ever there");
    let me = InstanceId::new();
    fixture.announce(me).await;
    fixture.advance_ms(MINUTE_MS - 1);
    assert_eq!(health().await, HealthStatus::Ok);
    assert!(fixture.store().seen(me, false).await.expect("seen"));
    fixture.advance_ms(MINUTE_MS - 1);
    assert_eq!(health().await, HealthStatus::Ok);
    fixture.advance_ms(1);
    assert_eq!(health().await, HealthStatus::Down);
    assert!(!fixture.store().seen(InstanceId::new(), false).await.expect("seen"), "a stranger");
    assert_eq!(health().await, HealthStatus::Down);
}

/// A process that stops is not alive; a sign of life that was under way does not take the stop
/// back, a new start does.
pub async fn a_process_that_stops_is_not_alive(fixture: &dyn Fixture) {
    let health = async || fixture.other().health().await.expect("health").status;
    let me = InstanceId::new();
    fixture.announce(me).await;
    for stopping in [true, false] {
        assert!(fixture.store().seen(me, stopping).await.expect("seen"), "it is known");
        assert_eq!(health().await, HealthStatus::Down);
    }
    fixture.announce(me).await;
    assert_eq!(health().await, HealthStatus::Ok);
}

/// Live processes that define a job in different ways are told, by job.
pub async fn live_processes_that_disagree_about_a_job_are_told(fixture: &dyn Fixture) {
    let announce = async |id, jobs: &[(&str, &str)]| {
        let texts = jobs.iter().map(|(job, text)| ((*job).to_owned(), (*text).to_owned()));
        let definitions = texts.collect();
        let instance =
            Instance { id, host: "host".into(), pid: 1, version: "1".into(), definitions };
        fixture.store().announce(&instance).await.expect("announced");
    };
    let found = async || fixture.other().disagreements().await.expect("compared");
    let mut ids = [InstanceId::new(), InstanceId::new(), InstanceId::new()];
    ids.sort_unstable();
    let [old, new, also_new] = ids;
    announce(old, &[("mark", "every 1m"), ("report", "every 1h"), ("gone", "manual")]).await;
    assert_eq!(found().await, []);
    announce(new, &[("mark", "every 5m"), ("report", "every 1h"), ("added", "manual")]).await;
    announce(also_new, &[("mark", "every 5m")]).await;
    let of_mark = Disagreement {
        job: "mark".into(),
        definitions: [("every 1m".into(), vec![old]), ("every 5m".into(), vec![new, also_new])]
            .into(),
    };
    assert_eq!(found().await, [of_mark]);
    assert!(fixture.store().seen(old, true).await.expect("seen"));
    assert_eq!(found().await, [], "who stops does not count");
    announce(old, &[("mark", "every 5m")]).await;
    assert_eq!(found().await, [], "a new announcement is a new word");
    announce(old, &[("mark", "every 1m")]).await;
    fixture.advance_ms(MINUTE_MS - 1);
    assert_eq!(found().await.len(), 1);
    fixture.advance_ms(1);
    assert_eq!(found().await, [], "nor does who is dead");
}

/// History is kept for seven days and then pruned, oldest first, so many rows at once as was
/// said; a run that has not ended is not history.
pub async fn old_history_is_pruned_oldest_first(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    started(&begin(fixture.store(), manual("running", me)).await);
    for _ in 0..5 {
        run(fixture.store(), manual("mark", me), RunStatus::Succeeded).await;
        fixture.advance_ms(1);
    }
    fixture.advance_ms(7 * DAY_MS - 5);
    assert_eq!(fixture.store().prune(100).await.expect("pruned"), 0, "at seven days it is kept");
    fixture.advance_ms(3);
    assert_eq!(fixture.store().prune(2).await.expect("pruned"), 2);
    assert_eq!(fixture.store().prune(2).await.expect("pruned"), 1);
    assert_eq!(fixture.store().prune(2).await.expect("pruned"), 0);
    let mut ended: Vec<_> =
        fixture.runs("mark").await.iter().map(|run| run.finished_at_ms).collect();
    ended.sort_unstable();
    assert_eq!(ended, [Some(NOON + 3), Some(NOON + 4)]);
    assert_eq!(fixture.lines("running").await, ["manual|0|1|running|-|-"]);
}

/// What a dead process left is kept for a day and then pruned; what all share stays: totals, and
/// the tokens of shared leases.
pub async fn what_a_dead_process_left_is_pruned_and_what_all_share_stays(fixture: &dyn Fixture) {
    let (dead, live) = (InstanceId::new(), InstanceId::new());
    fixture.announce(dead).await;
    fixture.announce(live).await;
    for id in [dead, live] {
        run(fixture.store(), scoped("poll", id, NOON), RunStatus::Failed).await;
    }
    let shared = run_of(Trigger::Schedule, NOON);
    run(fixture.store(), Firing { run: Some(shared), ..firing("poll", dead) }, RunStatus::Failed)
        .await;
    fixture.advance_ms(DAY_MS);
    assert_eq!(fixture.store().prune(100).await.expect("pruned"), 0, "after a day it is kept");
    fixture.store().seen(live, false).await.expect("seen");
    fixture.advance_ms(1);
    let before = fixture.everything().await;
    assert!(before.iter().any(|row| row.contains(&format!("poll@{dead}"))));
    assert_eq!(fixture.store().prune(100).await.expect("pruned"), 3);
    let after = fixture.everything().await;
    assert_eq!(before.len() - after.len(), 3, "its lease, its heartbeat, itself");
    assert!(!after.iter().any(|row| row.contains(&format!("poll@{dead}"))), "{after:#?}");
    assert!(after.iter().any(|row| row.contains(&format!("poll@{live}"))), "{after:#?}");
    assert!(fixture.store().seen(live, false).await.expect("seen"));
    let worker = fixture.store().health().await.expect("health").workers.remove(0);
    assert_eq!((worker.total_runs, worker.total_errors), (3, 3));
    let next = begin(fixture.store(), manual("poll", live)).await;
    assert_eq!(started(&next).token, 2, "tokens only grow");
}
