//! Ingestion: a job per polled channel and one per stream, recorded in `ingestion_runs` instead of a
//! heartbeat.
//!
//! ```no_run
//! # use domain::workers::ingestion::{self, IngestionOptions};
//! # async fn example(store: scheduler_core::Store) -> Result<(), Box<dyn std::error::Error>> {
//! let mut scheduler = scheduler_core::Scheduler::new(store.clone());
//! let jobs = ingestion::register(&mut scheduler, &store, &IngestionOptions::default())?;
//! // As a service: `scheduler.start()`. Once: `scheduler.run_once(job, …)` for each of `jobs`; a
//! // stream then ends at its first datum, and fails without one within 30 s.
//! # let _ = jobs;
//! # Ok(()) }
//! ```

mod bars;
mod defillama;
mod hyperliquid;
mod maintenance;
mod options;
mod polled;
mod polymarket;
mod recorder;
mod stream;

use std::sync::Arc;

use scheduler_core::{RegisterError, Scheduler, Store};

pub use options::{IngestionOptions, Retention};
pub use polled::{Fetched, PollError, register_polled};
pub use recorder::IngestionRecorder;

use crate::ingestion::Source;
use crate::sources::SourceError;

/// Why ingestion could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterIngestionError {
    /// A client of a source could not be made.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The scheduler refuses a job.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// Registers every channel of the chosen sources: a job per polled channel and one per stream, each
/// of scope Cluster, and the sweep of what each source piles up. Answers the names of the jobs.
///
/// The database needs the domain's migrations before the scheduler starts.
///
/// # Errors
/// This machine's TLS, or a name that is taken.
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &IngestionOptions,
) -> Result<Vec<String>, RegisterIngestionError> {
    let options = Arc::new(options.clone());
    let mut names = Vec::new();
    for source in Source::ALL {
        if options.sources.contains(&source) {
            names.extend(match source {
                Source::Hyperliquid => hyperliquid::register(scheduler, store, &options)?,
                Source::Defillama => defillama::register(scheduler, store, &options)?,
                Source::Polymarket => polymarket::register(scheduler, store, &options)?,
            });
            names.extend(maintenance::register(scheduler, store, &options, source)?);
        }
    }
    Ok(names)
}
