//! Slots that did not run, with the reason: consecutive ones for the same reason are one row.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde_json::json;

use crate::error::StoreError;
use crate::plan::Missed;
use crate::run::{RunId, RunStatus};
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
pub(super) struct Unrun {
    status: RunStatus,
    from_ms: i64,
    until_ms: i64,
    count: i64,
}

impl Unrun {
    pub(super) fn missed(missed: Missed) -> Self {
        let Missed { from_ms, until_ms, count } = missed;
        Self { status: RunStatus::Missed, from_ms, until_ms, count }
    }

    pub(super) fn skipped(slot_ms: i64) -> Self {
        let status = RunStatus::SkippedOverlap;
        Self { status, from_ms: slot_ms, until_ms: slot_ms, count: 1 }
    }
}

/// Records what did not run of these firings. Of one job, each is written after those before it.
pub(super) async fn record(
    store: &Store,
    txn: &DatabaseTransaction,
    unruns: &[(&Firing, Unrun)],
) -> Result<(), StoreError> {
    let failed = |source| StoreError::database(OPERATION, source);
    let of = |(firing, _): &(&Firing, Unrun)| (firing.job.clone(), firing.scope_key.clone());
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

fn row((firing, unrun): &(&Firing, Unrun)) -> Vec<serde_json::Value> {
    vec![
        json!(RunId::new().to_string()),
        json!(firing.job),
        json!(firing.scope_key),
        json!(unrun.from_ms),
        json!(unrun.status.as_str()),
        json!(unrun.count),
        json!(unrun.until_ms),
        json!(firing.instance_id.to_string()),
    ]
}
