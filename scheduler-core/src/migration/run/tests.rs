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

use super::{List, immediate, status, up, up_within};
use crate::migration::{MigrateError, SchedulerMigrator};

/// An embedder's list.
struct Shop;

#[async_trait]
impl MigratorTrait for Shop {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Step("m1_orders", "CREATE TABLE orders (id BIGINT)")),
            Box::new(Step("m2_customers", "CREATE TABLE customers (id BIGINT)")),
        ]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("Shop_migrations").into_iden()
    }
}

/// Another, whose last migration fails.
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

fn lists() -> [List; 2] {
    [List::of::<SchedulerMigrator>(), List::of::<Shop>()]
}

fn count_of(lists: &[List]) -> usize {
    lists.iter().map(|list| list.known.len()).sum()
}

async fn open(file: &Path, mode: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode={mode}", file.display()));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
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
    let database = open(&folder.path().join("shop.db"), "rwc").await;

    let before = status(&database, &lists()).await.unwrap();
    assert!(!before.is_current());
    assert!(tables(&database).await.is_empty(), "looking must not write");

    assert_eq!(up(&database, &lists()).await.unwrap(), before.pending());
    assert!(status(&database, &lists()).await.unwrap().is_current());
    let tables = tables(&database).await;
    for table in ["Shop_migrations", "scheduler_migrations", "orders", "customers", "leases"] {
        assert!(tables.iter().any(|name| name == table), "{table} is missing in {tables:?}");
    }
    assert_eq!(up(&database, &lists()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn six_that_start_at_once_on_one_new_file_all_succeed_and_one_applies() {
    for journal in ["DELETE", "WAL", "DELETE", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
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
                    up(&database, &lists()).await
                })
            })
            .collect();
        let mut applied = Vec::new();
        for start in starts {
            applied.push(start.await.unwrap().unwrap().len());
        }
        applied.sort_unstable();
        assert_eq!(applied, [0, 0, 0, 0, 0, count_of(&lists())]);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("shop.db"), "rwc").await;
    up(&database, &lists()).await.unwrap();
    database
        .execute_unprepared(
            "DELETE FROM Shop_migrations WHERE version = 'm2_customers';
             DROP TABLE customers;
             INSERT INTO Shop_migrations VALUES ('m20991231_000001_teleport', 0)",
        )
        .await
        .unwrap();
    let before = tables(&database).await;

    let error = up(&database, &lists()).await.unwrap_err();

    assert!(
        matches!(&error, MigrateError::Newer { unknown } if unknown == &["m20991231_000001_teleport"])
    );
    let message = error.to_string();
    assert!(message.contains("m20991231_000001_teleport"), "{message}");
    assert!(message.contains("run the newer program"), "{message}");
    assert_eq!(tables(&database).await, before);
    let found = status(&database, &lists()).await.unwrap();
    assert_eq!(found.unknown(), ["m20991231_000001_teleport"]);
    assert!(!found.is_current());
}

#[tokio::test]
async fn a_read_only_file_can_be_looked_at_and_a_current_one_needs_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    open(&file, "rwc").await.execute_unprepared("PRAGMA user_version = 1").await.unwrap();
    let read_only = open(&file, "ro").await;
    assert!(!status(&read_only, &lists()).await.unwrap().is_current());
    let refused = up(&read_only, &lists()).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");

    up(&open(&file, "rw").await, &lists()).await.unwrap();

    assert!(status(&read_only, &lists()).await.unwrap().is_current());
    assert_eq!(up(&read_only, &lists()).await.unwrap(), []);
}

#[tokio::test]
async fn a_writer_that_does_not_let_go_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let (holder, database) = (open(&file, "rwc").await, open(&file, "rwc").await);
    database.execute_unprepared("PRAGMA busy_timeout = 0").await.unwrap();
    let held = holder.begin_with_options(immediate()).await.unwrap();

    let outcome = up_within(&database, &lists(), Duration::ZERO).await;

    assert!(matches!(outcome, Err(MigrateError::Busy { .. })), "{outcome:?}");
    held.rollback().await.unwrap();
    assert_eq!(up(&database, &lists()).await.unwrap().len(), count_of(&lists()));
}

#[tokio::test]
async fn a_failing_migration_of_the_last_list_takes_all_lists_back() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("shop.db"), "rwc").await;
    let all = [List::of::<SchedulerMigrator>(), List::of::<Shop>(), List::of::<Broken>()];

    let outcome = up(&database, &all).await;

    assert!(matches!(outcome, Err(MigrateError::Store(_))), "{outcome:?}");
    assert_eq!(tables(&database).await, Vec::<String>::new());
}

#[tokio::test]
async fn two_lists_with_one_history_table_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("shop.db"), "rwc").await;
    let twice = [List::of::<SchedulerMigrator>(), List::of::<Shop>(), List::of::<Shop>()];

    for error in
        [up(&database, &twice).await.unwrap_err(), status(&database, &twice).await.unwrap_err()]
    {
        assert!(
            matches!(&error, MigrateError::SharedHistory { table } if table == "Shop_migrations"),
            "{error:?}"
        );
    }
    assert_eq!(tables(&database).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_comes_later_is_applied_beside_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("shop.db"), "rwc").await;
    up(&database, &[List::of::<SchedulerMigrator>()]).await.unwrap();

    let applied = up(&database, &lists()).await.unwrap();

    let applied: Vec<_> =
        applied.iter().map(|one| (one.list.as_str(), one.name.as_str())).collect();
    assert_eq!(applied, [("Shop_migrations", "m1_orders"), ("Shop_migrations", "m2_customers")]);
}

const ROW: &str = "INSERT INTO jobs (queue, kind, payload, payload_version, status, priority, run_at_ms, max_attempts, created_at_ms)
  VALUES ('mails', 'mail', '1', 1, 'STATUS', 0, 0, 1, 0)";

#[tokio::test]
async fn a_status_of_a_row_is_checked_without_a_table_for_each_row() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("shop.db"), "rwc").await;
    up(&database, &lists()).await.unwrap();
    for status in ["queued", "running", "succeeded", "dead", "cancelled"] {
        database.execute_unprepared(&ROW.replace("STATUS", status)).await.unwrap();
    }
    let refused = database.execute_unprepared(&ROW.replace("STATUS", "paused")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("CHECK constraint failed: status = 'queued'"), "{refused}");

    let steps = async |sql: String| {
        let explain = Statement::from_string(DbBackend::Sqlite, format!("EXPLAIN {sql}"));
        let steps = database.query_all_raw(explain).await.unwrap();
        let steps = steps.iter().map(|row| row.try_get::<String>("", "opcode").unwrap());
        steps.collect::<Vec<_>>()
    };
    let insert = steps(ROW.replace("STATUS", "queued")).await;
    assert!(insert.iter().any(|step| step == "Insert"), "{insert:?}");
    assert!(!insert.iter().any(|step| step == "OpenEphemeral"), "{insert:?}");
}
