//! Hyperliquid's channels: the stream, and what is asked beside it.

mod audit;
mod backfill;
mod feed;
mod funding;
mod meta;
mod witness;

use std::sync::{Arc, Mutex, PoisonError};

use scheduler_core::{Scheduler, Store};

use super::options::IngestionOptions;
use super::polled::{PollError, register_each};
use super::stream::{self, StreamJob};
use crate::ingestion::{Channel, PriceGuards, Source, find_channel};
use crate::sources::SourceError;
use crate::sources::hyperliquid::HyperliquidClient;
use crate::store::instruments;

static STREAM: StreamJob = StreamJob {
    name: "ingest_hyperliquid_stream",
    description: "streams prices, trades and bars from hyperliquid",
    channels: &feed::CHANNELS,
};

/// What the channels of this venue share.
#[derive(Clone)]
struct Venue {
    store: Store,
    client: HyperliquidClient,
    guards: Arc<Mutex<PriceGuards>>,
    options: Arc<IngestionOptions>,
}

impl Venue {
    /// The coins that are watched and traded: of the database where the venue's list is there, else
    /// of the venue.
    async fn watched(&self) -> Result<Vec<String>, PollError> {
        let mut tradable = instruments::list_tradable(self.store.reader()).await?;
        if tradable.is_empty() {
            let listings = self.client.meta().await?.listings.good;
            let traded = listings.into_iter().filter(|listing| !listing.delisted);
            tradable = traded.map(|listing| listing.symbol).collect();
        }
        let wanted = &self.options.coins;
        let coins: Vec<String> =
            wanted.iter().filter(|coin| tradable.contains(coin)).cloned().collect();
        if coins.is_empty() {
            let detail = format!("none of {} is traded there", wanted.join(", "));
            return Err(PollError::Meaningless { asked: "meta", detail });
        }
        Ok(coins)
    }

    /// Works on the guards; nothing waits inside.
    fn guarded<T>(&self, work: impl FnOnce(&mut PriceGuards) -> T) -> T {
        work(&mut self.guards.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn channel(name: &str) -> Option<&'static Channel> {
    find_channel(Source::Hyperliquid, name)
}

/// Registers the venue's channels; answers the names of their jobs.
///
/// # Errors
/// This machine's TLS, or a name that is taken.
pub(super) fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &Arc<IngestionOptions>,
) -> Result<Vec<String>, super::RegisterIngestionError> {
    let clock = Arc::clone(store.clock());
    let venue = Venue {
        store: store.clone(),
        client: HyperliquidClient::new(&options.urls.hyperliquid, clock)?,
        guards: Arc::default(),
        options: Arc::clone(options),
    };
    let mut names = vec![STREAM.name.to_owned()];
    let streaming = venue.clone();
    stream::register(scheduler, store, &STREAM, move || {
        feed::HyperliquidFeed::new(streaming.clone())
    })?;
    register_each! {
        scheduler, names, Source::Hyperliquid, venue:
        "meta" => meta::poll,
        "asset_contexts_witness" => witness::poll,
        "funding" => funding::poll,
        "candle_audit" => audit::poll,
    }
    Ok(names)
}

/// Whether an error is of one coin, and not of the venue.
fn is_of_the_coin(error: &SourceError) -> bool {
    matches!(error, SourceError::Refused { .. })
}
