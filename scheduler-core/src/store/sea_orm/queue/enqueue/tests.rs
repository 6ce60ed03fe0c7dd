//! Ids that are said instead of asked for are those that the database gives.
#![cfg(feature = "migration")]

use super::*;
use crate::migration::{List, SchedulerMigrator, up};

const FOLLOW_UP: &str = "
CREATE TRIGGER follow_up AFTER INSERT ON jobs WHEN new.kind = 'order' BEGIN
  INSERT INTO jobs (queue, kind, payload, payload_version, priority, run_at_ms, max_attempts, created_at_ms)
    VALUES (new.queue, 'mail', new.payload, 1, 0, 0, 1, 0);
END";

async fn payloads(store: &Store, rows: &[Enqueued]) -> Vec<String> {
    let mut payloads = Vec::new();
    for row in rows {
        let read = "SELECT payload FROM jobs WHERE id = $1 AND kind = 'order'";
        let read = Statement::from_sql_and_values(DbBackend::Sqlite, read, [row.id().into()]);
        let row = store.reader().query_one_raw(read).await.unwrap().expect("it is an order");
        payloads.push(row.try_get_by_index(0).unwrap());
    }
    payloads
}

#[tokio::test]
async fn ids_are_those_of_the_rows_wherever_the_table_begins_and_whatever_triggers_add() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ids.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.unwrap();
    let jobs: Vec<NewJob> = (0..40).map(|number| NewJob::new("order", &number).unwrap()).collect();
    let expected: Vec<String> = jobs.iter().map(|job| job.payload.clone()).collect();
    let first = store.enqueue_shared("orders", &jobs).await.unwrap();
    assert_eq!(first.first(), Some(&Enqueued::Inserted(1)));
    store.reader().execute_unprepared("DELETE FROM jobs WHERE id > 30").await.unwrap();
    let second = store.enqueue_shared("orders", &jobs).await.unwrap();
    assert_eq!(second.first(), Some(&Enqueued::Inserted(31)));
    assert_eq!(payloads(&store, &second).await, expected);

    store.reader().execute_unprepared(FOLLOW_UP).await.unwrap();
    let third = store.enqueue_shared("orders", &jobs).await.unwrap();
    assert_eq!(payloads(&store, &third).await, expected);
    store.reader().execute_unprepared("DROP TRIGGER follow_up").await.unwrap();

    let last = format!("UPDATE jobs SET id = {} WHERE id = 1", i64::MAX);
    store.reader().execute_unprepared(&last).await.unwrap();
    // SQLite looks for free ids then, in no order.
    let fourth = store.enqueue_shared("orders", &jobs).await.unwrap();
    let mut found = payloads(&store, &fourth).await;
    found.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
}
