//! Statements on `schedules`: what is due, who fires. What definitions make of them is registration's.

mod registration;

use std::collections::HashSet;
use std::sync::PoisonError;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, QueryResult};
use serde_json::json;

use super::Store;
use super::sql::{ColumnType, rows_json};
use super::write::write_own;
use crate::error::StoreError;
use crate::executor::chain;
use crate::run::{InstanceId, RunId, Trigger};
use crate::store::waiting::{from_text, to_text, with};
use crate::store::{
    Firing, InterruptedRun, JobSeed, Look, ScheduleRow, ScheduleStore, Topic, WaitingSlot,
};

const LOOK: &str = "\
SELECT s.job, s.cadence, s.cadence_override, s.anchor_ms, s.next_due_at_ms, s.last_fired_for_ms,
  s.buffered_for_ms, s.waiting_slots, s.run_requested, s.paused,
  (SELECT count(*) FROM job_runs r WHERE r.job = s.job AND r.status = 'running' AND r.scope_key = '') AS running,
  s.generation, l.expires_at_ms AS leased_until_ms,
  CASE WHEN s.buffered_for_ms IS NULL THEN 0 ELSE
    (SELECT coalesce(max(r.attempt), 0) FROM job_runs r
      WHERE r.job = s.job AND r.scope_key = '' AND r.scheduled_for_ms = s.buffered_for_ms
        AND r.trigger <> 'manual') END AS buffered_attempts
FROM {rows} JOIN schedules s ON s.job = v.job
LEFT JOIN leases l ON l.name = s.job AND l.expires_at_ms > {now}";

/// A run is interrupted when its row says `running` and its grant does not live any more.
const INTERRUPTED: &str = "\
SELECT r.id, r.job, r.scope_key, r.trigger, r.scheduled_for_ms, r.attempt, r.started_at_ms, r.instance_id, r.token
FROM {rows} JOIN job_runs r ON r.job = v.job AND r.status = 'running'
LEFT JOIN leases l
  ON l.name IN (CASE WHEN r.scope_key = '' THEN r.job ELSE r.job || '@' || r.scope_key END, r.job || '#' || r.id)
  AND l.holder = r.instance_id AND l.token = r.token AND l.expires_at_ms > {now}
WHERE l.name IS NULL
ORDER BY r.scheduled_for_ms, r.attempt";

const ADVANCE_COLUMNS: [(&str, ColumnType); 9] = [
    ("name", ColumnType::Text),
    ("seen_due", ColumnType::Int),
    ("seen_generation", ColumnType::Int),
    ("seen_buffered", ColumnType::Int),
    ("seen_waiting", ColumnType::Text),
    ("next_due", ColumnType::Int),
    ("slot", ColumnType::Int),
    ("buffered", ColumnType::Int),
    ("waiting", ColumnType::Text),
];

/// Whoever finds the row as it was seen has won the slot; losing is silent.
const ADVANCE: &str = "\
UPDATE schedules SET last_fired_for_ms = coalesce(v.slot, last_fired_for_ms), next_due_at_ms = v.next_due,
  buffered_for_ms = v.buffered, waiting_slots = v.waiting
FROM {rows}
WHERE schedules.job = v.name AND generation = v.seen_generation AND NOT paused
  AND next_due_at_ms IS NOT DISTINCT FROM v.seen_due AND buffered_for_ms IS NOT DISTINCT FROM v.seen_buffered
  AND waiting_slots IS NOT DISTINCT FROM v.seen_waiting
RETURNING job";

const LOCK: &str =
    "SELECT s.job FROM {rows} JOIN schedules s ON s.job = v.job ORDER BY s.job FOR UPDATE OF s";

const BUFFER: &str = "\
UPDATE schedules SET buffered_for_ms = $1
WHERE job = $2 AND (buffered_for_ms IS NULL OR buffered_for_ms < $1)";

const WAIT: &str = "UPDATE schedules SET waiting_slots = $1 WHERE job = $2";

const ANSWER: &str = "\
UPDATE schedules SET run_requested = $1 WHERE job = $2 AND run_requested IS NOT DISTINCT FROM $3";

#[derive(FromQueryResult)]
struct ScheduleColumns {
    job: String,
    cadence: String,
    cadence_override: Option<String>,
    anchor_ms: i64,
    next_due_at_ms: Option<i64>,
    last_fired_for_ms: Option<i64>,
    buffered_for_ms: Option<i64>,
    buffered_attempts: i32,
    waiting_slots: Option<String>,
    run_requested: Option<String>,
    running: i64,
    paused: bool,
    generation: i64,
    leased_until_ms: Option<i64>,
}

impl TryFrom<ScheduleColumns> for ScheduleRow {
    type Error = StoreError;

    fn try_from(row: ScheduleColumns) -> Result<Self, StoreError> {
        Ok(Self {
            job: row.job,
            cadence: row.cadence,
            cadence_override: row.cadence_override,
            anchor_ms: row.anchor_ms,
            next_due_at_ms: row.next_due_at_ms,
            last_fired_for_ms: row.last_fired_for_ms,
            buffered_for_ms: row.buffered_for_ms,
            buffered_attempts: row.buffered_attempts,
            waiting_slots: from_text(row.waiting_slots.as_deref())?,
            run_requested: row.run_requested.as_deref().map(requested_run).transpose()?,
            running: row.running,
            paused: row.paused,
            generation: row.generation,
            leased_until_ms: row.leased_until_ms,
        })
    }
}

