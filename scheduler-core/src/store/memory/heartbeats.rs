//! Heartbeats: one row per worker and process, and their roll-up per worker.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::{MemoryStore, Tables};
use crate::error::StoreError;
use crate::heartbeat::{HealthReport, WorkerFacts, WorkerHealth, WorkerStatus, overall};
use crate::recorder::{HeartbeatWrites, RunFinished, RunStarted};
use crate::run::RunStatus;
use crate::store::{HeartbeatRollUp, HeartbeatStore, kept_error};

/// A row of `worker_heartbeats` or of `worker_instances`.
#[derive(Debug, Clone)]
pub(super) struct Heartbeat {
    status: WorkerStatus,
    last_started_at_ms: Option<i64>,
    last_completed_at_ms: Option<i64>,
    last_success_at_ms: Option<i64>,
    last_error_at_ms: Option<i64>,
    last_error: Option<String>,
    summary: Option<Value>,
    latency_ms: Option<i64>,
    consecutive_errors: i64,
    total_runs: i64,
    total_errors: i64,
    /// Who wrote it last, in the roll-up.
    instance_id: Option<String>,
    registered_at_ms: i64,
    updated_at_ms: i64,
}

impl Heartbeat {
    fn new(now_ms: i64) -> Self {
        Self {
            status: WorkerStatus::NeverRun,
            last_started_at_ms: None,
            last_completed_at_ms: None,
            last_success_at_ms: None,
            last_error_at_ms: None,
            last_error: None,
            summary: None,
            latency_ms: None,
            consecutive_errors: 0,
            total_runs: 0,
            total_errors: 0,
            instance_id: None,
            registered_at_ms: now_ms,
            updated_at_ms: now_ms,
        }
    }

    fn started(&mut self, now_ms: i64) {
        self.status = WorkerStatus::Running;
        self.last_started_at_ms = Some(now_ms);
        self.updated_at_ms = now_ms;
    }

    /// A run that a stop cut off is neither a success nor an error.
    fn finished(&mut self, run: &RunFinished, now_ms: i64) {
        if run.status == RunStatus::Succeeded {
            self.status = WorkerStatus::Succeeded;
            self.last_success_at_ms = Some(now_ms);
            self.last_error = None;
            self.summary.clone_from(&run.summary);
            self.consecutive_errors = 0;
        } else if run.status.is_error() {
            self.status = WorkerStatus::Failed;
            self.last_error_at_ms = Some(now_ms);
            let error = run.error.as_deref();
            self.last_error = error.map(kept_error);
            self.consecutive_errors += 1;
            self.total_errors += 1;
        } else {
            self.status = match (self.consecutive_errors, self.last_success_at_ms) {
                (1.., _) => WorkerStatus::Failed,
                (_, None) => WorkerStatus::NeverRun,
                (_, Some(_)) => WorkerStatus::Succeeded,
            };
        }
        self.last_completed_at_ms = Some(now_ms);
        self.latency_ms = Some(run.finished_at_ms.saturating_sub(run.started_at_ms));
        self.total_runs += 1;
        self.updated_at_ms = now_ms;
    }
}

impl Heartbeat {
    /// Runs that a stop cut off leave the status as it is.
    fn add(&mut self, row: &HeartbeatRollUp, now_ms: i64) {
        let ago = |ago_ms: Option<i64>| ago_ms.map(|ago_ms| now_ms - ago_ms);
        self.status = row.status.unwrap_or(self.status);
        self.last_started_at_ms = ago(row.started_ago_ms);
        self.last_completed_at_ms = ago(row.ended_ago_ms);
        if row.success_ago_ms.is_some() {
            self.last_success_at_ms = ago(row.success_ago_ms);
            self.last_error = None;
            self.consecutive_errors = 0;
        }
        self.last_error_at_ms = ago(row.error_ago_ms).or(self.last_error_at_ms);
        let error = row.last_error.as_deref().map(kept_error);
        self.last_error = error.or(self.last_error.take());
        self.summary = row.summary.clone().or(self.summary.take());
        self.latency_ms = Some(row.latency_ms);
        self.consecutive_errors += row.errors_in_a_row;
        self.total_runs += row.runs;
        self.total_errors += row.errors;
        self.updated_at_ms = now_ms;
    }
}

/// The heartbeat tables inside one transaction.
pub(super) struct MemoryHeartbeats<'t> {
    tables: Mutex<&'t mut Tables>,
    now_ms: i64,
}

impl<'t> MemoryHeartbeats<'t> {
    pub(super) fn new(tables: &'t mut Tables, now_ms: i64) -> Self {
        Self { tables: Mutex::new(tables), now_ms }
    }

