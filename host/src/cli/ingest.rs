//! `arena ingest`: market data, for long or once.

use std::io::Write;
use std::str::FromStr;

use clap::Args;
use domain::ingestion::Source;
use domain::sources::{DefillamaUrls, SourceUrls};
use domain::workers::ingestion::IngestionOptions;
use scheduler_core::{Shutdown, Store};

use super::MigrateArgs;
use super::sources::SourceArgs;
use super::worker::report;
use crate::config::DatabaseUrl;
use crate::database;
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::venues::{Chaos, RunningVenues, VenueOptions, Venues};
use crate::wiring::{WorkerSet, Workers, ingest_once};

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Only this source: hyperliquid, defillama or polymarket; may be given several times.
    /// [default: all]
    #[arg(long = "source", value_name = "SOURCE", value_parser = Source::from_str)]
    chosen: Vec<Source>,
    /// Start simulated venues in this process and read from those.
    #[arg(long)]
    local: bool,
    /// With --local: let the venues fail at random, the same way for the same number.
    #[arg(long, value_name = "SEED", requires = "local")]
    faults: Option<u64>,
    /// Fetch every polled channel once and wait until each stream has brought a first datum, 30 s at
    /// most; then exit.
    #[arg(long)]
    once: bool,
    /// With --once: print one JSON document instead of sentences.
    #[arg(long, requires = "once")]
    json: bool,
    #[command(flatten)]
    urls: SourceArgs,
    #[command(flatten)]
    migrate: MigrateArgs,
}

pub(crate) async fn run(
    args: IngestArgs,
    database_url: &DatabaseUrl,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let store = args.migrate.open(database_url).await?;
    let venues = match args.local {
        true => Some(start_venues(args.faults).await?),
        false => None,
    };
    let options = IngestionOptions {
        sources: if args.chosen.is_empty() { Source::ALL.to_vec() } else { args.chosen.clone() },
        urls: venues.as_ref().map_or_else(|| args.urls.urls(), urls_of),
        ..IngestionOptions::default()
    };
    let done = if args.once {
        once(&store, &options, args.json, shutdown, out).await
    } else {
        until_stopped(&store, options, shutdown).await
    };
    if let Some(venues) = venues {
        venues.stop().await;
    }
    database::close(store).await;
    done
}

/// Starts simulated venues; with a seed they fail at random.
pub(crate) async fn start_venues(faults: Option<u64>) -> std::io::Result<RunningVenues> {
    let venues = Venues::start(VenueOptions::default()).await?;
    if let Some(seed) = faults {
        venues.faults().rage(Chaos { seed, ..Chaos::default() });
    }
    Ok(venues)
}

/// The addresses of simulated venues, as configuration has them.
pub(crate) fn urls_of(venues: &RunningVenues) -> SourceUrls {
    let urls = venues.urls();
    SourceUrls {
        hyperliquid: urls.hyperliquid.clone(),
        hyperliquid_ws: urls.hyperliquid_ws.clone(),
        defillama: DefillamaUrls::all_at(&urls.defillama),
        polymarket_gamma: urls.polymarket_gamma.clone(),
        polymarket_clob: urls.polymarket_clob.clone(),
        polymarket_ws: urls.polymarket_ws.clone(),
    }
}

async fn until_stopped(
    store: &Store,
    options: IngestionOptions,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let workers = WorkerSet { ingestion: Some(options), ..WorkerSet::default() };
    let workers = Workers::start(store, &workers, &Pulse::default()).await?;
    shutdown.stop.cancelled().await;
    workers.stop(shutdown).await;
    Ok(())
}

/// Runs each channel once and says what came of it. One that fails does not keep the others from
/// theirs.
async fn once(
    store: &Store,
    options: &IngestionOptions,
    as_json: bool,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let cycles = ingest_once(store, options, shutdown).await?;
    report(cycles, as_json, out)
}
