//! Statements on `dead_letters`: what a cycle reads at its begin and writes at its end, and what
//! people do.

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, FromQueryResult, QueryResult, Statement, Value,
};
use serde_json::json;

use super::Store;
use super::leases;
use super::sql::{ColumnType, read_rows, rows_json};
use super::write::write_own;
use crate::error::StoreError;
use crate::store::{
    DeadLetter, DeadLetterStore, ItemFailure, ItemSettlement, LetterFilter, LetterKind,
    LetterStatus, SchedulerStore, Standing, kept_error,
};

const STANDINGS: &str = "\
SELECT item_key, status, attempts, next_attempt_at_ms, coalesce(next_attempt_at_ms <= {now}, FALSE) AS due
FROM dead_letters WHERE job = $2 AND status <> 'resolved' ORDER BY item_key";

const FAILURE: [(&str, ColumnType); 4] = [
    ("item_key", ColumnType::Text),
    ("delay_ms", ColumnType::Int),
    ("error", ColumnType::Text),
    ("payload", ColumnType::Text),
];

/// Counts on from what stands there, whatever the cycle saw at its begin: two processes may charge
/// one item.
const CHARGE: &str = "\
INSERT INTO dead_letters (job, item_key, attempts, first_failed_at_ms, last_failed_at_ms, next_attempt_at_ms,
  last_error, payload, status, updated_at_ms)
SELECT $2, v.item_key, 1, {now}, {now}, CASE WHEN $3 > 1 THEN {now} + v.delay_ms END,
  v.error, v.payload, CASE WHEN $3 > 1 THEN 'backing_off' ELSE 'dead' END, {now}
FROM {rows} WHERE TRUE ORDER BY v.item_key
ON CONFLICT (job, item_key) DO UPDATE SET
  attempts = dead_letters.attempts + 1,
  first_failed_at_ms = CASE WHEN dead_letters.attempts = 0 THEN excluded.first_failed_at_ms
    ELSE dead_letters.first_failed_at_ms END,
  last_failed_at_ms = excluded.last_failed_at_ms,
  next_attempt_at_ms = CASE WHEN dead_letters.attempts + 1 < $3 THEN excluded.next_attempt_at_ms END,
  last_error = excluded.last_error, payload = excluded.payload,
  status = CASE WHEN dead_letters.attempts + 1 < $3 THEN 'backing_off' ELSE 'dead' END,
  updated_at_ms = excluded.updated_at_ms
WHERE dead_letters.status <> 'discarded'";

/// A resolved item has no attempts, so that its next failure is its first.
const RESOLVE: &str = "\
UPDATE dead_letters SET status = 'resolved', attempts = 0, next_attempt_at_ms = NULL, updated_at_ms = {now}
FROM {rows} WHERE dead_letters.job = $2 AND dead_letters.item_key = v.item_key
  AND dead_letters.status NOT IN ('resolved', 'discarded')";

const LIST: &str = "\
SELECT id, job, item_key, attempts, first_failed_at_ms, last_failed_at_ms, next_attempt_at_ms, last_error,
  payload, status
FROM dead_letters
WHERE ($1 = '' OR job = $1) AND (status = $2 OR ($2 = '' AND status <> 'resolved'))
ORDER BY last_failed_at_ms DESC, id DESC LIMIT $3";

const RETRY: &str = "\
UPDATE dead_letters SET status = 'retrying', next_attempt_at_ms = {now}, updated_at_ms = {now}
WHERE id = $2 AND status <> 'resolved'";

const DISCARD: &str = "\
UPDATE dead_letters SET status = 'discarded', next_attempt_at_ms = NULL, updated_at_ms = {now}
WHERE id = $2 AND status <> 'resolved'";

#[derive(FromQueryResult)]
struct StandingColumns {
    item_key: String,
    status: String,
    attempts: i32,
    next_attempt_at_ms: Option<i64>,
    due: bool,
}

impl TryFrom<StandingColumns> for Standing {
    type Error = StoreError;

    fn try_from(row: StandingColumns) -> Result<Self, StoreError> {
        Ok(Self {
            status: status(&row.status)?,
            item_key: row.item_key,
            attempts: row.attempts,
            next_attempt_at_ms: row.next_attempt_at_ms,
            due: row.due,
        })
    }
}

#[derive(FromQueryResult)]
struct LetterColumns {
    id: i64,
    job: String,
    item_key: String,
    attempts: i32,
    first_failed_at_ms: i64,
    last_failed_at_ms: i64,
    next_attempt_at_ms: Option<i64>,
    last_error: String,
    payload: Option<String>,
    status: String,
}

