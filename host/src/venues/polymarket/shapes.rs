//! Documents as the venue writes them: in the books every figure is a text, in the catalogue some
//! are, and lists stand inside of texts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::book::Book;
use super::catalogue::Event;
use super::contract::{Contract, Standing};
use crate::venues::date;
use crate::venues::decimal::decimal;

const DAY_MS: i64 = 86_400_000;

/// A decimal without idle zeros: `0.41`, `1200`.
fn plain(units: i64, scale: u32) -> String {
    let text = decimal(i128::from(units), scale);
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

pub(super) fn price(thousandths: i64) -> String {
    plain(thousandths, 3)
}

pub(super) fn size(hundredths: i64) -> String {
    plain(hundredths, 2)
}

pub(super) fn hash(contract: &Contract, outcome: usize, step: i64) -> String {
    contract.noise.of("hash").at(step).at(outcome as i64).hex(40)
}

fn levels<'a>(side: impl Iterator<Item = (&'a i64, &'a i64)>) -> Vec<Value> {
    side.map(|(at, amount)| json!({ "price": price(*at), "size": size(*amount) })).collect()
}

/// A side with its best level last.
fn rising(side: &BTreeMap<i64, i64>) -> Vec<Value> {
    levels(side.iter())
}

fn falling(side: &BTreeMap<i64, i64>) -> Vec<Value> {
    levels(side.iter().rev())
}

/// The price of the last trade of an outcome, empty where there is none.
pub(super) fn last_price(contract: &Contract, outcome: usize, step: i64) -> String {
    let fill = contract.last_fill(step);
    fill.map(|fill| price(if outcome == 0 { fill.price } else { 1_000 - fill.price }))
        .unwrap_or_default()
}

/// The book of a token, as REST answers it.
pub(super) fn book(contract: &Contract, outcome: usize, now_ms: i64) -> Value {
    let step = contract.step(now_ms);
    let Book { bids, asks } = contract.book(step).of(outcome);
    json!({
        "market": contract.condition, "asset_id": contract.tokens[outcome],
        "timestamp": contract.stepped_ms(step).to_string(), "hash": hash(contract, outcome, step),
        "bids": rising(&bids), "asks": falling(&asks),
        "min_order_size": "5", "tick_size": price(contract.tick), "neg_risk": contract.neg_risk,
        "last_trade_price": last_price(contract, outcome, step),
    })
}

/// The book of a token, as the stream brings it.
pub(super) fn book_frame(contract: &Contract, outcome: usize, now_ms: i64) -> Value {
    let step = contract.step(now_ms);
    let Book { bids, asks } = contract.book(step).of(outcome);
    json!({
        "event_type": "book", "market": contract.condition,
        "asset_id": contract.tokens[outcome],
        "timestamp": contract.stepped_ms(step).to_string(), "hash": hash(contract, outcome, step),
        "bids": rising(&bids), "asks": falling(&asks), "tick_size": price(contract.tick),
        "last_trade_price": last_price(contract, outcome, step),
    })
}

/// Prices of both outcomes, in thousandths.
pub(super) fn prices(contract: &Contract, now_ms: i64) -> [f64; 2] {
    match contract.standing(now_ms) {
        Standing::Resolved(0) => [1.0, 0.0],
        Standing::Resolved(_) => [0.0, 1.0],
        _ => {
            let book = contract.book(contract.step(now_ms));
            let sum = book.bid().unwrap_or_default() + book.ask().unwrap_or(1_000);
            let middle = sum as f64 / 2_000.0;
            [middle, 1.0 - middle]
        }
    }
}

/// A list inside of a text, written with blanks.
fn listed(parts: [&str; 2]) -> String {
    format!("[\"{}\", \"{}\"]", parts[0], parts[1])
}

