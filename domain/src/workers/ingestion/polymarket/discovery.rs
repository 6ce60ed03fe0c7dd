//! Which markets there are, and which of them are watched: those with the highest volume.

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rows};
use crate::store::prediction_markets;
use crate::workers::ingestion::{Fetched, PollError};

/// Pages of one cycle: those with the highest volume come first.
const PAGES: usize = 5;
/// A market that discovery has not seen for this long is watched no longer.
const SEEN_WITHIN_MS: i64 = 3_600_000;

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let Rows { mut good, read, rejects } = venue.client.markets(PAGES).await?;
    good.sort_by(|one, two| one.condition_id.cmp(&two.condition_id));
    good.dedup_by(|one, two| one.condition_id == two.condition_id);
    let (lease, now_ms) = (context.lease().clone(), context.now_ms());
    let (is_empty, watched) = (good.is_empty(), venue.options.prediction_markets);
    let saved = venue.store.write("keep the markets", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            let changed = prediction_markets::upsert(txn, &good, now_ms).await?;
            prediction_markets::watch(txn, watched, now_ms - SEEN_WITHIN_MS).await?;
            Ok::<_, PollError>(changed)
        })
    });
    let changed = saved.await?;
    let fetched = Fetched {
        rows_read: i64::try_from(read).unwrap_or(i64::MAX),
        rows_written: i64::try_from(changed).unwrap_or(i64::MAX),
        last_datum_at_ms: (!is_empty).then_some(now_ms),
        ..Fetched::default()
    };
    Ok(fetched.with_rejects(channel, &rejects))
}
