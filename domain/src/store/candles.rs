//! The table `candles`. All ranges are half-open: `from_ms` inclusive, `to_ms` exclusive.

use std::fmt::Write;
use std::sync::LazyLock;

use scheduler_core::StoreError;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel,
    QueryResult, Statement, TransactionOptions, TransactionTrait, Value,
};

use super::candle_revisions;
use crate::market::{Candle, Gap, Interval};

/// What [`upsert`] did with a batch. What is neither was stored already with the same values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Bars that were not there.
    pub inserted: u64,
    /// Bars that had other values.
    pub changed: u64,
}

/// Stores bars, none of whose times stands twice; a stored bar with other values gets the new
/// ones. Doubles come back bit for bit (minus zero as zero).
///
/// Fastest when `candles` ascend in time.
///
/// # Errors
/// The driver's error.
pub async fn upsert(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    candles: &[Candle],
) -> Result<Upserted, StoreError> {
    let failed = |source| StoreError::database("store candles", source);
    let inserted = insert_new(txn, symbol, interval, candles).await.map_err(failed)?;
    if inserted == candles.len() as u64 {
        return Ok(Upserted { inserted, changed: 0 });
    }
    let times: Vec<i64> = candles.iter().map(|candle| candle.open_time_ms).collect();
    let stored = find_all(txn, symbol, interval, &times).await?;
    let mut changed = 0;
    for candle in candles {
        let at = stored.binary_search_by_key(&candle.open_time_ms, |stored| stored.open_time_ms);
        if at.is_ok_and(|at| stored[at] != *candle) {
            replace(txn, symbol, interval, candle).await.map_err(failed)?;
            changed += 1;
        }
    }
    Ok(Upserted { inserted, changed })
}

/// Finds the bars at the given times, ascending.
///
/// # Errors
/// The driver's error.
pub async fn find_all(
    database: &impl ConnectionTrait,
    symbol: &str,
    interval: Interval,
    times: &[i64],
) -> Result<Vec<Candle>, StoreError> {
    if times.is_empty() {
        return Ok(Vec::new());
    }
    let sql = match database.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT open_time_ms, open, high, low, close, volume
             FROM json_array_elements_text($3::json) AS wanted
             JOIN candles ON symbol = $1 AND interval = $2 AND open_time_ms = wanted.value::bigint
             ORDER BY open_time_ms"
        }
        _ => {
            "SELECT open_time_ms, open, high, low, close, volume
             FROM json_each($3) AS wanted
             CROSS JOIN candles
             ON symbol = $1 AND interval = $2 AND open_time_ms = wanted.value
             ORDER BY open_time_ms"
        }
    };
    let values = [symbol.into(), interval.as_str().into(), json_array(times).into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let failed = |source| StoreError::database("find candles", source);
    let rows = database.query_all_raw(statement).await.map_err(failed)?;
    rows.iter().map(read_candle).collect::<Result<_, _>>().map_err(failed)
}

/// Loads a stretch of history as it was first seen, ascending; `None` leaves that end open. What a
/// venue corrected later nobody could have traded by.
///
/// The bars are of one moment, whatever is written meanwhile. Beside the result, memory is bounded
/// by a page of rows. Where nothing was corrected that costs one statement more, else one a page.
///
/// # Errors
/// The driver's error.
pub async fn load(
    database: &DatabaseConnection,
    symbol: &str,
    interval: Interval,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
) -> Result<Vec<Candle>, StoreError> {
    let failed = |source| StoreError::database("load candles", source);
    let snapshot = TransactionOptions {
        // SQLite's transactions read one snapshot anyway.
        isolation_level: (database.get_database_backend() == DbBackend::Postgres)
            .then_some(IsolationLevel::RepeatableRead),
        ..TransactionOptions::default()
    };
    let txn = database.begin_with_options(snapshot).await.map_err(failed)?;
    let mut candles: Vec<Candle> = Vec::new();
    let mut next_ms = from_ms.unwrap_or(i64::MIN);
    let to_ms = to_ms.unwrap_or(i64::MAX);
    let revised = candle_revisions::has_first_seen(&txn, symbol, interval, next_ms, to_ms);
    let revised = revised.await.map_err(failed)?;
    loop {
        let page = load_page(&txn, symbol, interval, next_ms, to_ms).await.map_err(failed)?;
        let before = candles.len();
        for row in &page {
            candles.push(read_candle(row).map_err(failed)?);
        }
        if revised {
            let bars = &mut candles[before..];
            candle_revisions::put_first_seen(&txn, symbol, interval, bars).await.map_err(failed)?;
        }
        match candles.last() {
            Some(last) if page.len() == PAGE => next_ms = last.open_time_ms.saturating_add(1),
            _ => break,
        }
    }
    txn.commit().await.map_err(failed)?;
    Ok(candles)
}

