//! Accounts that trade, with what their clones decide by: tables `prop_accounts` and `clones`.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, QueryResult};
use serde_json::json;

use super::clones::budget;
use super::sql::{Column, execute_rows, read};
use crate::decisions::{Budget, SkipReason};

/// An account that trades.
#[derive(Debug, Clone, PartialEq)]
pub struct TradingAccount {
    /// Its id.
    pub account_id: i64,
    /// Whose it is.
    pub clone_id: i64,
    /// Who decides for it, as it stands in the table.
    pub provider: String,
    /// The clone's strategy; `None` is the default draft.
    pub graph_hash: Option<String>,
    /// The strategy's canonical JSON.
    pub graph: Option<String>,
    /// What the clone may spend on a model in a day.
    pub budget: Budget,
    /// Why nobody decides for it now, if so.
    pub skip: Option<SkipReason>,
}

impl FromQueryResult for TradingAccount {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let account: String = row.try_get(prefix, "account_status")?;
        let clone: String = row.try_get(prefix, "clone_status")?;
        let skip = match (clone.as_str(), account.as_str()) {
            ("paused", _) => Some(SkipReason::Paused),
            (_, "halted_until_roll") => Some(SkipReason::DailyHalt),
            _ => None,
        };
        Ok(Self {
            account_id: row.try_get(prefix, "account_id")?,
            clone_id: row.try_get(prefix, "clone_id")?,
            provider: row.try_get(prefix, "provider")?,
            graph_hash: row.try_get(prefix, "graph_hash")?,
            graph: row.try_get(prefix, "graph")?,
            budget: budget(
                row.try_get(prefix, "tokens_per_day")?,
                row.try_get::<Option<String>>(prefix, "cost_usd_per_day")?.as_deref(),
            ),
            skip,
        })
    }
}

/// Finds at most `limit` open accounts whose turn it is: those first for which nobody was asked the
/// longest.
///
/// # Errors
/// The driver's error.
pub async fn find_next(
    database: &impl ConnectionTrait,
    limit: u32,
) -> Result<Vec<TradingAccount>, StoreError> {
    let sql = "
        SELECT a.id AS account_id, a.status AS account_status, a.clone_id, c.status AS clone_status,
               c.provider, c.graph_hash, g.graph, c.tokens_per_day, c.cost_usd_per_day
        FROM prop_accounts a JOIN clones c ON c.id = a.clone_id
        LEFT JOIN strategy_graphs g ON g.graph_hash = c.graph_hash
        WHERE a.status IN ('active', 'halted_until_roll') AND c.status <> 'archived'
        ORDER BY a.asked_at_ms, a.id LIMIT $1";
    read(database, "find who trades next", sql, [i64::from(limit).into()]).await
}

/// Finds at most `limit` open accounts of archived clones, by id, from after one on. Those of auditions
/// are left out: they end with them.
///
/// # Errors
/// The driver's error.
pub async fn find_abandoned(
    database: &impl ConnectionTrait,
    after_id: i64,
    limit: u32,
) -> Result<Vec<i64>, StoreError> {
    let sql = "
        SELECT a.id FROM clones c JOIN prop_accounts a ON a.clone_id = c.id
        WHERE c.status = 'archived' AND a.status IN ('active', 'halted_until_roll')
          AND a.kind <> 'audition' AND a.id > $1
        ORDER BY a.id LIMIT $2";
    let values = [after_id.into(), i64::from(limit).into()];
    let found: Vec<Id> = read(database, "find abandoned accounts", sql, values).await?;
    Ok(found.into_iter().map(|row| row.id).collect())
}

#[derive(FromQueryResult)]
struct Id {
    id: i64,
}

/// Notes that these accounts had their turn, whatever came of it: the next cycle begins with others.
///
/// # Errors
/// The driver's error.
pub async fn note_asked(
    txn: &DatabaseTransaction,
    account_ids: &[i64],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE prop_accounts SET asked_at_ms = $1
               WHERE id IN (SELECT v.account_id FROM {rows})";
    let mut ids = account_ids.to_vec();
    ids.sort_unstable();
    let rows = ids.iter().map(|id| vec![json!(id)]).collect();
    let columns = [("account_id", Column::Int)];
    execute_rows(txn, "note who was asked", sql, &columns, [now_ms.into()], &rows).await?;
    Ok(())
}
