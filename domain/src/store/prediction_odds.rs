//! The table `pm_odds`: odds through time.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, Value};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::OddsPoint;

/// Adds points; one that is there already stays. Answers how many were new.
///
/// # Errors
/// The driver's error.
pub async fn append(txn: &DatabaseTransaction, points: &[OddsPoint]) -> Result<u64, StoreError> {
    let sql = "INSERT INTO pm_odds (token_id, at_ms, fidelity_s, odds, received_at_ms)
        SELECT token_id, at_ms, fidelity_s, odds, received_at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (token_id, fidelity_s, at_ms) DO NOTHING";
    let columns = [
        ("token_id", Column::Text),
        ("at_ms", Column::Int),
        ("fidelity_s", Column::Int),
        ("odds", Column::Text),
        ("received_at_ms", Column::Int),
    ];
    let row = |point: &OddsPoint| {
        let OddsPoint { token_id, at_ms, fidelity_s, odds, received_at_ms } = point;
        json!([token_id, at_ms, fidelity_s, odds, received_at_ms])
    };
    let rows: Vec<_> = points.iter().map(row).collect();
    put_rows(txn, "append odds", sql, &columns, &rows).await
}

/// Finds the last point of a token's series, epoch milliseconds.
///
/// # Errors
/// The driver's error.
pub async fn find_last(
    database: &impl ConnectionTrait,
    token_id: &str,
    fidelity_s: u32,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT max(at_ms) AS at_ms FROM pm_odds WHERE token_id = $1 AND fidelity_s = $2";
    let values: [Value; 2] = [token_id.into(), i64::from(fidelity_s).into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let failed = |source| StoreError::database("find the last odds", source);
    let row = database.query_one_raw(statement).await.map_err(failed)?;
    row.map_or(Ok(None), |row| row.try_get("", "at_ms")).map_err(failed)
}

/// Deletes at most `at_most` points of before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM pm_odds WHERE (token_id, fidelity_s, at_ms) IN
                 (SELECT token_id, fidelity_s, at_ms FROM pm_odds
                  WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)";
    super::sql::prune(txn, "prune odds", sql, before_ms, at_most).await
}
