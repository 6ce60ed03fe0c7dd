//! Random histories through the pure rules: whatever happens, the books hold.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::proof::BookedFill;
use super::*;
use crate::decisions::{Intent, IntentKind, OpenSize};
use crate::market::{Dated, Price, Terms};
use crate::strategy::Side;

/// One step: minutes that pass, the price in cents, the hour's rate in millionths, what is done.
type Step = (i64, i64, i64, u8, i64);

/// The rates of the last two days; without one, nothing of them is known yet.
fn market(price: Decimal, rate: Option<Decimal>, now_ms: i64) -> Market {
    let dated = Some(Dated { value: price, received_at_ms: now_ms });
    let tiers = Terms::tiers(None, Some(20));
    let terms = Terms { size_step: decimal(1, 3), tiers, only_isolated: false, delisted: false };
    let price = Price { mark: dated, terms: Some(terms), ..Price::default() };
    let settled = rate.map(|rate| Settled { rate, oracle: None });
    let hours = funding::hours_after(now_ms - 48 * HOUR_MS, now_ms);
    let hours = hours.filter_map(|hour| Some((hour, settled?)));
    Market {
        prices: BTreeMap::from([("ETH".to_owned(), price)]),
        funding: Funding::from([("ETH".to_owned(), hours.collect())]),
    }
}

fn proposal(action: u8, units: i64) -> Option<Proposal> {
    let open = |side| IntentKind::Open {
        side,
        size: OpenSize::Units(Decimal::new(units, 3)),
        leverage: decimal(4, 0),
        stop_loss_pct: (units % 2 == 0).then_some(decimal(3, 2)),
        take_profit_pct: (units % 3 == 0).then_some(decimal(5, 2)),
    };
    let kind = match action {
        0 => open(Side::Long),
        1 => open(Side::Short),
        2 => IntentKind::Close,
        _ => return None,
    };
    let symbol = "ETH".to_owned();
    let intent = Intent { symbol, kind, action_id: None, confidence: None, rationale: None };
    Some(Proposal { intent, cooldown_until_ms: None })
}

/// Keeps the books as the store would.
fn book(books: &mut Books, plan: &Plan) {
    for moved in &plan.ledger {
        let transaction = i64::try_from(books.postings.len()).unwrap();
        for posting in &moved.postings {
            books.postings.push((transaction, posting.account, posting.amount));
        }
    }
    for fill in &plan.fills {
        let &Fill { size, price, realized, fee, .. } = fill;
        books.fills.push(BookedFill { symbol: fill.symbol.clone(), size, price, realized, fee });
    }
    books.cash = plan.account.cash;
    let held = plan.account.positions.iter();
    books.positions =
        held.map(|(symbol, held)| (symbol.clone(), (held.size, held.entry))).collect();
}

fn account(rules: AccountRules) -> (Account, Books) {
    let cash = decimal(10_000, 0);
    let deposit = opening_deposit(cash, 0);
    let account = fixture::account(rules);
    let postings = deposit.postings.iter().map(|posting| (-1, posting.account, posting.amount));
    let postings = postings.collect();
    let books = Books { account_id: account.id, cash, postings, ..Books::default() };
    (account, books)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn books_hold_after_any_history(
        steps in proptest::collection::vec((1_i64..600, 50_000_i64..400_000, -900_i64..900, 0_u8..5, 1_i64..20_000), 1..60),
        trail in any::<bool>(),
        soft in any::<bool>(),
        late in any::<bool>(),
    ) {
        let rules = AccountRules {
            max_loss_mode: if trail { MaxLossMode::IntradayTrail } else { MaxLossMode::EodTrail },
            breach_kind: if soft { BreachKind::SoftUntilRoll } else { BreachKind::Hard },
            max_total_loss_pct: decimal(9, 1),
            max_daily_loss_pct: Some(decimal(4, 1)),
            ..AccountRules::default()
        };
        let (mut account, mut books) = account(rules);
        let limits = Limits {
            max_leverage: decimal(5, 0),
            max_position_pct: decimal(5, 0),
            max_open_positions: 1,
            max_daily_loss_pct: None,
            max_mark_age_ms: i64::MAX,
        };
        let mut now_ms = 0;
        for (at, (minutes, cents, rate, action, units)) in (steps as Vec<Step>).into_iter().enumerate() {
            now_ms += minutes * 60_000;
            let (price, rate) = (Decimal::new(cents, 2), Decimal::new(rate, 6));
            let known = market(price, Some(rate), now_ms);
            let market = market(price, (!late).then_some(rate), now_ms);
            if let Some(proposal) = proposal(action, units) {
                let executed =
                    execute(account, &format!("run {at}"), &[proposal], &limits, &market, now_ms);
                book(&mut books, &executed.plan);
                account = executed.plan.account;
            }
            let plan = mark(account, &market, now_ms).expect("the mark is fresh");
            book(&mut books, &plan);
            let snapshot = plan.equity.as_ref();
            if let Some(value) = snapshot.map(|snapshot| &snapshot.value) {
                prop_assert!(plan.account.peak_equity >= value.equity);
            }
            account = plan.account;
            prop_assert_eq!(books.check(), vec![]);
            let keys: std::collections::BTreeSet<_> =
                plan.ledger.iter().map(|moved| &moved.idempotency_key).collect();
            prop_assert_eq!(keys.len(), plan.ledger.len(), "a movement has a key of its own");
            if account.status == AccountStatus::Breached {
                prop_assert!(account.positions.is_empty() && account.cash >= Decimal::ZERO);
                let Some(plan) = settle(account, &known, now_ms) else { break };
                book(&mut books, &plan);
                prop_assert_eq!(books.check(), vec![]);
                prop_assert!(plan.account.cash >= Decimal::ZERO);
                prop_assert_eq!(settle(plan.account, &known, now_ms), None);
                break;
            }
        }
    }
}
