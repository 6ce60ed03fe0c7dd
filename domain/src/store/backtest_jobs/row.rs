//! Rows of `backtest_jobs`, and the names that stand in them.

use sea_orm::{DbErr, FromQueryResult, QueryResult};

use crate::market::Interval;

/// Where a back-test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BacktestStatus {
    /// Waits for a worker, for the first time or again.
    Queued,
    /// A worker holds it under a lease.
    Running,
    /// It has a result.
    Succeeded,
    /// It failed for good; `last_error` says why.
    Dead,
    /// Somebody stopped it.
    Cancelled,
}

impl BacktestStatus {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Dead, Self::Cancelled];

    /// The name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// A row of the table, as `SELECT *` or a claim's `RETURNING *` gives it. What only the queue's
/// own statements need (slots, unique keys) is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestJob {
    /// UUID v7.
    pub id: String,
    /// Who asked.
    pub user_id: i64,
    /// The clone whose strategy it is, if it is one's.
    pub clone_id: Option<i64>,
    /// The strategy graph, canonical JSON.
    pub graph: String,
    /// The hash of `graph`.
    pub graph_hash: String,
    /// The instrument.
    pub symbol: String,
    /// The bars.
    pub interval: Interval,
    /// First bar, inclusive, epoch milliseconds; `None`: from the beginning.
    pub from_ms: Option<i64>,
    /// End, exclusive, epoch milliseconds; `None`: to the end.
    pub to_ms: Option<i64>,
    /// Cash at the start, USD.
    pub initial_cash: f64,
    /// Fee per side, a fraction of the notional.
    pub fee_rate: f64,
    /// Slippage per fill, a fraction of the price.
    pub slippage_rate: f64,
    /// Where it stands.
    pub status: BacktestStatus,
    /// Lower is claimed first.
    pub priority: i32,
    /// Not claimed before, epoch milliseconds.
    pub run_at_ms: i64,
    /// Times it was claimed.
    pub attempt_count: i32,
    /// Times it may fail.
    pub max_attempts: i32,
    /// Times its process died under it.
    pub crash_count: i32,
    /// The instance that holds it.
    pub leased_by: Option<String>,
    /// Grows at each claim.
    pub lease_token: i64,
    /// End of the lease, epoch milliseconds.
    pub lease_expires_at_ms: Option<i64>,
    /// Whether its holder is to stop.
    pub cancel_requested: bool,
    /// How far it is, 0 to 100.
    pub progress_pct: f64,
    /// What a retry goes on from.
    pub checkpoint: Option<String>,
    /// Why its last attempt failed.
    pub last_error: Option<String>,
    /// The result, JSON.
    pub result: Option<String>,
    /// When it was asked for, epoch milliseconds.
    pub created_at_ms: i64,
    /// When its last attempt started, epoch milliseconds.
    pub started_at_ms: Option<i64>,
    /// When it ended, epoch milliseconds.
    pub completed_at_ms: Option<i64>,
}

impl FromQueryResult for BacktestJob {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get(prefix, "id")?,
            user_id: row.try_get(prefix, "user_id")?,
            clone_id: row.try_get(prefix, "clone_id")?,
            graph: row.try_get(prefix, "graph")?,
            graph_hash: row.try_get(prefix, "graph_hash")?,
            symbol: row.try_get(prefix, "symbol")?,
            interval: read_interval(row, prefix)?,
            from_ms: row.try_get(prefix, "from_ms")?,
            to_ms: row.try_get(prefix, "to_ms")?,
            initial_cash: row.try_get(prefix, "initial_cash")?,
            fee_rate: row.try_get(prefix, "fee_rate")?,
            slippage_rate: row.try_get(prefix, "slippage_rate")?,
            status: read_status(row, prefix)?,
            priority: row.try_get(prefix, "priority")?,
            run_at_ms: row.try_get(prefix, "run_at_ms")?,
            attempt_count: row.try_get(prefix, "attempt_count")?,
            max_attempts: row.try_get(prefix, "max_attempts")?,
            crash_count: row.try_get(prefix, "crash_count")?,
            leased_by: row.try_get(prefix, "leased_by")?,
            lease_token: row.try_get(prefix, "lease_token")?,
            lease_expires_at_ms: row.try_get(prefix, "lease_expires_at_ms")?,
            cancel_requested: row.try_get(prefix, "cancel_requested")?,
            progress_pct: row.try_get(prefix, "progress_pct")?,
            checkpoint: row.try_get(prefix, "checkpoint")?,
            last_error: row.try_get(prefix, "last_error")?,
            result: row.try_get(prefix, "result")?,
            created_at_ms: row.try_get(prefix, "created_at_ms")?,
            started_at_ms: row.try_get(prefix, "started_at_ms")?,
            completed_at_ms: row.try_get(prefix, "completed_at_ms")?,
        })
    }
}

