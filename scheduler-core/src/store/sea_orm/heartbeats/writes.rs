//! The heartbeats of runs that begin and end, inside their transaction: all of them in two statements.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Value};
use serde_json::json;

use crate::error::StoreError;
use crate::recorder::{HeartbeatWrites, RunFinished, RunStarted};
use crate::run::RunStatus;
use crate::store::sea_orm::Store;
use crate::store::sea_orm::sql::{ColumnType, rounds, rows_json};
use crate::store::{LIVE_FOR_MS, kept_error};

const REGISTER: &str = "\
INSERT INTO worker_heartbeats (worker, status, registered_at_ms, updated_at_ms)
VALUES ($2, 'never_run', {now}, {now}) ON CONFLICT (worker) DO NOTHING";

const STARTED: [(&str, ColumnType); 2] =
    [("worker", ColumnType::Text), ("instance_id", ColumnType::Text)];

const STARTED_INSTANCES: &str = "\
INSERT INTO worker_instances (worker, instance_id, status, last_started_at_ms, updated_at_ms)
SELECT v.worker, v.instance_id, 'running', {now}, {now} FROM {rows} WHERE TRUE ORDER BY v.worker
ON CONFLICT (worker, instance_id) DO UPDATE SET status = 'running',
  last_started_at_ms = excluded.last_started_at_ms, updated_at_ms = excluded.updated_at_ms";

const STARTED_WORKERS: &str = "\
INSERT INTO worker_heartbeats (worker, status, last_started_at_ms, instance_id, registered_at_ms, updated_at_ms)
SELECT v.worker, 'running', {now}, v.instance_id, {now}, {now} FROM {rows} WHERE TRUE ORDER BY v.worker
ON CONFLICT (worker) DO UPDATE SET status = 'running', last_started_at_ms = excluded.last_started_at_ms,
  instance_id = excluded.instance_id, updated_at_ms = excluded.updated_at_ms";

/// `success` and `failure` are both 0 for a run that a stop cut off: it is neither.
const FINISHED: [(&str, ColumnType); 7] = [
    ("of_worker", ColumnType::Text),
    ("of_instance", ColumnType::Text),
    ("success", ColumnType::Int),
    ("failure", ColumnType::Int),
    ("why", ColumnType::Text),
    ("outcome", ColumnType::Text),
    ("took_ms", ColumnType::Int),
];

const FINISHED_INSTANCES: &str = "\
UPDATE worker_instances SET
  status = CASE WHEN v.success = 1 THEN 'succeeded' WHEN v.failure = 1 THEN 'failed'
    WHEN consecutive_errors > 0 THEN 'failed' WHEN last_success_at_ms IS NULL THEN 'never_run' ELSE 'succeeded' END,
  last_completed_at_ms = {now},
  last_success_at_ms = CASE WHEN v.success = 1 THEN {now} ELSE last_success_at_ms END,
  last_error_at_ms = CASE WHEN v.failure = 1 THEN {now} ELSE last_error_at_ms END,
  last_error = CASE WHEN v.failure = 1 THEN v.why WHEN v.success = 1 THEN NULL ELSE last_error END,
  summary = CASE WHEN v.success = 1 THEN v.outcome ELSE summary END,
  latency_ms = v.took_ms,
  consecutive_errors = CASE WHEN v.success = 1 THEN 0 WHEN v.failure = 1 THEN consecutive_errors + 1
    ELSE consecutive_errors END,
  total_runs = total_runs + 1, total_errors = total_errors + v.failure, updated_at_ms = {now}
FROM {rows} WHERE worker = v.of_worker AND instance_id = v.of_instance";

const FINISHED_WORKERS: &str = "\
UPDATE worker_heartbeats SET
  status = CASE WHEN v.success = 1 THEN 'succeeded' WHEN v.failure = 1 THEN 'failed'
    WHEN consecutive_errors > 0 THEN 'failed' WHEN last_success_at_ms IS NULL THEN 'never_run' ELSE 'succeeded' END,
  last_completed_at_ms = {now},
  last_success_at_ms = CASE WHEN v.success = 1 THEN {now} ELSE last_success_at_ms END,
  last_error_at_ms = CASE WHEN v.failure = 1 THEN {now} ELSE last_error_at_ms END,
  last_error = CASE WHEN v.failure = 1 THEN v.why WHEN v.success = 1 THEN NULL ELSE last_error END,
  summary = CASE WHEN v.success = 1 THEN v.outcome ELSE summary END,
  latency_ms = v.took_ms,
  consecutive_errors = coalesce((SELECT max(w.consecutive_errors) FROM worker_instances w
    LEFT JOIN instances i ON i.instance_id = w.instance_id
    WHERE w.worker = v.of_worker
      AND (w.instance_id = v.of_instance OR (NOT i.stopping AND i.seen_at_ms > {now} - $2))), 0),
  total_runs = total_runs + 1, total_errors = total_errors + v.failure, instance_id = v.of_instance,
  updated_at_ms = {now}
