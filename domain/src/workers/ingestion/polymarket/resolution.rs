//! How markets were answered: the stream does not always tell.

use scheduler_core::JobContext;

use super::Venue;
use crate::ingestion::{Channel, Rejects};
use crate::sources::SourceError;
use crate::store::prediction_markets;
use crate::workers::ingestion::{Fetched, PollError};

/// Markets of one cycle; those whose end is the longest ago come first.
const AT_MOST: u32 = 100;

pub(super) async fn poll(
    venue: &Venue,
    channel: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let mut fetched = Fetched::default();
    let mut rejects = Rejects::default();
    let reader = venue.store.reader();
    for condition in prediction_markets::list_unresolved(reader, context.now_ms(), AT_MOST).await? {
        if context.cancellation().is_cancelled() {
            break;
        }
        let answer = match venue.client.resolution(&condition).await {
            Ok(answer) => answer,
            Err(error @ SourceError::Refused { .. }) => {
                fetched.problem.get_or_insert_with(|| error.to_string());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        fetched.rows_read += 1;
        fetched.last_datum_at_ms = Some(context.now_ms());
        let Some(resolution) = rejects.keep(answer).flatten() else { continue };
        let lease = context.lease().clone();
        let saved = venue.store.write("keep the answer of a market", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                Ok::<_, PollError>(prediction_markets::resolve(txn, &resolution).await?)
            })
        });
        fetched.rows_written += i64::from(saved.await?);
    }
    Ok(fetched.with_rejects(channel, &rejects))
}
