//! The ordered checks between a proposal and an order. A clone proposes, these decide.
//!
//! A check that fails refuses the opening part of an order; what closes or reduces passes all but
//! the first three. The limit of one position's notional clamps instead of refusing.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Serialize;

use super::account::{Account, AccountStatus, Valuation, tiers};
use super::accounting::fee;
use super::fill::{Execution, execute};
use super::margin;
use crate::decisions::{Intent, IntentKind, OpenSize};
use crate::market::Price;
use crate::strategy::Side;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The check.
    pub check: &'static str,
    /// Whether it passed.
    pub ok: bool,
    /// What is allowed.
    pub limit: String,
    /// What was found.
    pub actual: String,
}

/// What a strategy and its worker allow themselves, beside the rules of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Highest leverage.
    pub max_leverage: Decimal,
    /// Largest notional of one position, as a multiple of equity.
    pub max_position_pct: Decimal,
    /// Positions open at one time.
    pub max_open_positions: u32,
    /// Loss of a day, as a fraction of the day's base, after which nothing is opened.
    pub max_daily_loss_pct: Option<Decimal>,
    /// How old the last mark of an account may be that holds something and opens more
    /// (milliseconds): floors, stops and liquidation are as old as that.
    pub max_mark_age_ms: i64,
}

impl Limits {
    /// Those of a strategy's graph, and how old a mark may be.
    #[must_use]
    pub fn of(risk: &crate::strategy::Risk, max_mark_age_ms: i64) -> Self {
        let exact = |value: f64| Decimal::try_from(value).unwrap_or_default();
        Self {
            max_leverage: exact(risk.max_leverage),
            max_position_pct: exact(risk.max_position_pct),
            max_open_positions: u32::try_from(risk.max_open_positions).unwrap_or(u32::MAX),
            max_daily_loss_pct: risk.max_daily_loss_pct.map(exact),
            max_mark_age_ms,
        }
    }
}

/// A proposal, and until when its action cools down (epoch milliseconds).
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What is proposed.
    pub intent: Intent,
    /// Nothing is opened by it before; `None` when it has no cooldown.
    pub cooldown_until_ms: Option<i64>,
}

/// What came of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// What each check found, in order.
    pub verdicts: Vec<Verdict>,
    /// What to trade; `None` when there is nothing to do, or nothing allowed.
    pub trade: Option<Trade>,
}

/// What may be traded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trade {
    /// Base currency; negative sells.
    pub size: Decimal,
    /// The leverage of what it opens.
    pub leverage: Decimal,
    /// At which price.
    pub execution: Execution,
}

impl Assessment {
    /// Whether a check refused something.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.verdicts.iter().any(|verdict| !verdict.ok)
    }
}

/// Judges a proposal for an account. `value` is `None` when a position of it has no fresh mark:
/// nothing is opened then.
#[must_use]
pub fn assess(
    account: &Account,
    value: Option<&Valuation>,
    proposal: &Proposal,
    limits: &Limits,
    prices: &BTreeMap<String, Price>,
    now_ms: i64,
) -> Assessment {
    let unknown = Price::default();
    let market = prices.get(&proposal.intent.symbol).unwrap_or(&unknown);
    Desk { account, value, proposal, limits, market, now_ms, verdicts: Vec::new() }.assess()
}

/// One assessment under way.
struct Desk<'a> {
    account: &'a Account,
    value: Option<&'a Valuation>,
    proposal: &'a Proposal,
    limits: &'a Limits,
    market: &'a Price,
    now_ms: i64,
    verdicts: Vec<Verdict>,
}

/// What a proposal wants to open.
#[derive(Clone, Copy)]
struct Opening {
    /// 1 or −1.
    side: Decimal,
    size: OpenSize,
    leverage: Decimal,
    stop_loss_pct: Option<Decimal>,
}