#[derive(FromQueryResult)]
struct InterruptedColumns {
    id: String,
    job: String,
    scope_key: String,
    trigger: String,
    scheduled_for_ms: i64,
    attempt: i32,
    started_at_ms: Option<i64>,
    instance_id: String,
    token: i64,
}

impl TryFrom<InterruptedColumns> for InterruptedRun {
    type Error = StoreError;

    fn try_from(row: InterruptedColumns) -> Result<Self, StoreError> {
        Ok(Self {
            run_id: row.id.parse::<RunId>().map_err(|_| corrupt("id", &row.id, "a UUID"))?,
            trigger: row
                .trigger
                .parse::<Trigger>()
                .map_err(|unknown| corrupt("trigger", &unknown.word, unknown.expected))?,
            instance_id: row
                .instance_id
                .parse::<InstanceId>()
                .map_err(|_| corrupt("instance_id", &row.instance_id, "a UUID"))?,
            job: row.job,
            scope_key: row.scope_key,
            scheduled_for_ms: row.scheduled_for_ms,
            attempt: row.attempt,
            started_at_ms: row.started_at_ms.unwrap_or(row.scheduled_for_ms),
            token: row.token,
        })
    }
}

fn corrupt(column: &'static str, value: &str, expected: &'static str) -> StoreError {
    StoreError::Corrupt { table: "job_runs".into(), column, value: value.to_owned(), expected }
}

#[async_trait]
impl ScheduleStore for Store {
    async fn register_jobs(&self, jobs: &[JobSeed]) -> Result<(), StoreError> {
        const OPERATION: &str = "register jobs";
        let redefined =
            write_own!(self, OPERATION, txn => registration::register(self, txn, jobs).await)?;
        if redefined > 0 {
            self.wakes().tell_others(&Topic::Schedules);
        }
        Ok(())
    }

    async fn look(&self, jobs: &[String]) -> Result<Look, StoreError> {
        const OPERATION: &str = "read the schedules";
        self.answered(OPERATION, self.read_schedules(jobs)).await
    }
}

impl Store {
    async fn read_schedules(&self, jobs: &[String]) -> Result<Look, StoreError> {
        const OPERATION: &str = "read the schedules";
        let now_ms = self.now_ms(self.reader()).await?;
        let rows: Vec<_> = jobs.iter().map(|job| vec![json!(job)]).collect();
        let columns = [("job", ColumnType::Text)];
        let read = async |sql| {
            let mut statement = self.statement_with_rows(sql, &columns, [rows_json(&rows)]);
            // One now for both: a lease that lives for the one is not over for the other.
            if let Some(values) = &mut statement.values {
                values.0[0] = now_ms.into();
            }
            let read = self.reader().query_all_raw(statement).await;
            read.map_err(|source| StoreError::database(OPERATION, source))
        };
        // In this order: who closes a run in between, and runs its slot again, is seen to hold the
        // lease.
        let interrupted = read(INTERRUPTED).await?;
        let schedules = read(LOOK).await?;
        Ok(Look {
            now_ms,
            schedules: self.readable::<ScheduleColumns, _>("schedules", "job", &schedules),
            interrupted: self.readable::<InterruptedColumns, _>("job_runs", "id", &interrupted),
        })
    }
}

