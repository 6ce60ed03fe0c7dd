//! Minutes as they are stored, and the longer bars made of them.

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;

use crate::market::{Candle, Interval, derive_candles, start_of};
use crate::store::{candle_revisions, candles};

/// The intervals that are made of minutes.
const DERIVED: [Interval; 3] = [Interval::M15, Interval::H1, Interval::D1];

/// Stores closed minutes, ascending, and the longer bars that they complete or change. Answers how
/// many minutes were new or corrected.
pub(super) async fn keep_minutes(
    txn: &DatabaseTransaction,
    symbol: &str,
    minutes: &[Candle],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else { return Ok(0) };
    let kept = candle_revisions::revise(txn, symbol, Interval::M1, minutes, now_ms).await?;
    if kept.inserted + kept.changed == 0 {
        return Ok(0);
    }
    for interval in DERIVED {
        let ends_a_bar = |bar: &Candle| {
            let next_ms = bar.open_time_ms + Interval::M1.as_millis();
            start_of(next_ms, interval) == next_ms
        };
        let fills_a_hole = minutes.len() > 1 || kept.changed > 0;
        if !fills_a_hole && !minutes.iter().any(ends_a_bar) {
            continue;
        }
        let from_ms = start_of(first.open_time_ms, interval);
        let to_ms = start_of(last.open_time_ms, interval) + interval.as_millis();
        let stored = candles::load_span(txn, symbol, Interval::M1, from_ms, to_ms).await?;
        let derived = derive_candles(&stored, interval);
        candle_revisions::revise(txn, symbol, interval, &derived, now_ms).await?;
    }
    Ok(kept.inserted + kept.changed)
}
