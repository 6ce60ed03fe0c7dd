//! Settled funding of any number of symbols.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::prop::{Funding, Settled};
use crate::store::sql::{Column, Rows, read_rows};

/// Loads the hours after `after_ms`, up to and with `until_ms`, in one statement; epoch
/// milliseconds. Where a settlement has no oracle's price, the one that came in last in the quarter
/// of an hour before it stands in. A number that means nothing counts as not settled.
///
/// # Errors
/// The driver's error.
pub async fn load_funding(
    database: &impl ConnectionTrait,
    symbols: &[&str],
    after_ms: i64,
    until_ms: i64,
) -> Result<Funding, StoreError> {
    let mut funding = Funding::new();
    if symbols.is_empty() || after_ms >= until_ms {
        return Ok(funding);
    }
    let sql = "
        SELECT f.symbol, f.hour_ms, f.rate, coalesce(f.oracle,
            (SELECT c.oracle FROM asset_contexts AS c
             WHERE c.symbol = f.symbol AND c.received_at_ms <= f.hour_ms
               AND c.received_at_ms > f.hour_ms - 900000
             ORDER BY c.received_at_ms DESC LIMIT 1)) AS oracle
        FROM {rows} JOIN funding AS f
        ON f.symbol = v.symbol AND f.hour_ms > $1 AND f.hour_ms <= $2";
    let wanted: Rows = symbols.iter().map(|symbol| vec![(*symbol).into()]).collect();
    let columns = [("symbol", Column::Text)];
    let values = [after_ms.into(), until_ms.into()];
    let rows: Vec<FundingRow> =
        read_rows(database, "load settled funding", sql, &columns, values, &wanted).await?;
    for row in rows {
        let Ok(rate) = row.rate.parse() else { continue };
        let oracle = row.oracle.and_then(|oracle| oracle.parse().ok());
        let settled = Settled { rate, oracle };
        funding.entry(row.symbol).or_default().insert(row.hour_ms, settled);
    }
    Ok(funding)
}

#[derive(FromQueryResult)]
struct FundingRow {
    symbol: String,
    hour_ms: i64,
    rate: String,
    oracle: Option<String>,
}