impl Store {
    /// The rows that this version understands. A row that it does not must not keep the other jobs
    /// from running: it is left alone, and logged once.
    fn readable<C, T>(&self, table: &'static str, key: &str, rows: &[QueryResult]) -> Vec<T>
    where
        C: FromQueryResult + TryInto<T, Error = StoreError>,
    {
        let read = |row: &QueryResult| {
            let failed = |source| StoreError::database("read a row", source);
            let columns = C::from_query_result(row, "").map_err(failed)?;
            columns.try_into()
        };
        let mut readable = Vec::with_capacity(rows.len());
        for row in rows {
            match read(row) {
                Ok(row) => readable.push(row),
                Err(error) => {
                    let key: String = row.try_get("", key).unwrap_or_default();
                    if self.is_new_unreadable(format!("{table} {key}")) {
                        let error = chain(&error);
                        tracing::error!(
                            table,
                            key,
                            error,
                            "a row cannot be read; it is left alone"
                        );
                    }
                }
            }
        }
        readable
    }

    fn is_new_unreadable(&self, row: String) -> bool {
        self.inner.unreadable.lock().unwrap_or_else(PoisonError::into_inner).insert(row)
    }
}

/// Locks the rows of these jobs, by name. For a server.
pub(super) async fn lock(
    store: &Store,
    txn: &DatabaseTransaction,
    jobs: impl Iterator<Item = &str>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = jobs.map(|job| vec![json!(job)]).collect();
    txn.execute_raw(store.statement_with_rows(
        LOCK,
        &[("job", ColumnType::Text)],
        [rows_json(&rows)],
    ))
    .await
    .map(|_| ())
    .map_err(|source| StoreError::database("lock schedules", source))
}

/// The row of a job, as a look finds it.
pub(super) async fn read_row(
    store: &Store,
    connection: &impl ConnectionTrait,
    job: &str,
) -> Result<Option<ScheduleRow>, StoreError> {
    let failed = |source| StoreError::database("read a schedule", source);
    let columns = [("job", ColumnType::Text)];
    let values = [rows_json(&[vec![json!(job)]])];
    let statement = store.statement_with_rows(LOOK, &columns, values);
    let row = connection.query_one_raw(statement).await.map_err(failed)?;
    row.map(|row| ScheduleColumns::from_query_result(&row, "").map_err(failed)?.try_into())
        .transpose()
}

/// Moves the rows of these firings; answers the jobs that this host won.
pub(super) async fn advance(
    store: &Store,
    txn: &DatabaseTransaction,
    firings: &[&Firing],
) -> Result<HashSet<String>, StoreError> {
    const OPERATION: &str = "move the schedules";
    let rows: Vec<_> = firings
        .iter()
        .filter_map(|firing| Some((firing, firing.advance.as_ref()?)))
        .map(|(firing, advance)| {
            vec![
                json!(firing.job),
                json!(advance.seen_due_at_ms),
                json!(advance.seen_generation),
                json!(advance.seen_buffered_for_ms),
                json!(to_text(&advance.seen_waiting_slots)),
                json!(advance.next_due_at_ms),
                json!(advance.fired_for_ms),
                json!(advance.buffered_for_ms),
                json!(to_text(&advance.waiting_slots)),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let statement = store.statement_with_rows(ADVANCE, &ADVANCE_COLUMNS, [rows_json(&rows)]);
    let won = txn
        .query_all_raw(statement)
        .await
        .map_err(|source| StoreError::database(OPERATION, source))?;
    won.iter()
        .map(|row| row.try_get("", "job"))
        .collect::<Result<_, _>>()
        .map_err(|source| StoreError::database(OPERATION, source))
}

/// Lets a slot wait for the lease; a newer one that waits already wins.
pub(super) async fn buffer(
    store: &Store,
    txn: &DatabaseTransaction,
    job: &str,
    slot_ms: i64,
) -> Result<(), StoreError> {
    let values = [slot_ms.into(), job.into()];
    txn.execute_raw(store.statement_without_now(BUFFER, values))
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("let a slot wait", source))
}

/// Lets slots wait for their turn, in a transaction that has moved the row.
pub(super) async fn wait(
    store: &Store,
    txn: &DatabaseTransaction,
    job: &str,
    slots: &[WaitingSlot],
) -> Result<(), StoreError> {
    let values = [to_text(slots).into(), job.into()];
    txn.execute_raw(store.statement_without_now(WAIT, values))
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("let slots wait", source))
}

/// Takes a request for a run up, or puts it back; answers whether it stood as it was seen.
pub(super) async fn answer_request(
    store: &Store,
    txn: &DatabaseTransaction,
    job: &str,
    seen: Option<RunId>,
    stands: Option<RunId>,
) -> Result<bool, StoreError> {
    let text = |id: Option<RunId>| id.map(|id| id.to_string());
    let values = [text(stands).into(), job.into(), text(seen).into()];
    let statement = store.statement_without_now(ANSWER, values);
    let answered = txn.execute_raw(statement).await;
    answered
        .map(|answered| answered.rows_affected() == 1)
        .map_err(|source| StoreError::database("take a request for a run up", source))
}

/// The run that a row asks for.
pub(super) fn requested_run(id: &str) -> Result<RunId, StoreError> {
    id.parse().map_err(|_| StoreError::Corrupt {
        table: "schedules".into(),
        column: "run_requested",
        value: id.to_owned(),
        expected: "a UUID",
    })
}

/// Puts the slot of a run that is to run again among those that wait, in a transaction that has
/// locked the row.
pub(super) async fn wait_again(
    store: &Store,
    txn: &DatabaseTransaction,
    job: &str,
    slot: WaitingSlot,
) -> Result<(), StoreError> {
    let Some(row) = read_row(store, txn, job).await? else { return Ok(()) };
    wait(store, txn, job, &with(row.waiting_slots, slot)).await
}

#[cfg(all(test, feature = "migration"))]
mod tests {
    use super::*;
    use crate::migration::{List, SchedulerMigrator, up};

    #[tokio::test]
    async fn a_look_reads_no_history_but_what_its_indexes_find() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("plans.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.unwrap();
        for (sql, index) in [
            (LOOK, "job_runs_slot (job=? AND scope_key=? AND scheduled_for_ms=?)"),
            (INTERRUPTED, "job_runs_running (job=?)"),
        ] {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let columns = [("job", ColumnType::Text)];
            let statement = store.statement_with_rows(&explain, &columns, [rows_json(&[])]);
            let rows = store.reader().query_all_raw(statement).await.unwrap();
            let plan: Vec<String> =
                rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
            assert!(plan.iter().any(|step| step.contains(index)), "{plan:#?}");
        }
    }
}
