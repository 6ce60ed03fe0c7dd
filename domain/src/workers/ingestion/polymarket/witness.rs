//! The witness of the stream: the books of the watched tokens, once a minute. What the stream should
//! have brought and did not makes it distrusted: a stream may freeze and go on answering pings.

use std::sync::atomic::Ordering;

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rows};
use crate::store::{prediction_markets, prediction_quotes};
use crate::workers::ingestion::{Fetched, PollError};

/// A change of a book that is older than this should have come by the stream.
const OVERDUE_MS: i64 = 30_000;

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
    good.retain(|quote| tokens.contains(&quote.token_id));
    good.sort_by(|one, two| one.token_id.cmp(&two.token_id));
    good.dedup_by(|one, two| one.token_id == two.token_id);
    let now_ms = context.now_ms();
    let stored = prediction_quotes::list_times(reader, &tokens).await?;
    let missed = good.iter().filter(|quote| {
        let overdue = quote.at_ms.saturating_add(OVERDUE_MS) < now_ms;
        overdue && stored.get(&quote.token_id).is_some_and(|at_ms| *at_ms < quote.at_ms)
    });
    let missed = missed.count();
    if missed > 0 {
        tracing::warn!(missed, "the stream did not bring changes that the books show");
        venue.distrusted.store(true, Ordering::Release);
    }
    let lease = context.lease().clone();
    let is_empty = good.is_empty();
    let saved = venue.store.write("keep what the witness says of odds", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
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
