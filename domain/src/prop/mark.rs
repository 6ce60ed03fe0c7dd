//! Marking an account: what it is worth now, and what follows from that.
//!
//! ```text
//! mark ─▶ funding, hour by hour ─▶ liquidation ─▶ floors ─▶ stops and targets ─▶ a new day
//!          (before the mark counts)   closes all     closes all     close one       new floors
//! ```
//! The worst comes first: a mark that liquidates is not softened by a stop that it has passed, and
//! the mark that begins a day is still tested against the floors of the day that ends.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde_json::json;

use super::account::{Account, AccountStatus, Breach, DayStat, Unpriced, Valuation};
use super::accounting::price;
use super::fill::{Execution, execute, slippage_bps};
use super::floors::{Floors, day_base, is_breached};
use super::funding::{HOUR_MS, hours_after, payment};
use super::ledger::{Transaction, TransactionKind};
use super::plan::{EquitySnapshot, FillReason, Order, Plan};
use super::rules::BreachKind;
use crate::market::Price;

/// What is known of the markets at a mark.
#[derive(Debug, Clone, Default)]
pub struct Market {
    /// Prices by symbol.
    pub prices: BTreeMap<String, Price>,
    /// Settled funding.
    pub funding: Funding,
}

/// Settled funding by symbol and hour (epoch milliseconds).
pub type Funding = BTreeMap<String, BTreeMap<i64, Settled>>;

/// An hour of funding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Of the hour, as a fraction.
    pub rate: Decimal,
    /// The oracle's price then; `None` where nobody kept it.
    pub oracle: Option<Decimal>,
}

/// For an hour whose rate has not come after this long nothing is paid (milliseconds).
pub const FUNDING_GIVEN_UP_AFTER_MS: i64 = 24 * HOUR_MS;

/// Plans the mark of an account.
///
/// # Errors
/// When a position has no fresh mark: a stale one proves nothing, so the account is left alone.
pub fn mark(account: Account, market: &Market, now_ms: i64) -> Result<Plan, Unpriced> {
    let mut plan = Plan::of(account);
    mark_within(&mut plan, market, now_ms)?;
    Ok(plan)
}

/// Marks the account of a plan; if a position has no fresh mark, the plan stays as it was.
fn mark_within(plan: &mut Plan, market: &Market, now_ms: i64) -> Result<(), Unpriced> {
    plan.account.value(&market.prices, now_ms)?;
    let rests = plan.account.positions.is_empty() && plan.account.marked_at_ms.is_some();
    settle_funding(plan, market, now_ms);
    let value = plan.account.value(&market.prices, now_ms)?;
    plan.account.marked_at_ms = Some(now_ms);
    plan.observe(value.equity);
    let floors = plan.account.floors();
    judge(plan, market, &value, floors, now_ms);
    let after = plan.account.value(&market.prices, now_ms)?;
    plan.observe(after.equity);
    let day_is_new = begin_day(plan, after.equity, now_ms);
    // An account that holds nothing is worth what it was at the last mark.
    if !(rests && plan.ledger.is_empty() && !day_is_new) {
        let cash = value.equity - value.unrealized;
        plan.equity = Some(EquitySnapshot { at_ms: now_ms, cash, value, floors });
    }
    Ok(())
}

/// Brings an account to where its next trade begins: what is due on the old positions is settled,
/// and a day that is over is judged and ended by a mark, so that the trade counts to its own. Without
/// a fresh mark of a position the day goes on: nothing is opened then, and what closes counts to it.
pub(super) fn catch_up(plan: &mut Plan, market: &Market, now_ms: i64) {
    let account = &plan.account;
    let day_is_over = account.rules.day_of(now_ms) > account.today.day;
    let is_marked =
        account.status.is_open() && day_is_over && mark_within(plan, market, now_ms).is_ok();
    if !is_marked {
        settle_funding(plan, market, now_ms);
    }
}

/// Plans what an account that has ended still pays or is paid: funding of hours that it held through
/// and whose rates came late. `None` when no more is known than before.
#[must_use]
pub fn settle(account: Account, market: &Market, now_ms: i64) -> Option<Plan> {
    let mut plan = Plan::of(account);
    let before_ms = plan.account.funding_until_ms;
    settle_funding(&mut plan, market, now_ms);
    if plan.account.funding_until_ms == before_ms {
        return None;
    }
    if plan.account.status == AccountStatus::Breached {
        cover(&mut plan, now_ms);
    }
    Some(plan)
}

