//! Slots come when a test says so, and it says what has to have become of them.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use scheduler_core::testing::{Rows, Runs, SteppedScheduler};
use scheduler_core::{Event, JobContext, JobDefinition, RunStatus, RunSummary};

use crate::courier::{Courier, enqueue, options, scheduler, table, with_parcels};
use crate::harness::{Database, NOON};
use crate::scheduler::{MINUTE, counting, minutely};

async fn slots_come_in_their_order_until_the_time_that_a_test_says(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let fails = JobDefinition { lateness_limit: Some(MINUTE / 2), ..minutely("quote") };
    scheduler
        .register(fails, |context: JobContext| async move {
            if context.scheduled_for_ms() == NOON {
                Ok(RunSummary::new())
            } else {
                Err("no quote".into())
            }
        })
        .expect("registered");
    let mut stepped = SteppedScheduler::start(scheduler, &database.clock).await.expect("started");

    let happened = stepped.run_due_until(NOON + 150_000).await.expect("slots came");
    let ended = |event: &Event| match event {
        Event::RunStarted { job, scheduled_for_ms, .. } if job.as_ref() == "mark" => {
            Some(scheduled_for_ms - NOON)
        }
        _ => None,
    };
    assert_eq!(happened.iter().filter_map(ended).collect::<Vec<_>>(), [0, 60_000, 120_000]);
    let marks = Runs::of(&database.store, "mark").await.expect("runs");
    let quotes = Runs::of(&database.store, "quote").await.expect("runs");
    for slot_ms in [NOON, NOON + 60_000, NOON + 120_000] {
        marks.assert_ran(slot_ms);
    }
    quotes.assert_ran(NOON);
    quotes.assert_slot(NOON + 60_000, RunStatus::Failed);

    // Nobody ran for an hour and a half, and half a minute more.
    database.clock.advance(90 * MINUTE);
    stepped.run_due_until(0).await.expect("slots came");
    let marks = Runs::of(&database.store, "mark").await.expect("runs");
    marks.assert_missed(NOON + 180_000);
    marks.assert_ran(NOON + 92 * 60_000);
    let quotes = Runs::of(&database.store, "quote").await.expect("runs");
    quotes.assert_missed(NOON + 180_000);
    stepped.stop().await.expect("stopped");
}

async fn a_queue_is_worked_off_as_far_as_the_clock_has_come(database: Database) {
    let database = with_parcels(database).await;
    for label in ["delivered", "permanent", "fails", "snoozes"] {
        enqueue(&database, label).await;
    }
    let courier = Arc::new(Courier::default());
    let (scheduler, _) = scheduler(&database.store, table(), options(), &courier).await;
    let mut stepped = SteppedScheduler::start(scheduler, &database.clock).await.expect("started");

    stepped.drain("parcels").await.expect("drained");
    let rows = Rows::of(&database.store, "parcels").await.expect("rows");
    rows.assert_succeeded(1);
    rows.assert_dead(2);
    rows.assert_enqueued(3);
    rows.assert_enqueued(4);

    stepped.run_due_until(NOON + 60_000).await.expect("slots came");
    let rows = Rows::of(&database.store, "parcels").await.expect("rows");
    rows.assert_dead(3);
    rows.assert_succeeded(4);
    stepped.stop().await.expect("stopped");
}

async fn a_failed_assertion_shows_what_happened(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let mut stepped = SteppedScheduler::start(scheduler, &database.clock).await.expect("started");
    stepped.run_due_until(NOON).await.expect("slots came");
    let runs = Runs::of(&database.store, "mark").await.expect("runs");
    let assertion = std::panic::AssertUnwindSafe(|| runs.assert_missed(NOON));
    let panic = std::panic::catch_unwind(assertion).expect_err("it has run");
    assert_eq!(
        panic.downcast_ref::<String>().expect("a text"),
        "2026-11-23 12:00:00.000 (1795435200000) is succeeded, expected missed\n\
         runs of mark:\n  \
         2026-11-23 12:00:00.000 (1795435200000)  succeeded, start, attempt 1, \
         began 2026-11-23 12:00:00.000 (1795435200000)\n"
    );
    assert!(Rows::of(&database.store, "jobs; DROP TABLE jobs").await.is_err());
}

on_every_store! {
    slots_come_in_their_order_until_the_time_that_a_test_says,
    a_queue_is_worked_off_as_far_as_the_clock_has_come,
    a_failed_assertion_shows_what_happened,
}
