//! Statements on a queue's table, rendered once from its [`QueueTable`].

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, SqlErr, Statement,
    TransactionTrait, Value,
};
use serde_json::json;

use super::sql::{ColumnType, now_expression, rows_json, rows_relation};
use super::{LONGEST_ERROR, Store, bounded};
use crate::error::StoreError;
use crate::queue::{QueueError, QueueTable};
use crate::run::InstanceId;
use crate::store::{
    ClaimRequest, Claimed, ClaimedRow, QueueRows, RenewedRow, RowGrant, RowId, RowProgress,
    RowStatus, SettledRow,
};

/// Whether a row found under an expired lease had crashed or had only been claimed.
const RECLAIM: &str = "\
UPDATE {table} SET
  status = CASE WHEN cancel_requested THEN 'cancelled'
    WHEN started AND crash_count + 1 >= {crash_limit} THEN 'dead' ELSE 'queued' END,
  last_error = CASE WHEN started AND NOT cancel_requested AND crash_count + 1 >= {crash_limit}
    THEN 'crashing: its process died ' || (crash_count + 1) || ' times while it ran' ELSE last_error END,
  completed_at_ms = CASE WHEN cancel_requested OR (started AND crash_count + 1 >= {crash_limit}) THEN {now} END,
  attempt_count = attempt_count - CASE WHEN started THEN 0 ELSE 1 END,
  crash_count = crash_count + CASE WHEN started THEN 1 ELSE 0 END,
  {unlease}
WHERE status = 'running' AND lease_expires_at_ms <= {now}
RETURNING status";

const CLAIM: &str = "\
UPDATE {table} SET status = 'running', attempt_count = attempt_count + 1, leased_by = $2,
  lease_token = lease_token + 1, lease_expires_at_ms = {now} + $3, started = TRUE, started_at_ms = {now}{slots}
WHERE {table}.id {among} c.id FROM {table} c
  WHERE c.status = 'queued' AND c.run_at_ms <= {now} AND {eligible}
  ORDER BY c.priority, c.run_at_ms, c.id LIMIT $4 {lock}{end}{room}
RETURNING {columns}";

/// Rows whose process died before are claimed alone, and while one waits that could run, nothing
/// else is: the process runs empty, then takes it.
const NO_SUSPECT: &str = "NOT EXISTS (SELECT 1 FROM {table} c
  WHERE c.status = 'queued' AND c.crash_count > 0 AND c.run_at_ms <= {now}{saturated})";

/// The lowest slot that no running row of the same key occupies.
const FREE_SLOT: &str = "(WITH RECURSIVE slots (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slots WHERE n + 1 < {limit})
    SELECT min(n) FROM slots WHERE NOT EXISTS (
      SELECT 1 FROM {table} r WHERE r.status = 'running' AND {same} AND r.{slot} = slots.n))";

const SATURATED: &str = "(c.{key} IS NULL OR c.{key} NOT IN (SELECT r.{key} FROM {table} r
    WHERE r.status = 'running' AND r.{key} IS NOT NULL GROUP BY r.{key} HAVING count(*) >= {limit}))";

const FENCED: &str = "{table}.lease_token = v.token AND {table}.leased_by = v.holder
  AND {table}.status = 'running' AND {table}.lease_expires_at_ms > {now}";

const RENEW: &str = "\
UPDATE {table} SET lease_expires_at_ms = {now} + $2, progress_pct = coalesce(v.progress_pct, {table}.progress_pct)
FROM {rows} WHERE {table}.id = v.row_id AND {fenced}
RETURNING id, lease_token, cancel_requested";

const SETTLE: &str = "\
UPDATE {table} SET status = v.status,
  run_at_ms = CASE WHEN v.delay_ms IS NULL THEN run_at_ms ELSE {now} + v.delay_ms END,
  attempt_count = attempt_count - CASE WHEN v.give_attempt_back THEN 1 ELSE 0 END,
  last_error = CASE WHEN v.status = 'succeeded' THEN NULL ELSE coalesce(v.error, last_error) END,
  result = coalesce(v.result, {table}.result),
  progress_pct = CASE WHEN v.status = 'succeeded' THEN 100 ELSE progress_pct END,
  completed_at_ms = CASE WHEN v.status = 'queued' THEN NULL ELSE {now} END,
  {unlease}
