//! Polymarket's channels: the stream of the watched markets, and what is asked beside it.

mod discovery;
mod feed;
mod history;
mod resolution;
mod witness;

use std::sync::{Arc, Mutex};

use scheduler_core::{Scheduler, Store};

use super::options::IngestionOptions;
use super::polled::register_each;
use super::stream::{self, StreamJob};
use crate::ingestion::{Source, Witness};
use crate::sources::polymarket::PolymarketClient;

static STREAM: StreamJob = StreamJob {
    name: "ingest_polymarket_stream",
    description: "streams odds and trades from polymarket",
    channels: &feed::CHANNELS,
};

/// What the channels of this venue share.
#[derive(Clone)]
struct Venue {
    store: Store,
    client: PolymarketClient,
    options: Arc<IngestionOptions>,
    witness: Arc<Mutex<Witness>>,
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
        witness: Arc::default(),
    };
    let mut names = Vec::new();
    // Discovery comes first: a one-shot run of all of them needs its markets.
    register_each! {
        scheduler, names, Source::Polymarket, venue:
        "discovery" => discovery::poll,
    }
    let streaming = venue.clone();
    stream::register(scheduler, store, &STREAM, move || {
        feed::PolymarketFeed::new(streaming.clone())
    })?;
    names.push(STREAM.name.to_owned());
    register_each! {
        scheduler, names, Source::Polymarket, venue:
        "odds_witness" => witness::poll,
        "history" => history::poll,
        "resolution" => resolution::poll,
    }
    Ok(names)
}