FROM {rows} WHERE worker = v.of_worker";

/// In the order in which they are inserted, by whoever begins runs.
const LOCK: [&str; 2] = [
    "SELECT w.worker FROM {rows} JOIN worker_instances w ON w.worker = v.of_worker
  AND w.instance_id = v.of_instance ORDER BY w.worker FOR UPDATE OF w",
    "SELECT h.worker FROM {rows} JOIN worker_heartbeats h ON h.worker = v.of_worker
ORDER BY h.worker FOR UPDATE OF h",
];

/// The heartbeat tables inside one transaction.
pub(in super::super) struct StoreHeartbeats<'t> {
    pub(in super::super) store: &'t Store,
    pub(in super::super) txn: &'t DatabaseTransaction,
}

impl StoreHeartbeats<'_> {
    /// Marks the workers of these runs `running`. Two runs of one worker are two rounds.
    pub(in super::super) async fn started(&self, runs: &[RunStarted]) -> Result<(), StoreError> {
        for round in rounds(runs, |run| run.job.as_str()) {
            let rows = round.into_iter().map(|run| {
                let RunStarted { job, instance_id, .. } = run;
                vec![json!(job), json!(instance_id.to_string())]
            });
            let rows = rows_json(&rows.collect::<Vec<_>>());
            for sql in [STARTED_INSTANCES, STARTED_WORKERS] {
                self.execute("start heartbeats", sql, &STARTED, [rows.clone()]).await?;
            }
        }
        Ok(())
    }

    /// Says how these runs ended, and rolls the counters of their workers up.
    pub(in super::super) async fn finished(&self, runs: &[RunFinished]) -> Result<(), StoreError> {
        const OPERATION: &str = "finish heartbeats";
        for round in rounds(runs, |run| run.job.as_str()) {
            let rows: Vec<_> = round.into_iter().map(finished_row).collect();
            let several = rows.len() > 1;
            let rows = rows_json(&rows);
            if several && self.store.backend() == DbBackend::Postgres {
                for sql in LOCK {
                    self.execute("lock heartbeats", sql, &FINISHED, [rows.clone()]).await?;
                }
            }
            self.execute(OPERATION, FINISHED_INSTANCES, &FINISHED, [rows.clone()]).await?;
            self.execute(OPERATION, FINISHED_WORKERS, &FINISHED, [LIVE_FOR_MS.into(), rows])
                .await?;
        }
        Ok(())
    }

    async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        columns: &[(&str, ColumnType)],
        values: impl IntoIterator<Item = Value>,
    ) -> Result<(), StoreError> {
        self.txn
            .execute_raw(self.store.statement_with_rows(sql, columns, values))
            .await
            .map(|_| ())
            .map_err(|source| StoreError::database(operation, source))
    }
}

fn finished_row(run: &RunFinished) -> Vec<serde_json::Value> {
    vec![
        json!(run.job),
        json!(run.instance_id.to_string()),
        json!(i32::from(run.status == RunStatus::Succeeded)),
        json!(i32::from(run.status.is_error())),
        json!(run.error.as_deref().map(kept_error)),
        json!(run.summary.as_ref().map(ToString::to_string)),
        json!(run.finished_at_ms.saturating_sub(run.started_at_ms)),
    ]
}

#[async_trait]
impl HeartbeatWrites for StoreHeartbeats<'_> {
    async fn heartbeat_registered(&self, worker: &str) -> Result<(), StoreError> {
        self.execute("register a heartbeat", REGISTER, &[], [worker.into()]).await
    }

    async fn heartbeat_started(&self, run: &RunStarted) -> Result<(), StoreError> {
        self.started(std::slice::from_ref(run)).await
    }

    async fn heartbeat_finished(&self, run: &RunFinished) -> Result<(), StoreError> {
        self.finished(std::slice::from_ref(run)).await
    }
}
