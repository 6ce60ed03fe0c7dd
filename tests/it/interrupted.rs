//! Runs that a crash cut off while others have the lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::{InstanceId, JobDefinition, OnInterrupt, RunId, StartPolicy};

use crate::harness::{Database, NOON, at_once};
use crate::scheduler::{RUNS, counting, minutely};

const WAITING: &str = "SELECT count(*) FROM schedules WHERE buffered_for_ms IS NOT NULL";
const SUCCEEDED: &str = "SELECT count(*) FROM job_runs WHERE status = 'succeeded'";

/// What a killed process leaves of a slot: a row that says `running` and no grant that lives.
pub(crate) async fn cut_off(database: &Database, slot_s: i64, token: i64) {
    let (run, instance, slot_ms) = (RunId::new(), InstanceId::new(), NOON + slot_s * 1_000);
    database
        .execute(&format!(
            "INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, attempt, status, started_at_ms, instance_id, token)
             VALUES ('{run}', 'mark', 'schedule', {slot_ms}, 1, 'running', {slot_ms}, '{instance}', {token})"
        ))
        .await;
}

async fn a_cut_off_slot_waits_for_the_lease_that_another_run_has(database: Database) {
    cut_off(&database, -60, 1).await;
    let other = InstanceId::new();
    database
        .execute(&format!(
            "INSERT INTO leases (name, holder, token, acquired_at_ms, expires_at_ms, cancel_requested)
             VALUES ('mark', '{other}', 2, {NOON}, {NOON} + 600000, FALSE)"
        ))
        .await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { start: StartPolicy::NextSlot, ..minutely("mark") };
    scheduler.register(definition, counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(WAITING, 1_i64).await;
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    database.execute("UPDATE leases SET holder = '', expires_at_ms = 0").await;
    running.poke();
    database.until(SUCCEEDED, 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        ["schedule|-60000|1|lease_lost|-", "rerun|-60000|2|succeeded|-"]
    );
}

async fn each_of_two_cut_off_slots_runs_again(database: Database) {
    cut_off(&database, -120, 1).await;
    cut_off(&database, -60, 2).await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { start: StartPolicy::NextSlot, ..minutely("mark") };
    scheduler.register(definition, counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(SUCCEEDED, 2_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        [
            "schedule|-120000|1|lease_lost|-",
            "rerun|-120000|2|succeeded|-",
            "schedule|-60000|1|lease_lost|-",
            "rerun|-60000|2|succeeded|-"
        ]
    );
}

/// What a policy makes of a slot that was cut off a minute ago.
async fn is_closed_and_left(database: &Database, definition: JobDefinition) {
    cut_off(database, -60, 1).await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(definition, counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM job_runs WHERE status = 'lease_lost'", 1_i64).await;
    database.clock.set(NOON + 60_000);
    database.until(SUCCEEDED, 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        ["schedule|-60000|1|lease_lost|-", "schedule|60000|1|succeeded|-"]
    );
}

async fn a_cut_off_slot_is_left_as_it_is_where_the_policy_says_so(database: Database) {
    let leave = JobDefinition {
        start: StartPolicy::NextSlot,
        on_interrupt: OnInterrupt::Leave,
        ..minutely("mark")
    };
    is_closed_and_left(&database, leave).await;
}

async fn a_cut_off_slot_that_is_too_late_does_not_run_again(database: Database) {
    let limited = JobDefinition {
        start: StartPolicy::NextSlot,
        lateness_limit: Some(Duration::from_secs(59)),
        ..minutely("mark")
    };
    is_closed_and_left(&database, limited).await;
}

on_every_store! {
    a_cut_off_slot_is_left_as_it_is_where_the_policy_says_so,
    a_cut_off_slot_that_is_too_late_does_not_run_again,
    a_cut_off_slot_waits_for_the_lease_that_another_run_has,
    each_of_two_cut_off_slots_runs_again,
}
