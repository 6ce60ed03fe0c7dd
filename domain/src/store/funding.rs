//! The table `funding`: settled, by the hour.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::SettledFunding;

/// Adds settled funding with the oracle price that was known at its hour; what is there already
/// stays. Answers how many were new.
///
/// # Errors
/// The driver's error.
pub async fn append(
    txn: &DatabaseTransaction,
    fundings: &[SettledFunding],
    now_ms: i64,
) -> Result<u64, StoreError> {
    // The oracle is the newest of the five minutes before the hour; there may be none.
    let sql = "INSERT INTO funding (symbol, hour_ms, rate, premium, oracle, received_at_ms)
        SELECT symbol, hour_ms, rate, premium,
            (SELECT oracle FROM asset_contexts AS known
             WHERE known.symbol = v.symbol AND known.oracle IS NOT NULL
               AND known.received_at_ms <= v.hour_ms AND known.received_at_ms > v.hour_ms - 300000
             ORDER BY known.received_at_ms DESC LIMIT 1),
            received_at_ms
        FROM {rows} WHERE TRUE
        ON CONFLICT (symbol, hour_ms) DO NOTHING";
    let columns = [
        ("symbol", Column::Text),
        ("hour_ms", Column::Int),
        ("rate", Column::Text),
        ("premium", Column::Text),
        ("received_at_ms", Column::Int),
    ];
    let row = |funding: &SettledFunding| {
        json!([funding.symbol, funding.hour_ms, funding.rate, funding.premium, now_ms])
    };
    let rows: Vec<_> = fundings.iter().map(row).collect();
    put_rows(txn, "append funding", sql, &columns, &rows).await
}

/// Finds the last settled hour of a coin, epoch milliseconds.
///
/// # Errors
/// The driver's error.
pub async fn find_last_hour(
    database: &impl ConnectionTrait,
    symbol: &str,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT max(hour_ms) AS hour_ms FROM funding WHERE symbol = $1";
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [symbol.into()]);
    let failed = |source| StoreError::database("find the last funding", source);
    let row = database.query_one_raw(statement).await.map_err(failed)?;
    row.map_or(Ok(None), |row| row.try_get("", "hour_ms")).map_err(failed)
}
