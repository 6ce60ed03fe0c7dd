//! Statements on `instances`, and what dead ones leave behind.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement, Value};

use super::Store;
use super::write::write_own;
use crate::error::StoreError;
use crate::run::InstanceId;
use crate::skew::{ClockSample, ClockSkew};
use crate::store::{
    Definitions, Disagreement, Instance, InstanceStore, KEEP_DEAD_INSTANCES_MS, KEEP_RUNS_MS,
    LIVE_FOR_MS, SchedulerStore, disagreements,
};

const ANNOUNCE: &str = "\
INSERT INTO instances
  (instance_id, host, pid, version, definitions, started_at_ms, seen_at_ms, skew_ms, stopping)
VALUES ($2, $3, $4, $5, $6, {now}, {now}, 0, FALSE)
ON CONFLICT (instance_id) DO UPDATE SET seen_at_ms = excluded.seen_at_ms, stopping = FALSE,
  definitions = excluded.definitions";

/// A sign of life that was under way when the stop came does not take the stop back.
const SEEN: &str =
    "UPDATE instances SET seen_at_ms = {now}, stopping = (stopping OR $2) WHERE instance_id = $3";

const NOTE_SKEW: &str = "UPDATE instances SET skew_ms = $2 WHERE instance_id = $3";

/// Processes of versions before this column say nothing.
const DEFINED: &str = "\
SELECT instance_id, definitions FROM instances
WHERE NOT stopping AND seen_at_ms > {now} - $2 AND definitions IS NOT NULL ORDER BY instance_id";

/// How often the clocks are compared at most, and the round trip that needs no better one.
const SKEW_TRIES: u32 = 5;
const SHORT_ROUND_TRIP_MS: i64 = 100;

const LIVE: &str = "\
SELECT count(*) AS live FROM instances WHERE NOT stopping AND seen_at_ms > {now} - $2";

const READ_DEFINITIONS: &str = "read the definitions of live processes";

const PRUNE_RUNS: &str = "\
DELETE FROM job_runs WHERE id IN (
  SELECT id FROM job_runs WHERE finished_at_ms < {now} - $2 ORDER BY finished_at_ms LIMIT $3)";

/// What fails again meanwhile stays.
const PRUNE_LETTERS: &str = "\
DELETE FROM dead_letters WHERE status = 'resolved' AND id IN (
  SELECT id FROM dead_letters WHERE status = 'resolved' AND updated_at_ms < {now} - $2
  ORDER BY updated_at_ms LIMIT $3)";

/// Dead rows wait for somebody who decides about them; a row that holds a key until its time stays
/// until then.
const PRUNE_JOBS: &str = "\
DELETE FROM jobs WHERE id IN (
  SELECT id FROM jobs WHERE status IN ('succeeded', 'cancelled') AND completed_at_ms < {now} - $2
    AND coalesce(unique_until_ms, 0) <= {now}
  ORDER BY completed_at_ms LIMIT $3)";

const PRUNE_INSTANCE_LEASES: &str = "\
DELETE FROM leases WHERE expires_at_ms < {now} - $2 AND EXISTS (
  SELECT 1 FROM instances i WHERE i.seen_at_ms < {now} - $2
    AND substr(leases.name, length(leases.name) - length(i.instance_id)) = '@' || i.instance_id)";

/// Runs that ended took theirs with them.
const PRUNE_RUN_LEASES: &str =
    "DELETE FROM leases WHERE expires_at_ms < {now} - $2 AND name LIKE '%#%'";

const PRUNE_WORKER_INSTANCES: &str = "\
DELETE FROM worker_instances WHERE instance_id IN (
  SELECT instance_id FROM instances WHERE seen_at_ms < {now} - $2)";

const PRUNE_INSTANCES: &str = "DELETE FROM instances WHERE seen_at_ms < {now} - $2";

/// This library's number among a database's advisory locks for the pruning.
const PRUNING: i64 = 7_301_461;
const LOCK_PRUNING: &str = "SELECT pg_try_advisory_xact_lock($1) AS alone";

impl Store {
    pub(super) async fn live_instances(&self) -> Result<i64, StoreError> {
        let failed = |source| StoreError::database("count the live instances", source);
        let row = self
            .reader()
            .query_one_raw(self.statement(LIVE, [LIVE_FOR_MS.into()]))
            .await
            .map_err(failed)?;
        row.map_or(Ok(0), |row| row.try_get("", "live")).map_err(failed)
    }