FROM {rows} WHERE {table}.id = v.row_id AND {fenced}
RETURNING id, lease_token";

const UNLEASE: &str = "leased_by = NULL, lease_expires_at_ms = NULL, started = FALSE{no_slots}";

/// The claim's index is ordered by priority first, so the earliest row is looked up in each
/// priority: over all of them it would be a walk over everything that waits.
const NEXT: &str = "\
WITH RECURSIVE priorities (priority) AS (
  SELECT min(priority) FROM {table} WHERE status = 'queued'
  UNION ALL
  SELECT (SELECT min(t.priority) FROM {table} t WHERE t.status = 'queued' AND t.priority > priorities.priority)
  FROM priorities WHERE priorities.priority IS NOT NULL)
SELECT min(at_ms) - {now} AS in_ms FROM (
  SELECT (SELECT min(t.run_at_ms) FROM {table} t
    WHERE t.status = 'queued' AND t.priority = priorities.priority AND t.run_at_ms > {now}) AS at_ms FROM priorities
  UNION ALL
  SELECT min(lease_expires_at_ms) FROM {table} WHERE status = 'running' AND leased_by <> $2) AS next";

const FENCE: &str = "\
UPDATE {table} SET lease_token = lease_token
WHERE id = $2 AND lease_token = $3 AND leased_by = $4 AND status = 'running' AND lease_expires_at_ms > {now}";

/// One queue's statements on one store.
struct SqlQueue {
    store: Store,
    table: QueueTable,
    reclaim: String,
    claim: String,
    claim_suspect: String,
    renew: String,
    settle: String,
    next: String,
    fence: String,
}

impl Store {
    /// Checks the table's columns and renders its statements: the rows as a
    /// [`Consumer`](crate::queue::Consumer) sees them, for tools and tests.
    ///
    /// # Errors
    /// A table that cannot be a queue, or the database.
    pub async fn open_queue(&self, table: QueueTable) -> Result<Arc<dyn QueueRows>, QueueError> {
        table.validate()?;
        let present = self.columns_of(&table.name).await?;
        table.check(&present)?;
        Ok(Arc::new(SqlQueue::render(self.clone(), table)))
    }

    async fn columns_of(&self, table: &str) -> Result<BTreeSet<String>, StoreError> {
        const OPERATION: &str = "read the columns of a queue's table";
        let sql = match self.backend() {
            DbBackend::Postgres => {
                "SELECT column_name AS name FROM information_schema.columns
                 WHERE table_schema = ANY (current_schemas(FALSE)) AND table_name = $1"
            }
            _ => "SELECT name FROM pragma_table_info($1)",
        };
        let statement = Statement::from_sql_and_values(self.backend(), sql, [table.into()]);
        let failed = |source| StoreError::database(OPERATION, source);
        let rows = self.reader().query_all_raw(statement).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get("", "name")).collect::<Result<_, _>>().map_err(failed)
    }
}

