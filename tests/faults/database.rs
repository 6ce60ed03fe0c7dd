//! The database that hosts share, and what a test asks of it.

use std::time::{Duration, Instant};

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{Clock, Store, SystemClock};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

/// What the job of a host books.
pub(crate) const JOB_TABLES: &str = "CREATE TABLE effects (slot BIGINT NOT NULL, attempt BIGINT NOT NULL, token BIGINT NOT NULL, UNIQUE (slot, attempt))";

/// The queue of a host, what it books, and what it notes beside.
pub(crate) const QUEUE_TABLES: &str = "
CREATE TABLE parcels (
  id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT, concurrency_slot INTEGER, queue_slot INTEGER);
CREATE INDEX parcels_ready ON parcels (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX parcels_suspect ON parcels (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX parcels_leases ON parcels (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_user ON parcels (user_id, concurrency_slot) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_slot ON parcels (queue_slot) WHERE status = 'running';
CREATE TABLE inside (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, user_id BIGINT NOT NULL);
CREATE TABLE starts (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, started_at_ms BIGINT NOT NULL);
CREATE TABLE exceeded (id BIGINT NOT NULL, inside BIGINT NOT NULL);
CREATE TABLE effects (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, UNIQUE (id, lease_token));
";

const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the database with the library's tables and those of the test.
pub(crate) async fn prepare(url: &str, tables: &str) -> Store {
    let store = Store::connect(url).await.expect("the database opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    execute(&store, tables).await;
    store
}

/// Which database it is, for the figures.
pub(crate) fn scheme(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

pub(crate) async fn execute(store: &Store, sql: &str) {
    store.reader().execute_unprepared(sql).await.expect(sql);
}

pub(crate) async fn rows(store: &Store, sql: &str) -> Vec<QueryResult> {
    let backend = store.reader().get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, []);
    store.reader().query_all_raw(statement).await.expect(sql)
}

/// The column `n` of the first row.
pub(crate) async fn count(store: &Store, sql: &str) -> i64 {
    rows(store, sql).await[0].try_get("", "n").expect("a count")
}

/// Columns of rows as text, one line each: `a|b|c`.
pub(crate) async fn lines(store: &Store, columns: &[&str], rest: &str) -> Vec<String> {
    let text: Vec<String> =
        columns.iter().map(|column| format!("coalesce(CAST({column} AS TEXT), '-')")).collect();
    let found = rows(store, &format!("SELECT {} AS line {rest}", text.join(" || '|' || "))).await;
    found.iter().map(|row| row.try_get("", "line").expect("text")).collect()
}

/// Waits until the query's `n` is at least this.
pub(crate) async fn until(store: &Store, sql: &str, at_least: i64) {
    let began = Instant::now();
    loop {
        let n = count(store, sql).await;
        if n >= at_least {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{sql}: still {n}, expected {at_least}");
        pause(Duration::from_millis(20)).await;
    }
}

/// Lets the hosts go on for a while: time is what these tests are about.
pub(crate) async fn pause(span: Duration) {
    let until_ms = SystemClock.now_ms() + i64::try_from(span.as_millis()).expect("short");
    SystemClock.sleep_until(until_ms).await;
}
