//! Jobs that touch no database: their slots, their heartbeat, what operators say about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::store::HeartbeatStore;
use scheduler_core::{
    Cadence, Event, History, JobContext, JobDefinition, Overlap, RunOnceError, RunSummary, Scope,
    WorkerStatus,
};
use tokio::sync::Semaphore;

use crate::harness::{Database, at_once, wait_for};
use crate::scheduler::counting;

fn tick() -> JobDefinition {
    JobDefinition {
        scope: Scope::Instance,
        history: History::None,
        overlap: Overlap::Skip,
        ..JobDefinition::new("tick", Cadence::every(Duration::from_secs(1)))
    }
}

async fn slots_leave_no_row_and_the_heartbeat_is_rolled_up(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let count = || ran.load(Ordering::SeqCst);
    let mut scheduler = database.scheduler();
    scheduler.register(tick(), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    wait_for("the start", || count() == 1).await;
    for second in 1..=12 {
        database.clock.advance(Duration::from_secs(1));
        wait_for("the next slot", || count() == second + 1).await;
    }
    let beats = "SELECT CASE WHEN total_runs >= 5 THEN 1 ELSE 0 END FROM worker_heartbeats";
    database.until(beats, 1).await;
    running.stop(&at_once()).await;
    let worker = database.store.health().await.expect("health").workers.remove(0);
    assert_eq!((worker.total_runs, worker.status), (13, WorkerStatus::Succeeded), "and at the end");
    assert_eq!(worker.summary.map(|summary| summary.to_string()).as_deref(), Some(r#"{"n":13}"#));
    for table in ["job_runs", "leases"] {
        let rows: i64 = database.value(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
}

async fn they_fire_while_the_database_is_away_and_none_is_uncounted(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let count = || ran.load(Ordering::SeqCst);
    let mut scheduler = database.scheduler();
    scheduler.register(tick(), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    wait_for("the start", || count() == 1).await;
    for table in ["worker_instances", "schedules"] {
        database.execute(&format!("ALTER TABLE {table} RENAME TO {table}_away")).await;
    }
    for second in 1..=11 {
        database.clock.advance(Duration::from_secs(1));
        wait_for("the next slot", || count() == second + 1).await;
    }
    for table in ["worker_instances", "schedules"] {
        database.execute(&format!("ALTER TABLE {table}_away RENAME TO {table}")).await;
    }
    running.stop(&at_once()).await;
    let worker = database.store.health().await.expect("health").workers.remove(0);
    assert_eq!((worker.total_runs, worker.total_errors), (12, 0));
}

async fn a_slot_is_skipped_while_a_run_goes_on_by_itself_or_by_hand(database: Database) {
    let may_end = Arc::new(Semaphore::new(0));
    let ends = Arc::clone(&may_end);
    let mut scheduler = database.scheduler();
    let held = move |_: JobContext| {
        let ends = Arc::clone(&ends);
        async move {
            ends.acquire().await.expect("open").forget();
            Ok(RunSummary::new())
        }
    };
    scheduler.register(tick(), held).expect("registered");
    let mut events = scheduler.events();
    let running = scheduler.start().await.expect("started");
    let mut next = async || {
        let told = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
        told.expect("in time").expect("an event")
    };
    assert!(matches!(next().await, Event::RunStarted { .. }));
    database.clock.advance(Duration::from_secs(1));
    assert!(matches!(next().await, Event::SlotSkipped { .. }));
    let busy = running.run_now("tick").await.expect_err("one at a time");
    assert!(matches!(busy, RunOnceError::Busy { .. }), "{busy}");
    may_end.add_permits(1);
    assert!(matches!(next().await, Event::RunEnded { .. }));
    running.set_paused("tick", true).await.expect("paused");
    let mut by_hand = running.run_now("tick").await;
    while by_hand.is_err() {
        tokio::task::yield_now().await;
        by_hand = running.run_now("tick").await;
    }
    may_end.add_permits(1);
    while !matches!(next().await, Event::RunEnded { .. }) {}
    running.stop(&at_once()).await;
    let left: i64 = database.value("SELECT count(*) FROM job_runs").await;
    assert_eq!(left, 0, "a success by hand is not kept");
}

async fn an_operator_pauses_them_and_gives_them_another_cadence(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let count = || ran.load(Ordering::SeqCst);
    let mut scheduler = database.scheduler();
    scheduler.register(tick(), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    wait_for("the start", || count() == 1).await;
    running.set_paused("tick", true).await.expect("paused");
    let (mut before, mut quiet) = (count(), 0);
    wait_for("seconds without a run", || {
        database.clock.advance(Duration::from_secs(1));
        quiet = if count() == before { quiet + 1 } else { 0 };
        before = count();
        quiet == 20
    })
    .await;
    let hourly = Cadence::every(Duration::from_secs(3_600));
    running.set_cadence("tick", Some(&hourly)).await.expect("changed");
    running.set_paused("tick", false).await.expect("resumed");
    let paused = count();
    wait_for("the new grid", || {
        database.clock.advance(Duration::from_secs(60));
        count() > paused
    })
    .await;
    running.stop(&at_once()).await;
}

on_every_store! {
    slots_leave_no_row_and_the_heartbeat_is_rolled_up,
    they_fire_while_the_database_is_away_and_none_is_uncounted,
    a_slot_is_skipped_while_a_run_goes_on_by_itself_or_by_hand,
    an_operator_pauses_them_and_gives_them_another_cadence,
}
