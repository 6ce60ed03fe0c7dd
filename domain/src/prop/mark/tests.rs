use super::super::account::Position;
use super::super::fixture;
use super::super::funding::HOUR_MS;
use super::super::rules::{AccountRules, MaxLossMode};
use super::*;
use crate::market::{Dated, MarginTier, Terms};

const DAY_MS: i64 = 24 * HOUR_MS;
/// A moment within a day.
const NOW: i64 = 100 * DAY_MS + 10 * HOUR_MS + 1_000;

fn d(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// 10,000 in cash, without fees or slippage.
fn account() -> Account {
    let rules = AccountRules {
        taker_fee_rate: Decimal::ZERO,
        slippage_rate: Decimal::ZERO,
        ..AccountRules::default()
    };
    Account {
        funding_until_ms: 100 * DAY_MS + 10 * HOUR_MS,
        today: DayStat::begin(100, d("10000"), d("10000")),
        ..fixture::account(rules)
    }
}

fn holding(size: &str, entry: &str) -> Account {
    let position = Position {
        size: d(size),
        entry: d(entry),
        leverage: d("5"),
        stop: None,
        take: None,
        opened_at_ms: 0,
    };
    Account { positions: BTreeMap::from([("ETH".to_owned(), position)]), ..account() }
}

fn market(mark: &str, now_ms: i64) -> Market {
    let tiers = vec![MarginTier { lower_bound: Decimal::ZERO, max_leverage: d("25") }];
    let terms = Terms { size_step: d("0.0001"), tiers, only_isolated: false, delisted: false };
    let mark = Some(Dated { value: d(mark), received_at_ms: now_ms });
    let price = Price { mark, terms: Some(terms), ..Price::default() };
    Market { prices: BTreeMap::from([("ETH".to_owned(), price)]), funding: Funding::new() }
}

fn funded(mut market: Market, hours: &[(i64, &str, Option<&str>)]) -> Market {
    let of_eth = hours.iter().map(|(hour_ms, rate, oracle)| {
        (*hour_ms, Settled { rate: d(rate), oracle: oracle.map(d) })
    });
    market.funding.insert("ETH".to_owned(), of_eth.collect());
    market
}

fn kinds(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|event| event.kind).collect()
}

#[test]
fn a_mark_reprices_and_changes_no_cash() {
    let plan = mark(holding("2", "2500"), &market("2550", NOW), NOW).unwrap();
    let equity = plan.equity.as_ref().unwrap();
    assert_eq!((equity.value.equity, equity.cash), (d("10100"), d("10000")));
    assert_eq!((equity.value.margin_used, equity.value.maintenance), (d("1020"), d("102")));
    assert_eq!((equity.floors.daily, equity.floors.max), (d("9500"), d("9000")));
    assert_eq!(
        (plan.account.peak_equity, plan.account.today.high_equity),
        (d("10100"), d("10100"))
    );
    assert_eq!((plan.seen_version, plan.account.version), (3, 4));
    assert!(plan.ledger.is_empty() && plan.fills.is_empty() && plan.events.is_empty());
}

#[test]
fn a_stale_or_missing_mark_leaves_the_account_alone() {
    let stale = market("2550", NOW - 15_001);
    let error = mark(holding("2", "2500"), &stale, NOW).unwrap_err();
    assert_eq!(error.to_string(), "no fresh mark of ETH");
    assert!(mark(holding("2", "2500"), &market("2550", NOW - 15_000), NOW).is_ok());
    assert!(mark(holding("2", "2500"), &Market::default(), NOW).is_err());
    assert!(mark(holding("2", "2500"), &market("0.000000001", NOW), NOW).is_err(), "no price");
}

#[test]
fn an_account_that_rests_leaves_no_snapshot() {
    let first = mark(account(), &Market::default(), NOW).unwrap();
    assert!(first.equity.is_some());
    let again = mark(first.account, &Market::default(), NOW + 60_000).unwrap();
    assert!(again.equity.is_none() && !again.day_changed);
    let next_day = mark(again.account, &Market::default(), NOW + DAY_MS).unwrap();
    assert!(next_day.equity.is_some());
}

#[test]
fn funding_stops_at_an_hour_that_is_not_known_and_gives_up_after_a_day() {
    let hour = |hour: i64| 100 * DAY_MS + hour * HOUR_MS;
    let known = [(hour(11), "0.0001", Some("2000")), (hour(13), "0.0001", None)];
    let now_ms = hour(13) + 5;
    let plan = mark(holding("1", "2500"), &funded(market("2500", now_ms), &known), now_ms).unwrap();
    assert_eq!(plan.account.funding_until_ms, hour(11));
    assert_eq!(plan.account.cash, d("9999.8"));
    // A day later the hour that never came is passed; the next is paid at the mark.
    let now_ms = hour(12) + FUNDING_GIVEN_UP_AFTER_MS + 1;
    let later = funded(market("2500", now_ms), &known);
    let plan = mark(plan.account, &later, now_ms).unwrap();
    assert_eq!(plan.account.funding_until_ms, hour(13));
    assert_eq!(plan.account.cash, d("9999.55"));
    assert_eq!(kinds(&plan), ["funding_missing"]);
    assert_eq!(plan.ledger[0].idempotency_key, format!("funding:ETH:{}", hour(13)));
    assert_eq!(plan.ledger[0].occurred_at_ms, hour(13));
}