impl Desk<'_> {
    fn assess(mut self) -> Assessment {
        let held = self.account.positions.get(&self.proposal.intent.symbol);
        let held = held.map_or(Decimal::ZERO, |position| position.size);
        let opening = match self.proposal.intent.kind {
            IntentKind::Close => None,
            IntentKind::Open { side, size, leverage, stop_loss_pct, .. } => {
                let side = if side == Side::Short { -Decimal::ONE } else { Decimal::ONE };
                // There is no pyramiding: what is held already is left as it is.
                if held * side > Decimal::ZERO {
                    return Assessment { verdicts: self.verdicts, trade: None };
                }
                Some(Opening { side, size, leverage, stop_loss_pct })
            }
        };
        let opens = opening.is_some();
        if !self.may_trade(opens) || (opening.is_none() && held.is_zero()) {
            return Assessment { verdicts: self.verdicts, trade: None };
        }
        let opened = opening.and_then(|opening| self.open(opening, held));
        let leverage = opening.map_or(Decimal::ONE, |opening| opening.leverage);
        let size = opened.unwrap_or_default() - held;
        let slippage = self.account.rules.slippage_rate;
        let execution = execute(self.market, size, slippage, self.now_ms);
        let trade = execution.filter(|_| !size.is_zero());
        let trade = trade.map(|execution| Trade { size: size.normalize(), leverage, execution });
        Assessment { verdicts: self.verdicts, trade }
    }

    /// Checks 1 to 3, which also what closes has to pass.
    fn may_trade(&mut self, opens: bool) -> bool {
        let status = self.account.status;
        self.check("account_active", status.is_open(), "active", status.as_str());
        let terms = self.market.terms.as_ref();
        let listed = match terms {
            None => "not listed",
            Some(terms) if terms.delisted => "delisted",
            Some(_) => "listed",
        };
        // What is delisted may still be got rid of.
        let tradable = listed == "listed" || (!opens && listed == "delisted");
        self.check("symbol_tradable", tradable, "listed", listed);
        let limit = self.account.rules.max_mark_deviation;
        let found = self.market.fresh_mark(self.now_ms).map(|mark| {
            let oracle = self.market.fresh_oracle(self.now_ms).unwrap_or(mark);
            (mark.value / oracle.value - Decimal::ONE).abs()
        });
        let ok = found.is_some_and(|deviation| deviation <= limit || !opens);
        let actual = found.map_or("no fresh mark".to_owned(), text);
        self.check("mark_fresh_and_sane", ok, text(limit), actual);
        self.passed()
    }

    /// Checks 4 to 13: the signed size that may be opened.
    fn open(&mut self, opening: Opening, held: Decimal) -> Option<Decimal> {
        let rules = &self.account.rules;
        let mark = self.market.fresh_mark(self.now_ms)?.value;
        self.check_last_mark();
        let Some(value) = self.value else {
            self.check("positions_marked", false, "fresh marks", "a position has no fresh mark");
            return None;
        };
        let floors = self.account.floors();
        let buffer = rules.floor_buffer_pct * self.account.initial;
        // 4
        let own = self.limits.max_daily_loss_pct;
        let own = own.map(|pct| self.account.day_base * (Decimal::ONE - pct));
        let lowest = (floors.highest() + buffer).max(own.unwrap_or_default());
        let active = self.account.status == AccountStatus::Active;
        let actual = if active { text(value.equity) } else { self.account.status.as_str().into() };
        self.check("not_reduce_only", active && value.equity >= lowest, text(lowest), actual);
        // 5
        let until = self.cools_down_until();
        self.check("cooldown", until <= self.now_ms, until.to_string(), self.now_ms.to_string());
        // 8 clamps, so it comes before what depends on the size.
        let position_limit =
            rules.max_position_pct.min(self.limits.max_position_pct) * value.equity;
        let size = self.sized(opening.size, value.equity, mark, position_limit);
        let notional = size * mark;
        // 6
        let wanted = rules.min_notional;
        self.check(
            "min_notional",
            notional >= wanted && !size.is_zero(),
            text(wanted),
            text(notional),
        );
        // 7
        let terms = self.market.terms.as_ref();
        let highest = margin::max_leverage(notional, tiers(terms));
        let highest = highest.min(rules.max_leverage).min(self.limits.max_leverage);
        let leverage = opening.leverage;
        let ok = leverage >= Decimal::ONE && leverage <= highest;
        self.check("leverage", ok, text(highest), text(leverage));
        // 8
        self.check(
            "position_notional",
            notional <= position_limit,
            text(position_limit),
            text(notional),
        );
        let gross_limit = rules.max_gross_leverage * value.equity;
        let gross = value.gross - held.abs() * mark + notional;
        self.check("gross_notional", gross <= gross_limit, text(gross_limit), text(gross));
        // 9
        let positions = self.account.positions.len() + usize::from(held.is_zero());
        let most = rules.max_open_positions.min(self.limits.max_open_positions);
        let few = u32::try_from(positions).is_ok_and(|positions| positions <= most);
        self.check("open_positions", few, most.to_string(), positions.to_string());
        // 10
        let freed = self.account.positions.get(&self.proposal.intent.symbol);
        let freed = freed.map_or(Decimal::ZERO, |position| {
            margin::initial(position.size.abs() * mark, position.leverage)
        });
        let fees = fee(size + held.abs(), mark, rules.taker_fee_rate);
        let free = value.equity - (value.margin_used - freed);
        let needed = margin::initial(notional, leverage) + fees;
        self.check("free_margin", needed <= free, text(free), text(needed));
        // 11
        let at_stop = opening.stop_loss_pct.unwrap_or_default() * notional;
        let exit_fee = fee(size, mark, rules.taker_fee_rate);
        let left = value.equity - fees - exit_fee - at_stop;
        let lowest = floors.highest() + buffer;
        self.check("loss_at_stop", left >= lowest, text(lowest), text(left));
        // 12
        self.check_liquidation(opening, size, mark, value);
        // 13
        let (orders, most) = (self.account.today.orders, rules.max_orders_per_day);
        self.check("orders_per_day", orders < most, most.to_string(), orders.to_string());
        self.passed().then_some(size * opening.side)
    }

    /// What is held has been marked of late: whose marks fail, or whose marks nobody makes, is stopped
    /// and liquidated by nobody.
    fn check_last_mark(&mut self) {
        let Account { positions, marked_at_ms, opened_at_ms, .. } = self.account;
        let age_ms = self.now_ms.saturating_sub(marked_at_ms.unwrap_or(*opened_at_ms));
        let most_ms = self.limits.max_mark_age_ms;
        let ok = positions.is_empty() || age_ms <= most_ms;
        let (limit, actual) = (format!("marked {most_ms} ms ago"), format!("{age_ms} ms ago"));
        self.check("account_marked", ok, limit, actual);
    }

    fn cools_down_until(&self) -> i64 {
        let Account { rules, last_entry_at_ms, last_loss_at_ms, .. } = self.account;
        let after = |at_ms: Option<i64>, length_ms: i64| {
            at_ms.filter(|_| length_ms > 0).map_or(0, |at_ms| at_ms.saturating_add(length_ms))
        };
        after(*last_entry_at_ms, rules.cooldown_ms)
            .max(after(*last_loss_at_ms, rules.cooldown_after_loss_ms))
            .max(self.proposal.cooldown_until_ms.unwrap_or_default())
    }

    /// Units within the notional's limit, rounded down to the step; zero when there are none.
    fn sized(&self, size: OpenSize, equity: Decimal, mark: Decimal, limit: Decimal) -> Decimal {
        let most = limit.max(Decimal::ZERO) / mark;
        let units = match size {
            OpenSize::Units(units) => units,
            OpenSize::EquityFraction(fraction) => {
                fraction.checked_mul(equity).map_or(most, |notional| notional / mark)
            }
        };
        let units = units.min(most).max(Decimal::ZERO);
        let step = self.market.terms.as_ref().map(|terms| terms.size_step);
        let step = step.filter(|step| *step > Decimal::ZERO).unwrap_or(super::decimal(1, 8));
        let count = units.checked_div(step).map(|count| count.floor());
        count.and_then(|count| count.checked_mul(step)).unwrap_or_default().normalize()
    }

    /// Check 12: the stop is reached before the liquidation.
    fn check_liquidation(
        &mut self,
        opening: Opening,
        size: Decimal,
        mark: Decimal,
        value: &Valuation,
    ) {
        let notional = size * mark;
        let tiers = tiers(self.market.terms.as_ref());
        let available = value.equity - value.maintenance - margin::maintenance(notional, tiers);
        let liquidation = margin::liquidation_price(size * opening.side, mark, available, tiers);
        let (ok, limit, actual) = match (liquidation, opening.stop_loss_pct) {
            (Some(liquidation), Some(pct)) => {
                let stop = mark * (Decimal::ONE - opening.side * pct);
                (stop * opening.side > liquidation * opening.side, text(liquidation), text(stop))
            }
            (Some(liquidation), None) => {
                let ok = liquidation * opening.side < mark * opening.side;
                (ok, text(liquidation), "no stop".to_owned())
            }
            (None, _) => (true, "never".to_owned(), "any".to_owned()),
        };
        self.check("liquidation_beyond_stop", ok, limit, actual);
    }

    fn check(
        &mut self,
        check: &'static str,
        ok: bool,
        limit: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.verdicts.push(Verdict { check, ok, limit: limit.into(), actual: actual.into() });
    }

    fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.ok)
    }
}

fn text(number: Decimal) -> String {
    number.round_dp(8).normalize().to_string()
}

#[cfg(test)]
mod tests;
