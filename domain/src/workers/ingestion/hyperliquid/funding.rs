//! Settled funding, paged from the first hour on that is missing.

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rejects};
use crate::prop::HOUR_MS;
use crate::store::funding;
use crate::workers::ingestion::{Fetched, PollError};

/// Pages of one coin and cycle: a venue that repeats itself must not hold the cycle.
const MOST_PAGES: usize = 20;

/// How long an hour that was left out (its row was refused, the venue had none) is asked for again,
/// though later ones are stored (milliseconds). It comes with the request for the newest hour, whose
/// weight grows by 3 at most; after that it counts as never settled. Accounts wait for a day.
const ASKED_AGAIN_FOR_MS: i64 = 72 * HOUR_MS;

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let mut fetched = Fetched::default();
    let mut rejects = Rejects::default();
    for coin in venue.watched().await? {
        let part = poll_coin(venue, context, &coin, &mut rejects).await;
        fetched.take(&coin, part)?;
    }
    Ok(fetched.with_rejects(channel, &rejects))
}

async fn poll_coin(
    venue: &Venue,
    context: &JobContext,
    coin: &str,
    rejects: &mut Rejects,
) -> Result<Fetched, PollError> {
    let history_ms = i64::try_from(venue.options.history.as_millis()).unwrap_or(i64::MAX);
    let since_ms = context.now_ms().saturating_sub(ASKED_AGAIN_FOR_MS);
    let known = funding::find_known_hours(venue.store.reader(), coin, since_ms).await?;
    let mut from_ms =
        known.map_or(context.now_ms().saturating_sub(history_ms), |known| known.first_missing_ms);
    let mut fetched = Fetched::default();
    for _ in 0..MOST_PAGES {
        // Nothing is settled before the hour is full.
        if from_ms > context.now_ms() {
            break;
        }
        let page = venue.client.funding(coin, from_ms).await?;
        rejects.absorb(page.rejects);
        fetched.rows_read += i64::try_from(page.read).unwrap_or(i64::MAX);
        let Some(newest_ms) = page.good.iter().map(|row| row.hour_ms).max() else { break };
        let (lease, now_ms) = (context.lease().clone(), context.now_ms());
        let rows = page.good;
        let saved = venue.store.write("keep settled funding", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                Ok::<_, PollError>(funding::append(txn, &rows, now_ms).await?)
            })
        });
        fetched.rows_written += i64::try_from(saved.await?).unwrap_or(i64::MAX);
        fetched.last_datum_at_ms = fetched.last_datum_at_ms.max(Some(newest_ms));
        // A page that brings nothing later is the last, whatever it holds.
        if newest_ms < from_ms {
            break;
        }
        from_ms = newest_ms + HOUR_MS;
    }
    // Nothing new is as fresh as the last hour that is stored.
    fetched.last_datum_at_ms = fetched.last_datum_at_ms.or(known.map(|known| known.last_ms));
    Ok(fetched)
}
