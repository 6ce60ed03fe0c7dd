//! A queue over a table of one's own, with a manual clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scheduler_core::Shutdown;
use scheduler_core::queue::{Consumer, ConsumerOptions, QueueError, TableError};

use crate::courier::{
    Courier, Delivery, ROWS, drain, enqueue, options, scheduler, start, table, with_parcels,
};
use crate::harness::{Database, at_once, wait_for, within};

async fn a_one_shot_run_drains_what_is_claimable_in_order(database: Database) {
    let database = with_parcels(database).await;
    for (label, priority) in [("a", 5), ("b", 1), ("c", 1), ("d", 0)] {
        database
            .execute(&format!(
                "INSERT INTO parcels (label, priority) VALUES ('{label}', {priority})"
            ))
            .await;
    }
    database
        .execute("INSERT INTO parcels (label, run_at_ms) VALUES ('later', 9999999999999)")
        .await;
    let courier = Arc::new(Courier::default());
    let (scheduler, _) = scheduler(
        &database.store,
        table(),
        ConsumerOptions { concurrency: 1, ..options() },
        &courier,
    )
    .await;
    let report =
        scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await.expect("drained");
    assert_eq!(courier.order(), [4, 2, 3, 1]);
    let summary = report.summary.expect("a summary");
    assert_eq!((summary["claimed"].as_u64(), summary["succeeded"].as_u64()), (Some(4), Some(4)));
    assert_eq!(
        database.lines("SELECT label, status, attempt_count, progress_pct, result, leased_by FROM parcels ORDER BY id").await,
        [
            r#"a|succeeded|1|100|{"delivered":1}|-"#,
            r#"b|succeeded|1|100|{"delivered":2}|-"#,
            r#"c|succeeded|1|100|{"delivered":3}|-"#,
            r#"d|succeeded|1|100|{"delivered":4}|-"#,
            "later|queued|0|0|-|-",
        ]
    );
    let status: String =
        database.value("SELECT status FROM worker_heartbeats WHERE worker = 'parcels'").await;
    assert_eq!(status, "succeeded");
}

async fn a_failed_row_comes_back_later_until_its_attempts_are_used_up(database: Database) {
    let database = with_parcels(database).await;
    for label in ["fails", "permanent", "panics"] {
        enqueue(&database, label).await;
    }
    let courier = Arc::new(Courier::default());
    drain(&database, &courier).await;
    assert_eq!(
        database.lines(ROWS).await,
        [
            "fails|queued|1|0|nobody at home",
            "permanent|dead|1|0|no such street",
            "panics|queued|1|0|panicked: the van broke down"
        ]
    );
    drain(&database, &courier).await;
    assert_eq!(courier.order().len(), 3, "not before its time");
    for _ in 0..2 {
        database.clock.advance(Duration::from_secs(20));
        drain(&database, &courier).await;
    }
    assert_eq!(
        database.lines(ROWS).await,
        [
            "fails|dead|3|0|nobody at home",
            "permanent|dead|1|0|no such street",
            "panics|dead|3|0|panicked: the van broke down"
        ]
    );
}

async fn a_running_process_claims_on_a_wake_up_and_when_a_row_becomes_due(database: Database) {
    let database = with_parcels(database).await;
    let courier = Arc::new(Courier::default());
    let (scheduler, waker) = scheduler(&database.store, table(), options(), &courier).await;
    let running = scheduler.start().await.expect("started");
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    enqueue(&database, "a").await;
    waker.wake();
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 1_i64).await;
    enqueue(&database, "fails").await;
    waker.wake();
    database
        .until(
            "SELECT count(*) FROM parcels WHERE last_error IS NOT NULL AND status = 'queued'",
            1_i64,
        )
        .await;
    let clock = database.clock.clone();
    wait_for("the retry, long before the safety poll", || {
        clock.advance(Duration::from_millis(100));
        courier.order().len() == 3
    })
    .await;
    running.stop(&at_once()).await;
}

