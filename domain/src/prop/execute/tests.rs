use std::collections::BTreeMap;

use super::super::account::Position;
use super::super::{AccountRules, AccountStatus, HOUR_MS, decimal, fixture};
use super::*;
use crate::decisions::{Intent, OpenSize};
use crate::market::{Dated, Price, Terms};
use crate::strategy::Side;

const DAY_MS: i64 = 24 * HOUR_MS;
/// A second after midnight.
const NOW: i64 = 5 * DAY_MS + 1_000;

/// At the end of day 4, without fees or slippage, one order a day.
fn account() -> Account {
    let rules = AccountRules {
        taker_fee_rate: Decimal::ZERO,
        slippage_rate: Decimal::ZERO,
        max_orders_per_day: 1,
        ..AccountRules::default()
    };
    let mut account = fixture::account(rules);
    account.funding_until_ms = 5 * DAY_MS;
    account.marked_at_ms = Some(NOW - 60_000);
    account.today.day = 4;
    account.today.orders = 1;
    account
}

fn holding(units: i64) -> Account {
    let position = Position {
        size: units.into(),
        entry: decimal(100, 0),
        leverage: Decimal::ONE,
        stop: None,
        take: None,
        opened_at_ms: 0,
    };
    Account { positions: BTreeMap::from([("ETH".to_owned(), position)]), ..account() }
}

fn market(price: u32, received_at_ms: i64) -> Market {
    let dated = Some(Dated { value: decimal(price, 0), received_at_ms });
    let terms = Terms {
        size_step: decimal(1, 3),
        tiers: Terms::tiers(None, Some(20)),
        only_isolated: false,
        delisted: false,
    };
    let price = Price { mark: dated, mid: dated, terms: Some(terms), ..Price::default() };
    Market { prices: BTreeMap::from([("ETH".to_owned(), price)]), ..Market::default() }
}

fn decide(account: Account, kind: IntentKind, market: &Market) -> Executed {
    let limits = Limits {
        max_leverage: decimal(5, 0),
        max_position_pct: decimal(2, 0),
        max_open_positions: 3,
        max_daily_loss_pct: None,
        max_mark_age_ms: 180_000,
    };
    let symbol = "ETH".to_owned();
    let intent = Intent { symbol, kind, action_id: None, confidence: None, rationale: None };
    let proposal = Proposal { intent, cooldown_until_ms: None };
    execute(account, "run", &[proposal], &limits, market, NOW)
}

fn buy(units: i64) -> IntentKind {
    IntentKind::Open {
        side: Side::Long,
        size: OpenSize::Units(units.into()),
        leverage: Decimal::ONE,
        stop_loss_pct: None,
        take_profit_pct: None,
    }
}

#[test]
fn the_first_trade_of_a_day_ends_the_day_before_and_counts_to_its_own() {
    let executed = decide(account(), buy(1), &market(100, NOW));
    let plan = executed.plan;
    let [ended] = &plan.ended_days[..] else { panic!("one day ends: {:?}", plan.ended_days) };
    assert_eq!((ended.day, ended.orders, ended.opened_position), (4, 1, false));
    assert_eq!(ended.closing_balance, Some(decimal(10_000, 0)));
    let today = &plan.account.today;
    assert_eq!((today.day, today.orders, today.opened_position), (5, 1, true));
    assert_eq!(plan.account.marked_at_ms, Some(NOW));

    let again = decide(plan.account, buy(2), &market(100, NOW));
    assert!(again.plan.fills.is_empty() && again.plan.ended_days.is_empty());
    let sold = decide(again.plan.account, IntentKind::Close, &market(100, NOW));
    assert_eq!(sold.plan.account.today.orders, 2, "what closes is not held to the orders of a day");
    let third = decide(sold.plan.account, buy(1), &market(100, NOW));
    let refused = third.verdicts[0].iter().find(|verdict| !verdict.ok).expect("a refusal");
    assert_eq!((refused.check, refused.actual.as_str()), ("orders_per_day", "2"));
}

#[test]
fn a_day_that_is_over_is_judged_by_its_own_floors_before_the_first_trade_of_the_next() {
    // The balance fell to 9,700 yesterday: its floor is 9,500, that of a day that begins now 9,200.
    let mut account = holding(21);
    account.cash = decimal(9_700, 0);
    let executed = decide(account, IntentKind::Close, &market(90, NOW));
    let plan = executed.plan;
    assert_eq!(plan.account.status, AccountStatus::Breached, "9,490 is below 9,500");
    assert!(executed.refused && executed.client_order_ids.is_empty());
    assert_eq!(plan.fills.len(), 1);
    assert_eq!(plan.fills[0].reason, FillReason::Close);
}

#[test]
fn without_a_fresh_mark_a_day_goes_on_and_nothing_is_opened() {
    let stale = market(100, NOW - 60_000);
    let executed = decide(holding(1), buy(5), &stale);
    assert!(executed.plan.ended_days.is_empty() && executed.plan.fills.is_empty());
    assert_eq!(executed.plan.account.today.day, 4);
}

#[test]
fn an_account_that_is_closed_on_a_new_day_sells_on_that_day() {
    let plan = close(holding(1), AccountStatus::Closed, None, &market(110, NOW), NOW).unwrap();
    assert_eq!((plan.ended_days[0].day, plan.ended_days[0].realized), (4, Decimal::ZERO));
    assert_eq!((plan.account.today.day, plan.account.today.realized), (5, decimal(10, 0)));
}
