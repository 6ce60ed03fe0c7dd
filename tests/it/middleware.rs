//! Layers of tower's around a handler, and batches.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    BatchHandler, BatchOptions, Batched, Consumer, ConsumerOptions, HandleError, Handled, Handler,
    Layered, RowRequest,
};
use scheduler_core::{RunReport, Scheduler, Shutdown};
use sea_orm::FromQueryResult;
use serde_json::json;
use tokio::sync::Notify;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;

use crate::courier::{Courier, Delivery, ROWS, enqueue, options, table, with_parcels};
use crate::harness::{Database, at_once, wait_for};

async fn scheduler_of(
    database: &Database,
    options: ConsumerOptions,
    handler: impl Handler,
) -> Scheduler {
    let mut scheduler = Scheduler::new(database.store.clone());
    let consumer = Consumer::new(&database.store, table(), options, handler).await;
    consumer.expect("a consumer").register(&mut scheduler).expect("registered");
    scheduler
}

async fn drain(database: &Database, handler: impl Handler) -> RunReport {
    let scheduler = scheduler_of(database, options(), handler).await;
    scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await.expect("drained")
}

async fn layers_bound_what_runs_and_an_error_stays_what_its_handler_said(database: Database) {
    let database = with_parcels(database).await;
    for label in ["a", "permanent", "fails", "a", "a", "a"] {
        enqueue(&database, label).await;
    }
    let courier = Arc::new(Courier::default());
    let handler = Layered::new(Delivery(Arc::clone(&courier)))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(TimeoutLayer::new(Duration::from_secs(3_600)));
    drain(&database, handler).await;
    assert_eq!(courier.most_inside.load(Ordering::SeqCst), 1);
    assert_eq!(
        database.lines(ROWS).await,
        [
            "a|succeeded|1|0|-",
            "permanent|dead|1|0|no such street",
            "fails|queued|1|0|nobody at home",
            "a|succeeded|1|0|-",
            "a|succeeded|1|0|-",
            "a|succeeded|1|0|-",
        ]
    );
}

async fn a_layer_that_gives_up_is_a_failure_of_its_row(database: Database) {
    let database = with_parcels(database).await;
    enqueue(&database, "deaf").await;
    let handler = Layered::new(Delivery(Arc::default()));
    drain(&database, handler.layer(TimeoutLayer::new(Duration::from_millis(1)))).await;
    assert_eq!(database.lines(ROWS).await, ["deaf|queued|1|0|request timed out"]);
}

#[derive(Debug, FromQueryResult)]
struct Label {
    label: String,
}

/// What a parcel's label says is what happens to it, or to its whole van.
struct Van {
    loads: Mutex<Vec<Vec<String>>>,
    arrived: AtomicU32,
    go: Notify,
}

impl Van {
    fn new() -> Arc<Self> {
        Arc::new(Self { loads: Mutex::default(), arrived: AtomicU32::new(0), go: Notify::new() })
    }

    fn loads(&self) -> Vec<usize> {
        self.loads.lock().expect("loads").iter().map(Vec::len).collect()
    }
}

struct Vans(Arc<Van>);

#[async_trait]
impl BatchHandler for Vans {
    type Row = Label;

    async fn handle(
        &self,
        rows: Vec<RowRequest<Label>>,
    ) -> Result<Vec<Result<Handled, HandleError>>, HandleError> {
        let labels: Vec<String> = rows.iter().map(|row| row.row.label.clone()).collect();
        self.0.loads.lock().expect("loads").push(labels.clone());
        self.0.arrived.fetch_add(1, Ordering::SeqCst);
        if labels.iter().any(|label| label == "waits") {
            let told: Vec<_> = rows.iter().map(|row| row.context.clone()).collect();
            tokio::select! {
                () = self.0.go.notified() => {}
                // The first is the one that somebody asks for.
                () = told[0].cancelled() => {}
            }
        }
        match labels[0].as_str() {
            "panics" => panic!("the van broke down"),
            "forgets" => return Ok(Vec::new()),
            "closed" => {
                return Err(HandleError::retry_after(
                    "the depot is closed",
                    Duration::from_secs(60),
                ));
            }
            _ => {}
        }
        let answer = |RowRequest { row, context }: &RowRequest<Label>| match row.label.as_str() {
            "fails" => Err("nobody at home".into()),
            "permanent" => Err(HandleError::permanent("no such street")),
            "snoozes" => Ok(Handled::Snooze(Duration::from_secs(30))),
            _ if context.cancellation().is_cancelled() => Err("told to return".into()),
            _ => Ok(Handled::with_result(json!({ "of": rows.len() }))),
        };
        Ok(rows.iter().map(answer).collect())
    }
}

fn batched(van: &Arc<Van>, max_batch: usize) -> Batched<Vans> {
    let linger = Duration::from_secs(5);
    Batched::new(Vans(Arc::clone(van)), BatchOptions { max_batch, linger })
}

