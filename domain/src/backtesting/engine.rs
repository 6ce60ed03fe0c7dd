//! The pass over the bars.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::account::Account;
use super::candles::check_candles;
use super::error::BacktestError;
use super::metrics::{Performance, TradeStatistics, count, finite};
use super::result::{BacktestResult, ExitReason, kept_bars, note};
use super::settings::Settings;
use crate::market::{Candle, Interval};
use crate::strategy::{
    Action, ActionKind, Decision, Entry, Evaluator, Feature, Input, InputSource, PriceField,
    Reading, RealizedVolatility, Side, Sizing, SizingContext, Unknown, ValidGraph, decide, size,
};

/// Bars between two calls of the progress callback.
const BARS_PER_REPORT: usize = 4_096;

/// Runs `graph` over `candles`.
///
/// On each bar, in this order: the order of the bar before fills at the open; the position is left
/// if the bar reaches its stop, its target or its ruin; equity is marked at the close; the graph is
/// evaluated and decides, unless the bar is one of its `warmup_bars` or the last. A size is fixed
/// at the decision. A position that is open after the last bar is closed at the last close. Every
/// fill pays fee and slippage.
///
/// The graph's `timeframe` and `universe` are not compared with `interval` and the history's
/// symbol: periods count the bars that are given. Of its `risk`, `max_leverage` and
/// `max_position_pct` act here; the other two belong to an account with several symbols.
///
/// `progress` is called with the bars done and their number, before the first bar, every 4,096 bars
/// and after the last. Memory is 8 bytes per bar, and the trades.
///
/// # Errors
/// A setting or a bar that is impossible, money beyond the range of a number, or
/// [`BacktestError::Cancelled`] when `progress` breaks before the last bar.
pub fn run(
    candles: &[Candle],
    interval: Interval,
    graph: &ValidGraph,
    settings: &Settings,
    mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<BacktestResult, BacktestError> {
    settings.check()?;
    check_candles(candles, interval)?;
    let total = candles.len();
    let mut pass = Pass::new(graph, interval, settings, total);
    for (bar, candle) in candles.iter().enumerate() {
        if bar % BARS_PER_REPORT == 0 && progress(bar, total).is_break() {
            return Err(BacktestError::Cancelled { done: bar, total });
        }
        let is_last = bar + 1 == total;
        pass.trade(candle);
        pass.evaluate(candle);
        if is_last {
            pass.account.close(candle.close, candle.open_time_ms, ExitReason::End);
        }
        if !pass.mark(candle) {
            return Err(BacktestError::Overflow { bar, open_time_ms: candle.open_time_ms });
        }
        if !is_last && bar >= graph.graph().warmup_bars {
            pass.decide(candle);
        }
    }
    // The work is done: too late to cancel.
    let _ = progress(total, total);
    Ok(pass.into_result(candles, interval))
}

struct Pass<'a> {
    actions: &'a [Action],
    graph: &'a ValidGraph,
    settings: &'a Settings,
    interval_ms: i64,
    evaluator: Evaluator,
    /// Of each action that is sized by volatility.
    volatilities: Vec<Option<RealizedVolatility>>,
    /// The time (ms) from which each action may fire again.
    ready_at_ms: Vec<i64>,
    account: Account,
    order: Option<Order>,
    equity: Vec<f64>,
    peak: f64,
    bars_held: usize,
}

/// What is done at the next open.
enum Order {
    Close,
    /// Closes what is held, then opens.
    Open {
        side: Side,
        size: f64,
        entry: Entry,
    },
}

impl<'a> Pass<'a> {
    fn new(graph: &'a ValidGraph, interval: Interval, settings: &'a Settings, bars: usize) -> Self {
        let actions = &graph.graph().actions;
        let volatility = |action: &Action| match entry(action)?.1.sizing {
            Sizing::VolTarget { lookback, .. } => {
                Some(RealizedVolatility::new(lookback, interval.periods_per_year()))
            }
            _ => None,
        };
        Self {
            actions,
            graph,
            settings,
            interval_ms: interval.as_millis(),
            evaluator: Evaluator::new(graph),
            volatilities: actions.iter().map(volatility).collect(),
            ready_at_ms: vec![i64::MIN; actions.len()],
            account: Account::new(settings),
            order: None,
            equity: Vec::with_capacity(bars),
            peak: settings.initial_cash,
            bars_held: 0,
        }
    }

    /// Fills the order at the open, and leaves the position inside the bar if it must.
    fn trade(&mut self, candle: &Candle) {
        let was_held = self.account.position().is_some();
        if let Some(order) = self.order.take() {
            self.account.close(candle.open, candle.open_time_ms, ExitReason::Signal);
            if let Order::Open { side, size, entry } = order {
                self.account.open(side, size, &entry, candle.open, candle.open_time_ms);
            }
        }
        if was_held || self.account.position().is_some() {
            self.bars_held += 1;
            self.account.leave_inside(candle);
        }
    }