/// Loads the bars of a short span within a transaction as they stand now, ascending; memory grows with
/// the span.
///
/// # Errors
/// The driver's error.
pub async fn load_span(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Candle>, StoreError> {
    let failed = |source| StoreError::database("load candles of a span", source);
    let mut candles: Vec<Candle> = Vec::new();
    let mut next_ms = from_ms;
    loop {
        let page = load_page(txn, symbol, interval, next_ms, to_ms).await.map_err(failed)?;
        for row in &page {
            candles.push(read_candle(row).map_err(failed)?);
        }
        match candles.last() {
            Some(last) if page.len() == PAGE => next_ms = last.open_time_ms.saturating_add(1),
            _ => return Ok(candles),
        }
    }
}

/// The span of a stored history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Open time of the first bar, epoch milliseconds.
    pub first_ms: i64,
    /// Open time of the last bar, epoch milliseconds.
    pub last_ms: i64,
}

/// Finds the first and the last bar; `None` when there is none.
///
/// # Errors
/// The driver's error.
pub async fn find_bounds(
    database: &impl ConnectionTrait,
    symbol: &str,
    interval: Interval,
) -> Result<Option<Bounds>, StoreError> {
    // Two lookups: SQLite answers min and max in one SELECT by reading everything.
    let sql = "SELECT
        (SELECT min(open_time_ms) FROM candles WHERE symbol = $1 AND interval = $2) AS first_ms,
        (SELECT max(open_time_ms) FROM candles WHERE symbol = $1 AND interval = $2) AS last_ms";
    let values = [symbol.into(), interval.as_str().into()];
    let failed = |source| StoreError::database("find the span of the candles", source);
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let Some(row) = database.query_one_raw(statement).await.map_err(failed)? else {
        return Ok(None);
    };
    let first: Option<i64> = row.try_get("", "first_ms").map_err(failed)?;
    let last: Option<i64> = row.try_get("", "last_ms").map_err(failed)?;
    Ok(first.zip(last).map(|(first_ms, last_ms)| Bounds { first_ms, last_ms }))
}

/// Gaps of a stored history, oldest first, and how many there are in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// The first of them.
    pub first: Vec<Gap>,
    /// All of them, counted.
    pub count: u64,
}

/// Finds what is missing between the stored neighbours of a span: from the last bar before
/// `span.first_ms` to the first bar after `span.last_ms`. Lists at most `limit` gaps.
///
/// # Errors
/// The driver's error.
pub async fn find_gaps(
    database: &impl ConnectionTrait,
    symbol: &str,
    interval: Interval,
    span: Bounds,
    limit: usize,
) -> Result<Gaps, StoreError> {
    let sql = "SELECT previous_ms, open_time_ms, count(*) OVER () AS gap_count
        FROM (SELECT open_time_ms, lag(open_time_ms) OVER (ORDER BY open_time_ms) AS previous_ms
              FROM candles
              WHERE symbol = $1 AND interval = $2
                AND open_time_ms >= coalesce((SELECT max(open_time_ms) FROM candles
                    WHERE symbol = $1 AND interval = $2 AND open_time_ms < $3), $3)
                AND open_time_ms <= coalesce((SELECT min(open_time_ms) FROM candles
                    WHERE symbol = $1 AND interval = $2 AND open_time_ms > $4), $4)) AS neighbours
        WHERE open_time_ms - previous_ms > $5
        ORDER BY open_time_ms LIMIT $6";
    let values: [Value; 6] = [
        symbol.into(),
        interval.as_str().into(),
        span.first_ms.into(),
        span.last_ms.into(),
        interval.as_millis().into(),
        i64::try_from(limit).unwrap_or(i64::MAX).into(),
    ];
    let failed = |source| StoreError::database("find gaps in the candles", source);
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let rows = database.query_all_raw(statement).await.map_err(failed)?;
    let mut gaps = Gaps::default();
    for row in rows {
        let previous: i64 = row.try_get("", "previous_ms").map_err(failed)?;
        let next: i64 = row.try_get("", "open_time_ms").map_err(failed)?;
        let count: i64 = row.try_get("", "gap_count").map_err(failed)?;
        gaps.first.extend(Gap::between(previous, next, interval));
        gaps.count = count.unsigned_abs();
    }
    Ok(gaps)
}

