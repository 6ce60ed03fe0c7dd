//! Bars that a venue corrected: `candles` has the newest values, the table `candle_revisions` what
//! stood there before, by revision. Revision 0 is what was first seen.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement, Value};

use super::candles::{self, Upserted};
use crate::market::{Candle, Interval};

/// Stores bars, ascending, none twice. A stored bar with other values goes to the revisions and gets
/// the new ones. What was first seen of a bar is never lost, nor replaced if the bar is deleted and
/// comes back.
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
        FROM candles WHERE symbol = $1 AND interval = $2 AND open_time_ms = $3
        ON CONFLICT (symbol, interval, open_time_ms, revision) DO NOTHING";
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

/// Whether a bar of a span was corrected since it was first seen.
pub(super) async fn has_first_seen(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    from_ms: i64,
    to_ms: i64,
) -> Result<bool, DbErr> {
    let sql = "SELECT 1 FROM candle_revisions
        WHERE symbol = $1 AND interval = $2 AND open_time_ms >= $3 AND open_time_ms < $4
          AND revision = 0 LIMIT 1";
    let values = [symbol.into(), interval.as_str().into(), from_ms.into(), to_ms.into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    Ok(txn.query_one_raw(statement).await?.is_some())
}

/// Puts into bars, ascending, what was first seen of each.
pub(super) async fn put_first_seen(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    bars: &mut [Candle],
) -> Result<(), DbErr> {
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return Ok(()) };
    let sql = "SELECT open_time_ms, open, high, low, close, volume FROM candle_revisions
        WHERE symbol = $1 AND interval = $2 AND open_time_ms >= $3 AND open_time_ms <= $4
          AND revision = 0 ORDER BY open_time_ms";
    let span = (first.open_time_ms, last.open_time_ms);
    let values = [symbol.into(), interval.as_str().into(), span.0.into(), span.1.into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    for row in txn.query_all_raw(statement).await? {
        let seen = candles::read_candle(&row)?;
        if let Ok(at) = bars.binary_search_by_key(&seen.open_time_ms, |bar| bar.open_time_ms) {
            bars[at] = seen;
        }
    }
    Ok(())
}

/// Deletes at most `at_most` revisions of before a time, but none that was first seen. Answers how
/// many.
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
                  WHERE revision > 0 AND revised_at_ms < $1 ORDER BY revised_at_ms LIMIT $2)";
    super::sql::prune(txn, "prune revisions of bars", sql, before_ms, at_most).await
}
