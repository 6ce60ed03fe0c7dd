//! Money, the one position, and how it is left inside a bar.

use super::result::{ExitReason, Trade};
use super::settings::Settings;
use crate::market::Candle;
use crate::strategy::{Entry, Side};

/// An account that holds at most one position.
///
/// It cannot lose more than it has: a position is liquidated at the price at which it has used up
/// the account, its closing fee included, also when the market has jumped beyond that price. (A
/// simplification: real venues liquidate earlier, at the maintenance margin.)
#[derive(Debug)]
pub(super) struct Account {
    cash: f64,
    fee_rate: f64,
    slippage_rate: f64,
    position: Option<Position>,
    trades: Vec<Trade>,
    fees_paid: f64,
    notional_traded: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) side: Side,
    pub(super) entry_price: f64,
    size: f64,
    entry_time_ms: i64,
    entry_fee: f64,
    stop: Option<f64>,
    target: Option<f64>,
}

impl Position {
    /// Unrealised profit as a fraction of the entry notional.
    pub(super) fn profit(&self, price: f64) -> f64 {
        self.advantage(price, self.entry_price) / self.entry_price
    }

    /// How much better `price` is for the position than `level`; negative when it is worse, and
    /// never −0, which a result would show.
    fn advantage(&self, price: f64, level: f64) -> f64 {
        match self.side {
            Side::Long => price - level,
            Side::Short => level - price,
        }
    }

    /// Unrealised profit before fees.
    fn gain(&self, price: f64) -> f64 {
        self.size * self.advantage(price, self.entry_price)
    }
}

impl Account {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            cash: settings.initial_cash,
            fee_rate: settings.fee_rate,
            slippage_rate: settings.slippage_rate,
            position: None,
            trades: Vec::new(),
            fees_paid: 0.0,
            notional_traded: 0.0,
        }
    }

    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    pub(super) fn trades(&self) -> &[Trade] {
        &self.trades
    }

    pub(super) fn into_trades(self) -> Vec<Trade> {
        self.trades
    }

    pub(super) fn fees_paid(&self) -> f64 {
        self.fees_paid
    }

    pub(super) fn notional_traded(&self) -> f64 {
        self.notional_traded
    }

    /// Equity with the position valued at `price`.
    pub(super) fn equity(&self, price: f64) -> f64 {
        self.cash + self.position.map_or(0.0, |position| position.gain(price))
    }

    /// Whether all money is still within the range of a number. Sums keep an overflow for ever, so
    /// that asking once a bar is enough.
    pub(super) fn is_finite(&self) -> bool {
        (self.cash + self.notional_traded + self.fees_paid).is_finite()
    }

    /// Opens a position at the market price `price`. The account must be flat.
    pub(super) fn open(&mut self, side: Side, size: f64, entry: &Entry, price: f64, time_ms: i64) {
        let sign = side.sign();
        let entry_price = price * (1.0 + sign * self.slippage_rate);
        let entry_fee = self.pay_fee(size * entry_price);
        self.position = Some(Position {
            side,
            entry_price,
            size,
            entry_time_ms: time_ms,
            entry_fee,
            // Not `entry · 1.1`, which is 110.00000000000001 for an entry at 100.
            stop: entry.stop_loss.map(|loss| entry_price - sign * (entry_price * loss)),
            target: entry.take_profit.map(|profit| entry_price + sign * (entry_price * profit)),
        });
    }

    /// Closes the position, if there is one, at the market price `price`.
    pub(super) fn close(&mut self, price: f64, time_ms: i64, reason: ExitReason) {
        let Some(position) = self.position else { return };
        let sign = position.side.sign();
        let mut exit_price = price * (1.0 - sign * self.slippage_rate);
        let mut exit_reason = reason;
        if let Some(ruin) = self.ruin_price(&position)
            && position.advantage(exit_price, ruin) <= 0.0
        {
            exit_price = ruin;
            exit_reason = ExitReason::Liquidation;
        }
        let gain = position.gain(exit_price);
        let exit_fee = self.pay_fee(position.size * exit_price);
        // By definition of the ruin price nothing is left; rounding must not leave a crumb.
        self.cash = if exit_reason == ExitReason::Liquidation { 0.0 } else { self.cash + gain };
        let fees = position.entry_fee + exit_fee;
        self.trades.push(Trade {
            side: position.side,
            entry_time_ms: position.entry_time_ms,
            entry_price: position.entry_price,
            exit_time_ms: time_ms,
            exit_price,
            size: position.size,
            pnl: gain - fees,
            fees,
            exit_reason,
            open_at_end: reason == ExitReason::End,
        });
        self.position = None;
    }

    /// Leaves the position inside `candle`, if the bar reaches its stop, its target or its ruin.
    ///
    /// The open comes first: beyond a level already, the fill is at the open. Then the adverse
    /// level counts before the target, because the order inside a bar is unknown.
    pub(super) fn leave_inside(&mut self, candle: &Candle) {
        let Some(position) = self.position else { return };
        let (worst, best) = match position.side {
            Side::Long => (candle.low, candle.high),
            Side::Short => (candle.high, candle.low),
        };
        let stop_at = |price| position.stop.filter(|&stop| position.advantage(price, stop) <= 0.0);
        let target_at =
            |price| position.target.filter(|&target| position.advantage(price, target) >= 0.0);
        let ruin_at = |price| {
            self.ruin_price(&position).filter(|&ruin| position.advantage(price, ruin) <= 0.0)
        };

        let (price, reason) = if stop_at(candle.open).is_some() {
            (candle.open, ExitReason::StopLoss)
        } else if target_at(candle.open).is_some() {
            (candle.open, ExitReason::TakeProfit)
        } else if let Some(stop) = stop_at(worst) {
            (stop, ExitReason::StopLoss)
        } else if let Some(ruin) = ruin_at(worst) {
            (ruin, ExitReason::Liquidation)
        } else if let Some(target) = target_at(best) {
            (target, ExitReason::TakeProfit)
        } else {
            return;
        };
        self.close(price, candle.open_time_ms, reason);
    }

    /// The price at which closing the position leaves exactly nothing:
    /// `cash + sign·size·(p − entry) − fee·size·p = 0`. `None` when no price above 0 does.
    fn ruin_price(&self, position: &Position) -> Option<f64> {
        let sign = position.side.sign();
        let notional = position.size * position.entry_price;
        let price = (notional - sign * self.cash) / (position.size * (1.0 - sign * self.fee_rate));
        (price > 0.0).then_some(price)
    }

    fn pay_fee(&mut self, notional: f64) -> f64 {
        let fee = notional * self.fee_rate;
        self.cash -= fee;
        self.fees_paid += fee;
        self.notional_traded += notional;
        fee
    }
}
