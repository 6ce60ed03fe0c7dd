//! What a process does at its start, and how it is seen.

use std::sync::Arc;

use scheduler_core::store::{Instance, JobSeed};
use scheduler_core::{HealthStatus, InstanceId};

use super::runs::{finish, fire};
use super::{Broken, Fixture, MINUTE_MS, NOON, begin, on_sqlite, seed, started, store};

on_sqlite! {
    a_recorder_that_fails_at_the_start_registers_nothing
    a_definition_that_did_not_change_leaves_its_row_alone
    a_start_makes_a_job_due_once_for_all_hosts
    an_instance_that_others_took_for_dead_is_told_so
}

async fn a_recorder_that_fails_at_the_start_registers_nothing(fixture: Fixture) {
    let seeds = [seed("sound"), JobSeed { recorder: Arc::new(Broken), ..seed("mark") }];
    store(&fixture.store).register_jobs(&seeds).await.expect_err("the recorder failed");
    assert!(fixture.everything().await.is_empty());
}

async fn a_definition_that_did_not_change_leaves_its_row_alone(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(&fixture.store, firing.clone()).await);
    finish(&fixture, &key, &firing).await;
    let before = fixture.schedule("mark").await;

    fixture.advance_ms(10_000);
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    assert_eq!(format!("{row:?}"), format!("{before:?}"), "it fired less than an interval ago");

    let changed =
        JobSeed { definition_hash: "2".into(), interval_ms: Some(2 * MINUTE_MS), ..seed("mark") };
    store(&fixture.other).register_jobs(&[changed]).await.expect("registered");
    let row = fixture.schedule("mark").await;
    assert_eq!(row.generation, before.generation + 1);
    assert_eq!(row.anchor_ms, NOON + 10_000);
    assert_eq!(row.next_due_at_ms, Some(NOON + 130_000), "it fired less than an interval ago");
    assert_eq!(row.last_fired_for_ms, Some(NOON));
}

async fn a_start_makes_a_job_due_once_for_all_hosts(fixture: Fixture) {
    fixture.register(&["mark"]).await;
    let first = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(&fixture.store, first.clone()).await);
    finish(&fixture, &key, &first).await;
    fixture.advance_ms(MINUTE_MS.unsigned_abs() - 1);
    fixture.register(&["mark"]).await;
    assert_eq!(fixture.schedule("mark").await.next_due_at_ms, Some(NOON + MINUTE_MS));
    // Everybody was down for a while; three start at once.
    fixture.advance_ms(600_000);
    let now = NOON + MINUTE_MS - 1 + 600_000;
    fixture.database.execute(&format!("UPDATE schedules SET next_due_at_ms = {now} + 5000")).await;
    for _ in 0..3 {
        fixture.register(&["mark"]).await;
    }
    let row = fixture.schedule("mark").await;
    assert_eq!(row.next_due_at_ms, Some(now));
    started(&begin(&fixture.store, fire(&row, InstanceId::new())).await);
    fixture.register(&["mark"]).await;
    assert_eq!(fixture.schedule("mark").await.next_due_at_ms, Some(now + MINUTE_MS));
}

async fn an_instance_that_others_took_for_dead_is_told_so(fixture: Fixture) {
    let instance = |id| Instance { id, host: "host".into(), pid: 1, version: "1".into() };
    let (frozen, other) = (InstanceId::new(), InstanceId::new());
    store(&fixture.store).announce(&instance(frozen)).await.expect("announced");
    fixture.advance_ms(2 * 86_400_000);
    store(&fixture.other).announce(&instance(other)).await.expect("announced");
    store(&fixture.other).prune(1_000).await.expect("pruned");

    assert!(store(&fixture.other).seen(other, false).await.expect("seen"));
    assert!(!store(&fixture.store).seen(frozen, false).await.expect("seen"), "it is not known");
    let health = store(&fixture.store).health().await.expect("health");
    assert_eq!(health.status, HealthStatus::Ok, "the other is alive");
    store(&fixture.store).announce(&instance(frozen)).await.expect("announced");
    assert!(store(&fixture.store).seen(frozen, false).await.expect("seen"));
}
