//! After a connection stands: what was missed since the last bar, fetched within the budget.

use super::feed::{CANDLES, TRADES_CHANNEL, gap, gap_noted};
use super::{Venue, is_of_the_coin};
use crate::ingestion::Rows;
use crate::market::{Candle, Interval};
use crate::sources::Priority;
use crate::sources::hyperliquid::oldest_candle_ms;
use crate::store::candles;
use crate::store::market_gaps::MarketGap;
use crate::workers::ingestion::PollError;
use crate::workers::ingestion::stream::{Delivery, Message, Outbox, Row};

/// A bar is closed this long after its minute.
const CLOSED_AFTER_MS: i64 = 65_000;

/// Notes the gap that a silence left and fills the bars from the last stored one on. A coin that
/// cannot be filled leaves its gap open: the audit comes back to it.
pub(super) async fn fill(
    venue: &Venue,
    coins: &[String],
    silent_since_ms: Option<i64>,
    now_ms: i64,
    outbox: &Outbox,
) {
    for coin in coins {
        if let Some(gap) = gap(coin, silent_since_ms, now_ms) {
            // Trades cannot be fetched again; bars are the truth of that span.
            for channel in [TRADES_CHANNEL, CANDLES] {
                if outbox.send(Message::Rows(gap_noted(channel, gap.clone()))).await.is_err() {
                    return;
                }
            }
        }
    }
    for coin in coins {
        match missing(venue, coin, now_ms).await {
            Ok(Some(delivery)) => {
                if outbox.send(Message::Rows(delivery)).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(coin, %error, "missed bars could not be fetched yet"),
        }
    }
}

/// The closed bars of a coin since the last stored one.
async fn missing(venue: &Venue, coin: &str, now_ms: i64) -> Result<Option<Delivery>, PollError> {
    let reader = venue.store.reader();
    let last_ms = candles::find_bounds(reader, coin, Interval::M1).await?.map(|span| span.last_ms);
    let history_ms = i64::try_from(venue.options.history.as_millis()).unwrap_or(i64::MAX);
    let earliest_ms = now_ms.saturating_sub(history_ms).max(oldest_candle_ms(Interval::M1, now_ms));
    let from_ms = last_ms.map_or(earliest_ms, |last_ms| last_ms.max(earliest_ms));
    let fetched = venue.client.candles(coin, Interval::M1, from_ms, now_ms, Priority::Repair).await;
    let rows = match fetched {
        Err(error) if is_of_the_coin(&error) => return Ok(None),
        fetched => fetched?,
    };
    let Rows { good, read, rejects } = rows;
    let closed: Vec<Candle> =
        good.into_iter().filter(|bar| bar.open_time_ms + CLOSED_AFTER_MS <= now_ms).collect();
    let newest_ms = closed.last().map(|bar| bar.open_time_ms + 60_000);
    let mut rows = Vec::new();
    // An answer without bars fills nothing.
    if newest_ms.is_some() {
        rows.push(Row::Minutes(coin.to_owned(), closed));
        let filled = MarketGap { symbol: coin.to_owned(), from_ms, to_ms: now_ms };
        rows.push(Row::Filled(filled));
    }
    Ok(Some(Delivery { channel: CANDLES, rows, read, rejects, newest_ms }))
}
