//! The witness of the stream: the books of the watched tokens, once a minute. What the stream should
//! have brought and did not makes it distrusted: a stream may freeze and go on answering pings. The
//! stream may be another process's, so that the word goes through the database.

use std::sync::PoisonError;

use scheduler_core::JobContext;

use super::{Venue, feed};
use crate::ingestion::{Channel, Rows, Testimony};
use crate::store::{ingestion_runs, prediction_markets, prediction_quotes};
use crate::workers::ingestion::{Fetched, PollError};

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let reader = venue.store.reader();
    let watched = prediction_markets::list_watched(reader).await?;
    let tokens: Vec<String> = watched.into_iter().map(|token| token.token_id).collect();
    if tokens.is_empty() {
        return Ok(Fetched::default());
    }
    let Rows { mut good, read, rejects } = venue.client.quotes(&tokens).await?;
    good.retain(|quote| tokens.contains(&quote.token_id) && !quote.is_empty());
    good.sort_by(|one, two| one.token_id.cmp(&two.token_id));
    good.dedup_by(|one, two| one.token_id == two.token_id);
    let now_ms = context.now_ms();
    let stored = prediction_quotes::list_times(reader, &tokens).await?;
    let is_empty = good.is_empty();
    let mut missed = 0;
    {
        let mut witness = venue.witness.lock().unwrap_or_else(PoisonError::into_inner);
        witness.retain(|token| stored.contains_key(token));
        // What the stream may still bring is not written in its place: nobody would see that it does
        // not.
        good.retain(|quote| {
            let stored_ms = stored.get(&quote.token_id).copied();
            let testimony = witness.judge(&quote.token_id, quote.at_ms, stored_ms, now_ms);
            missed += usize::from(testimony == Testimony::Missed);
            testimony != Testimony::Awaited
        });
    }
    if missed > 0 {
        tracing::warn!(missed, "the stream did not bring changes that the books show");
    }
    let lease = context.lease().clone();
    let saved = venue.store.write("keep what the witness says of odds", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            if missed > 0 {
                ingestion_runs::distrust(txn, feed::odds(), now_ms).await?;
            }
            Ok::<_, PollError>(prediction_quotes::upsert(txn, &good).await?)
        })
    });
    let fetched = Fetched {
        rows_read: i64::try_from(read).unwrap_or(i64::MAX),
        rows_written: i64::try_from(saved.await?).unwrap_or(i64::MAX),
        last_datum_at_ms: (!is_empty).then_some(now_ms),
        ..Fetched::default()
    };
    Ok(fetched.with_rejects(channel, &rejects))
}
