//! A file that cannot be written, and a disk that is full: said clearly, nothing lost.

use std::sync::Arc;

use scheduler_core::queue::QueueTable;
use scheduler_core::store::{
    Begun, ClaimRequest, Ending, Firing, HeartbeatStore, InstanceStore, LeaseStore, NewRun,
    RowProgress, RunStore, ScheduleStore,
};
use scheduler_core::testing::contract::Fixture;
use scheduler_core::{
    HeartbeatRecorder, InstanceId, LeaseKey, Overlap, RunFinished, RunId, RunStatus, Store,
    StoreError, SystemClock, Trigger,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

use super::Pair;
use crate::courier::create_parcels;
use crate::harness::NOON;

/// A job that is due.
const SCHEDULE: &str = "INSERT INTO schedules (job, cadence, definition_hash, anchor_ms, next_due_at_ms) VALUES ('mark', 'every 1m', '1', 0, 0)";

const LEASE_MS: i64 = 30_000;

/// A run by hand of a job called mark.
fn manual(instance_id: InstanceId) -> Firing {
    let trigger = Trigger::Manual;
    Firing {
        job: "mark".into(),
        scope_key: String::new(),
        lease_name: "mark".into(),
        lease_ms: LEASE_MS,
        as_of_ms: None,
        instance_id,
        run: Some(NewRun { id: RunId::new(), trigger, scheduled_for_ms: NOON, attempt: 1 }),
        advance: None,
        missed: Vec::new(),
        interrupted: None,
        overlap: Overlap::Skip,
        overlap_limit: 10,
        requested: false,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

fn ending(key: LeaseKey, run_id: RunId) -> Ending {
    let run = RunFinished {
        job: key.name.clone(),
        run_id,
        instance_id: key.holder,
        status: RunStatus::Succeeded,
        scheduled_for_ms: NOON,
        started_at_ms: NOON,
        finished_at_ms: NOON,
        summary: None,
        error: None,
    };
    Ending { key, run, keep_row: true, rerun: false, recorder: Arc::new(HeartbeatRecorder) }
}

async fn execute(txn: &DatabaseTransaction, sql: &str) -> Result<(), StoreError> {
    txn.execute_unprepared(sql)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("write", source))
}

async fn write(store: &Store, sql: &'static str) -> Result<(), StoreError> {
    store.write("write", |txn| Box::pin(execute(txn, sql))).await
}

/// A write for which no page may be added to the file: what a full disk says, on every machine.
async fn fill(store: &Store) -> Result<(), StoreError> {
    let write = store.write("fill", |txn| {
        Box::pin(async move {
            execute(txn, "PRAGMA max_page_count = 1").await?;
            execute(txn, "INSERT INTO filler VALUES (zeroblob(1000000))").await
        })
    });
    write.await
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_that_was_claimed_is_lost() {
    let fixture = Pair::sqlite().await;
    create_parcels(&fixture.database).await;
    fixture.database.execute("CREATE TABLE filler (bytes BLOB)").await;
    fixture.database.execute("INSERT INTO parcels (label) VALUES ('x')").await;
    let queue = fixture.store.open_queue(QueueTable::new("parcels")).await.expect("a queue");
    let holder = InstanceId::new();
    let request = ClaimRequest { holder, limit: 1, lease_ms: LEASE_MS, idle: true };
    let claimed = queue.claim(&request).await.expect("claimed").rows.remove(0).grant;
    let firing = manual(holder);
    let run_id = firing.run.expect("a run").id;
    let begun = fixture.store.begin(&[firing]).await.expect("begun").remove(0);
    let Begun::Started { key, .. } = begun else { panic!("nobody holds it: {begun:?}") };
    let before = fixture.everything().await;

    for _ in 0..3 {
        let error = fill(&fixture.store).await.expect_err("the disk is full");
        assert!(matches!(error, StoreError::Full { operation: "write", .. }), "{error:?}");
        assert!(error.to_string().contains("the disk is full; nothing of this write was kept"));
        assert!(error.is_transient(), "somebody may make room");
    }

    assert_eq!(fixture.everything().await, before);
    assert!(fixture.database.rows("SELECT 1 FROM filler").await.is_empty());
    write(&fixture.store, "INSERT INTO filler VALUES (zeroblob(1000000))").await.expect("room");
    LeaseStore::renew(&fixture.store, &key, LEASE_MS).await.expect("the lease lives");
    assert!(fixture.store.finish(&ending(key, run_id)).await.expect("finished"));
    let progress = RowProgress { grant: claimed, progress_pct: None };
    let renewed = queue.renew(&[progress], LEASE_MS).await.expect("renewed");
    assert_eq!(renewed.len(), 1, "the claim lives");
}

/// SQLite ends the transaction by itself when the disk is full; a driver that does not notice
/// takes the next one for nested, and answers `Ok` to writes that are never committed.
#[tokio::test]
async fn after_a_full_disk_a_write_that_is_answered_is_there_for_everybody() {
    let fixture = Pair::sqlite().await;
    fixture.database.execute("CREATE TABLE filler (bytes BLOB)").await;
    fixture.database.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)").await;
    fixture
        .database
        .execute("CREATE TABLE children (parent BIGINT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let mut options = sea_orm::ConnectOptions::new(fixture.database.url());
    options.max_connections(3).sqlx_logging(false);
    let pool = sea_orm::Database::connect(options).await.expect("a pool");
    let embedders = Store::from_connection_with(pool, Arc::new(SystemClock));
    for (round, store) in (1_i64..).zip([&fixture.store, &embedders, &fixture.store, &embedders]) {
        let full = fill(store).await;
        assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
        // A commit that fails leaves its transaction to be rolled back.
        let orphan = write(store, "INSERT INTO children VALUES (7)").await;
        orphan.expect_err("its parent is missing at the commit");

        write(store, "INSERT INTO filler VALUES (1)").await.expect("written");

        let seen = fixture.other.reader();
        let count = "SELECT count(*) FROM filler";
        let count = Statement::from_string(seen.get_database_backend(), count);
        let row = seen.query_one_raw(count).await.expect("read").expect("a row");
        assert_eq!(row.try_get_by_index::<i64>(0).expect("a count"), round);
        write(&fixture.other, "INSERT INTO parents DEFAULT VALUES")
            .await
            .expect("the file is free");
    }
}

#[tokio::test]
async fn a_read_only_file_is_said_for_every_kind_of_write_and_can_be_read() {
    let fixture = Pair::sqlite().await;
    fixture.database.execute(SCHEDULE).await;
    let mut options = sea_orm::ConnectOptions::new(fixture.database.url());
    options.max_connections(1).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(|sqlite| sqlite.read_only(true));
    let connection = sea_orm::Database::connect(options).await.expect("it can be read");
    let read_only = Store::from_connection_with(connection, Arc::new(SystemClock));
    let look = read_only.look(&["mark".to_owned()]).await.expect("a look");
    assert_eq!(look.schedules.len(), 1);
    read_only.health().await.expect("health can be read");
    let before = fixture.everything().await;

    let written = write(&read_only, "UPDATE schedules SET paused = TRUE").await;
    let begun = read_only.begin(&[manual(InstanceId::new())]).await.map(|_| ());
    let pruned = read_only.prune(1_000).await.map(|_| ());
    for error in [written, begun, pruned] {
        let error = error.expect_err("the file cannot be written");
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("the database is read-only; check the permissions"));
        assert!(!error.is_transient());
    }
    assert_eq!(fixture.everything().await, before);
}
