//! Ingestion: a job per polled channel, recorded in `ingestion_runs` instead of a heartbeat.
//!
//! ```no_run
//! # use domain::ingestion::{Source, find_channel};
//! # use domain::workers::ingestion::{Fetched, PollError, register_polled};
//! # fn example(scheduler: &mut scheduler_core::Scheduler) -> Result<(), scheduler_core::RegisterError> {
//! let meta = find_channel(Source::Hyperliquid, "meta").unwrap();
//! register_polled(scheduler, meta, |_context| async {
//!     Ok::<_, PollError>(Fetched { rows_read: 200, rows_written: 1, ..Fetched::default() })
//! })
//! # }
//! ```

mod polled;
mod recorder;

pub use polled::{Fetched, PollError, register_polled};
pub use recorder::IngestionRecorder;
