//! The seam between the host and what it hosts: what the commands ask for, and where concrete
//! types meet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::market::Interval;
use serde::Serialize;
use serde_json::Value;

use crate::config::{DatabaseUrl, WorkersConfig};
use crate::failure::Failure;
use crate::health::HealthSource;
use crate::pulse::Pulse;
use scheduler_core::Shutdown;

/// An opened arena: a database with what the commands do on it. A method chooses the exit code of
/// its failure by the variant of [`Failure`].
#[async_trait]
pub trait Arena: Send + Sync + 'static {
    /// Brings the schema up to date. Safe when several processes do it at once.
    async fn migrate(&self) -> Result<Vec<String>, Failure>;

    /// Every migration that this binary or the database knows. Reads only.
    async fn migrations(&self) -> Result<Vec<Migration>, Failure>;

    /// Reads a file of candles into the database. Idempotent.
    async fn import_candles(&self, import: CandleImport) -> Result<ImportReport, Failure>;

    /// Puts a back-test into the queue; answers its id.
    async fn submit_backtest(&self, backtest: NewBacktest) -> Result<String, Failure>;

    /// One back-test, or `None` when there is none of this id.
    async fn backtest(&self, id: &str) -> Result<Option<Backtest>, Failure>;

    /// The newest back-tests first, without their results.
    async fn backtests(&self, user_id: Option<i64>, limit: u32) -> Result<Vec<Backtest>, Failure>;

    /// Cancels a back-test, or asks its worker to; `None` when there is none of this id.
    async fn cancel_backtest(&self, id: &str) -> Result<Option<Cancellation>, Failure>;

    /// Runs one cycle of each worker on the path of the long-running process, waiting at most
    /// `wait` for a lease that another host holds.
    async fn run_once(
        &self,
        workers: &WorkersConfig,
        wait: Duration,
        shutdown: &Shutdown,
    ) -> Result<Vec<Cycle>, Failure>;

    /// Runs the workers until [`Shutdown::stop`], then drains them; watches its loops in `pulse`.
    async fn run_workers(
        &self,
        workers: &WorkersConfig,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), Failure>;

    /// Fills an empty database with something to look at: candles, a strategy, a back-test.
    async fn seed_demo(&self) -> Result<(), Failure>;

    /// What the health routes read.
    fn health(&self) -> Arc<dyn HealthSource>;

    /// Closes the database. The last call.
    async fn close(&self);
}

/// A migration and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: MigrationState,
}

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationState {
    /// The database has it.
    Applied,
    /// The database lacks it.
    Pending,
    /// The database has it and this binary does not know it: the binary is too old.
    Unknown,
}

/// A file of candles to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandleImport {
    /// The instrument, as in `BTC`.
    pub symbol: String,
    /// The length of its bars.
    pub interval: Interval,
    /// The file.
    pub file: PathBuf,
}

/// What an import found and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// Rows of the file, without its header.
    pub rows: u64,
    /// Rows that were new.
    pub inserted: u64,
    /// Rows that were there already, with the same values.
    pub duplicates: u64,
    /// Rows that were there with other values, and now have those of the file.
    pub changed: u64,
    /// How many gaps there are, also those that `gaps` does not list.
    pub gap_count: u64,
    /// The first gaps.
    pub gaps: Vec<Gap>,
    /// How many rows were refused, also those that `rejects` does not list.
    pub reject_count: u64,
    /// The first refused rows.
    pub rejects: Vec<Reject>,
}

/// Bars that are missing between two that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Open time of the first missing bar, epoch milliseconds.
    pub from_ms: i64,
    /// Open time of the last missing bar, epoch milliseconds.
    pub to_ms: i64,
    /// How many bars are missing.
    pub missing: u64,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// Its line in the file, the header being line 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// A back-test to put into the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBacktest {
    /// Who asks.
    pub user_id: i64,
    /// The strategy graph, JSON.
    pub graph: String,
    /// The instrument.
    pub symbol: String,
    /// The length of its bars.
    pub interval: Interval,
    /// The first bar, epoch milliseconds; `None` for the first there is.
    pub from_ms: Option<i64>,
    /// The bar that is not played any more, epoch milliseconds; `None` for all there are.
    pub to_ms: Option<i64>,
    /// Cash at the beginning, USD.
    pub initial_cash: f64,
    /// Fee per side, a fraction of the notional.
    pub fee_rate: f64,
    /// Slippage per fill, a fraction of the price.
    pub slippage_rate: f64,
}

/// A back-test in the queue, under way or done. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backtest {
    /// Its id.
    pub id: String,
    /// Who asked.
    pub user_id: i64,
    /// The instrument.
    pub symbol: String,
    /// The length of its bars, as in `1h`.
    pub interval: String,
    /// `queued`, `running`, `succeeded`, `dead` or `cancelled`.
    pub status: String,
    /// How far it is, in percent.
    pub progress_pct: f64,
    /// How often it was begun.
    pub attempt_count: i64,
    /// How often it may be begun.
    pub max_attempts: i64,
    /// The host that runs it.
    pub leased_by: Option<String>,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// When it was submitted.
    pub created_at_ms: i64,
    /// When it was last begun.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub completed_at_ms: Option<i64>,
    /// What it found, as JSON; `None` until it succeeded, and in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "status", rename_all = "snake_case")]
pub enum Cancellation {
    /// It was queued, and is cancelled.
    Cancelled,
    /// It runs, and its worker has been asked to stop.
    Requested,
    /// It had ended before, with this status.
    AlreadyEnded(String),
}

/// One cycle of one worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cycle {
    /// The worker.
    pub worker: String,
    /// How it went.
    #[serde(flatten)]
    pub outcome: CycleOutcome,
}

/// How a cycle went.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CycleOutcome {
    /// Well.
    Succeeded {
        /// What it did.
        summary: Value,
    },
    /// Not well.
    Failed {
        /// Why.
        error: String,
    },
    /// Another host holds the lease.
    Busy {
        /// That host's instance.
        holder: String,
        /// When the lease ends unless it is renewed, epoch milliseconds.
        until_ms: i64,
    },
}

/// Opens the database and gives it to the commands. Does not migrate.
///
/// # Errors
/// [`Failure::Usage`] for an address that this build cannot open, [`Failure::Work`] when the
/// database does not answer.
pub(crate) async fn connect(database_url: &DatabaseUrl) -> Result<Arc<dyn Arena>, Failure> {
    Err(Failure::usage(format!(
        "`{database_url}` cannot be opened: this build has no scheduler yet"
    )))
}