    fn tables(&self) -> MutexGuard<'_, &'t mut Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HeartbeatWrites for MemoryHeartbeats<'_> {
    async fn heartbeat_registered(&self, worker: &str) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if tables.heartbeats.get(worker).is_none() {
            tables.heartbeats.put(worker.to_owned(), Heartbeat::new(self.now_ms));
        }
        Ok(())
    }

    async fn heartbeat_started(&self, run: &RunStarted) -> Result<(), StoreError> {
        let (mut tables, now_ms) = (self.tables(), self.now_ms);
        let instance_id = run.instance_id.to_string();
        let key = (run.job.clone(), instance_id.clone());
        let mut own =
            tables.worker_instances.get(&key).cloned().unwrap_or_else(|| Heartbeat::new(now_ms));
        own.started(now_ms);
        tables.worker_instances.put(key, own);
        let mut worker =
            tables.heartbeats.get(&run.job).cloned().unwrap_or_else(|| Heartbeat::new(now_ms));
        worker.started(now_ms);
        worker.instance_id = Some(instance_id);
        tables.heartbeats.put(run.job.clone(), worker);
        Ok(())
    }

    async fn heartbeat_finished(&self, run: &RunFinished) -> Result<(), StoreError> {
        let (mut tables, now_ms) = (self.tables(), self.now_ms);
        let own_key = (run.job.clone(), run.instance_id.to_string());
        tables.worker_instances.edit(&own_key, |own| own.finished(run, now_ms));
        let worst = tables.worst(&own_key, now_ms);
        tables.heartbeats.edit(&run.job, |worker| {
            worker.finished(run, now_ms);
            worker.consecutive_errors = worst;
            worker.instance_id = Some(own_key.1);
        });
        Ok(())
    }
}

impl Tables {
    /// The most errors in a row that a live process of a worker has, and the one that asks.
    fn worst(&self, own_key: &(String, String), now_ms: i64) -> i64 {
        self.worker_instances
            .entries()
            .filter(|(key, _)| key.0 == own_key.0)
            .filter(|(key, _)| {
                let live = |key| self.instances.get(key).is_some_and(|i| i.is_live_at(now_ms));
                *key == own_key || live(&key.1)
            })
            .map(|(_, row)| row.consecutive_errors)
            .max()
            .unwrap_or(0)
    }

    /// The lease of a worker is its job's, or the latest of its instances' or runs'.
    fn facts(&self, worker: &str, row: &Heartbeat, now_ms: i64) -> WorkerFacts {
        let schedule = self.schedules.get(worker);
        let of_worker = |name: &str| {
            let rest = name.strip_prefix(worker);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '#']))
        };
        let lease = self
            .leases
            .entries()
            .filter(|(name, lease)| of_worker(name) && lease.is_held_at(now_ms))
            .map(|(_, lease)| lease)
            .max_by_key(|lease| lease.expires_at_ms);
        let cadence =
            schedule.map(|row| row.cadence_override.as_deref().unwrap_or(row.cadence.as_str()));
        WorkerFacts {
            registered_at_ms: row.registered_at_ms,
            cadence: cadence.and_then(|cadence| cadence.parse().ok()),
            paused: schedule.is_some_and(|row| row.paused),
            timeout_ms: schedule.and_then(|row| row.timeout_ms),
            lease_expires_at_ms: lease.map(|lease| lease.expires_at_ms),
            row: WorkerHealth {
                worker: worker.to_owned(),
                status: row.status,
                stale: false,
                expected_interval_ms: None,
                last_started_at_ms: row.last_started_at_ms,
                last_completed_at_ms: row.last_completed_at_ms,
                last_success_at_ms: row.last_success_at_ms,
                last_error_at_ms: row.last_error_at_ms,
                last_error: row.last_error.clone(),
                summary: row.summary.clone(),
                latency_ms: row.latency_ms,
                consecutive_errors: row.consecutive_errors,
                total_runs: row.total_runs,
                total_errors: row.total_errors,
                next_due_at_ms: schedule.and_then(|row| row.next_due_at_ms),
                lease_holder: lease.map(|lease| lease.holder.clone()),
            },
        }
    }
}

#[async_trait]
impl HeartbeatStore for MemoryStore {
    async fn health(&self) -> Result<HealthReport, StoreError> {
        let txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let workers: Vec<WorkerHealth> = txn
            .heartbeats
            .entries()
            .map(|(worker, row)| txn.facts(worker, row, now_ms).health(now_ms))
            .collect();
        let status = overall(&workers, txn.live_instances(now_ms));
        Ok(HealthReport { status, generated_at_ms: now_ms, workers })
    }

    async fn roll_up(&self, rows: &[HeartbeatRollUp]) -> Result<(), StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        for row in rows {
            let key = (row.worker.clone(), row.instance_id.to_string());
            let known = |row: Option<&Heartbeat>| row.cloned();
            let mut own = known(txn.worker_instances.get(&key)).unwrap_or(Heartbeat::new(now_ms));
            own.add(row, now_ms);
            txn.worker_instances.put(key.clone(), own);
            let mut worker = known(txn.heartbeats.get(&key.0)).unwrap_or(Heartbeat::new(now_ms));
            worker.add(row, now_ms);
            worker.consecutive_errors = txn.worst(&key, now_ms);
            worker.instance_id = Some(key.1);
            txn.heartbeats.put(key.0, worker);
        }
        txn.commit();
        Ok(())
    }
}