/// Rows of one read: a driver's row is many times the size of a bar.
const PAGE: usize = 4096;

async fn load_page(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<QueryResult>, DbErr> {
    let sql = "SELECT open_time_ms, open, high, low, close, volume FROM candles
               WHERE symbol = $1 AND interval = $2 AND open_time_ms >= $3 AND open_time_ms < $4
               ORDER BY open_time_ms LIMIT $5";
    let values = [
        symbol.into(),
        interval.as_str().into(),
        from_ms.into(),
        to_ms.into(),
        i64::try_from(PAGE).unwrap_or(i64::MAX).into(),
    ];
    txn.query_all_raw(Statement::from_sql_and_values(txn.get_database_backend(), sql, values)).await
}

/// Rows of one insert. At each bind the driver asks SQLite for the name of every parameter, and
/// SQLite looks through all names for it: 500 rows are four times slower.
const ROWS: usize = 40;

/// Doubles travel as bound values: SQLite does not promise that text becomes the nearest double.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let mut sql = String::from(
        "INSERT INTO candles (symbol, interval, open_time_ms, open, high, low, close, volume) VALUES ",
    );
    for row in 0..ROWS {
        let comma = if row == 0 { "" } else { ", " };
        let [time, open, high, low, close, volume] = std::array::from_fn(|at| 3 + 6 * row + at);
        // Writing to a String does not fail.
        let _ =
            write!(sql, "{comma}($1, $2, ${time}, ${open}, ${high}, ${low}, ${close}, ${volume})");
    }
    sql.push_str(" ON CONFLICT (symbol, interval, open_time_ms) DO NOTHING");
    sql
});

/// Inserts the bars whose times are not there and counts them.
async fn insert_new(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    candles: &[Candle],
) -> Result<u64, DbErr> {
    let mut inserted = 0;
    for rows in candles.chunks(ROWS) {
        let mut values: Vec<Value> = Vec::with_capacity(2 + 6 * ROWS);
        values.extend([symbol.into(), interval.as_str().into()]);
        // The last row fills up a short chunk, so that the text stays the same; it conflicts with
        // itself and is not counted twice.
        let filled = rows.iter().chain(std::iter::repeat(&rows[rows.len() - 1])).take(ROWS);
        for candle in filled {
            let Candle { open_time_ms, open, high, low, close, volume } = *candle;
            values.push(open_time_ms.into());
            values.extend([open, high, low, close, volume].map(Value::from));
        }
        let backend = txn.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, INSERT.as_str(), values);
        inserted += txn.execute_raw(statement).await?.rows_affected();
    }
    Ok(inserted)
}

async fn replace(
    txn: &DatabaseTransaction,
    symbol: &str,
    interval: Interval,
    candle: &Candle,
) -> Result<(), DbErr> {
    let sql = "UPDATE candles SET open = $4, high = $5, low = $6, close = $7, volume = $8
               WHERE symbol = $1 AND interval = $2 AND open_time_ms = $3";
    let Candle { open_time_ms, open, high, low, close, volume } = *candle;
    let values: [Value; 8] = [
        symbol.into(),
        interval.as_str().into(),
        open_time_ms.into(),
        open.into(),
        high.into(),
        low.into(),
        close.into(),
        volume.into(),
    ];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    txn.execute_raw(statement).await.map(|_| ())
}

pub(super) fn read_candle(row: &QueryResult) -> Result<Candle, DbErr> {
    Ok(Candle {
        open_time_ms: row.try_get_by_index(0)?,
        open: row.try_get_by_index(1)?,
        high: row.try_get_by_index(2)?,
        low: row.try_get_by_index(3)?,
        close: row.try_get_by_index(4)?,
        volume: row.try_get_by_index(5)?,
    })
}

/// At least one time.
fn json_array(times: &[i64]) -> String {
    let mut json = String::with_capacity(2 + 14 * times.len());
    for time in times {
        json.push(if json.is_empty() { '[' } else { ',' });
        // Writing to a String does not fail.
        let _ = write!(json, "{time}");
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests;
