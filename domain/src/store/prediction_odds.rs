//! The table `pm_odds`: odds through time.

use std::collections::HashMap;

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use serde_json::json;

use super::sql::{Column, Rows, put_rows, read_rows};
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

/// Finds the last point of each series of these tokens, epoch milliseconds; one without a point is
/// absent.
///
/// # Errors
/// The driver's error.
pub async fn list_last(
    database: &impl ConnectionTrait,
    tokens: &[String],
    fidelity_s: u32,
) -> Result<HashMap<String, i64>, StoreError> {
    let sql = "SELECT v.token_id, (SELECT max(at_ms) FROM pm_odds
          WHERE pm_odds.token_id = v.token_id AND fidelity_s = $1) AS at_ms FROM {rows}";
    let wanted: Rows = tokens.iter().map(|token| vec![token.as_str().into()]).collect();
    let (columns, values) = ([("token_id", Column::Text)], [i64::from(fidelity_s).into()]);
    let rows: Vec<LastPoint> =
        read_rows(database, "find the last odds", sql, &columns, values, &wanted).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.token_id, row.at_ms?))).collect())
}

#[derive(FromQueryResult)]
struct LastPoint {
    token_id: String,
    at_ms: Option<i64>,
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
