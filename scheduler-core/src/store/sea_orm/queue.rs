//! A queue's rows: claimed, renewed, settled and fenced by the statements of its table.

mod answers;
mod control;
mod ends;
pub(super) mod enqueue;
mod own_rows;
mod rates;
mod statements;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement, Value,
};
use serde_json::json;

use self::ends::Ends;
use self::own_rows::OwnRows;
use self::statements::Statements;
use super::Store;
use super::patience::answered_in;
use super::sql::rows_json;
use super::write::write_own;
use crate::error::StoreError;
use crate::queue::{
    EnqueueError, Enqueued, KEY_COLUMNS, NewJob, NewRow, QueueError, QueueTable, check,
};
use crate::run::InstanceId;
use crate::store::{
    Ahead, ClaimRequest, Claimed, ClaimedRow, Exchange, Exchanged, Namespace, QueueControl,
    QueueRows, RenewedRow, RowColumns, RowGrant, RowId, RowProgress, RowStatus, SchedulerStore,
    SettledRow, gives_back,
};

/// This library's class of advisory locks, one for each limited queue of a database.
const LIMITED_CLAIMS: i32 = 7_301_460;
const LOCK_LIMITED: &str = "SELECT pg_advisory_xact_lock($1, hashtext($2))";

/// One queue on one store.
struct SqlQueue {
    store: Store,
    table: QueueTable,
    sql: Statements,
    /// With their types, as far as the table was looked at.
    columns: BTreeMap<String, String>,
}

impl Store {
    /// Checks the table's columns and renders its statements: the rows as a
    /// [`Consumer`](crate::queue::Consumer) sees them, for tools and tests.
    ///
    /// # Errors
    /// A table that cannot be a queue, or the database.
    pub async fn open_queue(&self, table: QueueTable) -> Result<Arc<dyn QueueRows>, QueueError> {
        Ok(Arc::new(self.checked_queue(table).await?))
    }

    /// The operator's side of a queue, checked like [`open_queue`](Self::open_queue).
    ///
    /// # Errors
    /// As [`open_queue`](Self::open_queue).
    pub async fn control_queue(
        &self,
        table: QueueTable,
    ) -> Result<Arc<dyn QueueControl>, QueueError> {
        Ok(Arc::new(self.checked_queue(table).await?))
    }

    /// The same for a queue of the library's own table, which needs no check.
    pub(crate) fn control_jobs(&self, queue: &str) -> Arc<dyn QueueControl> {
        Arc::new(SqlQueue::new(self.clone(), QueueTable::jobs(queue), BTreeMap::new()))
    }

    async fn checked_queue(&self, table: QueueTable) -> Result<SqlQueue, QueueError> {
        table.validate()?;
        let present = self.columns_of(&table).await?;
        table.check(&present)?;
        let table = QueueTable {
            counts_lost: present.contains_key("lost_count"),
            keeps_checkpoints: present.contains_key("checkpoint"),
            keeps_keys: KEY_COLUMNS.iter().all(|column| present.contains_key(*column)),
            ..table
        };
        Ok(SqlQueue::new(self.clone(), table, present))
    }

    /// Columns and their types, without the lengths that a cast would cut to.
    async fn columns_of(&self, table: &QueueTable) -> Result<BTreeMap<String, String>, StoreError> {
        const OPERATION: &str = "read the columns of a queue's table";
        let namespace = if table.queue.is_some() { self.namespace() } else { &Namespace::BARE };
        let name = namespace.called(&table.name);
        let (sql, values) = match self.backend() {
            DbBackend::Postgres => (
                "SELECT column_name AS name, format('%I.%I', udt_schema, udt_name) AS type
                 FROM information_schema.columns
                 WHERE table_name = $1 AND CASE WHEN CAST($2 AS text) IS NULL
                   THEN table_schema = ANY (current_schemas(FALSE)) ELSE table_schema = $2 END",
                vec![name.into(), namespace.of_schema().map(str::to_owned).into()],
            ),
            _ => ("SELECT name, type FROM pragma_table_info($1)", vec![name.into()]),
        };
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let failed = |source| StoreError::database(OPERATION, source);
        let read = async { self.reader().query_all_raw(statement).await.map_err(failed) };
        let rows = self.answered(OPERATION, read).await?;
        let column = |row: &QueryResult| Ok((row.try_get("", "name")?, row.try_get("", "type")?));
        rows.iter().map(column).collect::<Result<_, _>>().map_err(failed)
    }
}

