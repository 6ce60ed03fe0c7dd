//! The odds of the past: of a token that is new to the watch, and of the spans that were missed.

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rejects, Rows};
use crate::sources::SourceError;
use crate::store::{prediction_markets, prediction_odds};
use crate::workers::ingestion::{Fetched, PollError};

/// One point per hour.
const FIDELITY_S: u32 = 3_600;
/// How far back it goes for a new token.
const BACK_MS: i64 = 28 * 86_400_000;

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let mut fetched = Fetched::default();
    let mut rejects = Rejects::default();
    for token in prediction_markets::list_watched(venue.store.reader()).await? {
        if context.cancellation().is_cancelled() {
            break;
        }
        let part = poll_token(venue, context, &token.token_id, &mut rejects).await;
        fetched.take(&token.token_id, part)?;
    }
    Ok(fetched.with_rejects(channel, &rejects))
}

/// Tokens of one discovery that are filled at once; the others follow.
const NEW_AT_ONCE: usize = 40;

/// Fills the past of watched tokens that have none, as those have that are new to the watch. What
/// cannot be had now is asked for again by the next discovery.
pub(super) async fn fill_new(venue: &Venue, context: &JobContext) -> Result<(), PollError> {
    let reader = venue.store.reader();
    let mut filled = 0;
    for token in prediction_markets::list_watched(reader).await? {
        let is_new =
            prediction_odds::find_last(reader, &token.token_id, FIDELITY_S).await?.is_none();
        if !is_new {
            continue;
        }
        if filled == NEW_AT_ONCE || context.cancellation().is_cancelled() {
            break;
        }
        filled += 1;
        match poll_token(venue, context, &token.token_id, &mut Rejects::default()).await {
            Ok(_) | Err(PollError::Source(SourceError::Refused { .. })) => {}
            Err(PollError::Source(error)) => {
                tracing::warn!(%error, "the past of new markets is not there yet");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn poll_token(
    venue: &Venue,
    context: &JobContext,
    token: &str,
    rejects: &mut Rejects,
) -> Result<Fetched, PollError> {
    let now_ms = context.now_ms();
    let last = prediction_odds::find_last(venue.store.reader(), token, FIDELITY_S).await?;
    let from_ms = last.map_or(now_ms - BACK_MS, |last_ms| last_ms + 1_000);
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
        last_datum_at_ms: newest_ms.or(last),
        ..Fetched::default()
    })
}