/// Books the hours of funding that are due, in order, as far as their rates are known.
pub(super) fn settle_funding(plan: &mut Plan, market: &Market, now_ms: i64) {
    let until_ms =
        plan.account.closed_at_ms.map_or(now_ms, |closed_at_ms| closed_at_ms.min(now_ms));
    let due: Vec<i64> = hours_after(plan.account.funding_until_ms, until_ms).collect();
    for hour_ms in due {
        let mut payments = Vec::new();
        let mut given_up = Vec::new();
        for (symbol, size) in plan.account.held_at(hour_ms) {
            match settlement(market, symbol, hour_ms) {
                Some((rate, oracle)) => payments.push((symbol.to_owned(), size, oracle, rate)),
                None if now_ms - hour_ms > FUNDING_GIVEN_UP_AFTER_MS => {
                    given_up.push(symbol.to_owned());
                }
                None => return,
            }
        }
        for (symbol, size, oracle, rate) in payments {
            let amount = payment(size, oracle, rate);
            let key = format!("funding:{symbol}:{hour_ms}");
            let reference = format!("{size} × {oracle} × {rate}");
            let transaction = Transaction::new(TransactionKind::Funding, key, hour_ms, amount);
            plan.post(Transaction { reference: Some(reference), ..transaction });
            plan.account.today.funding += amount;
            plan.day_changed = true;
        }
        if !given_up.is_empty() {
            let detail = json!({ "hour_ms": hour_ms, "symbols": given_up });
            plan.note("funding_missing", now_ms, detail);
        }
        plan.account.funding_until_ms = hour_ms;
        plan.account.recent_fills.retain(|fill| fill.filled_at_ms > hour_ms);
    }
}

/// The rate of an hour and the oracle's price then, or the nearest that is known to it.
fn settlement(market: &Market, symbol: &str, hour_ms: i64) -> Option<(Decimal, Decimal)> {
    let settled = market.funding.get(symbol)?.get(&hour_ms)?;
    let now = || {
        let price = market.prices.get(symbol)?;
        price.oracle.or(price.mark).or(price.mid).map(|price| price.value)
    };
    Some((settled.rate, settled.oracle.or_else(now)?))
}

fn judge(plan: &mut Plan, market: &Market, value: &Valuation, floors: Floors, now_ms: i64) {
    let rules = &plan.account.rules;
    let holds = !plan.account.positions.is_empty();
    if holds && value.equity < value.maintenance {
        return fail(plan, value, floors, Breach::Liquidated, now_ms);
    }
    if is_breached(rules, value.equity, floors.max) {
        return fail(plan, value, floors, Breach::MaxTotalLoss, now_ms);
    }
    let daily = rules.max_daily_loss_pct.is_some();
    if daily && is_breached(rules, value.equity, floors.daily) {
        if rules.breach_kind == BreachKind::Hard {
            return fail(plan, value, floors, Breach::MaxDailyLoss, now_ms);
        }
        if plan.account.status == AccountStatus::Active {
            plan.note("halted", now_ms, evidence(value, floors));
            plan.account.status = AccountStatus::HaltedUntilRoll;
        }
        return close_all(plan, value, FillReason::Close, now_ms);
    }
    exit_at_stops(plan, market, value, now_ms);
}

/// Closes everything and ends the account.
fn fail(plan: &mut Plan, value: &Valuation, floors: Floors, breach: Breach, now_ms: i64) {
    plan.note(breach.as_str(), now_ms, evidence(value, floors));
    let reason = match breach {
        Breach::Liquidated => FillReason::Liquidation,
        Breach::MaxDailyLoss | Breach::MaxTotalLoss => FillReason::Close,
    };
    close_all(plan, value, reason, now_ms);
    cover(plan, now_ms);
    plan.end(AccountStatus::Breached, Some(breach), now_ms);
}

