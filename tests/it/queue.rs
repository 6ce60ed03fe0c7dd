//! A queue over a table of one's own, with a manual clock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueError, QueueTable,
    TableError,
};
use scheduler_core::{
    FenceError, RunReport, RunningScheduler, Scheduler, Shutdown, Store, StoreError,
};
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::json;
use tokio::sync::Notify;

use crate::harness::{Database, at_once, wait_for};

pub(crate) const PARCELS: &str = "
CREATE TABLE parcels (
  id INTEGER PRIMARY KEY, user_id BIGINT, label TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT, concurrency_slot INTEGER, queue_slot INTEGER);
CREATE INDEX parcels_ready ON parcels (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX parcels_suspect ON parcels (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX parcels_leases ON parcels (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_user ON parcels (user_id, concurrency_slot) WHERE status = 'running' AND concurrency_slot IS NOT NULL;
CREATE UNIQUE INDEX parcels_slot ON parcels (queue_slot) WHERE status = 'running' AND queue_slot IS NOT NULL;
";

const ROWS: &str =
    "SELECT label, status, attempt_count, crash_count, last_error FROM parcels ORDER BY id";

fn table() -> QueueTable {
    QueueTable::new("parcels").columns(["user_id", "label"])
}

fn options() -> ConsumerOptions {
    ConsumerOptions::new("parcels")
}

#[derive(Debug, FromQueryResult)]
struct Parcel {
    id: i64,
    user_id: Option<i64>,
    label: String,
}

/// What a parcel's label says is what happens to it.
#[derive(Default)]
struct Courier {
    store: Option<Store>,
    gate: Notify,
    order: Mutex<Vec<i64>>,
    inside: Mutex<HashMap<Option<i64>, u32>>,
    most_inside: AtomicU32,
    most_of_a_user: AtomicU32,
    fence_refused: AtomicU32,
}

#[derive(Clone)]
struct Delivery(Arc<Courier>);

#[async_trait]
impl Handler for Delivery {
    type Row = Parcel;

    async fn handle(&self, parcel: Parcel, context: QueueContext) -> Result<Handled, HandleError> {
        let courier = &self.0;
        courier.order.lock().expect("order").push(parcel.id);
        courier.enter(parcel.user_id);
        let handled = self.deliver(&parcel, &context).await;
        courier.leave(parcel.user_id);
        handled
    }
}

impl Delivery {
    async fn deliver(
        &self,
        parcel: &Parcel,
        context: &QueueContext,
    ) -> Result<Handled, HandleError> {
        match parcel.label.as_str() {
            "fails" => Err(anyhow::anyhow!("nobody at home").into()),
            "permanent" => Err(HandleError::permanent("no such street")),
            "panics" => panic!("the van broke down"),
            "snoozes" if context.attempt() == 1 && !self.seen_before(parcel.id) => {
                Ok(Handled::Snooze(Duration::from_secs(30)))
            }
            "waits" => {
                context.progress(40);
                tokio::select! {
                    () = self.0.gate.notified() => Ok(Handled::with_result(json!({"by": context.attempt()}))),
                    () = context.cancelled() => Err("told to return".into()),
                }
            }
            "deaf" => {
                self.0.gate.notified().await;
                Ok(Handled::with_result(json!({"by": context.attempt()})))
            }
            "fenced" => {
                let store = self.0.store.clone().expect("a store");
                if context.attempt() == 1 {
                    self.0.gate.notified().await;
                }
                let (context, attempt) = (context.clone(), context.attempt());
                let booked = store
                    .write("book", |txn| {
                        Box::pin(async move {
                            txn.execute_unprepared(&format!(
                                "INSERT INTO effects VALUES ({attempt})"
                            ))
                            .await
                            .map_err(|source| StoreError::database("book", source))?;
                            context.fence(txn).await
                        })
                    })
                    .await;
                if let Err(FenceError::Lost { .. }) = booked {
                    self.0.fence_refused.fetch_add(1, Ordering::SeqCst);
                }
                booked?;
                Ok(Handled::Done(None))
            }
            _ => {
                tokio::task::yield_now().await;
                Ok(Handled::with_result(json!({"delivered": parcel.id})))
            }
        }
    }

    fn seen_before(&self, id: i64) -> bool {
        self.0.order.lock().expect("order").iter().filter(|seen| **seen == id).count() > 1
    }
}

impl Courier {
    fn enter(&self, user: Option<i64>) {
        let mut inside = self.inside.lock().expect("inside");
        let of_user = inside.entry(user).or_default();
        *of_user += 1;
        self.most_of_a_user.fetch_max(*of_user, Ordering::SeqCst);
        self.most_inside.fetch_max(inside.values().sum(), Ordering::SeqCst);
    }

    fn leave(&self, user: Option<i64>) {
        *self.inside.lock().expect("inside").entry(user).or_default() -= 1;
    }

    fn order(&self) -> Vec<i64> {
        self.order.lock().expect("order").clone()
    }
}

async fn database() -> Database {
    let database = Database::new().await;
    database.execute(PARCELS).await;
    database
}

async fn enqueue(database: &Database, label: &str) {
    database.execute(&format!("INSERT INTO parcels (label) VALUES ('{label}')")).await;
}

async fn scheduler(
    store: &Store,
    table: QueueTable,
    options: ConsumerOptions,
    courier: &Arc<Courier>,
) -> (Scheduler, scheduler_core::queue::QueueWaker) {
    let mut scheduler = Scheduler::new(store.clone());
    let consumer = Consumer::new(store, table, options, Delivery(Arc::clone(courier))).await;
    let waker = consumer.expect("a consumer").register(&mut scheduler).expect("registered");
    (scheduler, waker)
}

async fn start(database: &Database, courier: &Arc<Courier>) -> RunningScheduler {
    let (scheduler, _) = scheduler(&database.store, table(), options(), courier).await;
    scheduler.start().await.expect("started")
}

async fn drain(database: &Database, courier: &Arc<Courier>) -> RunReport {
    let (scheduler, _) = scheduler(&database.store, table(), options(), courier).await;
    scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await.expect("drained")
}

#[tokio::test]
async fn a_one_shot_run_drains_what_is_claimable_in_order() {
    let database = database().await;
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

#[tokio::test]
async fn a_failed_row_comes_back_later_until_its_attempts_are_used_up() {
    let database = database().await;
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

#[tokio::test]
async fn a_running_process_claims_on_a_wake_up_and_when_a_row_becomes_due() {
    let database = database().await;
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

#[tokio::test]
async fn the_safety_poll_finds_a_row_that_nobody_told_of() {
    let database = database().await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    enqueue(&database, "a").await;
    database.clock.advance(Duration::from_secs(15));
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 1_i64).await;
    running.stop(&at_once()).await;
}

#[tokio::test]
async fn limits_hold_over_processes() {
    let database = database().await;
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

#[tokio::test]
async fn a_user_at_his_limit_does_not_hold_others_up() {
    let database = database().await;
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

#[tokio::test]
async fn what_a_frozen_process_finishes_too_late_does_not_land() {
    let database = database().await;
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

#[tokio::test]
async fn effects_of_a_lost_row_are_rolled_back_by_its_fence() {
    let database = database().await;
    database.execute("CREATE TABLE effects (attempt INTEGER NOT NULL)").await;
    enqueue(&database, "fenced").await;
    let courier = Arc::new(Courier { store: Some(database.store.clone()), ..Courier::default() });
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

#[tokio::test]
async fn a_row_that_kills_its_process_three_times_is_dead() {
    let database = database().await;
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

#[tokio::test]
async fn a_row_that_was_claimed_and_never_started_keeps_its_attempts() {
    let database = database().await;
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

#[tokio::test]
async fn a_row_whose_process_died_runs_alone() {
    let database = database().await;
    for label in ["a", "a", "a"] {
        enqueue(&database, label).await;
    }
    database.execute("UPDATE parcels SET crash_count = 1 WHERE id = 2").await;
    let courier = Arc::new(Courier::default());
    drain(&database, &courier).await;
    assert_eq!(courier.order()[0], 2);
    assert_eq!(courier.order().len(), 3);
}

#[tokio::test]
async fn a_stop_gives_the_attempt_back() {
    let database = database().await;
    enqueue(&database, "waits").await;
    let courier = Arc::new(Courier::default());
    let running = start(&database, &courier).await;
    wait_for("the handler", || courier.order().len() == 1).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(ROWS).await, ["waits|queued|0|0|-"]);
}

#[tokio::test]
async fn a_stop_lets_a_handler_end_within_the_grace_period() {
    let database = database().await;
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

#[tokio::test]
async fn a_running_row_is_cancelled_and_its_progress_is_seen() {
    let database = database().await;
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

#[tokio::test]
async fn a_snoozed_row_comes_back_without_using_up_an_attempt() {
    let database = database().await;
    enqueue(&database, "snoozes").await;
    let courier = Arc::new(Courier::default());
    drain(&database, &courier).await;
    assert_eq!(database.lines(ROWS).await, ["snoozes|queued|0|0|-"]);
    database.clock.advance(Duration::from_secs(30));
    drain(&database, &courier).await;
    assert_eq!(database.lines(ROWS).await, ["snoozes|succeeded|1|0|-"]);
}

#[tokio::test]
async fn a_handler_is_cut_off_at_its_deadline_and_the_row_tried_again() {
    let database = database().await;
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

#[tokio::test]
async fn a_row_that_cannot_be_read_is_dead_and_harms_nobody() {
    let database = database().await;
    enqueue(&database, "a").await;
    enqueue(&database, "b").await;
    database.execute("UPDATE parcels SET user_id = 'not a number' WHERE id = 1").await;
    drain(&database, &Arc::new(Courier::default())).await;
    let lines = database.lines("SELECT label, status FROM parcels ORDER BY id").await;
    assert_eq!(lines, ["a|dead", "b|succeeded"]);
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

#[tokio::test]
async fn a_scheduler_runs_its_consumer_once_as_often_as_asked() {
    let database = database().await;
    let courier = Arc::new(Courier::default());
    let (scheduler, _) = scheduler(&database.store, table(), options(), &courier).await;
    for rows in 1..=2 {
        enqueue(&database, "a").await;
        scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await.expect("drained");
        assert_eq!(courier.order().len(), rows);
    }
}

#[tokio::test]
async fn a_process_that_takes_its_own_lost_row_again_finishes_only_the_new_claim() {
    let database = database().await;
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
