//! The table `trades`.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::Trade;

/// Adds trades; one that is there already stays as it is: venues replay the last ones to who
/// connects again. Answers how many were new.
///
/// # Errors
/// The driver's error.
pub async fn append(txn: &DatabaseTransaction, trades: &[Trade]) -> Result<u64, StoreError> {
    let sql = "INSERT INTO trades (symbol, time_ms, tid, side, price, size)
        SELECT symbol, time_ms, tid, side, price, size FROM {rows} WHERE TRUE
        ON CONFLICT (symbol, time_ms, tid) DO NOTHING";
    let columns = [
        ("symbol", Column::Text),
        ("time_ms", Column::Int),
        ("tid", Column::Int),
        ("side", Column::Text),
        ("price", Column::Text),
        ("size", Column::Text),
    ];
    let row = |trade: &Trade| {
        let Trade { symbol, time_ms, tid, side, price, size } = trade;
        json!([symbol, time_ms, tid, side.as_str(), price, size])
    };
    let rows: Vec<_> = trades.iter().map(row).collect();
    put_rows(txn, "append trades", sql, &columns, &rows).await
}

/// Deletes at most `at_most` trades of a coin that happened before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    symbol: &str,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    // By coin: the key leads there, and no index by time has to be kept for the inserts.
    let sql = "DELETE FROM trades WHERE symbol = $1 AND (time_ms, tid) IN
                 (SELECT time_ms, tid FROM trades WHERE symbol = $1 AND time_ms < $2
                  ORDER BY time_ms LIMIT $3)";
    let values = [symbol.into(), before_ms.into(), i64::from(at_most).into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    Ok(done.map_err(|source| StoreError::database("prune trades", source))?.rows_affected())
}