async fn the_safety_poll_finds_a_row_that_nobody_told_of(database: Database) {
    let database = with_parcels(database).await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    enqueue(&database, "a").await;
    database.clock.advance(Duration::from_secs(15));
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 1_i64).await;
    running.stop(&at_once()).await;
}

async fn limits_hold_over_processes(database: Database) {
    let database = with_parcels(database).await;
    for row in 0..40 {
        let user = row % 4;
        database
            .execute(&format!("INSERT INTO parcels (label, user_id) VALUES ('a', {user})"))
            .await;
    }
    let courier = Arc::new(Courier::default());
    let limited = || table().limit(2).limit_per_key("user_id", 1);
    let mut processes = Vec::new();
    for _ in 0..4 {
        let store = database.another_store().await;
        let (scheduler, waker) = scheduler(&store, limited(), options(), &courier).await;
        processes.push((scheduler.start().await.expect("started"), waker));
    }
    let clock = database.clock.clone();
    wait_for("all rows", || {
        clock.advance(Duration::from_millis(20));
        courier.order().len() == 40
    })
    .await;
    for (process, _) in processes {
        process.stop(&Shutdown::default()).await;
    }
    let done: i64 = database
        .value("SELECT count(*) FROM parcels WHERE status = 'succeeded' AND attempt_count = 1")
        .await;
    assert_eq!(done, 40);
    assert_eq!(courier.most_of_a_user.load(Ordering::SeqCst), 1);
    assert!(courier.most_inside.load(Ordering::SeqCst) <= 2);
    let slots: i64 = database.value("SELECT count(*) FROM parcels WHERE queue_slot IS NOT NULL OR concurrency_slot IS NOT NULL").await;
    assert_eq!(slots, 0, "finished rows occupy no slot");
}

async fn a_user_at_his_limit_does_not_hold_others_up(database: Database) {
    let database = with_parcels(database).await;
    for _ in 0..50 {
        database.execute("INSERT INTO parcels (label, user_id) VALUES ('waits', 1)").await;
    }
    database
        .execute("INSERT INTO parcels (label, user_id) VALUES ('a', 2), ('a', NULL), ('a', NULL)")
        .await;
    let courier = Arc::new(Courier::default());
    let (scheduler, _) =
        scheduler(&database.store, table().limit_per_key("user_id", 1), options(), &courier).await;
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 3_i64).await;
    assert_eq!(
        database
            .lines("SELECT user_id, concurrency_slot FROM parcels WHERE status = 'running'")
            .await,
        ["1|0"]
    );
    running.stop(&at_once()).await;
}

