#![expect(elided_lifetimes_in_paths, reason = "the signature of MigrationTrait::up elides it")]

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, DynIden,
    Statement, TransactionTrait,
};
use sea_orm_migration::sea_query::{Alias, IntoIden};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

use super::{List, immediate, lists, status, up, up_lists};
use crate::MigrateError;
use crate::domain::DomainMigrator;

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(file: &Path, mode: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode={mode}", file.display()));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

/// How many migrations this program has.
fn known() -> usize {
    lists().iter().map(|list| list.known.len()).sum()
}

async fn names(database: &DatabaseConnection, sql: &str) -> Vec<String> {
    let rows = database.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await;
    rows.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn tables(database: &DatabaseConnection) -> Vec<String> {
    names(database, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").await
}

#[tokio::test]
async fn an_empty_database_gets_every_migration_and_a_second_time_none() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db"), "rwc").await;

    let before = status(&database).await.unwrap();
    assert!(!before.is_current());
    assert!(tables(&database).await.is_empty(), "looking must not write");

    assert_eq!(up(&database).await.unwrap(), before.pending());
    assert!(status(&database).await.unwrap().is_current());
    let tables = tables(&database).await;
    for table in ["arena_migrations", "backtest_jobs", "candles", "instruments", "strategy_graphs"]
    {
        assert!(tables.iter().any(|name| name == table), "{table} is missing in {tables:?}");
    }
    assert_eq!(up(&database).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn six_that_start_at_once_on_one_new_file_all_succeed_and_one_applies() {
    for journal in ["DELETE", "WAL", "DELETE", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arena.db");
        let journal = format!("PRAGMA journal_mode = {journal}");
        open(&file, "rwc").await.execute_unprepared(&journal).await.unwrap();
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(6));
        let starts: Vec<_> = (0..6)
            .map(|_| {
                let (file, barrier) = (file.clone(), barrier.clone());
                tokio::spawn(async move {
                    let database = open(&file, "rwc").await;
                    // No help from SQLite's own waiting: the retry alone has to do it.
                    database.execute_unprepared("PRAGMA busy_timeout = 0").await.unwrap();
                    barrier.wait().await;
                    up(&database).await
                })
            })
            .collect();
        let mut applied = Vec::new();
        for start in starts {
            applied.push(start.await.unwrap().unwrap().len());
        }
        applied.sort_unstable();
        assert_eq!(applied, [0, 0, 0, 0, 0, known()]);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db"), "rwc").await;
    up(&database).await.unwrap();
    database
        .execute_unprepared(
            "DELETE FROM arena_migrations WHERE version LIKE '%backtest_jobs';
             DROP TABLE backtest_jobs;
             INSERT INTO arena_migrations VALUES ('m20991231_000001_teleport', 0)",
        )
        .await
        .unwrap();
    let before = tables(&database).await;

    let error = up(&database).await.unwrap_err();

    assert!(
        matches!(&error, MigrateError::Newer { unknown } if unknown == &["m20991231_000001_teleport"])
    );
    let message = error.to_string();
    assert!(message.contains("m20991231_000001_teleport"), "{message}");
    assert!(message.contains("run the newer program"), "{message}");
    assert_eq!(tables(&database).await, before);
    let found = status(&database).await.unwrap();
    assert_eq!(found.unknown(), ["m20991231_000001_teleport"]);
    assert!(!found.is_current());
}

#[tokio::test]
async fn a_read_only_file_can_be_looked_at_and_a_current_one_needs_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arena.db");
    open(&file, "rwc").await.execute_unprepared("PRAGMA user_version = 1").await.unwrap();
    let read_only = open(&file, "ro").await;
    assert!(!status(&read_only).await.unwrap().is_current());
    let refused = up(&read_only).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");

    up(&open(&file, "rw").await).await.unwrap();

    assert!(status(&read_only).await.unwrap().is_current());
    assert_eq!(up(&read_only).await.unwrap(), []);
}

#[tokio::test]
async fn a_writer_that_does_not_let_go_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arena.db");
    let (holder, database) = (open(&file, "rwc").await, open(&file, "rwc").await);
    database.execute_unprepared("PRAGMA busy_timeout = 0").await.unwrap();
    let held = holder.begin_with_options(immediate()).await.unwrap();

    let outcome = up_lists(&database, &lists(), Duration::ZERO).await;

    assert!(matches!(outcome, Err(MigrateError::Busy { .. })), "{outcome:?}");
    held.rollback().await.unwrap();
    assert_eq!(up(&database).await.unwrap().len(), known());
}

/// A second list, whose last migration fails.
struct Broken;

#[async_trait]
impl MigratorTrait for Broken {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Step("m1_good", "CREATE TABLE good (id BIGINT)")),
            Box::new(Step("m2_bad", "CREATE TABLE bad (")),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("broken_migrations").into_iden()
    }
}

