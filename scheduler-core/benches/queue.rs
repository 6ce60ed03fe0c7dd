//! Claim and finish, one row and a hundred at a time, beside the same work as raw statements on
//! the same connection settings, in one run. Run with `cargo bench -p scheduler-core`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use scheduler_core::queue::QueueTable;
use scheduler_core::store::{ClaimRequest, RowStatus, SettledRow};
use scheduler_core::{InstanceId, SqliteOptions, Store, SystemClock};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};

type Failure = Box<dyn std::error::Error>;

const TABLE: &str = "
CREATE TABLE work (
  id INTEGER PRIMARY KEY, payload TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT);
CREATE INDEX work_ready ON work (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX work_suspect ON work (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX work_leases ON work (lease_expires_at_ms) WHERE status = 'running';
";
/// As the library's migrations make it.
const PAUSES: &str =
    "CREATE TABLE queue_pauses (queue TEXT NOT NULL PRIMARY KEY, paused_at_ms BIGINT NOT NULL)";
const FILL: &str = "
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
INSERT INTO work (payload) SELECT '{}' FROM n";
const RAW_CLAIM: &str = "
UPDATE work SET status = 'running', attempt_count = attempt_count + 1, leased_by = 'raw',
  lease_token = lease_token + 1, lease_expires_at_ms = $1 WHERE id IN (
  SELECT id FROM work WHERE status = 'queued' AND run_at_ms <= $1 ORDER BY priority, run_at_ms, id LIMIT $2)
RETURNING id";
const RAW_FINISH: &str = "
UPDATE work SET status = 'succeeded', completed_at_ms = $1, leased_by = NULL
WHERE id IN (SELECT value FROM json_each($2)) AND status = 'running'";

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!("claim + finish on SQLite, rows per second (median of {ROUNDS} interleaved rounds)");
    println!("{:>12} {:>6} {:>12} {:>12} {:>8}", "synchronous", "rows", "library", "raw", "ratio");
    for full_sync in [true, false] {
        for batch in [1, 100] {
            let (mut library, mut raw) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                library.push(measure_library(full_sync, batch).await?);
                raw.push(measure_raw(full_sync, batch).await?);
            }
            let (library, raw) = (median(library), median(raw));
            let mode = if full_sync { "FULL" } else { "NORMAL" };
            println!("{mode:>12} {batch:>6} {library:>12.0} {raw:>12.0} {:>8.2}", library / raw);
        }
    }
    Ok(())
}

async fn open(full_sync: bool) -> Result<(tempfile::TempDir, Store), Failure> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let options = SqliteOptions { full_sync, readers: 1, ..SqliteOptions::default() };
    let store = Store::sqlite_with(&url, options, std::sync::Arc::new(SystemClock)).await?;
    store.reader().execute_unprepared(TABLE).await?;
    store.reader().execute_unprepared(PAUSES).await?;
    store.reader().execute_unprepared(FILL).await?;
    Ok((folder, store))
}

async fn measure_library(full_sync: bool, batch: u32) -> Result<f64, Failure> {
    let (_folder, store) = open(full_sync).await?;
    let queue = store.open_queue(QueueTable::new("work").columns(["payload"])).await?;
    let request =
        ClaimRequest { holder: InstanceId::new(), limit: batch, lease_ms: 60_000, idle: true };
    let began = Instant::now();
    let mut rows = 0;
    while began.elapsed() < ROUND {
        let claimed = queue.claim(&request).await?.rows;
        let ended: Vec<SettledRow> = claimed
            .into_iter()
            .map(|row| SettledRow {
                grant: row.grant,
                status: RowStatus::Succeeded,
                delay_ms: None,
                give_attempt_back: false,
                error: None,
                result: None,
            })
            .collect();
        if ended.is_empty() {
            break;
        }
        rows += queue.settle(&ended).await?.len();
    }
    Ok(rate(rows, began))
}

async fn measure_raw(full_sync: bool, batch: u32) -> Result<f64, Failure> {
    let (_folder, store) = open(full_sync).await?;
    let database = store.reader();
    let began = Instant::now();
    let mut rows = 0;
    while began.elapsed() < ROUND {
        let claim = [1_i64.into(), i64::from(batch).into()];
        let claimed = in_one_commit(database, RAW_CLAIM, claim).await?;
        if claimed.is_empty() {
            break;
        }
        let ids = serde_json::to_string(&claimed)?;
        in_one_commit(database, RAW_FINISH, [2_i64.into(), ids.into()]).await?;
        rows += claimed.len();
    }
    Ok(rate(rows, began))
}

async fn in_one_commit<const N: usize>(
    database: &DatabaseConnection,
    sql: &str,
    values: [sea_orm::Value; N],
) -> Result<Vec<i64>, Failure> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let txn = database.begin_with_options(immediate).await?;
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    let rows = txn.query_all_raw(statement).await?;
    txn.commit().await?;
    Ok(rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?)
}

fn rate(rows: usize, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 rows")]
    let rows = rows as f64;
    rows / began.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
