//! Performance figures, by the definitions that empyrical, quantstats and vectorbt share.
//!
//! Returns are simple and per bar: `r = E/E₋₁ − 1`, the first from the starting equity. Their
//! number `n` counts every bar, bar 0 included. A figure without a meaning is [`Undefined`] with
//! its reason; no figure is ever NaN or infinite.

use serde::{Deserialize, Serialize};

use super::result::Trade;

/// A figure, or why it has no value.
pub type Metric = Result<f64, Undefined>;

/// Why a figure has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undefined {
    /// Fewer than two bars.
    InsufficientSamples,
    /// All returns are equal.
    ZeroVariance,
    /// No return is negative.
    NoDownside,
    /// Equity never fell below an earlier value.
    NoDrawdown,
    /// No trade was made.
    NoTrades,
    /// No trade lost money.
    NoLosses,
    /// The value is too large for a number.
    Overflow,
}

/// Two equities and their quotient are rounded, each by at most ε/2 of about 1: spreads below this
/// are rounding, not risk.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// What a curve of equity says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Performance {
    /// `E_last/E_0 − 1`.
    pub total_return: f64,
    /// Compound yearly growth: `(1 + total)^(A/n) − 1`.
    pub cagr: Metric,
    /// `sd(r, ddof = 1) · √A`.
    pub volatility: Metric,
    /// `mean(r)/sd(r, ddof = 1) · √A`, without a risk-free rate.
    pub sharpe: Metric,
    /// `mean(r)/√(mean(min(r, 0)²)) · √A`, the mean over all n.
    pub sortino: Metric,
    /// The deepest fall.
    pub drawdown: Drawdown,
    /// `CAGR/|max drawdown|`.
    pub calmar: Metric,
    /// The mean of the curve (USD).
    pub mean_equity: f64,
}

/// The deepest fall of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawdown {
    /// `min(E/peak − 1)`, at most 0; the peak starts at `E_0`.
    pub depth: f64,
    /// The bar of the peak; 0 also when it is `E_0` itself.
    pub peak: usize,
    /// The bar of the deepest point.
    pub trough: usize,
}

impl Performance {
    /// Measures a curve: equity at the close of each bar, begun with `initial` (`E_0`, above 0),
    /// with `periods_per_year` (A) bars to a year.
    #[must_use]
    pub fn measure(initial: f64, equity: &[f64], periods_per_year: f64) -> Self {
        let bars = count(equity.len());
        let last = equity.last().copied().unwrap_or(initial);
        let total_return = change(initial, last);
        let drawdown = deepest_fall(initial, equity);
        let enough = if equity.len() < 2 { Err(Undefined::InsufficientSamples) } else { Ok(()) };

        let mean = returns(initial, equity).sum::<f64>() / bars;
        let squares: f64 = returns(initial, equity).map(|r| (r - mean).powi(2)).sum();
        let deviation = (squares / (bars - 1.0)).sqrt();
        let downside_squares: f64 = returns(initial, equity).map(|r| r.min(0.0).powi(2)).sum();
        let downside = (downside_squares / bars).sqrt();
        let year = periods_per_year.sqrt();

        // Ruin is a growth of −100 %, also when rounding has put the last value below 0.
        let cagr = enough
            .and_then(|()| finite((last / initial).max(0.0).powf(periods_per_year / bars) - 1.0));
        let ratio = |divisor: f64, reason: Undefined| {
            enough?;
            if divisor <= ROUNDING { Err(reason) } else { finite(mean / divisor * year) }
        };
        Self {
            total_return,
            cagr,
            volatility: enough.and_then(|()| finite(deviation * year)),
            sharpe: ratio(deviation, Undefined::ZeroVariance),
            sortino: ratio(downside, Undefined::NoDownside),
            drawdown,
            calmar: cagr.and_then(|cagr| {
                let depth = drawdown.depth.abs();
                if depth <= ROUNDING { Err(Undefined::NoDrawdown) } else { finite(cagr / depth) }
            }),
            mean_equity: equity.iter().map(|value| value / bars).sum(),
        }
    }
}

/// What the closed trades say, in money net of fees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TradeStatistics {
    /// Trades that gained, by all trades.
    pub win_rate: Metric,
    /// Gains by losses.
    pub profit_factor: Metric,
}

impl TradeStatistics {
    /// Measures closed trades.
    #[must_use]
    pub fn measure(trades: &[Trade]) -> Self {
        if trades.is_empty() {
            let none = Err(Undefined::NoTrades);
            return Self { win_rate: none, profit_factor: none };
        }
        let winners = trades.iter().filter(|trade| trade.pnl > 0.0).count();
        let gains: f64 = trades.iter().map(|trade| trade.pnl.max(0.0)).sum();
        let losses: f64 = trades.iter().map(|trade| (-trade.pnl).max(0.0)).sum();
        Self {
            win_rate: Ok(count(winners) / count(trades.len())),
            profit_factor: if losses == 0.0 {
                Err(Undefined::NoLosses)
            } else {
                finite(gains / losses)
            },
        }
    }
}

/// A figure that is a number.
pub(super) fn finite(value: f64) -> Metric {
    if value.is_finite() { Ok(value) } else { Err(Undefined::Overflow) }
}

#[expect(clippy::cast_precision_loss, reason = "bars and trades are far below 2^53")]
pub(super) fn count(number: usize) -> f64 {
    number as f64
}

/// `to/from − 1`, without its rounding: 10,100 from 10,000 is 0.01, not 0.010000000000000009.
fn change(from: f64, to: f64) -> f64 {
    (to - from) / from
}

/// Nothing is earned on nothing: after ruin returns are 0.
fn returns(initial: f64, equity: &[f64]) -> impl Iterator<Item = f64> {
    let earlier = std::iter::once(initial).chain(equity.iter().copied());
    equity.iter().zip(earlier).map(
        |(value, earlier)| {
            if earlier > 0.0 { change(earlier, *value) } else { 0.0 }
        },
    )
}

fn deepest_fall(initial: f64, equity: &[f64]) -> Drawdown {
    let (mut peak, mut peak_bar) = (initial, 0);
    let mut deepest = Drawdown { depth: 0.0, peak: 0, trough: 0 };
    for (bar, &value) in equity.iter().enumerate() {
        if value > peak {
            (peak, peak_bar) = (value, bar);
        }
        let depth = change(peak, value);
        if depth < deepest.depth {
            deepest = Drawdown { depth, peak: peak_bar, trough: bar };
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