impl SqlQueue {
    fn render(store: Store, table: QueueTable) -> Self {
        let backend = store.backend();
        let id_type = if table.text_ids { ColumnType::Text } else { ColumnType::Int };
        let fill = |sql: &str| {
            sql.replace("{table}", &table.name)
                .replace("{now}", now_expression(backend))
                .replace("{crash_limit}", &table.crash_limit.to_string())
        };
        let unlease = UNLEASE.replace("{no_slots}", &no_slots(&table));
        // A plain sub-query may be run again by Postgres' planner and lock more than its limit.
        let (among, lock, end) = match backend {
            DbBackend::Postgres => ("= ANY (ARRAY(SELECT", "FOR UPDATE SKIP LOCKED", "))"),
            _ => ("IN (SELECT", "", ")"),
        };
        let claim = |eligible: &str| {
            fill(
                &CLAIM
                    .replace("{slots}", &slots(&table))
                    .replace("{eligible}", eligible)
                    .replace("{among}", among)
                    .replace("{lock}", lock)
                    .replace("{end}", end)
                    .replace("{room}", &room(&table))
                    .replace("{columns}", &returned_columns(&table)),
            )
        };
        let saturated = saturated(&table);
        let array = |sql: &str, parameter, columns: &[(&str, ColumnType)]| {
            fill(
                &sql.replace("{fenced}", FENCED)
                    .replace("{unlease}", &unlease)
                    .replace("{rows}", &rows_relation(backend, parameter, columns)),
            )
        };
        Self {
            reclaim: fill(&RECLAIM.replace("{unlease}", &unlease)),
            claim: claim(&format!(
                "c.crash_count = 0 AND {}{saturated}",
                NO_SUSPECT.replace("{saturated}", &saturated)
            )),
            claim_suspect: claim(&format!("c.crash_count > 0{saturated}")),
            renew: array(
                RENEW,
                3,
                &[
                    ("row_id", id_type),
                    ("token", ColumnType::Int),
                    ("holder", ColumnType::Text),
                    ("progress_pct", ColumnType::Int),
                ],
            ),
            settle: array(
                SETTLE,
                2,
                &[
                    ("row_id", id_type),
                    ("token", ColumnType::Int),
                    ("holder", ColumnType::Text),
                    ("status", ColumnType::Text),
                    ("delay_ms", ColumnType::Int),
                    ("give_attempt_back", ColumnType::Bool),
                    ("error", ColumnType::Text),
                    ("result", ColumnType::Text),
                ],
            ),
            next: fill(NEXT),
            fence: fill(FENCE),
            store,
            table,
        }
    }

    fn bind(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        let values = std::iter::once(self.store.now_value()).chain(values);
        Statement::from_sql_and_values(self.store.backend(), sql, values)
    }

    fn row_id(&self, row: &QueryResult) -> Result<RowId, DbErr> {
        if self.table.text_ids {
            row.try_get("", "id").map(RowId::Text)
        } else {
            row.try_get("", "id").map(RowId::Int)
        }
    }

    fn grant_of(&self, row: &QueryResult, holder: InstanceId) -> Result<RowGrant, DbErr> {
        Ok(RowGrant { id: self.row_id(row)?, token: row.try_get("", "lease_token")?, holder })
    }

    fn claimed_row(&self, row: QueryResult, holder: InstanceId) -> Result<ClaimedRow, DbErr> {
        Ok(ClaimedRow {
            grant: self.grant_of(&row, holder)?,
            attempt_count: row.try_get("", "attempt_count")?,
            crash_count: row.try_get("", "crash_count")?,
            max_attempts: row.try_get("", "max_attempts")?,
            columns: row,
        })
    }

    async fn claim_in(
        &self,
        txn: &DatabaseTransaction,
        request: &ClaimRequest,
    ) -> Result<Claimed, DbErr> {
        let mut claimed = Claimed::default();
        for row in txn.query_all_raw(self.bind(&self.reclaim, [])).await? {
            match row.try_get::<String>("", "status")?.parse() {
                Ok(RowStatus::Dead) => claimed.quarantined += 1,
                _ => claimed.reclaimed += 1,
            }
        }
        if request.idle && request.limit > 0 {
            claimed.rows = if self.table.is_limited() {
                self.take_limited(txn, &self.claim_suspect, request).await?.into_iter().collect()
            } else {
                self.take(txn, &self.claim_suspect, request, 1).await?
            };
        }
        if claimed.rows.is_empty() && request.limit > 0 {
            claimed.rows = if self.table.is_limited() {
                self.take_one_by_one(txn, request).await?
            } else {
                self.take(txn, &self.claim, request, request.limit).await?
            };
        }
        Ok(claimed)
    }