impl SqlQueue {
    fn new(store: Store, table: QueueTable, columns: BTreeMap<String, String>) -> Self {
        let sql = Statements::render(&table, store.backend(), store.namespace());
        Self { store, table, sql, columns }
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

    fn renewed_rows(
        &self,
        rows: &[QueryResult],
        holder: InstanceId,
        is_renewed: bool,
    ) -> Result<Vec<RenewedRow>, DbErr> {
        let renewed = |row: &QueryResult| {
            let cancel_requested = row.try_get("", "cancel_requested")?;
            Ok(RenewedRow { grant: self.grant_of(row, holder)?, is_renewed, cancel_requested })
        };
        rows.iter().map(renewed).collect()
    }

    fn claimed_row(&self, row: QueryResult, holder: InstanceId) -> Result<ClaimedRow, DbErr> {
        Ok(ClaimedRow {
            grant: self.grant_of(&row, holder)?,
            attempt_count: row.try_get("", "attempt_count")?,
            crash_count: row.try_get("", "crash_count")?,
            max_attempts: row.try_get("", "max_attempts")?,
            columns: RowColumns::Sql(row),
        })
    }

    /// The transaction of an exchange: what was settled, and what was claimed.
    async fn exchanged(
        &self,
        ends: &Ends,
        Exchange { claim, ahead, .. }: &Exchange<'_>,
    ) -> Result<(Vec<RowGrant>, Claimed), StoreError> {
        const OPERATION: &str = "finish and claim rows of a queue";
        write_own!(&self.store, OPERATION, txn => {
            let exchanged = async {
                if self.table.is_limited() && claim.is_some() {
                    // Before the rows that the ends lock: who waits here holds nothing.
                    self.claim_limited_alone(txn).await?;
                }
                let settled = self.settle_in(txn, ends).await?;
                let claimed = match claim {
                    Some(request) => self.claim_in(txn, request, *ahead).await?,
                    None => Claimed::default(),
                };
                Ok((settled, claimed))
            };
            exchanged.await.map_err(|source| StoreError::database(OPERATION, source))
        })
    }

    async fn claim_in(
        &self,
        txn: &DatabaseTransaction,
        request: &ClaimRequest,
        ahead: bool,
    ) -> Result<Claimed, DbErr> {
        let mut claimed = Claimed::default();
        for row in txn.query_all_raw(self.bind(&self.sql.reclaim, [])).await? {
            match row.try_get::<String>("", "status")?.parse() {
                Ok(RowStatus::Dead) => claimed.quarantined += 1,
                _ => claimed.reclaimed += 1,
            }
        }
        if request.idle && request.limit > 0 {
            claimed.rows = self.take(txn, &self.sql.claim_suspect, request, 1).await?;
        }
        if claimed.rows.is_empty() && request.limit > 0 {
            claimed.rows = if self.table.is_limited() {
                self.take_one_by_one(txn, request).await?
            } else {
                let sql = if ahead { &self.sql.claim_ahead } else { &self.sql.claim };
                self.take(txn, sql, request, request.limit).await?
            };
        }
        if let (false, Some(sql)) = (claimed.rows.is_empty(), &self.sql.forget_starts) {
            txn.execute_raw(self.bind(sql, [])).await?;
        }
        Ok(claimed)
    }

    /// Two sessions of a server that take slots at once would want the same ones, and could wait for
    /// each other's. Those of a limited queue go one after the other: each sees what those before
    /// it took, and the unique indexes on the slots find nothing to refuse.
    async fn claim_limited_alone(&self, txn: &DatabaseTransaction) -> Result<(), DbErr> {
        let backend = self.store.backend();
        if backend != DbBackend::Postgres || !self.table.is_limited() {
            return Ok(());
        }
        let values = [LIMITED_CLAIMS.into(), self.lock_name().into()];
        txn.execute_raw(Statement::from_sql_and_values(backend, LOCK_LIMITED, values)).await?;
        Ok(())
    }

    /// What the claims of this queue are ordered by.
    fn lock_name(&self) -> String {
        let topic = self.table.topic().to_string();
        if self.table.queue.is_some() { self.store.namespace().name_of(&topic) } else { topic }
    }

    /// Each claim must see the slots that the one before it took.
    async fn take_one_by_one(
        &self,
        txn: &DatabaseTransaction,
        request: &ClaimRequest,
    ) -> Result<Vec<ClaimedRow>, DbErr> {
        let mut rows = Vec::new();
        while rows.len() < request.limit as usize {
            let Some(row) = self.take(txn, &self.sql.claim, request, 1).await?.pop() else { break };
            rows.push(row);
        }
        Ok(rows)
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
        if let Some(sql) = &self.sql.note_start {
            // In the claim's own transaction, and one after the other: each claim sees them all.
            for row in &rows {
                let id = id_value(&self.row_id(row)?);
                txn.execute_raw(self.bind(sql, [id])).await?;
            }
        }
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

/// Exchanges that a server works on at once: while one waits for the disk, another reads.
const SERVER_EXCHANGES: usize = 3;

fn order_of(row: &QueryResult) -> Result<(i32, i64), DbErr> {
    Ok((row.try_get("", "priority")?, row.try_get("", "run_at_ms")?))
}

fn id_json(id: &RowId) -> serde_json::Value {
    match id {
        RowId::Int(id) => json!(id),
        RowId::Text(id) => json!(id),
    }
}

/// Claims as elements of a statement's array.
fn grants_json<'g>(grants: impl Iterator<Item = &'g RowGrant>) -> Value {
    let values: Vec<_> = grants
        .map(|grant| vec![id_json(&grant.id), json!(grant.token), json!(grant.holder.to_string())])
        .collect();
    rows_json(&values)
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
        let exchange = Exchange { ends: &[], claim: Some(*request), ahead: false };
        self.exchange(&exchange).await?.claimed
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
        let values = [length_ms.into(), rows_json(&values)];
        let failed = |source| StoreError::database(OPERATION, source);
        write_own!(&self.store, OPERATION, txn => {
            let statement = self.bind(&self.sql.renew, values.clone());
            let renewed = txn.query_all_raw(statement).await.map_err(failed)?;
            let mut renewed = self.renewed_rows(&renewed, holder, true).map_err(failed)?;
            if let Some(held) = self.sql.held.as_ref().filter(|_| renewed.len() < rows.len()) {
                let known: HashSet<RowGrant> = renewed.iter().map(|row| row.grant.clone()).collect();
                let rest = rows.iter().map(|row| &row.grant).filter(|grant| !known.contains(grant));
                let statement = self.bind(held, [grants_json(rest)]);
                let held = txn.query_all_raw(statement).await.map_err(failed)?;
                renewed.extend(self.renewed_rows(&held, holder, false).map_err(failed)?);
            }
            Ok(renewed)
        })
    }

    async fn settle(&self, rows: &[SettledRow]) -> Result<Vec<RowGrant>, StoreError> {
        let exchange = Exchange { ends: rows, claim: None, ahead: false };
        self.exchange(&exchange).await.map(|exchanged| exchanged.settled)
    }

    async fn exchange(&self, exchange: &Exchange<'_>) -> Result<Exchanged, StoreError> {
        let Exchange { ends, claim, .. } = exchange;
        if ends.is_empty() && claim.is_none() {
            return Ok(Exchanged { settled: Vec::new(), claimed: Ok(Claimed::default()) });
        }
        let backend = self.store.backend();
        let (settled, claimed) = match self.exchanged(&Ends::of(ends, backend), exchange).await {
            Err(StoreError::Database { source: DbErr::RecordNotUpdated, .. }) => {
                self.exchanged(&Ends::each(ends), exchange).await
            }
            exchanged => exchanged,
        }?;
        if (self.table.has_slots() || gives_back(ends)) && !settled.is_empty() {
            // What waited for their slots, or they themselves, may run elsewhere.
            self.store.wakes().tell_others(&self.table.topic());
        }
        Ok(Exchanged { settled, claimed: Ok(claimed) })
    }

    fn ahead(&self) -> Ahead {
        let claims = self.table.counts_lost && !self.table.is_limited();
        let on_server = self.store.backend() == DbBackend::Postgres;
        Ahead { claims, exchanges: if claims && on_server { SERVER_EXCHANGES } else { 1 } }
    }

    async fn is_paused(&self) -> Result<bool, StoreError> {
        QueueControl::is_paused(self).await
    }

    async fn mark_started(&self, rows: &[RowGrant]) -> Result<(), StoreError> {
        const OPERATION: &str = "note that rows of a queue have begun";
        let values = grants_json(rows.iter());
        write_own!(&self.store, OPERATION, txn => {
            let statement = self.bind(&self.sql.mark_started, [values.clone()]);
            let marked = txn.execute_raw(statement).await;
            marked.map(|_| ()).map_err(|source| StoreError::database(OPERATION, source))
        })
    }

    async fn next_in_ms(&self, holder: InstanceId) -> Result<Option<i64>, StoreError> {
        const OPERATION: &str = "read when a queue is due";
        let failed = |source| StoreError::database(OPERATION, source);
        let statement = self.bind(&self.sql.next, [holder.to_string().into()]);
        let read = async { self.store.reader().query_one_raw(statement).await.map_err(failed) };
        let row = self.store.answered(OPERATION, read).await?;
        row.map_or(Ok(None), |row| row.try_get("", "in_ms")).map_err(failed)
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
        let Some(queue) = &self.table.queue else { return Err(StoreError::NO_JOBS.into()) };
        check(jobs)?;
        Ok(self.store.enqueue_shared(queue, jobs).await?)
    }

    async fn enqueue_rows(
        &self,
        txn: Option<&DatabaseTransaction>,
        rows: &[NewRow],
    ) -> Result<Vec<Enqueued<RowId>>, EnqueueError> {
        const OPERATION: &str = "enqueue rows of a table of one's own";
        if self.table.queue.is_some() {
            return Err(StoreError::ONLY_JOBS.into());
        }
        let own_rows = OwnRows::of(self, rows)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let enqueued = match txn {
            Some(txn) => answered_in(txn, OPERATION, own_rows.insert(self, txn)).await,
            None => write_own!(&self.store, OPERATION, txn => {
                let enqueued = own_rows.insert(self, txn).await;
                enqueued.map_err(|source| StoreError::database(OPERATION, source))
            }),
        };
        Ok(enqueued?)
    }

    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        const OPERATION: &str = "prune finished rows of a queue";
        let Some(sql) = &self.sql.prune else { return Ok(0) };
        write_own!(&self.store, OPERATION, txn => {
            let pruned = txn.execute_raw(self.bind(sql, [i64::from(at_most).into()])).await;
            let pruned = pruned.map_err(|source| StoreError::database(OPERATION, source))?;
            Ok::<_, StoreError>(pruned.rows_affected())
        })
    }