/// What an account that has failed lost beyond its balance is the house's.
fn cover(plan: &mut Plan, now_ms: i64) {
    if plan.account.cash < Decimal::ZERO {
        let key = format!("liq:{}", plan.account.version);
        let rest = -plan.account.cash;
        plan.post(Transaction::new(TransactionKind::Liquidation, key, now_ms, rest));
    }
}

fn evidence(value: &Valuation, floors: Floors) -> serde_json::Value {
    json!({
        "equity": value.equity,
        "unrealized": value.unrealized,
        "maintenance": value.maintenance,
        "daily_floor": floors.daily,
        "max_floor": floors.max,
        "marks": value.marks,
    })
}

/// Closes all positions at their marks; a liquidation closes them worse by the penalty.
pub(super) fn close_all(plan: &mut Plan, value: &Valuation, reason: FillReason, now_ms: i64) {
    let held: BTreeSet<String> = plan.account.positions.keys().cloned().collect();
    for symbol in held {
        let (Some(order), Some(&mark)) = (closing(plan, &symbol, reason), value.marks.get(&symbol))
        else {
            continue;
        };
        let penalty = match reason {
            FillReason::Liquidation => plan.account.rules.liquidation_penalty_rate,
            _ => Decimal::ZERO,
        };
        let by = if order.size.is_sign_negative() { -penalty } else { penalty };
        let at = price(mark * (Decimal::ONE + by));
        let slippage_bps = slippage_bps(order.size, at, mark);
        plan.trade(&order, Execution { price: at, slippage_bps }, Some(mark), now_ms);
    }
}

fn exit_at_stops(plan: &mut Plan, market: &Market, value: &Valuation, now_ms: i64) {
    let mut exits = Vec::new();
    for (symbol, position) in &plan.account.positions {
        let Some(&mark) = value.marks.get(symbol) else { continue };
        let short = position.size.is_sign_negative();
        let beyond = |exit: Decimal, falls: bool| if falls { mark <= exit } else { mark >= exit };
        if position.stop.is_some_and(|stop| beyond(stop, !short)) {
            exits.push((symbol.clone(), FillReason::Stop, mark));
        } else if position.take.is_some_and(|take| beyond(take, short)) {
            exits.push((symbol.clone(), FillReason::Take, mark));
        }
    }
    for (symbol, reason, mark) in exits {
        let Some(order) = closing(plan, &symbol, reason) else { continue };
        let slippage = plan.account.rules.slippage_rate;
        let market = market.prices.get(&symbol);
        let execution = market.and_then(|price| execute(price, order.size, slippage, now_ms));
        let at_mark = Execution { price: mark, slippage_bps: Decimal::ZERO };
        plan.trade(&order, execution.unwrap_or(at_mark), Some(mark), now_ms);
    }
}

/// The order that closes a position. Its id is of this version of the account: it is filled once.
fn closing(plan: &Plan, symbol: &str, reason: FillReason) -> Option<Order> {
    let position = plan.account.positions.get(symbol)?;
    let Account { id, version, .. } = plan.account;
    Some(Order {
        client_order_id: format!("{}:{id}:{version}:{symbol}", reason.as_str()),
        symbol: symbol.to_owned(),
        size: -position.size,
        leverage: position.leverage,
        stop_loss_pct: None,
        take_profit_pct: None,
        reason,
    })
}

/// Ends the day of an account, if it is over, and begins another with new floors.
pub(super) fn begin_day(plan: &mut Plan, equity: Decimal, now_ms: i64) -> bool {
    let account = &mut plan.account;
    let day = account.rules.day_of(now_ms);
    if day <= account.today.day {
        return false;
    }
    let cash = account.cash;
    account.today.closing_balance = Some(cash);
    account.peak_balance = account.peak_balance.max(cash);
    account.day_base = day_base(&account.rules, cash, equity);
    let ended = std::mem::replace(&mut account.today, DayStat::begin(day, cash, equity));
    let resumes = account.status == AccountStatus::HaltedUntilRoll;
    if resumes {
        account.status = AccountStatus::Active;
    }
    plan.ended_days.push(ended);
    plan.day_changed = true;
    if resumes {
        plan.note("resumed", now_ms, json!({ "day": day }));
    }
    true
}

#[cfg(test)]
mod tests;
