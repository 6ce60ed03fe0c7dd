//! The table `funding`: settled, by the hour.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::SettledFunding;
use crate::prop::HOUR_MS;

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

/// How far the settled hours of a coin are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHours {
    /// The last that is stored, epoch milliseconds.
    pub last_ms: i64,
    /// The first that is not, after one that is; it may be yet to come. Epoch milliseconds.
    pub first_missing_ms: i64,
}

/// Finds how far the hours of a coin are known; `None` when there is none. What is missing before
/// `since_ms` is not looked for.
///
/// # Errors
/// The driver's error.
pub async fn find_known_hours(
    database: &impl ConnectionTrait,
    symbol: &str,
    since_ms: i64,
) -> Result<Option<KnownHours>, StoreError> {
    let sql = "SELECT (SELECT max(hour_ms) FROM funding WHERE symbol = $1) AS last_ms,
        (SELECT min(f.hour_ms) + 3600000 FROM funding f
         WHERE f.symbol = $1 AND f.hour_ms >= $2 - 3600000 AND NOT EXISTS (
             SELECT 1 FROM funding n WHERE n.symbol = $1 AND n.hour_ms = f.hour_ms + 3600000)
        ) AS first_missing_ms";
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [symbol.into(), since_ms.into()]);
    let failed = |source| StoreError::database("find what is known of the funding", source);
    let Some(row) = database.query_one_raw(statement).await.map_err(failed)? else {
        return Ok(None);
    };
    let last: Option<i64> = row.try_get("", "last_ms").map_err(failed)?;
    let first_missing: Option<i64> = row.try_get("", "first_missing_ms").map_err(failed)?;
    Ok(last.map(|last_ms| KnownHours {
        last_ms,
        first_missing_ms: first_missing.unwrap_or(last_ms.saturating_add(HOUR_MS)),
    }))
}
