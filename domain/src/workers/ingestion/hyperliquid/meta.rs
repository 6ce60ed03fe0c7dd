//! The list of coins: kept by version, and in `instruments`.

use scheduler_core::JobContext;
use sha2::{Digest, Sha256};

use super::Venue;
use crate::ingestion::Channel;
use crate::store::{instrument_versions, instruments};
use crate::workers::ingestion::{Fetched, PollError};

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let meta = venue.client.meta().await?;
    let listings = meta.listings;
    let document = meta.document.to_string();
    let hash: String =
        Sha256::digest(document.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let (good, lease, now_ms) = (listings.good, context.lease().clone(), context.now_ms());
    let is_empty = good.is_empty();
    let saved = venue.store.write("keep the list of coins", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            // A list that is empty is no list: what was known stays.
            if good.is_empty() {
                return Ok(0);
            }
            let source = channel.source.as_str();
            instrument_versions::keep(txn, source, &hash, &document, now_ms).await?;
            Ok::<_, PollError>(instruments::keep_listings(txn, &good, now_ms).await?)
        })
    });
    let changed = saved.await?;
    let fetched = Fetched {
        rows_read: i64::try_from(listings.read).unwrap_or(i64::MAX),
        rows_written: i64::try_from(changed).unwrap_or(i64::MAX),
        last_datum_at_ms: (!is_empty).then_some(now_ms),
        ..Fetched::default()
    };
    Ok(fetched.with_rejects(channel, &listings.rejects))
}
