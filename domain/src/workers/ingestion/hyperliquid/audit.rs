//! The audit of the bars: what the venue says now about the last hours, gaps and all.

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rejects, Rows};
use crate::market::{Candle, Interval, start_of};
use crate::sources::Priority;
use crate::sources::hyperliquid::oldest_candle_ms;
use crate::store::candles::{self, Bounds};
use crate::store::market_gaps::{self, MarketGap};
use crate::workers::ingestion::{Fetched, PollError, bars};

/// What is looked at again each time: the venue corrects bars for a while.
const LOOKS_BACK_MS: i64 = 3 * 3_600_000;
/// A bar is closed this long after its minute.
const CLOSED_AFTER_MS: i64 = 65_000;
/// The oldest gap of a coin is looked for among this many.
const GAPS: usize = 100;

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let mut fetched = Fetched::default();
    let mut rejects = Rejects::default();
    for coin in venue.watched().await? {
        let part = audit(venue, context, &coin, &mut rejects).await;
        fetched.take(&coin, part)?;
    }
    Ok(fetched.with_rejects(channel, &rejects))
}

async fn audit(
    venue: &Venue,
    context: &JobContext,
    coin: &str,
    rejects: &mut Rejects,
) -> Result<Fetched, PollError> {
    let now_ms = context.now_ms();
    let from_ms = audited_from_ms(venue, coin, now_ms).await?;
    let asked = venue.client.candles(coin, Interval::M1, from_ms, now_ms, Priority::Repair).await?;
    let Rows { good, read, rejects: refused } = asked;
    rejects.absorb(refused);
    let closed: Vec<Candle> =
        good.into_iter().filter(|bar| bar.open_time_ms + CLOSED_AFTER_MS <= now_ms).collect();
    let newest_ms = closed.last().map(|bar| bar.open_time_ms + Interval::M1.as_millis());
    let span = MarketGap { symbol: coin.to_owned(), from_ms, to_ms: now_ms };
    let (lease, candles) = (context.lease().clone(), super::channel("candles"));
    let symbol = coin.to_owned();
    let saved = venue.store.write("audit bars", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            let written = bars::keep_minutes(txn, &symbol, &closed, now_ms).await?;
            // The venue has said all that it knows about the span.
            if let Some(channel) = candles
                && !closed.is_empty()
            {
                market_gaps::repair(txn, channel, &span, now_ms).await?;
            }
            Ok::<_, PollError>(written)
        })
    });
    Ok(Fetched {
        rows_read: i64::try_from(read).unwrap_or(i64::MAX),
        rows_written: i64::try_from(saved.await?).unwrap_or(i64::MAX),
        last_datum_at_ms: newest_ms,
        ..Fetched::default()
    })
}

/// From the oldest gap that the venue can still fill, at the latest from the hours that are always
/// looked at.
async fn audited_from_ms(venue: &Venue, coin: &str, now_ms: i64) -> Result<i64, PollError> {
    let reader = venue.store.reader();
    let always_ms = start_of(now_ms - LOOKS_BACK_MS, Interval::M1);
    let Some(stored) = candles::find_bounds(reader, coin, Interval::M1).await? else {
        return Ok(always_ms);
    };
    let oldest_ms = oldest_candle_ms(Interval::M1, now_ms).max(stored.first_ms);
    let span = Bounds { first_ms: oldest_ms, last_ms: stored.last_ms };
    let gaps = candles::find_gaps(reader, coin, Interval::M1, span, GAPS).await?;
    let oldest_gap = gaps.first.iter().map(|gap| gap.from_ms.max(oldest_ms)).min();
    Ok(oldest_gap.map_or(always_ms, |gap_ms| gap_ms.min(always_ms)))
}
