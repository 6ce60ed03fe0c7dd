//! Rows enqueued into a table of one's own, with its types, its keys and its defaults.

use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, EnqueueError, Enqueued, HandleError, Handled, Handler, NewRow,
    QueueContext, QueueTable, RowId, TableQueue, Unique,
};
use scheduler_core::{Scheduler, Shutdown};
use sea_orm::FromQueryResult;
use serde_json::json;

use crate::courier::{table, with_parcels};
use crate::harness::Database;

const LETTERS: &str = "
CREATE TABLE letters (
  id TEXT PRIMARY KEY, recipient TEXT NOT NULL, weight DOUBLE PRECISION NOT NULL, urgent BOOLEAN NOT NULL,
  pages INTEGER NOT NULL, place TEXT NOT NULL DEFAULT 'home', note VARCHAR(5),
  status TEXT NOT NULL, priority INTEGER NOT NULL, run_at_ms BIGINT NOT NULL, attempt_count INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL, crash_count INTEGER NOT NULL, leased_by TEXT, lease_token BIGINT NOT NULL,
  lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL, cancel_requested BOOLEAN NOT NULL,
  progress_pct DOUBLE PRECISION NOT NULL, last_error TEXT, result TEXT, started_at_ms BIGINT, completed_at_ms BIGINT,
  lost_count INTEGER NOT NULL, checkpoint TEXT, created_at_ms BIGINT NOT NULL)";

#[derive(Debug, FromQueryResult)]
struct Letter {
    id: String,
    recipient: String,
    weight: f64,
    urgent: bool,
    pages: i32,
    place: String,
    note: Option<String>,
}

struct Sorter;

#[async_trait]
impl Handler for Sorter {
    type Row = Letter;

    async fn handle(&self, row: Letter, _: QueueContext) -> Result<Handled, HandleError> {
        let Letter { id, recipient, weight, urgent, pages, place, note } = row;
        Ok(Handled::with_result(json!([id, recipient, weight, urgent, pages, place, note])))
    }
}

fn letters() -> QueueTable {
    let columns = ["recipient", "weight", "urgent", "pages", "place", "note"];
    QueueTable::new("letters").text_ids().columns(columns)
}

fn letter(id: &str, note: Option<&str>) -> NewRow {
    let columns = json!({
        "id": id, "recipient": "ünï 'x'", "weight": 0.1, "urgent": id == "b", "pages": 3, "note": note,
    });
    NewRow::new(&columns).expect("a row")
}

async fn values_defaults_and_keys_of_the_users_arrive_as_they_are(database: Database) {
    database.execute(LETTERS).await;
    let queue = TableQueue::open(&database.store, letters()).await.expect("a queue");
    let answers = queue.enqueue(&[letter("b", Some("5five")), letter("a", None)]).await;
    let text = |id: &str| Enqueued::Inserted(RowId::Text(id.to_owned()));
    assert_eq!(answers.expect("enqueued"), [text("b"), text("a")]);
    let mut scheduler = Scheduler::new(database.store.clone());
    let options = ConsumerOptions::new("letters");
    let consumer = Consumer::new(&database.store, letters(), options, Sorter).await;
    consumer.expect("a consumer").register(&mut scheduler).expect("registered");
    let run = scheduler.run_once("letters", Duration::ZERO, &Shutdown::default()).await;
    run.expect("drained");
    assert_eq!(
        database.lines("SELECT status, result FROM letters ORDER BY id").await,
        [
            r#"succeeded|["a","ünï 'x'",0.1,false,3,"home",null]"#,
            r#"succeeded|["b","ünï 'x'",0.1,true,3,"home","5five"]"#,
        ]
    );
}

async fn what_a_row_needs_and_its_table_lacks_is_named(database: Database) {
    let database = with_parcels(database).await;
    let all = TableQueue::open(&database.store, table()).await.expect("a queue");
    let unknown = NewRow::new(&json!({ "label": "a", "colour": "red" })).expect("a row");
    let error = all.enqueue(&[unknown]).await.expect_err("refused");
    let expected = "table `parcels` cannot hold the row: it has no column `colour`";
    assert_eq!(error.to_string(), expected);
    database.execute("ALTER TABLE parcels RENAME COLUMN unique_until_ms TO until_ms").await;
    database.execute("ALTER TABLE parcels RENAME COLUMN duplicate_count TO doubles").await;
    let without = TableQueue::open(&database.store, table()).await.expect("a queue without keys");
    let keyed = NewRow::new(&json!({ "label": "a" })).expect("a row").unique(Unique::new("k"));
    let error = without.enqueue(std::slice::from_ref(&keyed)).await.expect_err("refused");
    let expected = "table `parcels` cannot have unique keys: it has no column `unique_until_ms`, `duplicate_count`";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, EnqueueError::MissingColumns { missing, .. } if missing.len() == 2));
    let plain = NewRow::new(&json!({ "label": "a" })).expect("a row");
    without.enqueue(&[plain]).await.expect("a row without a key");
    assert_eq!(database.value::<i64>("SELECT count(*) FROM parcels").await, 1);
}

async fn a_consumer_prunes_what_its_table_says(database: Database) {
    let database = with_parcels(database).await;
    let kept = || table().keep_finished_for(Duration::from_secs(60));
    let queue = TableQueue::open(&database.store, kept()).await.expect("a queue");
    let row = |label: &str| NewRow::new(&json!({ "label": label })).expect("a row");
    queue.enqueue(&[row("a"), row("permanent")]).await.expect("enqueued");
    let courier = std::sync::Arc::default();
    for (step, rows) in [(0, 2), (60, 2), (1, 1)] {
        database.clock.advance(Duration::from_secs(step));
        let options = crate::courier::options();
        let (scheduler, _) =
            crate::courier::scheduler(&database.store, kept(), options, &courier).await;
        let run = scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await;
        run.expect("drained");
        assert_eq!(database.value::<i64>("SELECT count(*) FROM parcels").await, rows);
    }
    assert_eq!(database.lines("SELECT status FROM parcels").await, ["dead"]);
}

on_every_store! {
    values_defaults_and_keys_of_the_users_arrive_as_they_are,
    what_a_row_needs_and_its_table_lacks_is_named,
    a_consumer_prunes_what_its_table_says,
}