async fn what_a_frozen_process_finishes_too_late_does_not_land(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "deaf").await;
    let frozen = Arc::new(Courier::default());
    let first = start(&database, &frozen).await;
    wait_for("the first process to begin", || frozen.order().len() == 1).await;
    // One step over the whole lease of 60 s; the other process takes the row over.
    let healthy = Arc::new(Courier::default());
    healthy.gate.notify_one();
    let store = database.another_store().await;
    let (second, _) = scheduler(&store, table(), options(), &healthy).await;
    database.clock.advance(Duration::from_secs(61));
    let report = second.run_once("parcels", Duration::ZERO, &Shutdown::default()).await;
    let summary = report.expect("drained").summary.expect("a summary");
    frozen.gate.notify_one();
    first.stop(&Shutdown::default()).await;
    let lines =
        database.lines("SELECT status, attempt_count, crash_count, result FROM parcels").await;
    // Whoever looked first after the expiry took the row; only one end stands.
    assert_eq!(lines, [r#"succeeded|2|1|{"by":2}"#], "{summary}");
}

async fn effects_of_a_lost_row_are_rolled_back_by_its_fence(database: Database) {
    let database = with_parcels(database).await;
    database.execute("CREATE TABLE effects (attempt INTEGER NOT NULL)").await;
    enqueue(&database, "fenced").await;
    let courier = Arc::new(Courier::booking_in(&database.store));
    let first = start(&database, &courier).await;
    wait_for("the first attempt to begin", || courier.order().len() == 1).await;
    // The row is taken over by a process that dies too: nobody renews it here any more.
    database
        .execute("UPDATE parcels SET lease_token = lease_token + 1, leased_by = 'another'")
        .await;
    courier.gate.notify_one();
    wait_for("the fence to refuse", || courier.fence_refused.load(Ordering::SeqCst) == 1).await;
    database.clock.advance(Duration::from_secs(61));
    database.until("SELECT status FROM parcels", "succeeded".to_owned()).await;
    first.stop(&at_once()).await;
    assert_eq!(database.lines("SELECT attempt FROM effects").await, ["2"]);
}

async fn a_row_that_kills_its_process_three_times_is_dead(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "a").await;
    let courier = Arc::new(Courier::default());
    for crashes in 1..=3 {
        // What a killed process leaves.
        database
            .execute(
                "UPDATE parcels SET status = 'running', started = TRUE, leased_by = 'killed', attempt_count = attempt_count + 1,
                 lease_token = lease_token + 1, lease_expires_at_ms = 1",
            )
            .await;
        database.execute("UPDATE parcels SET label = 'waits'").await;
        let running = start(&database, &courier).await;
        database.until("SELECT crash_count FROM parcels", crashes).await;
        running.stop(&at_once()).await;
    }
    assert_eq!(
        database.lines(ROWS).await,
        ["waits|dead|3|3|crashing: its process died 3 times while it ran"]
    );
}

async fn a_row_that_was_claimed_and_never_started_keeps_its_attempts(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "a").await;
    database
        .execute(
            "UPDATE parcels SET status = 'running', started = FALSE, leased_by = 'killed', attempt_count = 1,
             lease_token = 1, lease_expires_at_ms = 1",
        )
        .await;
    drain(&database, &Arc::new(Courier::default())).await;
    assert_eq!(database.lines(ROWS).await, ["a|succeeded|1|0|-"]);
}

async fn a_row_whose_process_died_runs_alone(database: Database) {
    let database = with_parcels(database).await;
    for label in ["a", "a", "a"] {
        enqueue(&database, label).await;
    }
    database.execute("UPDATE parcels SET crash_count = 1 WHERE id = 2").await;
    let courier = Arc::new(Courier::default());
    drain(&database, &courier).await;
    assert_eq!(courier.order()[0], 2);
    assert_eq!(courier.order().len(), 3);
}

async fn a_stop_gives_the_attempt_back(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "waits").await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    wait_for("the handler", || courier.order().len() == 1).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(ROWS).await, ["waits|queued|0|0|-"]);
}

async fn a_stop_lets_a_handler_end_within_the_grace_period(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "waits").await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    wait_for("the handler", || courier.order().len() == 1).await;
    let stopping = tokio::spawn(async move { running.stop(&Shutdown::default()).await });
    database.until("SELECT count(*) FROM instances WHERE stopping", 1_i64).await;
    courier.gate.notify_one();
    stopping.await.expect("stopped");
    assert_eq!(database.lines(ROWS).await, ["waits|succeeded|1|0|-"]);
}

async fn a_running_row_is_cancelled_and_its_progress_is_seen(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "waits").await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    wait_for("the handler", || courier.order().len() == 1).await;
    let clock = database.clock.clone();
    clock.advance(Duration::from_secs(5));
    database.until("SELECT progress_pct FROM parcels", 40).await;
    database.execute("UPDATE parcels SET cancel_requested = TRUE").await;
    clock.advance(Duration::from_secs(5));
    database.until("SELECT status FROM parcels", "cancelled".to_owned()).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(ROWS).await, ["waits|cancelled|1|0|told to return"]);
}

