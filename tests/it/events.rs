//! What a listener is told of a scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::{Event, JobContext, JobDefinition, OnInterrupt, RunSummary, StartPolicy};
use tokio::sync::Notify;

use crate::harness::{Database, NOON, at_once};
use crate::interrupted::cut_off;
use crate::scheduler::{counting, minutely};

/// The clock of these tests jumps.
const HOUR: Duration = Duration::from_secs(3_600);

/// An event without what differs from run to run.
fn line(event: Event) -> String {
    let slot = |ms: i64| (ms - NOON) / 1_000;
    match event {
        Event::RunStarted { job, trigger, scheduled_for_ms, attempt, late, .. } => {
            format!("{job} {trigger} {} {attempt} {late:?}", slot(scheduled_for_ms))
        }
        Event::RunEnded { job, status, error, .. } => {
            format!("{job} {status} {}", error.unwrap_or_default())
        }
        Event::RunCutOff { job, scheduled_for_ms, attempt, .. } => {
            format!("{job} cut off {} {attempt}", slot(scheduled_for_ms))
        }
        Event::SlotsMissed { job, missed } => {
            format!(
                "{job} missed {} to {}: {}",
                slot(missed.from_ms),
                slot(missed.until_ms),
                missed.count
            )
        }
        Event::SlotSkipped { job, scheduled_for_ms } => {
            format!("{job} skipped {}", slot(scheduled_for_ms))
        }
        other => format!("{other:?}"),
    }
}

async fn a_listener_hears_of_runs_skips_and_misses(database: Database) {
    let end = Arc::new(Notify::new());
    let (ends, cycles) = (Arc::clone(&end), AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler
        .register(JobDefinition { lease: HOUR, ..minutely("mark") }, move |_: JobContext| {
            let first = cycles.fetch_add(1, Ordering::SeqCst) == 0;
            let ends = Arc::clone(&ends);
            async move {
                if !first {
                    return Err("no price".into());
                }
                ends.notified().await;
                Ok(RunSummary::new())
            }
        })
        .expect("registered");
    let mut events = scheduler.events();
    let running = scheduler.start().await.expect("started");
    let mut heard = vec![line(events.next().await.expect("a start"))];
    database.clock.set(NOON + 60_000);
    heard.push(line(events.next().await.expect("a skip")));
    end.notify_one();
    heard.push(line(events.next().await.expect("an end")));
    database.clock.set(NOON + 302_000);
    for expected in ["a miss", "a start", "an end"] {
        heard.push(line(events.next().await.expect(expected)));
    }
    running.stop(&at_once()).await;
    assert_eq!(
        heard,
        [
            "mark start 0 1 0ns",
            "mark skipped 60",
            "mark succeeded ",
            "mark missed 120 to 240: 3",
            "mark schedule 300 1 2s",
            "mark failed no price",
        ]
    );
    assert_eq!(events.next().await, None, "the scheduler is gone");
}

async fn a_listener_hears_of_a_run_that_a_crash_cut_off(database: Database) {
    cut_off(&database, -60, 1).await;
    let mut scheduler = database.scheduler();
    let definition = JobDefinition {
        start: StartPolicy::NextSlot,
        on_interrupt: OnInterrupt::Leave,
        ..minutely("mark")
    };
    scheduler.register(definition, counting(&Arc::default())).expect("registered");
    let mut events = scheduler.events();
    let running = scheduler.start().await.expect("started");
    assert_eq!(line(events.next().await.expect("an event")), "mark cut off -60 1");
    running.stop(&at_once()).await;
}

on_every_store! {
    a_listener_hears_of_runs_skips_and_misses,
    a_listener_hears_of_a_run_that_a_crash_cut_off,
}