    /// Each claim must see the slots that the one before it took.
    async fn take_one_by_one(
        &self,
        txn: &DatabaseTransaction,
        request: &ClaimRequest,
    ) -> Result<Vec<ClaimedRow>, DbErr> {
        let mut rows = Vec::new();
        while rows.len() < request.limit as usize {
            let Some(row) = self.take_limited(txn, &self.claim, request).await? else { break };
            rows.push(row);
        }
        Ok(rows)
    }

    /// Two sessions of a server can want the same slot: the unique index lets one have it, and
    /// the other's row stays queued.
    async fn take_limited(
        &self,
        txn: &DatabaseTransaction,
        sql: &str,
        request: &ClaimRequest,
    ) -> Result<Option<ClaimedRow>, DbErr> {
        let savepoint = txn.begin().await?;
        match self.take(&savepoint, sql, request, 1).await {
            Ok(mut taken) => {
                savepoint.commit().await?;
                Ok(taken.pop())
            }
            Err(error) if is_taken(&error) => {
                savepoint.rollback().await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn take(
        &self,
        txn: &DatabaseTransaction,
        sql: &str,
        request: &ClaimRequest,
        limit: u32,
    ) -> Result<Vec<ClaimedRow>, DbErr> {
        let values =
            [request.holder.to_string().into(), request.lease_ms.into(), i64::from(limit).into()];
        let rows = txn.query_all_raw(self.bind(sql, values)).await?;
        // RETURNING has no order of its own.
        let mut ordered = rows
            .into_iter()
            .map(|row| Ok((order_of(&row)?, self.claimed_row(row, request.holder)?)))
            .collect::<Result<Vec<_>, DbErr>>()?;
        ordered.sort_by(|(a, row_a), (b, row_b)| {
            a.cmp(b).then_with(|| row_a.grant.id.cmp(&row_b.grant.id))
        });
        Ok(ordered.into_iter().map(|(_, row)| row).collect())
    }
}

fn is_taken(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

fn order_of(row: &QueryResult) -> Result<(i32, i64), DbErr> {
    Ok((row.try_get("", "priority")?, row.try_get("", "run_at_ms")?))
}

fn returned_columns(table: &QueueTable) -> String {
    let own = [
        "id",
        "lease_token",
        "attempt_count",
        "crash_count",
        "max_attempts",
        "priority",
        "run_at_ms",
    ];
    let mut names: Vec<&str> = own.to_vec();
    names.extend(table.columns.iter().map(String::as_str).filter(|column| !own.contains(column)));
    names.join(", ")
}

/// Assigns the slots that make the limits unique indexes.
fn slots(table: &QueueTable) -> String {
    let mut sql = String::new();
    if let Some(limit) = table.limit {
        let free = FREE_SLOT
            .replace("{limit}", &limit.to_string())
            .replace("{same}", "TRUE")
            .replace("{slot}", "queue_slot");
        sql.push_str(&format!(",\n  queue_slot = {free}"));
    }
    if let Some((key, limit)) = &table.key {
        let free = FREE_SLOT
            .replace("{limit}", &limit.to_string())
            .replace("{same}", &format!("r.{key} = {{table}}.{key}"))
            .replace("{slot}", "concurrency_slot");
        sql.push_str(&format!(
            ",\n  concurrency_slot = CASE WHEN {{table}}.{key} IS NULL THEN NULL ELSE {free} END"
        ));
    }
    sql
}

fn no_slots(table: &QueueTable) -> String {
    let queue = table.limit.map(|_| ", queue_slot = NULL").unwrap_or_default();
    let key = table.key.as_ref().map(|_| ", concurrency_slot = NULL").unwrap_or_default();
    format!("{queue}{key}")
}

fn room(table: &QueueTable) -> String {
    table.limit.map_or_else(String::new, |limit| {
        format!("\n  AND (SELECT count(*) FROM {{table}} r WHERE r.status = 'running') < {limit}")
    })
}

fn saturated(table: &QueueTable) -> String {
    table.key.as_ref().map_or_else(String::new, |(key, limit)| {
        let sql = SATURATED.replace("{key}", key).replace("{limit}", &limit.to_string());
        format!("\n  AND {sql}")
    })
}

fn id_json(id: &RowId) -> serde_json::Value {
    match id {
        RowId::Int(id) => json!(id),
        RowId::Text(id) => json!(id),
    }
}

fn id_value(id: &RowId) -> Value {
    match id {
        RowId::Int(id) => (*id).into(),
        RowId::Text(id) => id.clone().into(),
    }
}

#[async_trait]
impl QueueRows for SqlQueue {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, StoreError> {
        const OPERATION: &str = "claim rows of a queue";
        let write = self.store.begin_write(OPERATION).await?;
        let claimed = self.claim_in(&write.transaction, request).await;
        write.end(claimed.map_err(|source| StoreError::database(OPERATION, source))).await
    }

    async fn renew(
        &self,
        rows: &[RowProgress],
        length_ms: i64,
    ) -> Result<Vec<RenewedRow>, StoreError> {
        const OPERATION: &str = "renew rows of a queue";
        let Some(holder) = rows.first().map(|row| row.grant.holder) else {
            return Ok(Vec::new());
        };
        let values: Vec<_> = rows
            .iter()
            .map(|RowProgress { grant, progress_pct }| {
                vec![
                    id_json(&grant.id),
                    json!(grant.token),
                    json!(grant.holder.to_string()),
                    json!(progress_pct),
                ]
            })
            .collect();
        let statement = self.bind(&self.renew, [length_ms.into(), rows_json(&values)]);
        let write = self.store.begin_write(OPERATION).await?;
        let renewed = write.transaction.query_all_raw(statement).await.and_then(|rows| {
            rows.iter()
                .map(|row| {
                    let cancel_requested = row.try_get("", "cancel_requested")?;
                    Ok(RenewedRow { grant: self.grant_of(row, holder)?, cancel_requested })
                })
                .collect()
        });
        write.end(renewed.map_err(|source| StoreError::database(OPERATION, source))).await
    }

    async fn settle(&self, rows: &[SettledRow]) -> Result<Vec<RowGrant>, StoreError> {
        const OPERATION: &str = "finish rows of a queue";
        let Some(holder) = rows.first().map(|row| row.grant.holder) else {
            return Ok(Vec::new());
        };
        let values: Vec<_> = rows
            .iter()
            .map(|row| {
                let error = row.error.as_deref().map(|error| bounded(error, LONGEST_ERROR));
                vec![
                    id_json(&row.grant.id),
                    json!(row.grant.token),
                    json!(row.grant.holder.to_string()),
                    json!(row.status.as_str()),
                    json!(row.delay_ms),
                    json!(row.give_attempt_back),
                    json!(error),
                    json!(row.result),
                ]
            })
            .collect();
        let statement = self.bind(&self.settle, [rows_json(&values)]);
        let write = self.store.begin_write(OPERATION).await?;
        let settled = write
            .transaction
            .query_all_raw(statement)
            .await
            .and_then(|rows| rows.iter().map(|row| self.grant_of(row, holder)).collect());
        write.end(settled.map_err(|source| StoreError::database(OPERATION, source))).await
    }

    async fn next_in_ms(&self, holder: InstanceId) -> Result<Option<i64>, StoreError> {
        let failed = |source| StoreError::database("read when a queue is due", source);
        let statement = self.bind(&self.next, [holder.to_string().into()]);
        let row = self.store.reader().query_one_raw(statement).await.map_err(failed)?;
        row.map_or(Ok(None), |row| row.try_get("", "in_ms")).map_err(failed)
    }

    async fn fence(&self, txn: &DatabaseTransaction, grant: &RowGrant) -> Result<bool, StoreError> {
        let values = [id_value(&grant.id), grant.token.into(), grant.holder.to_string().into()];
        let fenced = txn
            .execute_raw(self.bind(&self.fence, values))
            .await
            .map_err(|source| StoreError::database("fence a write", source))?;
        Ok(fenced.rows_affected() == 1)
    }
}

#[cfg(test)]
mod plans;