    async fn read_definitions(&self) -> Result<Vec<(InstanceId, Definitions)>, StoreError> {
        let failed = |source| StoreError::database(READ_DEFINITIONS, source);
        let rows = self
            .reader()
            .query_all_raw(self.statement(DEFINED, [LIVE_FOR_MS.into()]))
            .await
            .map_err(failed)?;
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let id: String = row.try_get("", "instance_id").map_err(failed)?;
            let id = id.parse().map_err(|_| corrupt("instance_id", &id, "a UUID"))?;
            let text: String = row.try_get("", "definitions").map_err(failed)?;
            let expected = "an object of texts by job";
            let definitions =
                serde_json::from_str(&text).map_err(|_| corrupt("definitions", &text, expected))?;
            read.push((id, definitions));
        }
        Ok(read)
    }

    async fn execute_alone(
        &self,
        operation: &'static str,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        write_own!(self, operation, txn => {
            execute(self, txn, operation, sql, values.clone()).await
        })
    }
}

fn corrupt(column: &'static str, value: &str, expected: &'static str) -> StoreError {
    StoreError::Corrupt { table: "instances".into(), column, value: value.to_owned(), expected }
}

async fn execute(
    store: &Store,
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    values: Vec<Value>,
) -> Result<u64, StoreError> {
    txn.execute_raw(store.statement(sql, values))
        .await
        .map(|done| done.rows_affected())
        .map_err(|source| StoreError::database(operation, source))
}

/// Two hosts that delete the same rows in different orders would wait for each other. Whoever finds
/// another at it leaves it to him; on SQLite there is one writer anyway.
async fn prune_alone(store: &Store, txn: &DatabaseTransaction) -> Result<bool, StoreError> {
    let backend = txn.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(true);
    }
    let failed = |source| StoreError::database("prune old rows", source);
    let statement = Statement::from_sql_and_values(
        backend,
        LOCK_PRUNING,
        [store.namespace().lock(PRUNING).into()],
    );
    let row = txn.query_one_raw(statement).await.map_err(failed)?;
    row.map_or(Ok(false), |row| row.try_get("", "alone")).map_err(failed)
}

#[async_trait]
impl InstanceStore for Store {
    async fn announce(&self, instance: &Instance) -> Result<(), StoreError> {
        let values = vec![
            instance.id.to_string().into(),
            instance.host.clone().into(),
            i64::from(instance.pid).into(),
            instance.version.clone().into(),
            serde_json::json!(instance.definitions).to_string().into(),
        ];
        self.execute_alone("announce this instance", ANNOUNCE, values).await.map(|_| ())
    }

    async fn disagreements(&self) -> Result<Vec<Disagreement>, StoreError> {
        let live = self.answered(READ_DEFINITIONS, self.read_definitions()).await?;
        Ok(disagreements(live.iter().map(|(id, definitions)| (*id, definitions))))
    }

    async fn seen(&self, id: InstanceId, stopping: bool) -> Result<bool, StoreError> {
        let values = vec![stopping.into(), id.to_string().into()];
        self.execute_alone("say that this instance is alive", SEEN, values)
            .await
            .map(|known| known == 1)
    }

    async fn measure_skew(&self) -> Result<ClockSkew, StoreError> {
        if self.now_value() != Value::BigInt(None) {
            return Ok(ClockSkew::default());
        }
        self.answered("compare the clocks", async {
            let mut samples = Vec::new();
            for _ in 0..SKEW_TRIES {
                let before_ms = self.clock().now_ms();
                let database_ms = self.now_ms(self.reader()).await?;
                let after_ms = self.clock().now_ms();
                let sample = ClockSample { before_ms, database_ms, after_ms };
                samples.push(sample);
                if sample.round_trip_ms().is_some_and(|span_ms| span_ms <= SHORT_ROUND_TRIP_MS) {
                    break;
                }
            }
            Ok(ClockSkew::measured(&samples).unwrap_or_default())
        })
        .await
    }

    async fn note_skew(&self, id: InstanceId, skew: ClockSkew) -> Result<(), StoreError> {
        let values = vec![skew.ahead_ms().into(), id.to_string().into()];
        self.execute_alone("note the skew of this instance", NOTE_SKEW, values).await.map(|_| ())
    }

    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        const OPERATION: &str = "prune old rows";
        let dead = || vec![KEEP_DEAD_INSTANCES_MS.into()];
        let old = || vec![KEEP_RUNS_MS.into(), i64::from(at_most).into()];
        write_own!(self, OPERATION, txn => {
            if !prune_alone(self, txn).await? {
                return Ok(0);
            }
            let sweeps = [
                (PRUNE_RUNS, old()),
                (PRUNE_LETTERS, old()),
                (PRUNE_JOBS, old()),
                (PRUNE_INSTANCE_LEASES, dead()),
                (PRUNE_RUN_LEASES, dead()),
                (PRUNE_WORKER_INSTANCES, dead()),
                (PRUNE_INSTANCES, dead()),
            ];
            let mut pruned = 0;
            for (sql, values) in sweeps {
                pruned += execute(self, txn, OPERATION, sql, values).await?;
            }
            Ok(pruned)
        })
    }
}