async fn a_snoozed_row_comes_back_without_using_up_an_attempt(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "snoozes").await;
    let courier = Arc::new(Courier::default());
    drain(&database, &courier).await;
    assert_eq!(database.lines(ROWS).await, ["snoozes|queued|0|0|-"]);
    database.clock.advance(Duration::from_secs(30));
    drain(&database, &courier).await;
    assert_eq!(database.lines(ROWS).await, ["snoozes|succeeded|1|0|-"]);
}

async fn a_row_that_snoozes_for_ever_harms_nobody(database: Database) {
    let database = with_parcels(database).await;
    for label in ["hibernates", "a", "not before never", "b"] {
        enqueue(&database, label).await;
    }
    let courier = Arc::new(Courier::default());
    for _ in 0..2 {
        drain(&database, &courier).await;
    }
    assert_eq!(
        database.lines(ROWS).await,
        [
            "hibernates|queued|0|0|-",
            "a|succeeded|1|0|-",
            "not before never|queued|1|0|no",
            "b|succeeded|1|0|-"
        ]
    );
}

async fn an_end_that_the_database_refuses_is_that_of_its_own_row_only(database: Database) {
    let database = with_parcels(database).await;
    // A rule of the user's that the result of one of the first two rows breaks.
    database
        .execute("CREATE UNIQUE INDEX one_result ON parcels (result) WHERE id < 3 AND result IS NOT NULL")
        .await;
    for _ in 0..6 {
        enqueue(&database, "deaf").await;
    }
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    wait_for("the handlers", || courier.order().len() == 6).await;
    wait_for("their ends, which come together", || {
        courier.gate.notify_waiters();
        courier.inside.lock().expect("inside").values().sum::<u32>() == 0
    })
    .await;
    let over = within(Duration::from_secs(60), async || {
        database.clock.advance(Duration::from_millis(50));
        let open = "SELECT count(*) FROM parcels WHERE status IN ('queued', 'running')";
        database.value::<i64>(open).await == 0
    });
    assert!(over.await, "{:?}", database.lines(ROWS).await);
    // The claim that was refused with them is tried again after a while.
    let stopping = tokio::spawn(async move { running.stop(&at_once()).await });
    wait_for("the stop", || {
        database.clock.advance(Duration::from_millis(50));
        stopping.is_finished()
    })
    .await;
    let count = async |condition: &str| {
        let sql = format!(
            "SELECT count(*) FROM parcels WHERE attempt_count = 1 AND crash_count = 0 AND {condition}"
        );
        database.value::<i64>(&sql).await
    };
    assert_eq!(count("status = 'succeeded' AND result IS NOT NULL").await, 5);
    let refused = "status = 'dead' AND id < 3 AND result IS NULL AND last_error LIKE 'its end was refused: %'";
    assert_eq!(count(refused).await, 1, "{:?}", database.lines(ROWS).await);
}

async fn a_handler_is_cut_off_at_its_deadline_and_the_row_tried_again(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "waits").await;
    let courier = Arc::new(Courier::default());
    let options = ConsumerOptions { timeout: Some(Duration::from_secs(10)), ..options() };
    let (scheduler, _) = scheduler(&database.store, table(), options, &courier).await;
    let running = scheduler.start().await.expect("started");
    wait_for("the handler", || courier.order().len() == 1).await;
    let clock = database.clock.clone();
    wait_for("the deadline", || {
        clock.advance(Duration::from_millis(500));
        courier.inside.lock().expect("inside").values().sum::<u32>() == 0
    })
    .await;
    database
        .until(
            "SELECT last_error FROM parcels",
            Some("cut off at its deadline: told to return".to_owned()),
        )
        .await;
    running.stop(&at_once()).await;
}

async fn a_row_that_cannot_be_read_is_dead_and_harms_nobody(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "a").await;
    enqueue(&database, "b").await;
    database.execute("UPDATE parcels SET label = NULL WHERE id = 1").await;
    drain(&database, &Arc::new(Courier::default())).await;
    let lines = database.lines("SELECT label, status FROM parcels ORDER BY id").await;
    assert_eq!(lines, ["-|dead", "b|succeeded"]);
}

