//! Slots that did not run, with the reason: consecutive ones for the same reason are one row.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde_json::json;

use crate::error::StoreError;
use crate::plan::Missed;
use crate::run::{InstanceId, RunId, RunStatus};
use crate::store::Firing;
use crate::store::sea_orm::Store;
use crate::store::sea_orm::sql::{ColumnType, rounds, rows_json};

const OPERATION: &str = "record slots that did not run";

const COLUMNS: [(&str, ColumnType); 8] = [
    ("run_id", ColumnType::Text),
    ("of_job", ColumnType::Text),
    ("of_scope", ColumnType::Text),
    ("since_ms", ColumnType::Int),
    ("reason", ColumnType::Text),
    ("slots", ColumnType::Int),
    ("until_ms", ColumnType::Int),
    ("seen_by", ColumnType::Text),
];

const GROW: &str = "\
UPDATE job_runs SET missed_count = missed_count + v.slots, missed_until_ms = v.until_ms, finished_at_ms = {now}
FROM {rows}
WHERE status = v.reason AND id = (
  SELECT r.id FROM job_runs r
  WHERE r.job = v.of_job AND r.scope_key = v.of_scope AND r.trigger <> 'manual' AND r.scheduled_for_ms < v.since_ms
  ORDER BY r.scheduled_for_ms DESC, r.attempt DESC LIMIT 1)
RETURNING job, scope_key";

const INSERT: &str = "\
INSERT INTO job_runs (id, job, scope_key, trigger, scheduled_for_ms, attempt, status, missed_count, missed_until_ms, finished_at_ms, instance_id)
SELECT v.run_id, v.of_job, v.of_scope, 'schedule', v.since_ms, 1, v.reason, v.slots, v.until_ms, {now}, v.seen_by
FROM {rows} WHERE TRUE
ON CONFLICT DO NOTHING";

/// Slots that did not run, with the reason.
pub(in crate::store::sea_orm) struct Unrun<'a> {
    job: &'a str,
    scope_key: &'a str,
    seen_by: InstanceId,
    status: RunStatus,
    from_ms: i64,
    until_ms: i64,
    count: i64,
}

impl<'a> Unrun<'a> {
    pub(super) fn missed(firing: &'a Firing, missed: Missed) -> Self {
        let Missed { from_ms, until_ms, count } = missed;
        Self::of(firing, RunStatus::Missed, from_ms, until_ms, count)
    }

    pub(super) fn skipped(firing: &'a Firing, slot_ms: i64) -> Self {
        Self::of(firing, RunStatus::SkippedOverlap, slot_ms, slot_ms, 1)
    }

    fn of(firing: &'a Firing, status: RunStatus, from_ms: i64, until_ms: i64, count: i64) -> Self {
        let Firing { job, scope_key, instance_id: seen_by, .. } = firing;
        Self { job, scope_key, seen_by: *seen_by, status, from_ms, until_ms, count }
    }

    /// Slots of a cluster job that were due when its schedule was changed.
    pub(in crate::store::sea_orm) fn given_up(job: &'a str, missed: Missed) -> Self {
        let Missed { from_ms, until_ms, count } = missed;
        let (scope_key, seen_by) = ("", InstanceId::NOBODY);
        Self { job, scope_key, seen_by, status: RunStatus::Missed, from_ms, until_ms, count }
    }
}

/// Records what did not run. Of one job, each is written after those before it.
pub(in crate::store::sea_orm) async fn record(
    store: &Store,
    txn: &DatabaseTransaction,
    unruns: &[Unrun<'_>],
) -> Result<(), StoreError> {
    let failed = |source| StoreError::database(OPERATION, source);
    let of = |unrun: &Unrun<'_>| (unrun.job.to_owned(), unrun.scope_key.to_owned());
    for mut round in rounds(unruns, of) {
        let rows: Vec<_> = round.iter().map(|unrun| row(unrun)).collect();
        let grown = store.statement_with_rows(GROW, &COLUMNS, [rows_json(&rows)]);
        let grown = txn.query_all_raw(grown).await.map_err(failed)?;
        let grown: HashSet<(String, String)> = grown
            .iter()
            .map(|row| Ok((row.try_get("", "job")?, row.try_get("", "scope_key")?)))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        round.retain(|unrun| !grown.contains(&of(unrun)));
        if round.is_empty() {
            continue;
        }
        let rows: Vec<_> = round.into_iter().map(row).collect();
        let insert = store.statement_with_rows(INSERT, &COLUMNS, [rows_json(&rows)]);
        txn.execute_raw(insert).await.map_err(failed)?;
    }
    Ok(())
}

fn row(unrun: &Unrun<'_>) -> Vec<serde_json::Value> {
    vec![
        json!(RunId::new().to_string()),
        json!(unrun.job),
        json!(unrun.scope_key),
        json!(unrun.from_ms),
        json!(unrun.status.as_str()),
        json!(unrun.count),
        json!(unrun.until_ms),
        json!(unrun.seen_by.to_string()),
    ]
}
