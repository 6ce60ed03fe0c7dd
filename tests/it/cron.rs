//! Cron jobs on a real database, over a night on which the clocks go back.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use scheduler_core::store::HeartbeatStore;
use scheduler_core::{Cadence, JobDefinition, Scheduler};

use crate::harness::{Database, at_once};
use crate::scheduler::{ENDED, counting};

/// 2026-10-24 22:00:00 UTC: midnight in Berlin, where 02:00 to 03:00 comes twice.
const MIDNIGHT: i64 = 1_792_879_200_000;
const HALF_AN_HOUR: i64 = 1_800_000;

fn scheduler(database: &Database, expression: &str) -> Scheduler {
    let cadence = Cadence::cron(expression, "Europe/Berlin").expect("a cadence");
    let mut scheduler = database.scheduler();
    let definition = JobDefinition::new("report", cadence);
    let counter = Arc::new(AtomicU32::new(0));
    scheduler.register(definition, counting(&counter)).expect("registered");
    scheduler
}

/// The slots that ran, as half hours after midnight, while the clock goes through `until` of them.
async fn slots(database: &Database, expression: &str, until: i64, runs: &[i64]) -> Vec<String> {
    database.clock.set(MIDNIGHT);
    let scheduler = scheduler(database, expression);
    let running = scheduler.start().await.expect("started");
    let due = |ended: usize| MIDNIGHT + runs[ended] * HALF_AN_HOUR;
    for step in 1..=until {
        database.clock.set(MIDNIGHT + step * HALF_AN_HOUR);
        let ended = runs.iter().filter(|run| **run <= step).count();
        database.until(ENDED, i64::try_from(ended).expect("a count")).await;
        if ended < runs.len() {
            database.until("SELECT next_due_at_ms FROM schedules", due(ended)).await;
        }
    }
    running.stop(&at_once()).await;
    let all = format!(
        "SELECT (scheduled_for_ms - {MIDNIGHT}) / {HALF_AN_HOUR}, trigger, status FROM job_runs ORDER BY scheduled_for_ms"
    );
    database.lines(&all).await
}

async fn a_daily_job_fires_once_in_the_night_that_has_its_time_twice(database: Database) {
    // Half past two is half past midnight in UTC, and an hour later again.
    let slots = slots(&database, "30 2 * * *", 10, &[5, 55]).await;
    assert_eq!(slots, ["5|schedule|succeeded"]);
}

async fn an_hourly_job_fires_in_each_of_the_25_hours(database: Database) {
    let slots = slots(&database, "30 * * * *", 8, &[1, 3, 5, 7, 9]).await;
    assert_eq!(
        slots,
        [
            "1|schedule|succeeded",
            "3|schedule|succeeded",
            "5|schedule|succeeded",
            "7|schedule|succeeded"
        ]
    );
}

async fn an_operators_expression_wins_over_the_definitions(database: Database) {
    database.clock.set(MIDNIGHT);
    let running = scheduler(&database, "0 * * * *").start().await;
    let running = running.expect("started");
    let daily = "cron 0 12 * * * in America/New_York";
    database.execute(&format!("UPDATE schedules SET cadence_override = '{daily}'")).await;
    database.clock.set(MIDNIGHT + 2 * HALF_AN_HOUR);
    database.until(ENDED, 1_i64).await;
    running.stop(&at_once()).await;
    // Noon in New York is 16:00 in UTC.
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].next_due_at_ms, Some(MIDNIGHT + 36 * HALF_AN_HOUR));
    assert_eq!(health.workers[0].expected_interval_ms, Some(86_400_000));
}

on_every_store! {
    a_daily_job_fires_once_in_the_night_that_has_its_time_twice,
    an_hourly_job_fires_in_each_of_the_25_hours,
    an_operators_expression_wins_over_the_definitions,
}
