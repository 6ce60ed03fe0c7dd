//! A rate over many processes, and rows that come back when the other side said so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, TableQueue,
};
use scheduler_core::queue::{NewRow, QueueTable};
use scheduler_core::{Scheduler, Shutdown};
use sea_orm::FromQueryResult;
use serde_json::json;

use crate::courier::{Courier, options, scheduler, table, with_parcels};
use crate::harness::{Database, at_once, wait_for};

const PROCESSES: usize = 8;
const ROWS: usize = 60;
const USERS: usize = 3;
/// In all, and of a user.
const STARTS: (u32, u32) = (10, 4);
const PERIOD: Duration = Duration::from_secs(10);

async fn fill(database: &Database, rows: usize) {
    let queue = TableQueue::open(&database.store, table()).await.expect("a queue");
    let row =
        |n: usize| NewRow::new(&json!({ "label": "a", "user_id": n % USERS })).expect("a row");
    queue.enqueue(&(0..rows).map(row).collect::<Vec<_>>()).await.expect("enqueued");
}

fn rated() -> QueueTable {
    table().rate(STARTS.0, PERIOD).rate_per_key("user_id", STARTS.1, PERIOD)
}

async fn a_rate_holds_over_processes_and_is_used_up(database: Database) {
    let database = with_parcels(database).await;
    fill(&database, ROWS).await;
    let courier = Arc::new(Courier::default());
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let store = database.another_store().await;
        let (scheduler, _) = scheduler(&store, rated(), options(), &courier).await;
        processes.push(scheduler.start().await.expect("started"));
    }
    let clock = database.clock.clone();
    let began_ms = crate::harness::NOON;
    wait_for("all rows", || {
        clock.advance(Duration::from_millis(50));
        courier.order().len() == ROWS
    })
    .await;
    for process in processes {
        process.stop(&Shutdown::default()).await;
    }
    // Each row ran once, so that its start stands in it.
    let sql = "SELECT count(*) FROM parcels WHERE status = 'succeeded' AND attempt_count = 1";
    assert_eq!(database.value::<i64>(sql).await, ROWS as i64);
    let period_ms = PERIOD.as_millis();
    for (same, most) in [("", STARTS.0), ("AND b.user_id = a.user_id", STARTS.1)] {
        let over = format!(
            "SELECT count(*) FROM parcels a WHERE {most} < (SELECT count(*) FROM parcels b
             WHERE b.started_at_ms > a.started_at_ms - {period_ms} AND b.started_at_ms <= a.started_at_ms {same})"
        );
        assert_eq!(database.value::<i64>(&over).await, 0, "within {PERIOD:?}: {same}");
    }
    let last: i64 = database.value("SELECT max(started_at_ms) FROM parcels").await;
    let least_ms = 5 * period_ms as i64;
    assert!(last - began_ms >= least_ms, "sixty rows, ten each ten seconds");
}

async fn a_row_over_the_rate_starts_when_it_may_and_nobody_asks_before(database: Database) {
    let database = with_parcels(database).await;
    fill(&database, 2).await;
    let courier = Arc::new(Courier::default());
    let options = ConsumerOptions { poll: Duration::from_secs(3_600), ..options() };
    let (scheduler, _) =
        scheduler(&database.store, table().rate(1, PERIOD), options, &courier).await;
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 1_i64).await;
    let clock = database.clock.clone();
    wait_for("the second row, long before the safety poll", || {
        clock.advance(Duration::from_millis(100));
        courier.order().len() == 2
    })
    .await;
    database.until("SELECT count(*) FROM parcels WHERE status = 'succeeded'", 2_i64).await;
    running.stop(&at_once()).await;
    let apart: i64 =
        database.value("SELECT max(started_at_ms) - min(started_at_ms) FROM parcels").await;
    assert!(apart >= 10_000, "{apart} ms");
}

#[derive(Debug, FromQueryResult)]
struct Label {
    label: String,
}

/// The other side is busy, for a minute.
struct Caller;

#[async_trait]
impl Handler for Caller {
    type Row = Label;

    async fn handle(&self, row: Label, context: QueueContext) -> Result<Handled, HandleError> {
        if context.attempt() == 1 {
            let refused = format!("429 for {}", row.label);
            return Err(HandleError::retry_after(refused, Duration::from_secs(60)));
        }
        Ok(Handled::Done(None))
    }
}

async fn a_refused_row_comes_back_when_the_other_side_said_so(database: Database) {
    let database = with_parcels(database).await;
    fill(&database, 1).await;
    for (step, expected) in
        [(0, "queued|1|429 for a"), (59, "queued|1|429 for a"), (1, "succeeded|2|-")]
    {
        database.clock.advance(Duration::from_secs(step));
        let mut scheduler = Scheduler::new(database.store.clone());
        let consumer = Consumer::new(&database.store, table(), options(), Caller).await;
        consumer.expect("a consumer").register(&mut scheduler).expect("registered");
        let run = scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await;
        run.expect("drained");
        let lines = database.lines("SELECT status, attempt_count, last_error FROM parcels").await;
        assert_eq!(lines, [expected], "after {step} s more");
    }
}

on_every_store! {
    a_rate_holds_over_processes_and_is_used_up,
    a_row_over_the_rate_starts_when_it_may_and_nobody_asks_before,
    a_refused_row_comes_back_when_the_other_side_said_so,
}
