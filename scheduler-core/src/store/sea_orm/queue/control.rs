//! What an operator does to a queue, as statements.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, Value};

use super::super::sql::{ColumnType, rows_json, rows_relation};
use super::super::write::write_own;
use super::{SqlQueue, id_json};
use crate::error::StoreError;
use crate::queue::QueueTable;
use crate::store::{DeadRows, Namespace, QueueControl, Topic, WakeStore};

const PAUSE: &str = "\
INSERT INTO queue_pauses (queue, paused_at_ms) VALUES ($2, {now}) ON CONFLICT (queue) DO NOTHING";

const RESUME: &str = "DELETE FROM queue_pauses WHERE queue = $1";

const IS_PAUSED: &str = "SELECT count(*) AS pauses FROM queue_pauses WHERE queue = $1";

const RETRY: &str = "\
UPDATE {table} SET status = 'queued', run_at_ms = {now}, attempt_count = 0, crash_count = 0{lost},
  cancel_requested = FALSE, progress_pct = 0, completed_at_ms = NULL
WHERE {table}.status = 'dead' AND {table}.id {among}{which}{end}";

const DISCARD: &str = "\
UPDATE {table} SET status = 'cancelled', completed_at_ms = {now}
WHERE {table}.status = 'dead' AND {table}.id {among}{which}{end}";

/// Rows are locked by id, as every statement on several of them does.
const OLDEST: &str =
    "c.id FROM {table} c WHERE {c.mine}c.status = 'dead' ORDER BY c.id LIMIT $2 {lock}";
const OF_IDS: &str = "\
c.id FROM {rows} JOIN {table} c ON c.id = v.row_id WHERE {c.mine}c.status = 'dead' ORDER BY c.id {lock}";

/// The operator's statements of one queue. `$1` is now, where it is asked for.
pub(super) struct ControlStatements {
    retry_oldest: String,
    retry_ids: String,
    discard_oldest: String,
    discard_ids: String,
}

impl ControlStatements {
    pub(super) fn render(
        table: &QueueTable,
        backend: DbBackend,
        fill: impl Fn(&str) -> String,
    ) -> Self {
        let id_type = if table.text_ids { ColumnType::Text } else { ColumnType::Int };
        // As in a claim: a plain sub-query may be run again and lock more than its limit.
        let (among, lock, end) = match backend {
            DbBackend::Postgres => ("= ANY (ARRAY(SELECT ", "FOR UPDATE OF c", "))"),
            _ => ("IN (SELECT ", "", ")"),
        };
        let lost = if table.counts_lost { ", lost_count = 0" } else { "" };
        let statement = |sql: &str, which: &str| {
            let sql = sql
                .replace("{which}", which)
                .replace("{among}", among)
                .replace("{end}", end)
                .replace("{lost}", lost)
                .replace("{lock}", lock);
            fill(&sql.replace("{rows}", &rows_relation(backend, 2, &[("row_id", id_type)])))
        };
        Self {
            retry_oldest: statement(RETRY, OLDEST),
            retry_ids: statement(RETRY, OF_IDS),
            discard_oldest: statement(DISCARD, OLDEST),
            discard_ids: statement(DISCARD, OF_IDS),
        }
    }

    #[cfg(test)]
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let Self { retry_oldest, retry_ids, discard_oldest, discard_ids } = self;
        [retry_oldest, retry_ids, discard_oldest, discard_ids].into_iter().map(String::as_str)
    }
}

/// The condition of a claim that its queue is not paused.
pub(super) fn unpaused(table: &QueueTable, namespace: &Namespace) -> String {
    let (key, pauses) = (key_of(table), namespace.table("queue_pauses"));
    format!("\n  AND NOT EXISTS (SELECT 1 FROM {pauses} p WHERE p.queue = '{key}')")
}

/// The name of a queue among those that are paused; it needs no quoting.
pub(super) fn key_of(table: &QueueTable) -> String {
    match table.topic() {
        Topic::Queue(queue) => queue,
        other @ Topic::Schedules => other.to_string(),
    }
}

impl SqlQueue {
    async fn decide(
        &self,
        operation: &'static str,
        which: &DeadRows,
        oldest: &str,
        ids: &str,
    ) -> Result<u64, StoreError> {
        let (sql, value): (_, Value) = match which {
            DeadRows::Oldest(at_most) => (oldest, i64::from(*at_most).into()),
            DeadRows::Ids(rows) => {
                let rows: Vec<_> = rows.iter().map(|id| vec![id_json(id)]).collect();
                (ids, rows_json(&rows))
            }
        };
        write_own!(&self.store, operation, txn => {
            let decided = txn.execute_raw(self.bind(sql, [value.clone()])).await;
            let decided = decided.map_err(|source| StoreError::database(operation, source))?;
            Ok::<_, StoreError>(decided.rows_affected())
        })
    }
}

#[async_trait]
impl QueueControl for SqlQueue {
    async fn set_paused(&self, paused: bool) -> Result<bool, StoreError> {
        const OPERATION: &str = "pause a queue or let it go on";
        let key: Value = key_of(&self.table).into();
        let changed = write_own!(&self.store, OPERATION, txn => {
            let statement = match paused {
                true => self.store.statement(PAUSE, [key.clone()]),
                false => self.store.statement_without_now(RESUME, [key.clone()]),
            };
            let done = txn.execute_raw(statement).await;
            done.map_err(|source| StoreError::database(OPERATION, source))
        })?;
        self.store.wake(&self.table.topic());
        Ok(changed.rows_affected() == 1)
    }

    async fn is_paused(&self) -> Result<bool, StoreError> {
        const OPERATION: &str = "read whether a queue is paused";
        let failed = |source| StoreError::database(OPERATION, source);
        let values = [key_of(&self.table).into()];
        let statement = self.store.statement_without_now(IS_PAUSED, values);
        let read = async { self.store.reader().query_one_raw(statement).await.map_err(failed) };
        let row = self.store.answered(OPERATION, read).await?;
        let pauses = row.map_or(Ok(0_i64), |row| row.try_get("", "pauses")).map_err(failed)?;
        Ok(pauses > 0)
    }

    async fn retry_dead(&self, which: &DeadRows) -> Result<u64, StoreError> {
        const OPERATION: &str = "retry dead rows of a queue";
        let sql = &self.sql.control;
        let retried = self.decide(OPERATION, which, &sql.retry_oldest, &sql.retry_ids).await?;
        if retried > 0 {
            self.store.wake(&self.table.topic());
        }
        Ok(retried)
    }

    async fn discard_dead(&self, which: &DeadRows) -> Result<u64, StoreError> {
        const OPERATION: &str = "discard dead rows of a queue";
        let sql = &self.sql.control;
        self.decide(OPERATION, which, &sql.discard_oldest, &sql.discard_ids).await
    }
}
