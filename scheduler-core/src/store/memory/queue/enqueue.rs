//! Rows of the library's table, inserted unless their unique key is taken.

use serde_json::{Map, Value, json};

use super::super::Tables;
use super::Rows;
use crate::queue::{Enqueued, NewJob, NewRow, QueueTable, Unique};
use crate::store::{RowId, RowStatus};
use crate::testing::QueueRow;

/// Where the rows of a table are kept; each queue of the library's table apart.
pub(super) fn place(table: &QueueTable) -> String {
    match &table.queue {
        Some(queue) => format!("{}:{queue}", table.name),
        None => table.name.clone(),
    }
}

pub(super) fn enqueue(
    tables: &mut Tables,
    queue: &str,
    jobs: &[NewJob],
    now_ms: i64,
) -> Vec<Enqueued> {
    let place = place(&QueueTable::jobs(queue));
    jobs.iter().map(|job| enqueue_one(tables, &place, job, now_ms)).collect()
}

fn enqueue_one(tables: &mut Tables, place: &str, job: &NewJob, now_ms: i64) -> Enqueued {
    let id = 1 + last_id(tables);
    let mut row = QueueRow::queued(RowId::Int(id));
    row.priority = job.priority;
    row.run_at_ms = job.run_at_ms.unwrap_or_else(|| now_ms.saturating_add(job.delay_ms));
    row.max_attempts = job.max_attempts;
    let columns = [
        ("kind", json!(job.kind)),
        ("payload", json!(job.payload)),
        ("payload_version", json!(job.payload_version)),
        ("checkpoint", Value::Null),
        ("concurrency_key", json!(job.concurrency_key)),
    ];
    row.columns = columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let rows = tables.queues.entry(place.to_owned()).or_default();
    match insert(rows, row, job.unique.as_ref(), now_ms) {
        Enqueued::Inserted(_) => Enqueued::Inserted(id),
        Enqueued::Existing(RowId::Int(id)) => Enqueued::Existing(id),
        // The library's own ids are numbers.
        Enqueued::Existing(RowId::Text(_)) => Enqueued::Existing(0),
    }
}

/// Into a table of the user's.
pub(super) fn enqueue_row(rows: &mut Rows, new: &NewRow, now_ms: i64) -> Enqueued<RowId> {
    let last = match rows.keys().next_back() {
        Some(RowId::Int(id)) => *id,
        _ => 0,
    };
    let mut row = QueueRow::queued(new.id().unwrap_or(RowId::Int(last + 1)));
    row.priority = new.priority;
    row.run_at_ms = new.run_at_ms.unwrap_or_else(|| now_ms.saturating_add(new.delay_ms));
    row.max_attempts = new.max_attempts;
    row.columns = new.columns.clone();
    row.columns.remove("id");
    insert(rows, row, new.unique.as_ref(), now_ms)
}

/// Inserts a row unless its key is taken.
fn insert(
    rows: &mut Rows,
    mut row: QueueRow,
    unique: Option<&Unique>,
    now_ms: i64,
) -> Enqueued<RowId> {
    if let Some(unique) = unique {
        let key = json!(unique.key);
        let holder = rows.values_mut().find(|row| row.columns.get("unique_key") == Some(&key));
        if let Some(row) = holder {
            let is_queued_or_runs = match row.status {
                RowStatus::Queued => true,
                RowStatus::Running => !is_unique_while_queued(&row.columns),
                _ => false,
            };
            if is_queued_or_runs || is_in_window(&row.columns, now_ms) {
                return Enqueued::Existing(row.id.clone());
            }
            row.columns.remove("unique_key");
        }
        let until_ms = unique.window_ms.map(|span| now_ms.saturating_add(span));
        row.columns.insert("unique_key".to_owned(), key);
        row.columns.insert("unique_while_queued".to_owned(), json!(unique.until_started));
        row.columns.insert("unique_until_ms".to_owned(), json!(until_ms));
    }
    let id = row.id.clone();
    rows.insert(id.clone(), row);
    Enqueued::Inserted(id)
}

impl Tables {
    /// Deletes rows of the library's own table that ended before `before_ms`, but for dead ones and
    /// those whose window is open.
    pub(in super::super) fn prune_jobs(
        &mut self,
        now_ms: i64,
        before_ms: i64,
        at_most: u32,
    ) -> u64 {
        let of_library = self.queues.iter_mut().filter(|(place, _)| place.starts_with("jobs:"));
        let mut old: Vec<(i64, RowId)> = Vec::new();
        let mut rows: Vec<_> = of_library.map(|(_, rows)| rows).collect();
        for row in rows.iter().flat_map(|rows| rows.values()) {
            let is_over = matches!(row.status, RowStatus::Succeeded | RowStatus::Cancelled)
                && !is_in_window(&row.columns, now_ms);
            let ended_ms = row.completed_at_ms.filter(|at_ms| is_over && *at_ms < before_ms);
            old.extend(ended_ms.map(|at_ms| (at_ms, row.id.clone())));
        }
        old.sort();
        old.truncate(at_most as usize);
        for (_, id) in &old {
            rows.iter_mut().for_each(|rows| _ = rows.remove(id));
        }
        old.len() as u64
    }
}

fn last_id(tables: &Tables) -> i64 {
    let of_library = tables.queues.iter().filter(|(place, _)| place.starts_with("jobs:"));
    let last = of_library.filter_map(|(_, rows)| rows.keys().next_back());
    let id = |id: &RowId| if let RowId::Int(id) = id { *id } else { 0 };
    last.map(id).max().unwrap_or_default()
}

fn is_unique_while_queued(columns: &Map<String, Value>) -> bool {
    columns.get("unique_while_queued").and_then(Value::as_bool) == Some(true)
}

pub(super) fn is_in_window(columns: &Map<String, Value>, now_ms: i64) -> bool {
    columns.get("unique_until_ms").and_then(Value::as_i64).is_some_and(|until_ms| until_ms > now_ms)
}

/// A row that runs or has ended gives its key back, unless its window is open. A dead one keeps it, for
/// the case that it is retried, until somebody enqueues it again.
pub(super) fn free_key(row: &mut QueueRow, now_ms: i64) {
    let is_over = match row.status {
        RowStatus::Queued | RowStatus::Dead => false,
        RowStatus::Running => is_unique_while_queued(&row.columns),
        _ => true,
    };
    if is_over && !is_in_window(&row.columns, now_ms) {
        row.columns.remove("unique_key");
    }
}

/// Whether this host knows the row's kind and the version of its payload.
pub(super) fn is_known(table: &QueueTable, row: &QueueRow) -> bool {
    let kind = row.columns.get("kind").and_then(Value::as_str);
    let version = row.columns.get("payload_version").and_then(Value::as_i64).unwrap_or_default();
    table.kinds.is_empty()
        || table
            .kinds
            .iter()
            .any(|(known, newest)| kind == Some(known) && version <= i64::from(*newest))
}
