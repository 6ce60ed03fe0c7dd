//! The result of a back-test, as it is stored (`backtest_jobs.result`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::metrics::{Metric, Undefined};
use crate::strategy::Side;

/// The longest `equity` of a result, in points.
pub const EQUITY_POINTS: usize = 2_000;

/// The result of a back-test. Fractions are fractions (0.1 is 10 %), money is USD. A figure that
/// is `None` has its reason under `nulls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestResult {
    /// Bars of the history, which is also the number of returns.
    pub bars: usize,
    /// Equity at the start.
    pub initial_cash: f64,
    /// Equity at the end, with every position closed.
    pub final_equity: f64,
    /// `final_equity/initial_cash − 1`.
    pub total_return: f64,
    /// Compound yearly growth.
    pub cagr: Option<f64>,
    /// Yearly volatility of the bars' returns.
    pub volatility: Option<f64>,
    /// Sharpe ratio by year, without a risk-free rate.
    pub sharpe: Option<f64>,
    /// Sortino ratio by year.
    pub sortino: Option<f64>,
    /// The deepest fall of equity at closes, at most 0.
    pub max_drawdown: f64,
    /// CAGR by the depth of the deepest fall.
    pub calmar: Option<f64>,
    /// Trades that gained, by all trades.
    pub win_rate: Option<f64>,
    /// Gains by losses of trades, net of fees.
    pub profit_factor: Option<f64>,
    /// Bars in which a position was held at some moment, by all bars.
    pub exposure: f64,
    /// Notional of all fills by mean equity, over the whole history.
    pub turnover: Option<f64>,
    /// Fees of all fills.
    pub fees_paid: f64,
    /// Every trade, in the order of their exits.
    pub trades: Vec<Trade>,
    /// Equity at the close of bars, each with the bar's `open_time_ms`: at most
    /// [`EQUITY_POINTS`], with the first, the last and the ends of the deepest fall.
    pub equity: Vec<(i64, f64)>,
    /// Why figures are `None`, by their names here.
    pub nulls: BTreeMap<String, Undefined>,
    /// How often inputs had no value, in readings by feature (one per node and bar).
    pub unknown_inputs: BTreeMap<String, u64>,
}

/// A position from its opening to its close.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Long or short.
    pub side: Side,
    /// `open_time_ms` of the bar at whose open it was entered.
    pub entry_time_ms: i64,
    /// Price of the entry, slippage included.
    pub entry_price: f64,
    /// `open_time_ms` of the bar in which it was left.
    pub exit_time_ms: i64,
    /// Price of the exit, slippage included.
    pub exit_price: f64,
    /// Size (base currency), above 0.
    pub size: f64,
    /// Profit or loss, net of fees.
    pub pnl: f64,
    /// Fees of entry and exit.
    pub fees: f64,
    /// Why it was left.
    pub exit_reason: ExitReason,
    /// It was still open at the end of the history, and was closed at the last close.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_at_end: bool,
}

/// Why a position was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// An action closed it or opened the other side.
    Signal,
    /// The price reached the stop loss.
    StopLoss,
    /// The price reached the take profit.
    TakeProfit,
    /// It had used up the account.
    Liquidation,
    /// The history ended.
    End,
}

/// The figure, or `None` with the reason noted under `name`.
pub(super) fn note(
    nulls: &mut BTreeMap<String, Undefined>,
    name: &str,
    metric: Metric,
) -> Option<f64> {
    match metric {
        Ok(value) => Some(value),
        Err(reason) => {
            nulls.insert(name.to_owned(), reason);
            None
        }
    }
}

/// The bars whose equity is kept of `length`: evenly spaced, with first, last and `extremes`.
pub(super) fn kept_bars(length: usize, extremes: [usize; 2]) -> Vec<usize> {
    if length <= EQUITY_POINTS {
        return (0..length).collect();
    }
    let spaced = EQUITY_POINTS - extremes.len();
    let mut bars: Vec<usize> =
        (0..spaced).map(|point| point * (length - 1) / (spaced - 1)).chain(extremes).collect();
    bars.sort_unstable();
    bars.dedup();
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends_and_extremes_and_its_limit() {
        for length in [0, 1, 1_999, 2_000, 2_001, 3_999, 1_000_000] {
            let extremes = [length / 3, length * 2 / 3];
            let bars = kept_bars(length, extremes);
            assert!(bars.len() <= EQUITY_POINTS && bars.len() >= length.min(1_998), "{length}");
            assert!(bars.is_sorted_by(|left, right| left < right), "{length}");
            if length > 0 {
                assert_eq!((bars.first(), bars.last()), (Some(&0), Some(&(length - 1))));
                assert!(extremes.iter().all(|bar| bars.contains(bar)), "{length}");
            }
        }
    }
}
