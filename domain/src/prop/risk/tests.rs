use std::collections::BTreeMap;

use super::super::account::Position;
use super::super::fixture;
use super::super::rules::AccountRules;
use super::*;
use crate::market::{Dated, MarginTier, Terms};

const NOW: i64 = 1_000_000;

fn d(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// What a case is made of; each test changes what it is about.
#[derive(Clone)]
struct Case {
    account: Account,
    limits: Limits,
    prices: BTreeMap<String, Price>,
    proposal: Proposal,
}

fn case() -> Case {
    let rules = AccountRules { max_gross_leverage: d("3"), ..AccountRules::default() };
    let account = Account { marked_at_ms: Some(NOW), ..fixture::account(rules) };
    let limits = Limits {
        max_leverage: d("5"),
        max_position_pct: d("3"),
        max_open_positions: 3,
        max_daily_loss_pct: None,
        max_mark_age_ms: 180_000,
    };
    let prices = ["BTC", "ETH"].map(|symbol| (symbol.to_owned(), price("100")));
    Case { account, limits, prices: prices.into(), proposal: open(Side::Long, "10") }
}

fn price(mark: &str) -> Price {
    let at = |value: &str| Some(Dated { value: d(value), received_at_ms: NOW });
    let tiers = vec![MarginTier { lower_bound: Decimal::ZERO, max_leverage: d("40") }];
    let terms = Terms { size_step: d("0.01"), tiers, only_isolated: false, delisted: false };
    Price {
        mark: at(mark),
        mid: at(mark),
        oracle: at("100"),
        terms: Some(terms),
        ..Price::default()
    }
}

fn open(side: Side, units: &str) -> Proposal {
    let kind = IntentKind::Open {
        side,
        size: OpenSize::Units(d(units)),
        leverage: d("3"),
        stop_loss_pct: None,
        take_profit_pct: None,
    };
    proposal(kind)
}

fn proposal(kind: IntentKind) -> Proposal {
    let symbol = "BTC".to_owned();
    let intent = Intent { symbol, kind, action_id: None, confidence: None, rationale: None };
    Proposal { intent, cooldown_until_ms: None }
}

fn held(size: &str) -> Position {
    Position {
        size: d(size),
        entry: d("100"),
        leverage: d("5"),
        stop: None,
        take: None,
        opened_at_ms: 0,
    }
}

fn judge(case: &Case) -> Assessment {
    let value = case.account.value(&case.prices, NOW).ok();
    let Case { account, limits, prices, proposal } = case;
    assess(account, value.as_ref(), proposal, limits, prices, NOW)
}

/// The size that is traded, and the checks that refused.
#[track_caller]
fn check(change: impl FnOnce(&mut Case), size: Option<&str>, refused: &[&str]) {
    let mut case = case();
    change(&mut case);
    let found = judge(&case);
    let failed: Vec<_> =
        found.verdicts.iter().filter(|verdict| !verdict.ok).map(|verdict| verdict.check).collect();
    assert_eq!(failed, refused, "{:#?}", found.verdicts);
    assert_eq!(found.trade.map(|trade| trade.size), size.map(d));
}

#[test]
fn an_opening_passes_all_checks_in_order() {
    let found = judge(&case());
    let names: Vec<_> = found.verdicts.iter().map(|verdict| verdict.check).collect();
    assert_eq!(
        names,
        [
            "account_active",
            "symbol_tradable",
            "mark_fresh_and_sane",
            "account_marked",
            "not_reduce_only",
            "cooldown",
            "min_notional",
            "leverage",
            "position_notional",
            "gross_notional",
            "open_positions",
            "free_margin",
            "loss_at_stop",
            "liquidation_beyond_stop",
            "orders_per_day",
        ]
    );
    assert_eq!(found.trade.unwrap().size, d("10"));
}

#[test]
fn each_check_refuses_what_it_is_for() {
    check(|case| case.account.status = AccountStatus::Breached, None, &["account_active"]);
    check(
        |case| drop(case.prices.remove("BTC")),
        None,
        &["symbol_tradable", "mark_fresh_and_sane"],
    );
    let delist = |case: &mut Case| {
        let price = case.prices.get_mut("BTC").unwrap();
        price.terms.as_mut().unwrap().delisted = true;
    };
    check(delist, None, &["symbol_tradable"]);
    check(
        |case| drop(case.prices.insert("BTC".into(), price("105.01"))),
        None,
        &["mark_fresh_and_sane"],
    );
    check(|case| drop(case.prices.insert("BTC".into(), price("105"))), Some("10"), &[]);
    let halted = |case: &mut Case| case.account.status = AccountStatus::HaltedUntilRoll;
    check(halted, None, &["not_reduce_only"]);
    // The floor of the day is 9,500, and 25 above it only what reduces passes.
    let near = |case: &mut Case| case.account.cash = d("9524.99");
    check(near, None, &["not_reduce_only", "loss_at_stop"]);
    let own = |case: &mut Case| {
        case.limits.max_daily_loss_pct = Some(d("0.01"));
        case.account.cash = d("9899");
    };
    check(own, None, &["not_reduce_only"]);
    check(|case| case.proposal.cooldown_until_ms = Some(NOW + 1), None, &["cooldown"]);
    let entered = |case: &mut Case| {
        case.account.rules.cooldown_ms = 1_000;
        case.account.last_entry_at_ms = Some(NOW - 999);
    };
    check(entered, None, &["cooldown"]);
    check(|case| case.proposal = open(Side::Long, "0.099"), None, &["min_notional"]);
    check(|case| case.proposal = open(Side::Long, "0.1099"), Some("0.1"), &[]);
    check(|case| case.limits.max_leverage = d("2.9"), None, &["leverage"]);
    check(|case| case.account.today.orders = 200, None, &["orders_per_day"]);
    check(|case| case.limits.max_open_positions = 0, None, &["open_positions"]);
    let risky = |case: &mut Case| {
        let IntentKind::Open { stop_loss_pct, .. } = &mut case.proposal.intent.kind else { return };
        // 1,000 at 48 % lose 480, which leaves less than 9,525.
        *stop_loss_pct = Some(d("0.48"));
    };
    check(risky, None, &["loss_at_stop"]);
    let unmarked = |case: &mut Case| {
        case.account.positions.insert("SOL".into(), held("1"));
    };
    check(unmarked, None, &["positions_marked"]);
}

#[test]
fn an_account_whose_last_mark_is_old_opens_nothing_beside_what_it_holds() {
    let marked = |age_ms: i64| {
        move |case: &mut Case| {
            case.account.positions.insert("ETH".into(), held("1"));
            case.account.marked_at_ms = Some(NOW - age_ms);
        }
    };
    check(marked(180_000), Some("10"), &[]);
    check(marked(180_001), None, &["account_marked"]);
    let verdicts = {
        let mut case = case();
        marked(180_001)(&mut case);
        judge(&case).verdicts
    };
    let refusal = verdicts.iter().find(|verdict| !verdict.ok).unwrap();
    assert_eq!(
        (refusal.limit.as_str(), refusal.actual.as_str()),
        ("marked 180000 ms ago", "180001 ms ago")
    );
    let never = |opened_at_ms: i64| {
        move |case: &mut Case| {
            marked(0)(case);
            case.account.marked_at_ms = None;
            case.account.opened_at_ms = opened_at_ms;
        }
    };
    check(never(NOW - 180_001), None, &["account_marked"]);
    check(never(NOW - 180_000), Some("10"), &[]);
    // It risks nothing yet: its first position is opened at a fresh mark.
    check(|case| case.account.marked_at_ms = Some(0), Some("10"), &[]);
    let old = |case: &mut Case| {
        case.account.positions.insert("BTC".into(), held("5"));
        case.account.marked_at_ms = Some(0);
    };
    let turn = |case: &mut Case| {
        old(case);
        case.proposal = open(Side::Short, "10");
    };
    check(turn, Some("-5"), &["account_marked"]);
    let close = |case: &mut Case| {
        old(case);
        case.proposal = proposal(IntentKind::Close);
    };
    check(close, Some("-5"), &[]);
}

/// domain.md §6.4: 20,000 are held of 30,000; 10,000 more are allowed, a cent beyond is not.
#[test]
fn the_gross_limit_refuses_a_cent_beyond() {
    let with = |units: &'static str| {
        move |case: &mut Case| {
            case.account.positions.insert("ETH".into(), held("200"));
            case.proposal = open(Side::Long, units);
            case.account.rules.max_position_pct = d("3");
            let price = case.prices.get_mut("BTC").unwrap();
            price.terms.as_mut().unwrap().size_step = d("0.0001");
        }
    };
    check(with("100"), Some("100"), &[]);
    check(with("100.0001"), None, &["gross_notional"]);
}

