use std::path::Path;

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
};

use crate::{status, up};

async fn open(file: &Path) -> DatabaseConnection {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", file.display()));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

async fn names(database: &DatabaseConnection, sql: &str) -> Vec<String> {
    let rows = database.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await;
    rows.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test]
async fn an_empty_database_gets_the_tables_of_both_lists_and_a_second_time_none() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db")).await;
    let pending = status(&database).await.unwrap().pending();

    assert_eq!(up(&database).await.unwrap(), pending);

    assert!(status(&database).await.unwrap().is_current());
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
    let tables = names(&database, tables).await;
    let expected = [
        "scheduler_migrations",
        "leases",
        "arena_migrations",
        "backtest_jobs",
        "candles",
        "instruments",
        "strategy_graphs",
        "marks",
        "clones",
        "prop_accounts",
        "prop_ledger_postings",
        "prop_decision_runs",
        "clone_decision_runs",
        "audition_runs",
        "arena_clone_memberships",
    ];
    for table in expected {
        assert!(tables.iter().any(|name| name == table), "{table} is missing in {tables:?}");
    }
    assert_eq!(up(&database).await.unwrap(), []);
}

#[tokio::test]
async fn a_plain_insert_of_a_back_test_is_a_row_that_a_worker_can_claim() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("arena.db")).await;
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
    let database = open(&folder.path().join("arena.db")).await;
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
    let database = open(&folder.path().join("arena.db")).await;
    up(&database).await.unwrap();
    let plan = "EXPLAIN QUERY PLAN SELECT id FROM backtest_jobs
                WHERE status = 'queued' AND run_at_ms <= 1 ORDER BY priority, run_at_ms, id LIMIT 2";
    let rows = database.query_all_raw(Statement::from_string(DbBackend::Sqlite, plan)).await;
    let plan: Vec<String> =
        rows.unwrap().iter().map(|row| row.try_get("", "detail").unwrap()).collect();
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(plan[0].contains("USING COVERING INDEX backtest_jobs_claim"), "{plan:?}");
}
