//! What is to be written about an account: the account as it will be, and what led there.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::account::{Account, AccountStatus, Breach, DayStat, Position, RecentFill, Valuation};
use super::accounting::{apply, fee};
use super::fill::Execution;
use super::floors::Floors;
use super::ledger::{Transaction, TransactionKind};

words! {
    /// Why an order was filled.
    FillReason {
        /// A clone decided so.
        Decision = "decision",
        /// The mark reached its stop.
        Stop = "stop",
        /// The mark reached its target.
        Take = "take",
        /// Its equity fell below the maintenance margin.
        Liquidation = "liquidation",
        /// The account was closed or halted.
        Close = "close",
    }
}

/// An order that is filled at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Unique for ever: the same order is filled once.
    pub client_order_id: String,
    /// What is traded.
    pub symbol: String,
    /// Base currency; negative sells.
    pub size: Decimal,
    /// The leverage of what it opens.
    pub leverage: Decimal,
    /// Loss at which to close what it opens, as a fraction of the fill's price.
    pub stop_loss_pct: Option<Decimal>,
    /// Profit at which to close what it opens, as a fraction of the fill's price.
    pub take_profit_pct: Option<Decimal>,
    /// Why.
    pub reason: FillReason,
}

/// A fill, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The order.
    pub client_order_id: String,
    /// What was traded.
    pub symbol: String,
    /// Base currency; negative was sold.
    pub size: Decimal,
    /// USD.
    pub price: Decimal,
    /// USD.
    pub fee: Decimal,
    /// What closing earned, without the fee (USD).
    pub realized: Decimal,
    /// The leverage of the order.
    pub leverage: Decimal,
    /// The mark at that moment (USD).
    pub mark: Option<Decimal>,
    /// How much worse than the middle of the book, in hundredths of a per cent.
    pub slippage_bps: Decimal,
    /// Why.
    pub reason: FillReason,
    /// When, epoch milliseconds.
    pub filled_at_ms: i64,
}

/// What an auditor asks for that is no money.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// A word, as in `breached`.
    pub kind: &'static str,
    /// When, epoch milliseconds.
    pub at_ms: i64,
    /// All that it was decided with, as JSON.
    pub detail: serde_json::Value,
}

/// What an account was worth at a mark, and its floors then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EquitySnapshot {
    /// When, epoch milliseconds.
    pub at_ms: i64,
    /// The balance (USD).
    pub cash: Decimal,
    /// What it was worth.
    pub value: Valuation,
    /// The floors that it was tested against.
    pub floors: Floors,
}

/// What is to be written. It counts if the account is still at `seen_version`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The account as it will be.
    pub account: Account,
    /// The version that it was made from.
    pub seen_version: i64,
    /// Positions that changed: the account says how they are, or that they are gone.
    pub changed: BTreeSet<String>,
    /// Fills, in order.
    pub fills: Vec<Fill>,
    /// Movements of money.
    pub ledger: Vec<Transaction>,
    /// Days that ended.
    pub ended_days: Vec<DayStat>,
    /// Whether the day of the account changed.
    pub day_changed: bool,
    /// What it was worth.
    pub equity: Option<EquitySnapshot>,
    /// What happened.
    pub events: Vec<Event>,
}

impl Plan {
    /// A plan that changes nothing yet.
    #[must_use]
    pub fn of(mut account: Account) -> Self {
        let seen_version = account.version;
        account.version += 1;
        Self {
            account,
            seen_version,
            changed: BTreeSet::new(),
            fills: Vec::new(),
            ledger: Vec::new(),
            ended_days: Vec::new(),
            day_changed: false,
            equity: None,
            events: Vec::new(),
        }
    }