/// What a worker needs of a row that it claimed.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct ClaimedBacktest {
    /// UUID v7.
    pub id: String,
    /// Who asked.
    pub user_id: i64,
    /// The strategy graph, canonical JSON.
    pub graph: String,
    /// The instrument.
    pub symbol: String,
    /// The bars, as in `1h`.
    pub interval: String,
    /// First bar, inclusive, epoch milliseconds; `None`: from the beginning.
    pub from_ms: Option<i64>,
    /// End, exclusive, epoch milliseconds; `None`: to the end.
    pub to_ms: Option<i64>,
    /// Cash at the start, USD.
    pub initial_cash: f64,
    /// Fee per side, a fraction of the notional.
    pub fee_rate: f64,
    /// Slippage per fill, a fraction of the price.
    pub slippage_rate: f64,
}

impl ClaimedBacktest {
    /// The columns beside `id`.
    pub(super) const COLUMNS: [&str; 9] = [
        "user_id",
        "graph",
        "symbol",
        "interval",
        "from_ms",
        "to_ms",
        "initial_cash",
        "fee_rate",
        "slippage_rate",
    ];
}

/// A line of a list: a back-test without its graph, checkpoint and result.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestListing {
    /// UUID v7.
    pub id: String,
    /// Who asked.
    pub user_id: i64,
    /// The clone whose strategy it is, if it is one's.
    pub clone_id: Option<i64>,
    /// The hash of the graph.
    pub graph_hash: String,
    /// The instrument.
    pub symbol: String,
    /// The bars.
    pub interval: Interval,
    /// Where it stands.
    pub status: BacktestStatus,
    /// Times it was claimed.
    pub attempt_count: i32,
    /// Whether its holder is to stop.
    pub cancel_requested: bool,
    /// How far it is, 0 to 100.
    pub progress_pct: f64,
    /// Why its last attempt failed.
    pub last_error: Option<String>,
    /// When it was asked for, epoch milliseconds.
    pub created_at_ms: i64,
    /// When its last attempt started, epoch milliseconds.
    pub started_at_ms: Option<i64>,
    /// When it ended, epoch milliseconds.
    pub completed_at_ms: Option<i64>,
}

impl FromQueryResult for BacktestListing {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get(prefix, "id")?,
            user_id: row.try_get(prefix, "user_id")?,
            clone_id: row.try_get(prefix, "clone_id")?,
            graph_hash: row.try_get(prefix, "graph_hash")?,
            symbol: row.try_get(prefix, "symbol")?,
            interval: read_interval(row, prefix)?,
            status: read_status(row, prefix)?,
            attempt_count: row.try_get(prefix, "attempt_count")?,
            cancel_requested: row.try_get(prefix, "cancel_requested")?,
            progress_pct: row.try_get(prefix, "progress_pct")?,
            last_error: row.try_get(prefix, "last_error")?,
            created_at_ms: row.try_get(prefix, "created_at_ms")?,
            started_at_ms: row.try_get(prefix, "started_at_ms")?,
            completed_at_ms: row.try_get(prefix, "completed_at_ms")?,
        })
    }
}

pub(super) fn read_status(row: &QueryResult, prefix: &str) -> Result<BacktestStatus, DbErr> {
    let name: String = row.try_get(prefix, "status")?;
    BacktestStatus::from_name(&name).ok_or_else(|| {
        unknown("status", &name, "one of queued, running, succeeded, dead, cancelled")
    })
}

fn read_interval(row: &QueryResult, prefix: &str) -> Result<Interval, DbErr> {
    let name: String = row.try_get(prefix, "interval")?;
    name.parse().map_err(|_| unknown("interval", &name, "one of 1m, 5m, 15m, 1h, 4h, 1d"))
}

fn unknown(column: &str, value: &str, expected: &str) -> DbErr {
    DbErr::Type(format!(
        "column `{column}` of `backtest_jobs` holds `{value}`, expected {expected}"
    ))
}