    async fn keep_checkpoint(
        &self,
        txn: Option<&DatabaseTransaction>,
        grant: &RowGrant,
        checkpoint: &str,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "keep a checkpoint";
        if !self.table.keeps_checkpoints {
            let reason = "the table has no column `checkpoint`";
            return Err(StoreError::Unsupported { operation: OPERATION, reason });
        }
        let values = [
            id_value(&grant.id),
            grant.token.into(),
            grant.holder.to_string().into(),
            checkpoint.into(),
        ];
        let statement = || self.bind(&self.sql.checkpoint, values.clone());
        let kept = match txn {
            Some(txn) => answered_in(txn, OPERATION, txn.execute_raw(statement())).await?,
            None => write_own!(&self.store, OPERATION, txn => {
                let kept = txn.execute_raw(statement()).await;
                kept.map_err(|source| StoreError::database(OPERATION, source))
            })?,
        };
        Ok(kept.rows_affected() == 1)
    }

    async fn succeed_in(
        &self,
        txn: &DatabaseTransaction,
        grant: &RowGrant,
        result: Option<&str>,
    ) -> Result<bool, StoreError> {
        let row = SettledRow {
            grant: grant.clone(),
            status: RowStatus::Succeeded,
            delay_ms: None,
            give_attempt_back: false,
            error: None,
            result: result.map(str::to_owned),
        };
        let ends = Ends::each(std::slice::from_ref(&row));
        let settled = answered_in(txn, "finish a row", self.settle_in(txn, &ends)).await?;
        Ok(settled.len() == 1)
    }

    async fn fence(&self, txn: &DatabaseTransaction, grant: &RowGrant) -> Result<bool, StoreError> {
        let values = [id_value(&grant.id), grant.token.into(), grant.holder.to_string().into()];
        let fenced = async { txn.execute_raw(self.bind(&self.sql.fence, values)).await };
        let fenced = answered_in(txn, "fence a write", fenced).await?;
        Ok(fenced.rows_affected() == 1)
    }
}

#[cfg(test)]
mod plans;