#[test]
fn an_account_that_ended_settles_the_hours_that_it_held_through_when_their_rates_come() {
    let hour = |hour: i64| 100 * DAY_MS + hour * HOUR_MS;
    let rates = [(hour(11), "0.001", Some("2000")), (hour(12), "0.001", Some("2000"))];
    // It fails a minute after the second hour: neither rate is there yet.
    let failed_at_ms = hour(12) + 60_000;
    let failed = mark(holding("2", "2500"), &market("2000", failed_at_ms), failed_at_ms).unwrap();
    let ended = failed.account;
    assert_eq!((ended.status, ended.cash), (AccountStatus::Breached, d("9000")));
    assert_eq!(ended.funding_until_ms, hour(10));

    let later_ms = hour(15);
    let unknown = market("2000", later_ms);
    assert_eq!(settle(ended.clone(), &unknown, later_ms), None, "nothing more is known");
    let first = settle(ended, &funded(unknown.clone(), &rates[..1]), later_ms).unwrap();
    assert_eq!((first.account.cash, first.account.funding_until_ms), (d("8996"), hour(11)));
    let second = settle(first.account, &funded(unknown.clone(), &rates), later_ms).unwrap();
    assert_eq!((second.account.cash, second.account.funding_until_ms), (d("8992"), hour(12)));
    assert_eq!(second.ledger[0].occurred_at_ms, hour(12));
    assert_eq!(second.account.status, AccountStatus::Breached);
    assert_eq!(settle(second.account, &funded(unknown, &rates), later_ms), None, "and no more");
}

#[test]
fn an_account_that_ended_gives_up_after_a_day_and_the_house_covers_what_it_has_not() {
    let hour = |hour: i64| 100 * DAY_MS + hour * HOUR_MS;
    let failed_at_ms = hour(11) + 60_000;
    let gap = mark(holding("60", "2500"), &market("2000", failed_at_ms), failed_at_ms).unwrap();
    assert_eq!(gap.account.cash, Decimal::ZERO);
    let rate = [(hour(11), "0.001", Some("2000"))];
    let known = funded(market("2000", failed_at_ms), &rate);
    let paid = settle(gap.account.clone(), &known, hour(12)).unwrap();
    assert_eq!(paid.account.cash, Decimal::ZERO, "120 were owed");
    let kinds_of = paid.ledger.iter().map(|moved| moved.kind).collect::<Vec<_>>();
    assert_eq!(kinds_of, [TransactionKind::Funding, TransactionKind::Liquidation]);

    let at_last_ms = hour(11) + FUNDING_GIVEN_UP_AFTER_MS;
    assert_eq!(settle(gap.account.clone(), &Market::default(), at_last_ms), None);
    let given_up = settle(gap.account, &Market::default(), at_last_ms + 1).unwrap();
    assert_eq!(kinds(&given_up), ["funding_missing"]);
    assert_eq!(given_up.account.funding_until_ms, hour(11));
    assert!(given_up.ledger.is_empty());
}

#[test]
fn funding_is_paid_on_what_was_held_at_the_hour() {
    let hour = 100 * DAY_MS + 11 * HOUR_MS;
    let fill = |size: &str, filled_at_ms| super::super::account::RecentFill {
        symbol: "ETH".to_owned(),
        size: d(size),
        filled_at_ms,
    };
    let mut account = holding("1", "2500");
    account.recent_fills = vec![fill("4", hour), fill("-3", hour + 1)];
    let market = funded(market("2500", hour + 2), &[(hour, "0.001", Some("2500"))]);
    let plan = mark(account, &market, hour + 2).unwrap();
    assert_eq!(plan.account.cash, d("9990"), "on 4, not on the 1 that is left");
    assert_eq!(plan.account.recent_fills, [fill("-3", hour + 1)]);
}

#[test]
fn floors_end_or_halt_an_account() {
    let check = |rules: AccountRules, mark_at: &str, expected: (&str, Option<&str>)| {
        let rules = AccountRules { taker_fee_rate: Decimal::ZERO, ..rules };
        let plan = mark(Account { rules, ..holding("2", "2500") }, &market(mark_at, NOW), NOW);
        let account = plan.unwrap().account;
        let breach = account.breach.map(Breach::as_str);
        assert_eq!((account.status.as_str(), breach), expected, "{mark_at}");
        assert_eq!(account.positions.is_empty(), expected.0 != "active");
    };
    let rules = AccountRules::default;
    check(rules(), "2250", ("active", None));
    check(rules(), "2249.99", ("breached", Some("max_daily_loss")));
    check(rules(), "1999", ("breached", Some("max_total_loss")));
    let touching = AccountRules { breach_at_equal: true, ..rules() };
    check(touching, "2250", ("breached", Some("max_daily_loss")));
    let soft = AccountRules { breach_kind: BreachKind::SoftUntilRoll, ..rules() };
    check(soft.clone(), "2249.99", ("halted_until_roll", None));
    check(soft, "1999", ("breached", Some("max_total_loss")));
    let without = AccountRules { max_daily_loss_pct: None, ..rules() };
    check(without, "2001", ("active", None));
}

