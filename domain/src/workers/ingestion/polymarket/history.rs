//! The odds of the past: of tokens that are new to the watch, and once a day of the spans that were
//! missed. A cycle without either asks nobody.

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rejects, Rows};
use crate::store::{prediction_markets, prediction_odds};
use crate::workers::ingestion::{Fetched, PollError};

/// One point per hour.
const FIDELITY_S: u32 = 3_600;
/// How far back it goes for a new token.
const BACK_MS: i64 = 28 * 86_400_000;
/// A series is gone over again when its last point is as old.
const REPAIRED_AFTER_MS: i64 = 86_400_000;

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let (reader, now_ms) = (venue.store.reader(), context.now_ms());
    let watched = prediction_markets::list_watched(reader).await?;
    let tokens: Vec<String> = watched.into_iter().map(|token| token.token_id).collect();
    let last = prediction_odds::list_last(reader, &tokens, FIDELITY_S).await?;
    // Where nothing is to be asked for, what is there is as fresh as it is.
    let newest_ms = last.values().copied().max();
    let mut fetched = Fetched { last_datum_at_ms: newest_ms, ..Fetched::default() };
    let mut rejects = Rejects::default();
    for token in &tokens {
        let last_ms = last.get(token).copied();
        if last_ms.is_some_and(|last_ms| now_ms - last_ms < REPAIRED_AFTER_MS) {
            continue;
        }
        if context.cancellation().is_cancelled() {
            break;
        }
        let part = poll_token(venue, context, token, last_ms, &mut rejects).await;
        fetched.take(token, part)?;
    }
    Ok(fetched.with_rejects(channel, &rejects))
}

async fn poll_token(
    venue: &Venue,
    context: &JobContext,
    token: &str,
    last_ms: Option<i64>,
    rejects: &mut Rejects,
) -> Result<Fetched, PollError> {
    let now_ms = context.now_ms();
    let from_ms = last_ms.map_or(now_ms - BACK_MS, |last_ms| last_ms + 1_000);
    let Rows { good, read, rejects: refused } =
        venue.client.history(token, (from_ms, now_ms), FIDELITY_S).await?;
    rejects.absorb(refused);
    let newest_ms = good.iter().map(|point| point.at_ms).max();
    let lease = context.lease().clone();
    let saved = venue.store.write("keep the history of odds", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            Ok::<_, PollError>(prediction_odds::append(txn, &good).await?)
        })
    });
    Ok(Fetched {
        rows_read: i64::try_from(read).unwrap_or(i64::MAX),
        rows_written: i64::try_from(saved.await?).unwrap_or(i64::MAX),
        last_datum_at_ms: newest_ms,
        ..Fetched::default()
    })
}
