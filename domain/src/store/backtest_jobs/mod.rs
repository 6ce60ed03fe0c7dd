//! The table `backtest_jobs`: what the back-testing module writes and reads. Claiming, leases and
//! finishing are the scheduler's, which is told the table's columns once.
//!
//! ```text
//! queued ──claim──▶ running ──▶ succeeded | dead | cancelled
//!    └──────────── request_cancel ────────────────▶ cancelled
//! ```

mod row;

use scheduler_core::queue::{QueueTable, QueueWaker};
use scheduler_core::{Store, StoreError};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement, Value};
use uuid::Uuid;

use self::row::read_status;
pub use self::row::{BacktestJob, BacktestListing, BacktestStatus, ClaimedBacktest};
use crate::backtesting::NewBacktest;

const TABLE: &str = "backtest_jobs";

/// Wakes the workers of this table, in whichever process they are.
#[must_use]
pub fn waker(store: &Store) -> QueueWaker {
    QueueWaker::new(store.clone(), TABLE)
}

/// The table as a queue, with its limits over all hosts.
#[must_use]
pub fn queue_table(max_concurrent: u32, max_per_user: u32) -> QueueTable {
    QueueTable::new(TABLE)
        .text_ids()
        .columns(ClaimedBacktest::COLUMNS)
        .limit(max_concurrent)
        .limit_per_key("user_id", max_per_user)
}

/// Queues a back-test, due at once, in the caller's transaction. Returns its id.
///
/// # Errors
/// The driver's error.
pub async fn submit(
    txn: &DatabaseTransaction,
    new: &NewBacktest,
    now_ms: i64,
) -> Result<String, StoreError> {
    let sql = "INSERT INTO backtest_jobs (id, user_id, clone_id, graph, graph_hash, symbol,
                   interval, from_ms, to_ms, initial_cash, fee_rate, slippage_rate, priority,
                   run_at_ms, created_at_ms)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)";
    let id = Uuid::now_v7().to_string();
    let asked = new.request();
    let values: [Value; 14] = [
        id.as_str().into(),
        asked.user_id.into(),
        asked.clone_id.into(),
        asked.graph.canonical_json().into(),
        asked.graph.hash().into(),
        asked.symbol.as_str().into(),
        asked.interval.as_str().into(),
        asked.from_ms.into(),
        asked.to_ms.into(),
        asked.initial_cash.into(),
        asked.fee_rate.into(),
        asked.slippage_rate.into(),
        asked.priority.into(),
        now_ms.into(),
    ];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    done.map_err(|source| StoreError::database("submit a back-test", source))?;
    Ok(id)
}

/// Finds a back-test.
///
/// # Errors
/// The driver's error, also when a row holds a status or an interval that this version does not
/// know.
pub async fn find(
    database: &impl ConnectionTrait,
    id: &str,
) -> Result<Option<BacktestJob>, StoreError> {
    let sql = "SELECT * FROM backtest_jobs WHERE id = $1";
    let backend = database.get_database_backend();
    BacktestJob::find_by_statement(Statement::from_sql_and_values(backend, sql, [id.into()]))
        .one(database)
        .await
        .map_err(|source| StoreError::database("find a back-test", source))
}

/// Lists back-tests, the newest first, of one user or of all.
///
/// # Errors
/// As [`find`].
pub async fn list(
    database: &impl ConnectionTrait,
    user_id: Option<i64>,
    limit: u32,
) -> Result<Vec<BacktestListing>, StoreError> {
    // Two texts: one condition for both cases would keep the databases from using an index.
    let (sql, values): (_, Vec<Value>) = match user_id {
        Some(user_id) => (LIST_OF_USER, vec![i64::from(limit).into(), user_id.into()]),
        None => (LIST, vec![i64::from(limit).into()]),
    };
    let backend = database.get_database_backend();
    BacktestListing::find_by_statement(Statement::from_sql_and_values(backend, sql, values))
        .all(database)
        .await
        .map_err(|source| StoreError::database("list back-tests", source))
}

const LIST: &str = "SELECT id, user_id, clone_id, graph_hash, symbol, interval, status,
        attempt_count, cancel_requested, progress_pct, last_error, created_at_ms, started_at_ms,
        completed_at_ms
    FROM backtest_jobs ORDER BY created_at_ms DESC, id DESC LIMIT $1";

const LIST_OF_USER: &str = "SELECT id, user_id, clone_id, graph_hash, symbol, interval, status,
        attempt_count, cancel_requested, progress_pct, last_error, created_at_ms, started_at_ms,
        completed_at_ms
    FROM backtest_jobs WHERE user_id = $2 ORDER BY created_at_ms DESC, id DESC LIMIT $1";

/// What a request to cancel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It was queued and is cancelled.
    Cancelled,
    /// It runs; its holder is asked to stop.
    Requested,
    /// It had ended before, like this.
    Ended(BacktestStatus),
    /// There is no such back-test.
    NotFound,
}

/// Cancels a queued back-test at once, or asks the holder of a running one to stop.
///
/// # Errors
/// As [`find`].
pub async fn request_cancel(
    txn: &DatabaseTransaction,
    id: &str,
    now_ms: i64,
) -> Result<CancelOutcome, StoreError> {
    // A unique key that has no time left stands only as long as the row is not finished.
    let sql = "UPDATE backtest_jobs SET
            cancel_requested = TRUE,
            completed_at_ms = CASE WHEN status = 'queued' THEN $2 ELSE completed_at_ms END,
            unique_key = CASE WHEN status = 'queued' AND coalesce(unique_until_ms, 0) <= $2
                              THEN NULL ELSE unique_key END,
            status = CASE WHEN status = 'queued' THEN 'cancelled' ELSE status END
        WHERE id = $1 AND status IN ('queued', 'running')
        RETURNING status";
    let backend = txn.get_database_backend();
    let failed = |source| StoreError::database("cancel a back-test", source);
    let cancel = Statement::from_sql_and_values(backend, sql, [id.into(), now_ms.into()]);
    if let Some(row) = txn.query_one_raw(cancel).await.map_err(failed)? {
        return Ok(match read_status(&row, "").map_err(failed)? {
            BacktestStatus::Cancelled => CancelOutcome::Cancelled,
            _ => CancelOutcome::Requested,
        });
    }
    let sql = "SELECT status FROM backtest_jobs WHERE id = $1";
    let look = Statement::from_sql_and_values(backend, sql, [id.into()]);
    match txn.query_one_raw(look).await.map_err(failed)? {
        Some(row) => Ok(CancelOutcome::Ended(read_status(&row, "").map_err(failed)?)),
        None => Ok(CancelOutcome::NotFound),
    }
}

/// Deletes at most `at_most` back-tests that ended before a time, the oldest first. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM backtest_jobs WHERE id IN (
                   SELECT id FROM backtest_jobs
                   WHERE completed_at_ms < $1 AND status IN ('succeeded', 'dead', 'cancelled')
                   ORDER BY completed_at_ms LIMIT $2)";
    super::sql::prune(txn, "prune back-tests that have ended", sql, before_ms, at_most).await
}

#[cfg(test)]
mod tests;
