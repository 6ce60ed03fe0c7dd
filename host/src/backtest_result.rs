//! The result of a back-test as `backtest_jobs.result` holds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a back-test found. Money is in USD, ratios are fractions (0.05 is 5 %); a metric that is
/// not defined is `None`, and `nulls` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestResult {
    /// Bars that were played.
    pub bars: u64,
    /// Cash at the beginning.
    pub initial_cash: f64,
    /// Equity at the end.
    pub final_equity: f64,
    /// Gain over the whole run.
    pub total_return: Option<f64>,
    /// Gain per year, compounded.
    pub cagr: Option<f64>,
    /// Standard deviation of the returns, per year.
    pub volatility: Option<f64>,
    /// Return over volatility, per year.
    pub sharpe: Option<f64>,
    /// Return over downside deviation, per year.
    pub sortino: Option<f64>,
    /// The deepest fall from a peak; negative.
    pub max_drawdown: Option<f64>,
    /// `cagr` over the depth of `max_drawdown`.
    pub calmar: Option<f64>,
    /// Winning trades over all trades.
    pub win_rate: Option<f64>,
    /// Money won over money lost, net of fees.
    pub profit_factor: Option<f64>,
    /// Bars in position over all bars.
    pub exposure: Option<f64>,
    /// Traded notional over mean equity.
    pub turnover: Option<f64>,
    /// Fees, USD.
    pub fees_paid: f64,
    /// The trades, oldest first.
    #[serde(default)]
    pub trades: Vec<Trade>,
    /// Equity over time: epoch milliseconds and USD; at most 2,000 points.
    #[serde(default)]
    pub equity: Vec<(i64, f64)>,
    /// Why a metric is not defined, by its name.
    #[serde(default)]
    pub nulls: BTreeMap<String, String>,
}

/// One trade, from its first fill to its last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// `long` or `short`.
    pub side: String,
    /// When it was opened, epoch milliseconds.
    pub entry_time_ms: i64,
    /// The price it was opened at.
    pub entry_price: f64,
    /// When it was closed, epoch milliseconds.
    pub exit_time_ms: i64,
    /// The price it was closed at.
    pub exit_price: f64,
    /// How much, in the base currency.
    pub size: f64,
    /// Gain net of fees, USD.
    pub pnl: f64,
    /// Fees of both fills, USD.
    pub fees: f64,
    /// Whether the data ended before the strategy closed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_at_end: bool,
}

impl BacktestResult {
    /// Every metric by its name, in the order in which people read them.
    #[must_use]
    pub fn metrics(&self) -> [(&'static str, Option<f64>); 11] {
        [
            ("total_return", self.total_return),
            ("cagr", self.cagr),
            ("volatility", self.volatility),
            ("sharpe", self.sharpe),
            ("sortino", self.sortino),
            ("max_drawdown", self.max_drawdown),
            ("calmar", self.calmar),
            ("win_rate", self.win_rate),
            ("profit_factor", self.profit_factor),
            ("exposure", self.exposure),
            ("turnover", self.turnover),
        ]
    }
}