struct Step(&'static str, &'static str);

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.1).await.map(|_| ())
    }

    fn use_transaction(&self) -> Option<bool> {
        // What Postgres does by default: a transaction of its own, a savepoint in ours.
        Some(true)
    }
}

#[tokio::test]
async fn a_failing_migration_of_the_last_list_takes_all_lists_back() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db"), "rwc").await;
    let both = [List::of::<DomainMigrator>(), List::of::<Broken>()];

    let outcome = up_lists(&database, &both, PATIENCE).await;

    assert!(matches!(outcome, Err(MigrateError::Store(_))), "{outcome:?}");
    assert_eq!(tables(&database).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_plain_insert_of_a_back_test_is_a_row_that_a_worker_can_claim() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db"), "rwc").await;
    up(&database).await.unwrap();
    let insert = |id: &str, status: &str| {
        format!(
            "INSERT INTO backtest_jobs (id, user_id, graph, graph_hash, symbol, interval, created_at_ms, status)
             VALUES ('{id}', 1, '{{}}', 'h', 'BTC', '1h', 0, '{status}')"
        )
    };
    database.execute_unprepared(&insert("a", "queued")).await.unwrap();
    let claimable = names(
        &database,
        "SELECT id FROM backtest_jobs
         WHERE status = 'queued' AND lease_token = 0 AND attempt_count = 0 AND crash_count = 0
           AND max_attempts = 3 AND NOT started AND NOT cancel_requested AND priority = 0",
    );
    assert_eq!(claimable.await, ["a"]);
    let refused = database.execute_unprepared(&insert("b", "sleeping")).await.unwrap_err();
    assert!(refused.to_string().contains("CHECK"), "{refused}");
}

#[tokio::test]
async fn a_slot_is_taken_once_among_the_running_rows_of_a_user_and_of_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db"), "rwc").await;
    up(&database).await.unwrap();
    let mut rows = 0;
    let mut insert = async |user: i64, status: &str, user_slot: &str, queue_slot: &str| {
        rows += 1;
        let insert = format!(
            "INSERT INTO backtest_jobs (id, user_id, graph, graph_hash, symbol, interval, created_at_ms, status, concurrency_slot, queue_slot)
             VALUES ('{rows}', {user}, '{{}}', 'h', 'BTC', '1h', 0, '{status}', {user_slot}, {queue_slot})"
        );
        database.execute_unprepared(&insert).await.is_ok()
    };
    assert!(insert(1, "running", "0", "0").await);
    assert!(!insert(1, "running", "0", "1").await, "the user's slot 0 is taken");
    assert!(!insert(2, "running", "0", "0").await, "the queue's slot 0 is taken");
    assert!(insert(2, "running", "0", "1").await);
    assert!(insert(1, "succeeded", "0", "0").await, "a finished row holds no slot");
    assert!(insert(1, "running", "NULL", "NULL").await);
    assert!(insert(1, "running", "NULL", "NULL").await, "an unlimited row holds no slot");
}

#[tokio::test]
async fn the_claim_reads_the_partial_index_and_does_not_sort() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db"), "rwc").await;
    up(&database).await.unwrap();
    let plan = "EXPLAIN QUERY PLAN SELECT id FROM backtest_jobs
                WHERE status = 'queued' AND run_at_ms <= 1 ORDER BY priority, run_at_ms, id LIMIT 2";
    let rows = database.query_all_raw(Statement::from_string(DbBackend::Sqlite, plan)).await;
    let plan: Vec<String> =
        rows.unwrap().iter().map(|row| row.try_get("", "detail").unwrap()).collect();
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(plan[0].contains("USING COVERING INDEX backtest_jobs_claim"), "{plan:?}");
}