    /// Fills an order.
    pub fn trade(
        &mut self,
        order: &Order,
        execution: Execution,
        mark: Option<Decimal>,
        at_ms: i64,
    ) {
        let held = self.account.positions.get(&order.symbol);
        let (size, entry) = held.map_or_else(Default::default, |held| (held.size, held.entry));
        let applied = apply(size, entry, order.size, execution.price);
        let fee = fee(order.size, execution.price, self.account.rules.taker_fee_rate);
        let key = |of: &str| format!("fill:{}:{of}", order.client_order_id);
        self.post(Transaction::new(TransactionKind::FillFee, key("fee"), at_ms, -fee));
        let pnl =
            Transaction::new(TransactionKind::RealizedPnl, key("pnl"), at_ms, applied.realized);
        self.post(pnl);
        self.account.today.fees += fee;
        self.account.today.realized += applied.realized;
        self.account.today.orders += 1;
        if !applied.opened.is_zero() {
            self.account.today.opened_position = true;
            self.account.last_entry_at_ms = Some(at_ms);
        }
        if applied.realized < Decimal::ZERO {
            self.account.last_loss_at_ms = Some(at_ms);
        }
        self.day_changed = true;
        self.place(order, applied.size, applied.entry, applied.opened, execution.price, at_ms);
        self.fills.push(Fill {
            client_order_id: order.client_order_id.clone(),
            symbol: order.symbol.clone(),
            size: order.size,
            price: execution.price,
            fee,
            realized: applied.realized,
            leverage: order.leverage,
            mark,
            slippage_bps: execution.slippage_bps,
            reason: order.reason,
            filled_at_ms: at_ms,
        });
        self.account.recent_fills.push(RecentFill {
            symbol: order.symbol.clone(),
            size: order.size,
            filled_at_ms: at_ms,
        });
    }

    /// Puts the position where a fill leaves it: what opens takes the order's leverage and exits,
    /// what only closes keeps its own.
    fn place(
        &mut self,
        order: &Order,
        size: Decimal,
        entry: Decimal,
        opened: Decimal,
        price: Decimal,
        at_ms: i64,
    ) {
        self.changed.insert(order.symbol.clone());
        if size.is_zero() {
            self.account.positions.remove(&order.symbol);
            return;
        }
        let held = self.account.positions.get(&order.symbol);
        let same_side =
            held.is_some_and(|held| held.size.is_sign_negative() == size.is_sign_negative());
        let opened_at_ms = held.filter(|_| same_side).map_or(at_ms, |held| held.opened_at_ms);
        let (leverage, stop, take) = match held {
            Some(held) if opened.is_zero() => (held.leverage, held.stop, held.take),
            _ => {
                let side = if size.is_sign_negative() { -Decimal::ONE } else { Decimal::ONE };
                let away = |by: Decimal| {
                    let exit = price * (Decimal::ONE + side * by);
                    (exit > Decimal::ZERO).then(|| super::accounting::price(exit))
                };
                let stop = order.stop_loss_pct.and_then(|pct| away(-pct));
                (order.leverage, stop, order.take_profit_pct.and_then(away))
            }
        };
        let position = Position { size, entry, leverage, stop, take, opened_at_ms };
        self.account.positions.insert(order.symbol.clone(), position);
    }

    /// Moves money; nothing is no movement.
    pub fn post(&mut self, transaction: Transaction) {
        let cash = transaction.cash();
        if cash.is_zero() {
            return;
        }
        self.account.cash = (self.account.cash + cash).normalize();
        self.ledger.push(transaction);
    }

    /// Takes note of what happened.
    pub fn note(&mut self, kind: &'static str, at_ms: i64, detail: serde_json::Value) {
        self.events.push(Event { kind, at_ms, detail });
    }

    /// Ends the account.
    pub fn end(&mut self, status: AccountStatus, breach: Option<Breach>, at_ms: i64) {
        self.account.status = status;
        self.account.breach = breach;
        self.account.closed_at_ms = Some(at_ms);
    }

    /// Takes note of the equity at a mark, or after what followed from it.
    pub fn observe(&mut self, equity: Decimal) {
        let before = (self.account.today.high_equity, self.account.today.low_equity);
        self.account.today.observe(equity);
        self.account.peak_equity = self.account.peak_equity.max(equity);
        let after = (self.account.today.high_equity, self.account.today.low_equity);
        self.day_changed |= before != after;
    }
}