    fn evaluate(&mut self, candle: &Candle) {
        self.peak = self.peak.max(self.account.equity(candle.close));
        self.evaluator.step(&BarInputs { candle, account: &self.account, peak: self.peak });
        for volatility in self.volatilities.iter_mut().flatten() {
            volatility.push(candle.close);
        }
    }

    /// Notes equity at the close; false when money has left the range of a number.
    fn mark(&mut self, candle: &Candle) -> bool {
        let equity = self.account.equity(candle.close);
        self.equity.push(equity);
        (equity / self.settings.initial_cash).is_finite() && self.account.is_finite()
    }

    fn decide(&mut self, candle: &Candle) {
        let now_ms = candle.open_time_ms + self.interval_ms;
        let held = self.account.position().map(|position| position.side);
        let decision = decide(
            self.actions,
            held,
            |action| self.evaluator.condition(action),
            |action| now_ms < self.ready_at_ms[action],
        );
        let Decision::Act(position) = decision else { return };
        let action = &self.actions[position];
        self.order = match entry(action) {
            None => Some(Order::Close),
            Some((side, entry)) => {
                let context = SizingContext {
                    equity: self.account.equity(candle.close),
                    price: candle.close,
                    size_step: self.settings.size_step,
                    yearly_volatility: self.volatilities[position]
                        .as_ref()
                        .map_or(Reading::Unknown(Unknown::NoHistory), RealizedVolatility::yearly),
                };
                let size = size(entry, &self.graph.graph().risk, &context);
                size.ok().map(|size| Order::Open { side, size, entry: *entry })
            }
        };
        if self.order.is_some() {
            self.ready_at_ms[position] = now_ms.saturating_add(action.cooldown_ms);
        }
    }

    fn into_result(self, candles: &[Candle], interval: Interval) -> BacktestResult {
        let Self { account, equity, settings, evaluator, bars_held, .. } = self;
        let bars = equity.len();
        let performance =
            Performance::measure(settings.initial_cash, &equity, interval.periods_per_year());
        let trades = TradeStatistics::measure(account.trades());
        let turnover = finite(account.notional_traded() / performance.mean_equity);

        let mut nulls = BTreeMap::new();
        let mut note = |name, metric| note(&mut nulls, name, metric);
        let drawdown = performance.drawdown;
        BacktestResult {
            bars,
            initial_cash: settings.initial_cash,
            final_equity: equity.last().copied().unwrap_or(settings.initial_cash),
            total_return: performance.total_return,
            cagr: note("cagr", performance.cagr),
            volatility: note("volatility", performance.volatility),
            sharpe: note("sharpe", performance.sharpe),
            sortino: note("sortino", performance.sortino),
            max_drawdown: drawdown.depth,
            calmar: note("calmar", performance.calmar),
            win_rate: note("win_rate", trades.win_rate),
            profit_factor: note("profit_factor", trades.profit_factor),
            exposure: count(bars_held) / count(bars),
            turnover: note("turnover", turnover),
            fees_paid: account.fees_paid(),
            equity: kept_bars(bars, [drawdown.peak, drawdown.trough])
                .into_iter()
                .map(|bar| (candles[bar].open_time_ms, equity[bar]))
                .collect(),
            trades: account.into_trades(),
            nulls,
            unknown_inputs: evaluator
                .unknown_inputs()
                .into_iter()
                .map(|(feature, readings)| (feature.to_owned(), readings))
                .collect(),
        }
    }
}

/// The side and the terms of an action that opens.
fn entry(action: &Action) -> Option<(Side, &Entry)> {
    match &action.kind {
        ActionKind::OpenLong(entry) => Some((Side::Long, entry)),
        ActionKind::OpenShort(entry) => Some((Side::Short, entry)),
        ActionKind::Close => None,
    }
}

/// What a back-test knows at the close of a bar: its candle and its account. Everything else has no
/// history here.
struct BarInputs<'a> {
    candle: &'a Candle,
    account: &'a Account,
    peak: f64,
}

impl InputSource for BarInputs<'_> {
    #[inline]
    fn read(&self, input: &Input) -> Reading<f64> {
        let candle = self.candle;
        let position = self.account.position();
        Reading::number(match input.feature {
            Feature::Price(PriceField::Close) => candle.close,
            Feature::Price(PriceField::Open) => candle.open,
            Feature::Price(PriceField::High) => candle.high,
            Feature::Price(PriceField::Low) => candle.low,
            Feature::Volume => candle.volume,
            Feature::PositionSide => position.map_or(0.0, |position| position.side.sign()),
            Feature::PositionPnlPct => {
                position.map_or(0.0, |position| position.profit(candle.close))
            }
            Feature::EquityDrawdown => self.account.equity(candle.close) / self.peak - 1.0,
            _ => return Reading::Unknown(Unknown::NoHistory),
        })
    }
}

#[cfg(test)]
mod tests;
