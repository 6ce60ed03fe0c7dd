//! The table `features`: statistics, each with the value that was first seen of it.

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::Statistic;

/// Keeps statistics, none of which stands twice. A value that a source revised gets the new one and
/// keeps the first; the same value again changes nothing. Answers how many changed.
///
/// # Errors
/// The driver's error.
pub async fn upsert(
    txn: &DatabaseTransaction,
    statistics: &[Statistic],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO features (feature, subject, at_ms, value, first_value, first_seen_at_ms)
        SELECT feature, subject, at_ms, value, value, seen_at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (feature, subject, at_ms) DO UPDATE SET
            value = excluded.value,
            revised_at_ms = excluded.first_seen_at_ms,
            revision = features.revision + 1
        WHERE features.value <> excluded.value";
    let columns = [
        ("feature", Column::Text),
        ("subject", Column::Text),
        ("at_ms", Column::Int),
        ("value", Column::Real),
        ("seen_at_ms", Column::Int),
    ];
    let mut changed = 0;
    for part in statistics.chunks(ROWS) {
        let row = |statistic: &Statistic| {
            let Statistic { feature, subject, at_ms, value } = statistic;
            json!([feature, subject, at_ms, value, now_ms])
        };
        let rows: Vec<_> = part.iter().map(row).collect();
        changed += put_rows(txn, "keep features", sql, &columns, &rows).await?;
    }
    Ok(changed)
}

/// Rows of one statement: a source gives thousands.
const ROWS: usize = 2_000;

/// Deletes at most `at_most` statistics of before a time that are of no midnight (UTC). Answers how
/// many.
///
/// # Errors
/// The driver's error.
pub async fn thin(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    // As the index says it.
    let sql = "DELETE FROM features WHERE (feature, subject, at_ms) IN
                 (SELECT feature, subject, at_ms FROM features
                  WHERE at_ms % 86400000 <> 0 AND at_ms < $1 ORDER BY at_ms LIMIT $2)";
    super::sql::prune(txn, "thin features", sql, before_ms, at_most).await
}

/// Deletes at most `at_most` statistics of midnights before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune_days(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM features WHERE (feature, subject, at_ms) IN
                 (SELECT feature, subject, at_ms FROM features
                  WHERE at_ms % 86400000 = 0 AND at_ms < $1 ORDER BY at_ms LIMIT $2)";
    super::sql::prune(txn, "prune features", sql, before_ms, at_most).await
}
