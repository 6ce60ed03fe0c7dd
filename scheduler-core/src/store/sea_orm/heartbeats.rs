//! Statements on `worker_heartbeats` (the roll-up) and `worker_instances` (one row per process).

mod writes;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::json;

pub(super) use self::writes::StoreHeartbeats;

use super::Store;
use super::sql::{ColumnType, read_rows, rows_json};
use super::write::write_own;
use crate::error::StoreError;
use crate::heartbeat::{HealthReport, WorkerFacts, WorkerHealth, WorkerStatus, overall};
use crate::store::{HeartbeatRollUp, HeartbeatStore, LIVE_FOR_MS, kept_error};

const ROLL_UP_COLUMNS: [(&str, ColumnType); 13] = [
    ("worker", ColumnType::Text),
    ("instance_id", ColumnType::Text),
    ("status", ColumnType::Text),
    ("started_ago", ColumnType::Int),
    ("ended_ago", ColumnType::Int),
    ("success_ago", ColumnType::Int),
    ("error_ago", ColumnType::Int),
    ("last_error", ColumnType::Text),
    ("summary", ColumnType::Text),
    ("latency", ColumnType::Int),
    ("errors_in_a_row", ColumnType::Int),
    ("runs", ColumnType::Int),
    ("errors", ColumnType::Int),
];

/// Runs that a stop cut off leave the status as it is.
const ROLL_UP_INSTANCES: &str = "\
INSERT INTO worker_instances AS t (worker, instance_id, status, last_started_at_ms, last_completed_at_ms,
  last_success_at_ms, last_error_at_ms, last_error, summary, latency_ms, consecutive_errors, total_runs,
  total_errors, updated_at_ms)
SELECT v.worker, v.instance_id, coalesce(v.status, 'never_run'), {now} - v.started_ago, {now} - v.ended_ago,
  {now} - v.success_ago, {now} - v.error_ago, v.last_error, v.summary, v.latency, v.errors_in_a_row, v.runs,
  v.errors, {now}
FROM {rows} WHERE TRUE ORDER BY v.worker
ON CONFLICT (worker, instance_id) DO UPDATE SET
  status = CASE WHEN excluded.status = 'never_run' THEN t.status ELSE excluded.status END,
  last_started_at_ms = excluded.last_started_at_ms, last_completed_at_ms = excluded.last_completed_at_ms,
  last_success_at_ms = coalesce(excluded.last_success_at_ms, t.last_success_at_ms),
  last_error_at_ms = coalesce(excluded.last_error_at_ms, t.last_error_at_ms),
  last_error = CASE WHEN excluded.last_success_at_ms IS NULL THEN coalesce(excluded.last_error, t.last_error)
    ELSE excluded.last_error END,
  summary = coalesce(excluded.summary, t.summary), latency_ms = excluded.latency_ms,
  consecutive_errors = excluded.consecutive_errors
    + CASE WHEN excluded.last_success_at_ms IS NULL THEN t.consecutive_errors ELSE 0 END,
  total_runs = t.total_runs + excluded.total_runs, total_errors = t.total_errors + excluded.total_errors,
  updated_at_ms = excluded.updated_at_ms";

const ROLL_UP_WORKERS: &str = "\
INSERT INTO worker_heartbeats AS t (worker, instance_id, status, last_started_at_ms, last_completed_at_ms,
  last_success_at_ms, last_error_at_ms, last_error, summary, latency_ms, consecutive_errors, total_runs,
  total_errors, registered_at_ms, updated_at_ms)
SELECT v.worker, v.instance_id, coalesce(v.status, 'never_run'), {now} - v.started_ago, {now} - v.ended_ago,
  {now} - v.success_ago, {now} - v.error_ago, v.last_error, v.summary, v.latency,
  coalesce((SELECT max(w.consecutive_errors) FROM worker_instances w
    LEFT JOIN instances i ON i.instance_id = w.instance_id
    WHERE w.worker = v.worker
      AND (w.instance_id = v.instance_id OR (NOT i.stopping AND i.seen_at_ms > {now} - $2))), 0),
  v.runs, v.errors, {now}, {now}
FROM {rows} WHERE TRUE ORDER BY v.worker
ON CONFLICT (worker) DO UPDATE SET instance_id = excluded.instance_id,
  status = CASE WHEN excluded.status = 'never_run' THEN t.status ELSE excluded.status END,
  last_started_at_ms = excluded.last_started_at_ms, last_completed_at_ms = excluded.last_completed_at_ms,
  last_success_at_ms = coalesce(excluded.last_success_at_ms, t.last_success_at_ms),
  last_error_at_ms = coalesce(excluded.last_error_at_ms, t.last_error_at_ms),
  last_error = CASE WHEN excluded.last_success_at_ms IS NULL THEN coalesce(excluded.last_error, t.last_error)
    ELSE excluded.last_error END,
  summary = coalesce(excluded.summary, t.summary), latency_ms = excluded.latency_ms,
  consecutive_errors = excluded.consecutive_errors,
  total_runs = t.total_runs + excluded.total_runs, total_errors = t.total_errors + excluded.total_errors,
  updated_at_ms = excluded.updated_at_ms";

/// The lease of a worker is its job's, or the latest of its instances' or runs'.
const HEALTH: &str = "\
SELECT h.worker, h.status, h.last_started_at_ms, h.last_completed_at_ms, h.last_success_at_ms, h.last_error_at_ms,
  h.last_error, h.summary, h.latency_ms, h.consecutive_errors, h.total_runs, h.total_errors, h.registered_at_ms,
  coalesce(s.cadence_override, s.cadence) AS cadence, coalesce(s.paused, FALSE) AS paused, s.timeout_ms,
  s.next_due_at_ms, l.holder AS lease_holder, l.expires_at_ms AS lease_expires_at_ms
