//! Wakes between processes, with a clock that stands still: no poll comes to anybody's help.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler_core::queue::QueueWaker;
use scheduler_core::store::{Topic, WakeStore};
use scheduler_core::{Cadence, JobContext, JobDefinition, RunSummary, Shutdown};
use sea_orm::ConnectionTrait;

use crate::courier::{Courier, options, scheduler, start, table, with_parcels};
use crate::harness::{Database, NOON, at_once};

on_every_store! {
    a_row_that_another_process_enqueues_runs_at_once,
    a_slot_that_ends_in_one_process_is_taken_in_the_other,
    a_schedule_that_another_process_edits_is_seen_at_once,
}

const DONE: &str = "SELECT count(*) FROM parcels WHERE status = 'succeeded'";

async fn a_row_that_another_process_enqueues_runs_at_once(database: Database) {
    let database = with_parcels(database).await;
    let running = start(&database, &Arc::new(Courier::default())).await;
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    let other = database.another_store().await;
    for done in 1..=3_i64 {
        let insert = "INSERT INTO parcels (label) VALUES ('a')";
        other.reader().execute_unprepared(insert).await.expect("enqueued");
        QueueWaker::new(other.clone(), "parcels").wake();
        database.until(DONE, done).await;
    }
    other.close().await.expect("closed");
    running.stop(&at_once()).await;
}

async fn a_slot_that_ends_in_one_process_is_taken_in_the_other(database: Database) {
    let database = with_parcels(database).await;
    let other = database.another_store().await;
    let (ours, theirs) = (Arc::new(Courier::default()), Arc::new(Courier::default()));
    let (scheduler_of_ours, waker) =
        scheduler(&database.store, table().limit(1), options(), &ours).await;
    let (scheduler_of_theirs, _) = scheduler(&other, table().limit(1), options(), &theirs).await;
    let ours_runs = scheduler_of_ours.start().await.expect("started");
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    database.execute("INSERT INTO parcels (label) VALUES ('waits')").await;
    waker.wake();
    database.until("SELECT count(*) FROM parcels WHERE status = 'running'", 1_i64).await;
    // The other process starts, finds the queue at its limit, and has nothing to wait for but news.
    let theirs_runs = scheduler_of_theirs.start().await.expect("started");
    database.until("SELECT total_runs FROM worker_heartbeats", 2_i64).await;
    database.execute("INSERT INTO parcels (label) VALUES ('a')").await;
    // Ours stops as soon as its row has ended, so the next one is the other's.
    let stopping = tokio::spawn(async move { ours_runs.stop(&Shutdown::default()).await });
    database.until("SELECT count(*) FROM instances WHERE stopping", 1_i64).await;
    ours.gate.notify_one();
    database.until(DONE, 2_i64).await;
    stopping.await.expect("stopped");
    theirs_runs.stop(&at_once()).await;
}

async fn a_schedule_that_another_process_edits_is_seen_at_once(database: Database) {
    let mut scheduler = database.scheduler();
    let definition = JobDefinition::new("mark", Cadence::Manual);
    let job = |_: JobContext| async { Ok(RunSummary::new()) };
    scheduler.register(definition, job).expect("registered");
    let running = scheduler.start().await.expect("started");
    let other = database.another_store().await;
    for round in 1..=3_i64 {
        let began = Instant::now();
        let edit = format!("UPDATE schedules SET next_due_at_ms = {}", NOON - 10 + round);
        other.reader().execute_unprepared(&edit).await.expect("edited");
        other.wake(&Topic::Schedules);
        database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", round).await;
        // From the second round on, the pulse alone would have needed its five seconds.
        assert!(round == 1 || began.elapsed() < Duration::from_secs(4), "the pulse found it");
    }
    running.stop(&at_once()).await;
}
