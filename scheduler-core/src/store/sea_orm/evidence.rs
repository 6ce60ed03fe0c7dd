//! Statements that read whole rows, for tests that look at what was written.

use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::Store;
use crate::error::StoreError;
use crate::queue::QueueTable;
use crate::store::{RowId, SchedulerStore};
use crate::testing::{QueueRow, RunRow};

const LIST_RUNS: &str = "\
SELECT id, job, scope_key, trigger, scheduled_for_ms, attempt, status, missed_count, missed_until_ms,
  started_at_ms, finished_at_ms, summary, error, instance_id, token
FROM job_runs WHERE job = $1 ORDER BY scheduled_for_ms, attempt, trigger";

/// Keys of either type are read as text.
const LIST_ROWS: &str = "\
SELECT CAST(id AS TEXT) AS id, status, CAST(priority AS BIGINT) AS priority, run_at_ms,
  CAST(attempt_count AS BIGINT) AS attempt_count, CAST(max_attempts AS BIGINT) AS max_attempts,
  CAST(crash_count AS BIGINT) AS crash_count, leased_by, lease_token, lease_expires_at_ms, started,
  cancel_requested, CAST(progress_pct AS BIGINT) AS progress_pct, last_error, result, started_at_ms,
  completed_at_ms
FROM {table} {of_queue} ORDER BY {table}.id";

const READ_RUNS: &str = "read the runs of a job";
const READ_ROWS: &str = "read the rows of a queue";

impl Store {
    /// The runs of a job, oldest slot first.
    pub(crate) async fn list_runs(&self, job: &str) -> Result<Vec<RunRow>, StoreError> {
        let list = self.statement_without_now(LIST_RUNS, [job.into()]);
        let rows = self.inner.reader.query_all_raw(list).await;
        let rows = rows.map_err(|source| StoreError::database(READ_RUNS, source))?;
        rows.iter().map(run_row).collect()
    }

    /// The rows of a queue's table, by key; those of one queue of the library's own as `jobs:QUEUE`.
    pub(crate) async fn list_rows(&self, table: &str) -> Result<Vec<QueueRow>, StoreError> {
        let (name, queue) = table.split_once(':').unwrap_or((table, ""));
        let is_right = QueueTable::new(name).validate().is_ok();
        if !is_right {
            let reason = "its table has no such name";
            return Err(StoreError::Unsupported { operation: READ_ROWS, reason });
        }
        let of_queue = if queue.is_empty() { "" } else { "WHERE queue = $1" };
        let table = if queue.is_empty() { name.to_owned() } else { self.namespace().table(name) };
        let list = LIST_ROWS.replace("{table}", &table).replace("{of_queue}", of_queue);
        let values = (!queue.is_empty()).then(|| queue.into());
        let list = Statement::from_sql_and_values(self.backend(), list, values);
        let rows = self.inner.reader.query_all_raw(list).await;
        let rows = rows.map_err(|source| StoreError::database(READ_ROWS, source))?;
        rows.iter().map(queue_row).collect()
    }
}

fn get<T: sea_orm::TryGetable>(row: &QueryResult, column: &str) -> Result<T, StoreError> {
    row.try_get("", column).map_err(|source| StoreError::database(READ_RUNS, source))
}

/// A column of text that stands for something.
fn word<T: std::str::FromStr>(
    row: &QueryResult,
    (table, column): (&str, &'static str),
    expected: &'static str,
) -> Result<T, StoreError> {
    let value: String = get(row, column)?;
    value.parse().map_err(|_| StoreError::Corrupt {
        table: table.to_owned(),
        column,
        value,
        expected,
    })
}

fn run_row(row: &QueryResult) -> Result<RunRow, StoreError> {
    let summary: Option<String> = get(row, "summary")?;
    Ok(RunRow {
        id: word(row, ("job_runs", "id"), "a UUID")?,
        job: get(row, "job")?,
        scope_key: get(row, "scope_key")?,
        trigger: word(row, ("job_runs", "trigger"), "a trigger")?,
        scheduled_for_ms: get(row, "scheduled_for_ms")?,
        attempt: get(row, "attempt")?,
        status: word(row, ("job_runs", "status"), "a status")?,
        missed_count: get(row, "missed_count")?,
        missed_until_ms: get(row, "missed_until_ms")?,
        started_at_ms: get(row, "started_at_ms")?,
        finished_at_ms: get(row, "finished_at_ms")?,
        summary: summary.and_then(|summary| serde_json::from_str(&summary).ok()),
        error: get(row, "error")?,
        instance_id: word(row, ("job_runs", "instance_id"), "a UUID")?,
        token: get(row, "token")?,
    })
}

fn queue_row(row: &QueryResult) -> Result<QueueRow, StoreError> {
    let id: String = get(row, "id")?;
    let id = id.parse().map_or_else(|_| RowId::Text(id.clone()), RowId::Int);
    let leased_by: Option<String> = get(row, "leased_by")?;
    let count =
        |column| get::<i64>(row, column).map(|count| i32::try_from(count).unwrap_or(i32::MAX));
    Ok(QueueRow {
        status: word(row, ("a queue", "status"), "the status of a row")?,
        priority: count("priority")?,
        run_at_ms: get(row, "run_at_ms")?,
        attempt_count: count("attempt_count")?,
        max_attempts: count("max_attempts")?,
        crash_count: count("crash_count")?,
        leased_by: leased_by.and_then(|holder| holder.parse().ok()),
        lease_token: get(row, "lease_token")?,
        lease_expires_at_ms: get(row, "lease_expires_at_ms")?,
        started: get(row, "started")?,
        cancel_requested: get(row, "cancel_requested")?,
        progress_pct: get(row, "progress_pct")?,
        last_error: get(row, "last_error")?,
        result: get(row, "result")?,
        started_at_ms: get(row, "started_at_ms")?,
        completed_at_ms: get(row, "completed_at_ms")?,
        ..QueueRow::queued(id)
    })
}