impl TryFrom<LetterColumns> for DeadLetter {
    type Error = StoreError;

    fn try_from(row: LetterColumns) -> Result<Self, StoreError> {
        let payload = row.payload.map(|payload| {
            serde_json::from_str(&payload).map_err(|_| corrupt("payload", &payload, "JSON"))
        });
        Ok(Self {
            id: row.id,
            kind: LetterKind::Item,
            status: status(&row.status)?,
            payload: payload.transpose()?,
            job: row.job,
            item_key: row.item_key,
            attempts: row.attempts,
            first_failed_at_ms: row.first_failed_at_ms,
            last_failed_at_ms: row.last_failed_at_ms,
            next_attempt_at_ms: row.next_attempt_at_ms,
            last_error: row.last_error,
        })
    }
}

fn status(word: &str) -> Result<LetterStatus, StoreError> {
    word.parse::<LetterStatus>()
        .map_err(|unknown| corrupt("status", &unknown.word, unknown.expected))
}

fn corrupt(column: &'static str, value: &str, expected: &'static str) -> StoreError {
    StoreError::Corrupt { table: "dead_letters".into(), column, value: value.to_owned(), expected }
}

#[async_trait]
impl DeadLetterStore for Store {
    async fn standings(&self, job: &str) -> Result<Vec<Standing>, StoreError> {
        const OPERATION: &str = "read how the items of a job stand";
        let rows = self.read(OPERATION, self.statement(STANDINGS, [job.into()])).await?;
        read_rows::<StandingColumns>(OPERATION, &rows)?
            .into_iter()
            .map(Standing::try_from)
            .collect()
    }

    async fn settle_items(&self, settlement: &ItemSettlement) -> Result<bool, StoreError> {
        write_own!(self, "settle the items of a cycle", txn => settle(self, txn, settlement).await)
    }

    async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        const OPERATION: &str = "list dead letters";
        let values = [
            filter.job.clone().unwrap_or_default().into(),
            filter.status.map_or("", LetterStatus::as_str).into(),
            i64::from(filter.limit).into(),
        ];
        let statement = self.statement_without_now(LIST, values);
        let rows = self.read(OPERATION, statement).await?;
        read_rows::<LetterColumns>(OPERATION, &rows)?
            .into_iter()
            .map(DeadLetter::try_from)
            .collect()
    }

    async fn retry_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.edit_letter("retry a dead letter", RETRY, id).await
    }

    async fn discard_letter(&self, id: i64) -> Result<bool, StoreError> {
        self.edit_letter("discard a dead letter", DISCARD, id).await
    }
}

impl Store {
    async fn read(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, StoreError> {
        let failed = |source| StoreError::database(operation, source);
        self.answered(operation, async {
            self.reader().query_all_raw(statement).await.map_err(failed)
        })
        .await
    }

    async fn edit_letter(
        &self,
        operation: &'static str,
        sql: &str,
        id: i64,
    ) -> Result<bool, StoreError> {
        write_own!(self, operation, txn => {
            let edited = txn.execute_raw(self.statement(sql, [id.into()])).await;
            let edited = edited.map_err(|source| StoreError::database(operation, source))?;
            Ok(edited.rows_affected() == 1)
        })
    }
}

async fn settle(
    store: &Store,
    txn: &DatabaseTransaction,
    settlement: &ItemSettlement,
) -> Result<bool, StoreError> {
    if !leases::fence(txn, &settlement.key, store.clock().as_ref(), store.namespace()).await? {
        return Ok(false);
    }
    let failed = |source| StoreError::database("settle the items of a cycle", source);
    let job = || Value::from(settlement.job.clone());
    if !settlement.failures.is_empty() {
        let rows: Vec<_> = settlement.failures.iter().map(failure).collect();
        let values = [job(), i64::from(settlement.max_attempts).into(), rows_json(&rows)];
        let charge = store.statement_with_rows(CHARGE, &FAILURE, values);
        txn.execute_raw(charge).await.map_err(failed)?;
    }
    if !settlement.resolved.is_empty() {
        let rows: Vec<_> = settlement.resolved.iter().map(|key| vec![json!(key)]).collect();
        let columns = [("item_key", ColumnType::Text)];
        let resolve = store.statement_with_rows(RESOLVE, &columns, [job(), rows_json(&rows)]);
        txn.execute_raw(resolve).await.map_err(failed)?;
    }
    Ok(true)
}

fn failure(failure: &ItemFailure) -> Vec<serde_json::Value> {
    vec![
        json!(failure.item_key),
        json!(failure.delay_ms),
        json!(kept_error(&failure.error)),
        json!(failure.payload.as_ref().map(ToString::to_string)),
    ]
}
