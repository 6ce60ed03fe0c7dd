//! Bars that a venue corrected: `candles` has the newest values, the table `candle_revisions` what
//! stood there before, by revision.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, Value};

use super::candles::{self, Upserted};
use crate::market::{Candle, Interval};

/// Stores bars, ascending, none twice. A stored bar with other values goes to the revisions and gets
/// the new ones; what was first seen of a bar is never lost.
///
/// # Errors
/// The driver's error.
pub async fn revise(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    bars: &[Candle],
    now_ms: i64,
) -> Result<Upserted, StoreError> {
    let times: Vec<i64> = bars.iter().map(|bar| bar.open_time_ms).collect();
    let stored = candles::find_all(txn, symbol, interval, &times).await?;
    let find = |bar: &Candle| {
        let at = stored.binary_search_by_key(&bar.open_time_ms, |stored| stored.open_time_ms);
        at.ok().map(|at| stored[at])
    };
    for bar in bars {
        if find(bar).is_some_and(|stored| stored != *bar) {
            supersede(txn, symbol, interval, bar.open_time_ms, now_ms).await?;
        }
    }
    candles::upsert(txn, symbol, interval, bars).await
}

/// Copies a stored bar into the revisions and counts its revision up.
async fn supersede(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    open_time_ms: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let keep = "INSERT INTO candle_revisions (symbol, interval, open_time_ms, revision, open, high,
            low, close, volume, revised_at_ms)
        SELECT symbol, interval, open_time_ms, revision, open, high, low, close, volume,
            CAST($4 AS BIGINT)
        FROM candles WHERE symbol = $1 AND interval = $2 AND open_time_ms = $3";
    let count = "UPDATE candles SET revision = revision + 1
        WHERE symbol = $1 AND interval = $2 AND open_time_ms = $3";
    let key: [Value; 3] = [symbol.into(), interval.as_str().into(), open_time_ms.into()];
    let mut with_now = key.to_vec();
    with_now.push(now_ms.into());
    for (sql, values) in [(keep, with_now), (count, key.to_vec())] {
        let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
        let done = txn.execute_raw(statement).await;
        done.map_err(|source| StoreError::database("keep what a bar was", source))?;
    }
    Ok(())
}

/// Deletes at most `at_most` revisions of before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM candle_revisions WHERE (symbol, interval, open_time_ms, revision) IN
                 (SELECT symbol, interval, open_time_ms, revision FROM candle_revisions
                  WHERE revised_at_ms < $1 ORDER BY revised_at_ms LIMIT $2)";
    super::sql::prune(txn, "prune revisions of bars", sql, before_ms, at_most).await
}