#[tokio::test]
async fn a_table_that_is_no_queue_is_refused_with_what_is_missing() {
    let database = Database::new().await;
    let delivery = || Delivery(Arc::default());
    let missing = Consumer::new(&database.store, table(), options(), delivery()).await;
    assert!(
        matches!(missing.err(), Some(QueueError::Table(TableError::Missing(name))) if name == "parcels")
    );
    database.execute("CREATE TABLE parcels (id INTEGER PRIMARY KEY, status TEXT)").await;
    let bare = Consumer::new(&database.store, table(), options(), delivery()).await;
    let message = bare.err().expect("refused").to_string();
    assert!(
        message.starts_with("table `parcels` cannot be a queue: it has no column `priority`"),
        "{message}"
    );
    let none = ConsumerOptions { concurrency: 0, ..options() };
    let refused = Consumer::new(&database.store, table(), none, delivery()).await;
    let message = refused.err().expect("refused").to_string();
    assert_eq!(message, "option `concurrency` is 0; expected at least 1");
}

async fn a_scheduler_runs_its_consumer_once_as_often_as_asked(database: Database) {
    let database = with_parcels(database).await;
    let courier = Arc::new(Courier::default());
    let (scheduler, _) = scheduler(&database.store, table(), options(), &courier).await;
    for rows in 1..=2 {
        enqueue(&database, "a").await;
        scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await.expect("drained");
        assert_eq!(courier.order().len(), rows);
    }
}

async fn a_process_that_takes_its_own_lost_row_again_finishes_only_the_new_claim(
    database: Database,
) {
    let database = with_parcels(database).await;
    enqueue(&database, "deaf").await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    wait_for("the first attempt", || courier.order().len() == 1).await;
    // One step over the lease: the same process reclaims the row, its first handler still in it.
    database.clock.advance(Duration::from_secs(61));
    // A row whose handler was lost is not alone here, so it waits until the first one is gone.
    courier.gate.notify_one();
    wait_for("the second attempt", || courier.order().len() == 2).await;
    courier.gate.notify_one();
    database.until("SELECT status FROM parcels", "succeeded".to_owned()).await;
    running.stop(&at_once()).await;
    let lines = database.lines("SELECT attempt_count, crash_count, result FROM parcels").await;
    assert_eq!(lines, [r#"2|1|{"by":2}"#]);
}

on_every_store! {
    a_one_shot_run_drains_what_is_claimable_in_order,
    a_failed_row_comes_back_later_until_its_attempts_are_used_up,
    a_running_process_claims_on_a_wake_up_and_when_a_row_becomes_due,
    the_safety_poll_finds_a_row_that_nobody_told_of,
    limits_hold_over_processes,
    a_user_at_his_limit_does_not_hold_others_up,
    what_a_frozen_process_finishes_too_late_does_not_land,
    effects_of_a_lost_row_are_rolled_back_by_its_fence,
    a_row_that_kills_its_process_three_times_is_dead,
    a_row_that_was_claimed_and_never_started_keeps_its_attempts,
    a_row_whose_process_died_runs_alone,
    a_stop_gives_the_attempt_back,
    a_stop_lets_a_handler_end_within_the_grace_period,
    a_running_row_is_cancelled_and_its_progress_is_seen,
    a_snoozed_row_comes_back_without_using_up_an_attempt,
    a_row_that_snoozes_for_ever_harms_nobody,
    an_end_that_the_database_refuses_is_that_of_its_own_row_only,
    a_handler_is_cut_off_at_its_deadline_and_the_row_tried_again,
    a_row_that_cannot_be_read_is_dead_and_harms_nobody,
    a_scheduler_runs_its_consumer_once_as_often_as_asked,
    a_process_that_takes_its_own_lost_row_again_finishes_only_the_new_claim,
}