/// A market of the catalogue; inside of an event it does not name its event again.
pub(super) fn market(contract: &Contract, event: Option<&Event>, now_ms: i64) -> Value {
    let standing = contract.standing(now_ms);
    let closed = matches!(standing, Standing::Resolved(_));
    let announced = standing == Standing::Announced;
    let until_ms = now_ms.min(contract.resolved_ms());
    let book = contract.book(contract.step(until_ms));
    let (bid, ask) = (book.bid().unwrap_or(0), book.ask().unwrap_or(1_000));
    let share = |thousandths: i64| thousandths as f64 / 1_000.0;
    let last = contract.last_fill(contract.step(until_ms)).map_or(bid, |fill| fill.price);
    let chance = prices(contract, now_ms);
    let figures = chance.map(|chance| format!("{}", (chance * 1e4).round() / 1e4));
    let [volume, liquidity, day] = amounts(contract, until_ms);
    let week = contract.chance(until_ms) - contract.chance(until_ms - 7 * DAY_MS);
    let mut market = json!({
        "id": contract.id.to_string(), "question": contract.question,
        "conditionId": contract.condition, "slug": contract.slug,
        "endDate": date::rfc3339(contract.ends_ms),
        "liquidity": format!("{liquidity}"), "volume": format!("{volume}"),
        "outcomes": listed(contract.outcomes),
        "outcomePrices": listed([&figures[0], &figures[1]]),
        // There is no book yet, so there are no tokens.
        "clobTokenIds": if announced {
            "[]".to_owned()
        } else {
            listed([&contract.tokens[0], &contract.tokens[1]])
        },
        "active": true, "closed": closed, "archived": false,
        "acceptingOrders": standing == Standing::Open, "enableOrderBook": true,
        "negRisk": contract.neg_risk,
        "volumeNum": volume, "volume24hr": day, "spread": share(ask - bid),
        "lastTradePrice": share(last), "bestBid": share(bid), "bestAsk": share(ask),
        "oneWeekPriceChange": week,
        "orderPriceMinTickSize": share(contract.tick), "orderMinSize": 5,
        "feesEnabled": !contract.neg_risk, "feeType": "politics_fees",
        "updatedAt": date::rfc3339_millis(until_ms),
    });
    if closed {
        market["closedTime"] = date::spaced(contract.resolved_ms()).into();
    }
    if let Some(event) = event {
        let [volume, liquidity, _] = event_amounts(event, now_ms);
        market["events"] = json!([{
            "id": event.id.to_string(), "liquidity": liquidity, "volume": volume,
        }]);
    }
    market
}

pub(super) fn event(event: &Event, now_ms: i64) -> Value {
    let markets: Vec<_> =
        event.markets.iter().map(|contract| market(contract, None, now_ms)).collect();
    let ends_ms = event.markets.iter().map(|contract| contract.ends_ms).max().unwrap_or_default();
    let starts_ms = event.markets.iter().map(|contract| contract.starts_ms).min();
    let [volume, liquidity, day] = event_amounts(event, now_ms);
    let negative = event.markets.iter().any(|contract| contract.neg_risk);
    let mut document = json!({
        "id": event.id.to_string(), "ticker": event.slug, "slug": event.slug,
        "title": event.title, "startDate": date::rfc3339_millis(starts_ms.unwrap_or_default()),
        "endDate": date::rfc3339(ends_ms), "active": true, "closed": is_closed(event, now_ms),
        "archived": false, "liquidity": liquidity, "volume": volume, "openInterest": 0,
        "volume24hr": day, "negRisk": negative, "markets": markets,
        "tags": [{ "id": tag_id(event.tag), "label": event.tag, "slug": event.tag.to_lowercase() }],
    });
    if negative {
        let noise = event.markets.first().map(|contract| contract.noise.of("event"));
        let id = noise.map(|noise| format!("0x{}", noise.hex(64)));
        document["negRiskMarketID"] = id.into();
    }
    document
}

pub(super) fn is_closed(event: &Event, now_ms: i64) -> bool {
    let resolved = |standing| matches!(standing, Standing::Resolved(_));
    event.markets.iter().all(|contract| resolved(contract.standing(now_ms)))
}

fn tag_id(tag: &str) -> String {
    tag.bytes().map(u32::from).sum::<u32>().to_string()
}

/// Volume, liquidity and the volume of a day, in dollars.
pub(super) fn amounts(contract: &Contract, now_ms: i64) -> [f64; 3] {
    let days = (now_ms - contract.starts_ms).max(0) as f64 / DAY_MS as f64;
    let hour = now_ms.div_euclid(3_600_000);
    let today = contract.turnover * (0.7 + 0.6 * contract.noise.of("volume").at(hour).unit());
    let volume = contract.turnover * days;
    let liquidity =
        contract.turnover * (0.4 + 0.2 * contract.noise.of("liquidity").at(hour).unit());
    [volume, liquidity, today.min(volume)]
}

pub(super) fn event_amounts(event: &Event, now_ms: i64) -> [f64; 3] {
    event.markets.iter().fold([0.0; 3], |sums, contract| {
        let amounts = amounts(contract, now_ms.min(contract.resolved_ms()));
        [sums[0] + amounts[0], sums[1] + amounts[1], sums[2] + amounts[2]]
    })
}
