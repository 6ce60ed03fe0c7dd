//! The table `pm_trades`.

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::PredictionTrade;

/// Adds trades; one that is there already stays. Answers how many were new.
///
/// # Errors
/// The driver's error.
pub async fn append(
    txn: &DatabaseTransaction,
    trades: &[PredictionTrade],
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO pm_trades (token_id, at_ms, price, size, side)
        SELECT token_id, at_ms, price, size, side FROM {rows} WHERE TRUE ON CONFLICT DO NOTHING";
    let columns = [
        ("token_id", Column::Text),
        ("at_ms", Column::Int),
        ("price", Column::Text),
        ("size", Column::Text),
        ("side", Column::Text),
    ];
    let row = |trade: &PredictionTrade| {
        let PredictionTrade { token_id, at_ms, price, size, side } = trade;
        json!([token_id, at_ms, price, size, side.as_str()])
    };
    let rows: Vec<_> = trades.iter().map(row).collect();
    put_rows(txn, "append trades of tokens", sql, &columns, &rows).await
}

/// Deletes at most `at_most` trades that happened before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM pm_trades WHERE (token_id, at_ms, price, size, side) IN
                 (SELECT token_id, at_ms, price, size, side FROM pm_trades
                  WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)";
    super::sql::prune(txn, "prune trades of tokens", sql, before_ms, at_most).await
}
