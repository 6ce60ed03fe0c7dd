//! The table `mids`: the newest mid of each coin.

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::Mid;

/// Keeps the newest mid of each coin; none may stand twice. What is older than the stored one
/// changes nothing. Answers how many changed.
///
/// # Errors
/// The driver's error.
pub async fn upsert(txn: &DatabaseTransaction, mids: &[Mid]) -> Result<u64, StoreError> {
    let sql = "INSERT INTO mids (symbol, mid, received_at_ms)
        SELECT symbol, mid, received_at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (symbol) DO UPDATE
        SET mid = excluded.mid, received_at_ms = excluded.received_at_ms
        WHERE excluded.received_at_ms >= mids.received_at_ms";
    let columns =
        [("symbol", Column::Text), ("mid", Column::Text), ("received_at_ms", Column::Int)];
    let rows: Vec<_> =
        mids.iter().map(|mid| json!([mid.symbol, mid.mid, mid.received_at_ms])).collect();
    put_rows(txn, "keep mids", sql, &columns, &rows).await
}
