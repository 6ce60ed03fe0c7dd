//! The tables `marks`, the newest context of each coin, and `asset_contexts`, their history.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::AssetContext;

/// Keeps the newest context of each coin; none may stand twice. What is older than the stored one
/// changes nothing. Answers how many changed.
///
/// # Errors
/// The driver's error.
pub async fn upsert(
    txn: &DatabaseTransaction,
    contexts: &[AssetContext],
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO marks (symbol, mark, oracle, mid, funding_rate, open_interest, premium,
            received_at_ms)
        SELECT symbol, mark, oracle, mid, funding_rate, open_interest, premium, received_at_ms
        FROM {rows} WHERE TRUE
        ON CONFLICT (symbol) DO UPDATE SET
            mark = excluded.mark, oracle = excluded.oracle, mid = excluded.mid,
            funding_rate = excluded.funding_rate, open_interest = excluded.open_interest,
            premium = excluded.premium, received_at_ms = excluded.received_at_ms
        WHERE excluded.received_at_ms >= marks.received_at_ms";
    put_rows(txn, "keep marks", sql, &COLUMNS, &rows(contexts)).await
}

/// Adds contexts to the history; one that is there already stays. Answers how many were new.
///
/// # Errors
/// The driver's error.
pub async fn append(
    txn: &DatabaseTransaction,
    contexts: &[AssetContext],
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO asset_contexts (symbol, received_at_ms, mark, oracle, mid, funding_rate,
            open_interest, premium, day_volume)
        SELECT symbol, received_at_ms, mark, oracle, mid, funding_rate, open_interest, premium,
            day_volume
        FROM {rows} WHERE TRUE
        ON CONFLICT (symbol, received_at_ms) DO NOTHING";
    put_rows(txn, "append contexts", sql, &COLUMNS, &rows(contexts)).await
}

/// How fresh a coin's mark is.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct StoredMark {
    /// The coin.
    pub symbol: String,
    /// The mark as it is stored.
    pub mark: Option<String>,
    /// When it came, epoch milliseconds.
    pub received_at_ms: i64,
}

/// Lists the marks by coin.
///
/// # Errors
/// The driver's error.
pub async fn list(database: &impl ConnectionTrait) -> Result<Vec<StoredMark>, StoreError> {
    let sql = "SELECT symbol, mark, received_at_ms FROM marks ORDER BY symbol";
    StoredMark::find_by_statement(Statement::from_string(database.get_database_backend(), sql))
        .all(database)
        .await
        .map_err(|source| StoreError::database("list the marks", source))
}

/// Deletes at most `at_most` contexts of the history that came before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM asset_contexts WHERE (symbol, received_at_ms) IN
                 (SELECT symbol, received_at_ms FROM asset_contexts
                  WHERE received_at_ms < $1 ORDER BY received_at_ms LIMIT $2)";
    super::sql::prune(txn, "prune contexts", sql, before_ms, at_most).await
}

const COLUMNS: [(&str, Column); 9] = [
    ("symbol", Column::Text),
    ("mark", Column::Text),
    ("oracle", Column::Text),
    ("mid", Column::Text),
    ("funding_rate", Column::Text),
    ("open_interest", Column::Text),
    ("premium", Column::Text),
    ("day_volume", Column::Text),
    ("received_at_ms", Column::Int),
];

fn rows(contexts: &[AssetContext]) -> Vec<serde_json::Value> {
    let row = |context: &AssetContext| {
        json!([
            context.symbol,
            context.mark,
            context.oracle,
            context.mid,
            context.funding_rate,
            context.open_interest,
            context.premium,
            context.day_volume,
            context.received_at_ms
        ])
    };
    contexts.iter().map(row).collect()
}
