//! Polymarket's channels: the stream of the watched markets, and what is asked beside it.

mod discovery;
mod feed;
mod history;
mod resolution;
mod witness;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use scheduler_core::{Cadence, JobContext, JobDefinition, RegisterError, Scheduler, Store};

use super::options::IngestionOptions;
use super::polled::register_polled;
use super::stream::{self, StreamRecorder};
use crate::ingestion::{Source, find_channel};
use crate::sources::polymarket::PolymarketClient;

/// The job of the stream.
const STREAM: &str = "ingest_polymarket_stream";
/// A host that finds no stream running looks again this often.
const STREAM_EVERY: Duration = Duration::from_secs(15);

/// What the channels of this venue share.
#[derive(Clone)]
struct Venue {
    store: Store,
    client: PolymarketClient,
    options: Arc<IngestionOptions>,
    /// The witness has seen what the stream did not bring.
    distrusted: Arc<AtomicBool>,
}

/// Registers the venue's channels; answers the names of their jobs.
pub(super) fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &Arc<IngestionOptions>,
) -> Result<Vec<String>, super::RegisterIngestionError> {
    let urls = &options.urls;
    let clock = Arc::clone(store.clock());
    let venue = Venue {
        store: store.clone(),
        client: PolymarketClient::new(&urls.polymarket_gamma, &urls.polymarket_clob, clock)?,
        options: Arc::clone(options),
        distrusted: Arc::default(),
    };
    let mut names = Vec::new();
    macro_rules! polled {
        ($($name:literal => $poll:path,)+) => {$(
            if let Some(channel) = find_channel(Source::Polymarket, $name) {
                let venue = venue.clone();
                register_polled(scheduler, channel, move |context| {
                    let venue = venue.clone();
                    async move { $poll(&venue, channel, &context).await }
                })?;
                names.push(channel.job());
            }
        )+};
    }
    // Discovery comes first: a one-shot run of all of them needs its markets.
    polled! {
        "discovery" => discovery::poll,
    }
    names.push(STREAM.to_owned());
    register_stream(scheduler, &venue)?;
    polled! {
        "odds_witness" => witness::poll,
        "history" => history::poll,
        "resolution" => resolution::poll,
    }
    Ok(names)
}

fn register_stream(scheduler: &mut Scheduler, venue: &Venue) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: "streams odds and trades from polymarket".to_owned(),
        recorder: Arc::new(StreamRecorder { channels: &feed::CHANNELS }),
        ..JobDefinition::new(STREAM, Cadence::every(STREAM_EVERY))
    };
    let venue = venue.clone();
    scheduler.register(definition, move |context: JobContext| {
        let venue = venue.clone();
        async move {
            let (store, feed) = (venue.store.clone(), feed::PolymarketFeed::new(venue));
            stream::run(context, store, &feed::CHANNELS, feed).await
        }
    })?;
    Ok(())
}