async fn rows_of_a_batch_end_each_on_its_own(database: Database) {
    let database = with_parcels(database).await;
    for label in ["a", "fails", "permanent", "snoozes", "a"] {
        enqueue(&database, label).await;
    }
    let van = Van::new();
    drain(&database, batched(&van, 5)).await;
    assert_eq!(van.loads(), [5], "a full batch waits for nobody");
    assert_eq!(
        database.lines(ROWS).await,
        [
            "a|succeeded|1|0|-",
            "fails|queued|1|0|nobody at home",
            "permanent|dead|1|0|no such street",
            "snoozes|queued|0|0|-",
            "a|succeeded|1|0|-",
        ]
    );
    let results = database.lines("SELECT result FROM parcels WHERE label = 'a'").await;
    assert_eq!(results, [r#"{"of":5}"#, r#"{"of":5}"#]);
}

async fn a_batch_that_fails_panics_or_forgets_is_recorded_in_each_row(database: Database) {
    let database = with_parcels(database).await;
    let table = [
        ("panics", "panicked: the van broke down", 5_000),
        ("forgets", "the batch answered 0 of 2 rows", 5_000),
        ("closed", "the depot is closed", 60_000),
    ];
    for (label, error, least_ms) in table {
        database.execute("DELETE FROM parcels").await;
        enqueue(&database, label).await;
        enqueue(&database, "a").await;
        let van = Van::new();
        drain(&database, batched(&van, 2)).await;
        assert_eq!(van.loads(), [2], "{label}");
        let least = crate::harness::NOON + least_ms;
        let sql = format!(
            "SELECT status, attempt_count, last_error FROM parcels WHERE run_at_ms >= {least} ORDER BY id"
        );
        let expected = format!("queued|1|{error}");
        assert_eq!(database.lines(&sql).await, [expected.clone(), expected], "{label}");
    }
}

async fn a_batch_that_is_not_full_begins_when_its_first_row_has_waited(database: Database) {
    let database = with_parcels(database).await;
    for _ in 0..3 {
        enqueue(&database, "a").await;
    }
    let van = Van::new();
    let running = scheduler_of(&database, options(), batched(&van, 100)).await;
    let running = running.start().await.expect("started");
    database.until("SELECT count(*) FROM parcels WHERE status = 'running'", 3_i64).await;
    let clock = database.clock.clone();
    wait_for("the batch", || {
        clock.advance(Duration::from_millis(500));
        van.arrived.load(Ordering::SeqCst) > 0
    })
    .await;
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 3_i64).await;
    assert_eq!(van.loads(), [3]);
    running.stop(&at_once()).await;
}

async fn one_row_of_a_batch_is_cancelled_and_the_others_go_on(database: Database) {
    let database = with_parcels(database).await;
    for label in ["a", "waits", "a"] {
        enqueue(&database, label).await;
    }
    let van = Van::new();
    let running = scheduler_of(&database, options(), batched(&van, 3)).await;
    let running = running.start().await.expect("started");
    wait_for("the batch", || van.arrived.load(Ordering::SeqCst) == 1).await;
    database.execute("UPDATE parcels SET cancel_requested = TRUE WHERE id = 1").await;
    database.clock.advance(Duration::from_secs(5));
    let ended = "SELECT count(*) FROM parcels WHERE completed_at_ms IS NOT NULL";
    database.until(ended, 3_i64).await;
    assert_eq!(
        database.lines("SELECT label, status FROM parcels ORDER BY id").await,
        ["a|cancelled", "waits|succeeded", "a|succeeded"]
    );
    running.stop(&at_once()).await;
}

async fn a_lost_row_of_a_batch_does_not_land_and_the_others_do(database: Database) {
    let database = with_parcels(database).await;
    for label in ["a", "waits"] {
        enqueue(&database, label).await;
    }
    let van = Van::new();
    let running = scheduler_of(&database, options(), batched(&van, 2)).await;
    let running = running.start().await.expect("started");
    wait_for("the batch", || van.arrived.load(Ordering::SeqCst) == 1).await;
    // Another took it over meanwhile.
    database.execute("UPDATE parcels SET lease_token = 77, leased_by = 'other' WHERE id = 1").await;
    van.go.notify_one();
    database.until("SELECT status FROM parcels WHERE id = 2", "succeeded".to_owned()).await;
    let lines = database.lines("SELECT status, leased_by, result FROM parcels WHERE id = 1").await;
    assert_eq!(lines, ["running|other|-"]);
    running.stop(&at_once()).await;
}

on_every_store! {
    layers_bound_what_runs_and_an_error_stays_what_its_handler_said,
    a_layer_that_gives_up_is_a_failure_of_its_row,
    rows_of_a_batch_end_each_on_its_own,
    a_batch_that_fails_panics_or_forgets_is_recorded_in_each_row,
    a_batch_that_is_not_full_begins_when_its_first_row_has_waited,
    one_row_of_a_batch_is_cancelled_and_the_others_go_on,
    a_lost_row_of_a_batch_does_not_land_and_the_others_do,
}
