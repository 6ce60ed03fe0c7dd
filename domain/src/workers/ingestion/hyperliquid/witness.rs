//! The witness of the stream: what REST says about every coin, once a minute.
//!
//! A price that the stream holds back because it jumps is confirmed, or not, by what comes here.

use scheduler_core::JobContext;

use super::Venue;
use super::feed::deliver_contexts;
use crate::ingestion::Channel;
use crate::market::AssetContext;
use crate::store::marks;
use crate::workers::ingestion::stream::Row;
use crate::workers::ingestion::{Fetched, PollError};

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let rows = venue.client.contexts().await?;
    let now_ms = context.now_ms();
    let delivery = deliver_contexts(venue, rows, now_ms);
    let mut contexts: Vec<AssetContext> = delivery
        .rows
        .into_iter()
        .filter_map(|row| match row {
            Row::Context(context) => Some(context),
            _ => None,
        })
        .collect();
    contexts.sort_by(|one, two| one.symbol.cmp(&two.symbol));
    contexts.dedup_by(|one, two| one.symbol == two.symbol);
    let lease = context.lease().clone();
    let saved = venue.store.write("keep what the witness says", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            Ok::<_, PollError>(marks::upsert(txn, &contexts).await?)
        })
    });
    let fetched = Fetched {
        rows_read: i64::try_from(delivery.read).unwrap_or(i64::MAX),
        rows_written: i64::try_from(saved.await?).unwrap_or(i64::MAX),
        last_datum_at_ms: delivery.newest_ms,
        ..Fetched::default()
    };
    Ok(fetched.with_rejects(channel, &delivery.rejects))
}