FROM worker_heartbeats h
LEFT JOIN schedules s ON s.job = h.worker
LEFT JOIN leases l ON l.name = (SELECT n.name FROM leases n
  WHERE n.expires_at_ms > {now}
    AND (n.name = h.worker OR substr(n.name, 1, length(h.worker) + 1) IN (h.worker || '@', h.worker || '#'))
  ORDER BY n.expires_at_ms DESC LIMIT 1)
ORDER BY h.worker";

#[derive(FromQueryResult)]
struct HealthColumns {
    worker: String,
    status: String,
    last_started_at_ms: Option<i64>,
    last_completed_at_ms: Option<i64>,
    last_success_at_ms: Option<i64>,
    last_error_at_ms: Option<i64>,
    last_error: Option<String>,
    summary: Option<String>,
    latency_ms: Option<i64>,
    consecutive_errors: i64,
    total_runs: i64,
    total_errors: i64,
    registered_at_ms: i64,
    cadence: Option<String>,
    paused: bool,
    timeout_ms: Option<i64>,
    next_due_at_ms: Option<i64>,
    lease_holder: Option<String>,
    lease_expires_at_ms: Option<i64>,
}

impl TryFrom<HealthColumns> for WorkerFacts {
    type Error = StoreError;

    fn try_from(row: HealthColumns) -> Result<Self, StoreError> {
        let status = row.status.parse::<WorkerStatus>().map_err(|unknown| StoreError::Corrupt {
            table: "worker_heartbeats".into(),
            column: "status",
            value: unknown.word,
            expected: unknown.expected,
        })?;
        Ok(Self {
            registered_at_ms: row.registered_at_ms,
            // A cadence of a newer version has no interval here; staleness is not guessed.
            cadence: row.cadence.as_deref().and_then(|cadence| cadence.parse().ok()),
            paused: row.paused,
            timeout_ms: row.timeout_ms,
            lease_expires_at_ms: row.lease_expires_at_ms,
            row: WorkerHealth {
                worker: row.worker,
                status,
                stale: false,
                expected_interval_ms: None,
                last_started_at_ms: row.last_started_at_ms,
                last_completed_at_ms: row.last_completed_at_ms,
                last_success_at_ms: row.last_success_at_ms,
                last_error_at_ms: row.last_error_at_ms,
                last_error: row.last_error,
                summary: row.summary.and_then(|summary| serde_json::from_str(&summary).ok()),
                latency_ms: row.latency_ms,
                consecutive_errors: row.consecutive_errors,
                total_runs: row.total_runs,
                total_errors: row.total_errors,
                next_due_at_ms: row.next_due_at_ms,
                lease_holder: row.lease_holder,
            },
        })
    }
}

#[async_trait]
impl HeartbeatStore for Store {
    async fn health(&self) -> Result<HealthReport, StoreError> {
        self.answered("read the heartbeats", self.read_health()).await
    }

    async fn roll_up(&self, rows: &[HeartbeatRollUp]) -> Result<(), StoreError> {
        const OPERATION: &str = "roll heartbeats up";
        let failed = |source| StoreError::database(OPERATION, source);
        let rows: Vec<_> = rows.iter().map(roll_up_row).collect();
        let rows = rows_json(&rows);
        write_own!(self, OPERATION, txn => {
            let statement =
                self.statement_with_rows(ROLL_UP_INSTANCES, &ROLL_UP_COLUMNS, [rows.clone()]);
            txn.execute_raw(statement).await.map_err(failed)?;
            let values = [LIVE_FOR_MS.into(), rows.clone()];
            let statement = self.statement_with_rows(ROLL_UP_WORKERS, &ROLL_UP_COLUMNS, values);
            txn.execute_raw(statement).await.map(|_| ()).map_err(failed)
        })
    }
}

fn roll_up_row(row: &HeartbeatRollUp) -> Vec<serde_json::Value> {
    vec![
        json!(row.worker),
        json!(row.instance_id.to_string()),
        json!(row.status.map(WorkerStatus::as_str)),
        json!(row.started_ago_ms),
        json!(row.ended_ago_ms),
        json!(row.success_ago_ms),
        json!(row.error_ago_ms),
        json!(row.last_error.as_deref().map(kept_error)),
        json!(row.summary.as_ref().map(ToString::to_string)),
        json!(row.latency_ms),
        json!(row.errors_in_a_row),
        json!(row.runs),
        json!(row.errors),
    ]
}

impl Store {
    async fn read_health(&self) -> Result<HealthReport, StoreError> {
        const OPERATION: &str = "read the heartbeats";
        let now_ms = self.now_ms(self.reader()).await?;
        let rows = self
            .reader()
            .query_all_raw(self.statement(HEALTH, []))
            .await
            .map_err(|source| StoreError::database(OPERATION, source))?;
        let workers: Vec<WorkerHealth> = read_rows::<HealthColumns>(OPERATION, &rows)?
            .into_iter()
            .map(|row| WorkerFacts::try_from(row).map(|facts| facts.health(now_ms)))
            .collect::<Result<_, _>>()?;
        let status = overall(&workers, self.live_instances().await?);
        Ok(HealthReport { status, generated_at_ms: now_ms, workers })
    }
}