#[test]
fn the_limit_of_a_position_clamps() {
    let large = |case: &mut Case| {
        case.proposal = open(Side::Short, "1000");
        case.limits.max_position_pct = d("0.25");
    };
    check(large, Some("-25"), &[]);
    let fraction = |case: &mut Case| {
        let IntentKind::Open { size, .. } = &mut case.proposal.intent.kind else { return };
        *size = OpenSize::EquityFraction(d("0.3333"));
    };
    check(fraction, Some("33.33"), &[]);
}

#[test]
fn what_closes_passes_and_a_turn_closes_even_if_its_opening_is_refused() {
    let close = |case: &mut Case| {
        case.account.positions.insert("BTC".into(), held("5"));
        case.account.status = AccountStatus::HaltedUntilRoll;
        case.account.today.orders = 10_000;
        case.proposal = proposal(IntentKind::Close);
    };
    check(close, Some("-5"), &[]);
    let turn = |case: &mut Case| {
        case.account.positions.insert("BTC".into(), held("5"));
        case.proposal = open(Side::Short, "10");
    };
    check(turn, Some("-15"), &[]);
    let refused = |case: &mut Case| {
        turn(case);
        case.limits.max_leverage = Decimal::ONE;
    };
    check(refused, Some("-5"), &["leverage"]);
    let again = |case: &mut Case| {
        case.account.positions.insert("BTC".into(), held("5"));
    };
    check(again, None, &[]);
    check(|case| case.proposal = proposal(IntentKind::Close), None, &[]);
}
