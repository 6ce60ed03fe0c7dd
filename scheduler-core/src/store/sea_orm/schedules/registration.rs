//! What definitions make of schedule rows at a start.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};
use serde_json::json;

use super::{lock, read_row};
use crate::error::StoreError;
use crate::recorder::RecordTxn;
use crate::store::JobSeed;
use crate::store::sea_orm::Store;
use crate::store::sea_orm::heartbeats::StoreHeartbeats;
use crate::store::sea_orm::runs::unrun::{self, Unrun};
use crate::store::sea_orm::sql::{ColumnType, rows_json};

const SEED: [(&str, ColumnType); 7] = [
    ("job", ColumnType::Text),
    ("cadence", ColumnType::Text),
    ("definition_hash", ColumnType::Text),
    ("next_slot_ms", ColumnType::Int),
    ("spacing_ms", ColumnType::Int),
    ("start_immediately", ColumnType::Bool),
    ("timeout_ms", ColumnType::Int),
];

/// Jobs whose definition changes.
const REDEFINED: &str = "\
SELECT s.job FROM {rows} JOIN schedules s ON s.job = v.job
WHERE s.definition_hash <> v.definition_hash AND s.next_due_at_ms < {now} AND NOT s.paused";

/// A changed definition starts a new grid; an unchanged one leaves the row alone, but locks it like
/// the others: by name, as every transaction that takes several.
const UPSERT: &str = "\
INSERT INTO schedules (job, cadence, definition_hash, anchor_ms, next_due_at_ms, timeout_ms)
SELECT v.job, v.cadence, v.definition_hash, {now},
  CASE WHEN v.next_slot_ms IS NOT NULL AND v.start_immediately THEN {now} ELSE v.next_slot_ms END,
  v.timeout_ms
FROM {rows} WHERE TRUE ORDER BY v.job
ON CONFLICT (job) DO UPDATE SET cadence = excluded.cadence, definition_hash = excluded.definition_hash,
  anchor_ms = excluded.anchor_ms, next_due_at_ms = excluded.next_due_at_ms,
  timeout_ms = excluded.timeout_ms, generation = schedules.generation + 1
WHERE schedules.definition_hash <> excluded.definition_hash";

const SET_TIMEOUT: &str = "\
UPDATE schedules SET timeout_ms = v.timeout_ms FROM {rows}
WHERE schedules.job = v.job AND schedules.timeout_ms IS DISTINCT FROM v.timeout_ms";

/// A start makes a job due at once, if its last fire is at least one interval old.
const START_NOW: &str = "\
UPDATE schedules SET next_due_at_ms = {now} FROM {rows}
WHERE schedules.job = v.job AND v.start_immediately AND next_due_at_ms > {now} AND NOT paused
  AND (last_fired_for_ms IS NULL OR last_fired_for_ms <= {now} - v.spacing_ms)";

/// A new definition does not make a job due that fired less than one interval ago.
const START_LATER: &str = "\
UPDATE schedules SET next_due_at_ms = v.next_slot_ms FROM {rows}
WHERE schedules.job = v.job AND next_due_at_ms = {now} AND anchor_ms = {now}
  AND last_fired_for_ms > {now} - v.spacing_ms";

/// Answers how many definitions were new or changed.
pub(super) async fn register(
    store: &Store,
    txn: &DatabaseTransaction,
    jobs: &[JobSeed],
) -> Result<u64, StoreError> {
    let failed = |source| StoreError::database("register jobs", source);
    if store.backend() == DbBackend::Postgres {
        lock(store, txn, jobs.iter().map(|job| job.job.as_str())).await?;
    }
    let now_ms = store.now_ms(txn).await?;
    let rows: Vec<_> = jobs.iter().map(|job| seed_row(job, now_ms)).collect();
    let rows = rows_json(&rows);
    // One now for all: what the one wrote, the next looks for.
    let statement = |sql| {
        let mut statement = store.statement_with_rows(sql, &SEED, [rows.clone()]);
        if let Some(values) = &mut statement.values {
            values.0[0] = now_ms.into();
        }
        statement
    };
    for row in txn.query_all_raw(statement(REDEFINED)).await.map_err(failed)? {
        let job: String = row.try_get("", "job").map_err(failed)?;
        give_up(store, txn, &job, now_ms).await?;
    }
    let mut changed = Vec::new();
    for sql in [UPSERT, START_LATER, START_NOW, SET_TIMEOUT] {
        let executed = txn.execute_raw(statement(sql)).await.map_err(failed)?;
        changed.push(executed.rows_affected());
    }
    let heartbeats = StoreHeartbeats { store, txn };
    let record = RecordTxn { heartbeats: &heartbeats, sql: Some(txn) };
    let mut jobs: Vec<&JobSeed> = jobs.iter().collect();
    jobs.sort_by(|a, b| a.job.cmp(&b.job));
    for job in jobs {
        job.recorder.registered(&record, &job.job).await?;
    }
    // By the first: definitions that are new, or were changed.
    Ok(changed.first().copied().unwrap_or_default())
}

/// Records what was due on a grid that a changed definition ends. A slot that is due just now is not
/// late: where the new definition starts at once, it is the slot that starts.
async fn give_up(
    store: &Store,
    txn: &DatabaseTransaction,
    job: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(row) = read_row(store, txn, job).await? else { return Ok(()) };
    match row.gives_up(now_ms - 1)? {
        Some(missed) => unrun::record(store, txn, &[Unrun::given_up(job, missed)]).await,
        None => Ok(()),
    }
}

fn seed_row(job: &JobSeed, now_ms: i64) -> Vec<serde_json::Value> {
    let (next_slot_ms, spacing_ms) = job.first_slot(now_ms).unzip();
    vec![
        json!(job.job),
        json!(job.cadence.to_string()),
        json!(job.definition_hash),
        json!(next_slot_ms),
        json!(spacing_ms),
        json!(job.start_immediately),
        json!(job.timeout_ms),
    ]
}