#[test]
fn an_intraday_peak_raises_the_floor_of_the_next_mark() {
    let mut account = holding("2", "2500");
    account.rules.max_loss_mode = MaxLossMode::IntradayTrail;
    account.rules.max_daily_loss_pct = None;
    let up = mark(account, &market("3000", NOW), NOW).unwrap();
    assert_eq!(up.equity.unwrap().floors.max, d("10000"));
    let down = mark(up.account, &market("2499", NOW + 1), NOW + 1).unwrap();
    assert_eq!(down.account.breach, Some(Breach::MaxTotalLoss));
}

#[test]
fn a_halted_account_resumes_with_the_new_day() {
    let mut account = holding("2", "2500");
    account.rules.breach_kind = BreachKind::SoftUntilRoll;
    let halted = mark(account, &market("2249", NOW), NOW).unwrap();
    assert_eq!(kinds(&halted), ["halted"]);
    assert_eq!(halted.account.cash, d("9498"));
    let again = mark(halted.account, &market("2249", NOW + 1), NOW + 1).unwrap();
    assert_eq!(kinds(&again), [""; 0], "once");
    let later = NOW + DAY_MS;
    let resumed = mark(again.account, &market("2249", later), later).unwrap();
    assert_eq!((kinds(&resumed), resumed.account.status), (vec!["resumed"], AccountStatus::Active));
    assert_eq!(resumed.account.floors().daily, d("8998"));
}

#[test]
fn a_day_that_begins_is_judged_by_the_floors_of_the_day_that_ends() {
    // The balance rose to 11,000: the old day's floor is 9,500, the new one's 10,500.
    let mut account = holding("1", "2500");
    account.cash = d("11000");
    let later = NOW + DAY_MS;
    let plan = mark(account, &market("2000", later), later).unwrap();
    assert_eq!(plan.account.status, AccountStatus::Active, "10,500 is above 9,500");
    assert_eq!(plan.equity.as_ref().unwrap().floors.daily, d("9500"));
    assert_eq!(plan.ended_days[0].closing_balance, Some(d("11000")));
    assert_eq!((plan.account.today.day, plan.account.peak_balance), (101, d("11000")));
    assert_eq!(plan.account.floors().daily, d("10500"));
    let next = mark(plan.account, &market("1999", later + 1), later + 1).unwrap();
    assert_eq!(next.account.breach, Some(Breach::MaxDailyLoss));
}

#[test]
fn a_liquidation_closes_worse_than_the_mark_and_the_house_takes_what_is_below_nothing() {
    // 60 ETH at 2,500 are 150,000; at 2,360 the loss is 8,400, and 2,832 of margin is needed.
    let plan = mark(holding("60", "2500"), &market("2360", NOW), NOW).unwrap();
    assert_eq!(plan.account.breach, Some(Breach::Liquidated));
    assert_eq!(plan.fills[0].price, d("2348.2"), "half a per cent below");
    assert_eq!(plan.fills[0].slippage_bps, d("50"));
    assert_eq!(plan.account.cash, d("892"));
    assert_eq!(plan.events[0].detail["maintenance"], "2832.00");
    let gap = mark(holding("60", "2500"), &market("2000", NOW), NOW).unwrap();
    assert_eq!(gap.account.cash, Decimal::ZERO);
    assert_eq!(gap.ledger.last().unwrap().kind, TransactionKind::Liquidation);
    assert_eq!(gap.ledger.last().unwrap().idempotency_key, "liq:4");
}

#[test]
fn stops_and_targets_close_their_position() {
    let check = |size: &str, mark_at: &str, expected: Option<FillReason>| {
        let mut account = holding(size, "2500");
        let side = if size.starts_with('-') { -1 } else { 1 };
        for position in account.positions.values_mut() {
            position.stop = Some(Decimal::from(2500 - 50 * side));
            position.take = Some(Decimal::from(2500 + 100 * side));
        }
        let plan = mark(account, &market(mark_at, NOW), NOW).unwrap();
        assert_eq!(plan.fills.first().map(|fill| fill.reason), expected, "{size} at {mark_at}");
        assert_eq!(plan.account.positions.is_empty(), expected.is_some());
    };
    check("1", "2450.01", None);
    check("1", "2450", Some(FillReason::Stop));
    check("1", "2600", Some(FillReason::Take));
    check("-1", "2549", None);
    check("-1", "2550", Some(FillReason::Stop));
    check("-1", "2400", Some(FillReason::Take));
}
