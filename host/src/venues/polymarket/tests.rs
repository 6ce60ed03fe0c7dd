//! Answers compared with what is documented, and with each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Catalogue, Clob, Gamma};
use crate::venues::market::Market;
use crate::venues::site::{Asked, Body, Reply, Site};
use crate::venues::tests::NOW_MS;
use crate::venues::tests::shape::{assert_shape, documented};

const SLOT_MS: i64 = super::catalogue::SLOT_MS;

struct Sites {
    gamma: Gamma,
    clob: Clob,
}

fn sites() -> Sites {
    let market = Arc::new(Market::new(1, &["BTC", "ETH"].map(str::to_owned), 1));
    let catalogue = Arc::new(Catalogue::new(market));
    let gamma = Gamma::new(Arc::clone(&catalogue), 1_000);
    Sites { gamma, clob: Clob::new(catalogue, 1_000) }
}

fn ask(site: &dyn Site, method: &str, path: &str, body: &Value, now_ms: i64) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let asked = Asked {
        method: method.to_owned(),
        path: path.split('/').map(str::to_owned).collect(),
        query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: body.to_string().into_bytes(),
        ..Asked::default()
    };
    match site.reply(site.endpoint(&asked), &asked, now_ms) {
        Reply { status, body: Body::Json(document), .. } => (status, document),
        other => panic!("{path}: {other:?}"),
    }
}

fn get(site: &dyn Site, path: &str) -> Value {
    let (status, document) = ask(site, "GET", path, &Value::Null, NOW_MS);
    assert_eq!(status, 200, "{path}: {document}");
    document
}

/// A list that stands inside of a text.
fn inner(market: &Value, key: &str) -> Vec<String> {
    serde_json::from_str(market[key].as_str().unwrap()).unwrap()
}

fn open_markets(sites: &Sites) -> Vec<Value> {
    let page = get(&sites.gamma, "markets/keyset?limit=100");
    page["markets"].as_array().unwrap().clone()
}

#[test]
fn answers_have_the_documented_shapes() {
    let sites = sites();
    let markets = open_markets(&sites);
    let like = documented(include_str!("../documented/polymarket_market.json"));
    assert!(markets.len() >= 20, "{} markets", markets.len());
    for market in &markets {
        assert_shape(market, &like);
        let prices: Vec<f64> =
            inner(market, "outcomePrices").iter().map(|price| price.parse().unwrap()).collect();
        assert!((prices[0] + prices[1] - 1.0).abs() < 1e-9, "{market}");
        assert_eq!(inner(market, "outcomes").len(), 2);
        let tokens = inner(market, "clobTokenIds");
        assert_eq!(tokens.len(), if market["acceptingOrders"] == true { 2 } else { 0 });
    }
    let tokens = inner(&markets[0], "clobTokenIds");
    let book = get(&sites.clob, &format!("book?token_id={}", tokens[0]));
    assert_shape(&book, &documented(include_str!("../documented/polymarket_book.json")));
    let wanted = json!([{ "token_id": tokens[0] }, { "token_id": "1" }, { "token_id": tokens[1] }]);
    let (_, books) = ask(&sites.clob, "POST", "books", &wanted, NOW_MS);
    assert_eq!(books.as_array().unwrap().len(), 2, "what is not known is left out");
    assert_eq!(books[0], book);
}

#[test]
fn the_best_level_is_the_last_and_the_other_outcome_is_the_mirror() {
    let sites = sites();
    for market in open_markets(&sites).iter().filter(|market| market["acceptingOrders"] == true) {
        let figure = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
        let best = |token: &str| {
            let book = get(&sites.clob, &format!("book?token_id={token}"));
            let last =
                |side: &str| figure(&book[side].as_array().unwrap().last().unwrap()["price"]);
            let prices = |side: &str| -> Vec<f64> {
                let levels = book[side].as_array().unwrap().iter();
                levels.map(|level| figure(&level["price"])).collect()
            };
            assert!(prices("bids").is_sorted() && prices("asks").iter().rev().is_sorted());
            (last("bids"), last("asks"))
        };
        let tokens = inner(market, "clobTokenIds");
        let ((bid, ask), (other_bid, other_ask)) = (best(&tokens[0]), best(&tokens[1]));
        assert!(bid < ask && bid > 0.0 && ask < 1.0);
        assert!((bid + other_ask - 1.0).abs() < 1e-9 && (ask + other_bid - 1.0).abs() < 1e-9);
        let mid = get(&sites.clob, &format!("midpoint?token_id={}", tokens[0]));
        assert!((figure(&mid["mid"]) - (bid + ask) / 2.0).abs() < 1e-9);
    }
}

#[test]
fn pages_join_and_the_last_one_names_no_next() {
    let sites = sites();
    for (kind, order) in [("events", ""), ("markets", ""), ("events", "&order=volume24hr")] {
        let whole = get(&sites.gamma, &format!("{kind}/keyset?limit=100{order}"));
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{kind}/keyset?limit=3{order}&after_cursor={cursor}");
            let page = get(&sites.gamma, &path);
            ids.extend(page[kind].as_array().unwrap().iter().map(|row| row["id"].to_string()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        let all: Vec<_> =
            whole[kind].as_array().unwrap().iter().map(|row| row["id"].to_string()).collect();
        assert_eq!(ids, all);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert!(whole.get("next_cursor").is_none());
    }
    let gamma = &sites.gamma;
    assert_eq!(ask(gamma, "GET", "events/keyset?offset=3", &Value::Null, NOW_MS).0, 422);
    assert_eq!(ask(gamma, "GET", "markets?offset=2001", &Value::Null, NOW_MS).0, 422);
    assert!(get(gamma, "markets?limit=2").is_array());
}

#[test]
fn a_quarter_of_an_hour_ends_and_is_resolved_by_the_market() {
    let sites = sites();
    let markets = open_markets(&sites);
    let market = markets
        .iter()
        .find(|market| {
            market["slug"].as_str().unwrap().starts_with("btc-updown")
                && market["acceptingOrders"] == true
        })
        .unwrap();
    let condition = market["conditionId"].as_str().unwrap();
    let token = &inner(market, "clobTokenIds")[0];
    let at =
        |now_ms| ask(&sites.clob, "GET", &format!("markets/{condition}"), &Value::Null, now_ms).1;
    let now = at(NOW_MS);
    assert_eq!((&now["closed"], &now["accepting_orders"]), (&json!(false), &json!(true)));
    let later_ms = NOW_MS + 2 * SLOT_MS;
    let later = at(later_ms);
    assert_eq!((&later["closed"], &later["accepting_orders"]), (&json!(true), &json!(false)));
    let winners: Vec<_> = later["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|token| token["winner"] == true)
        .collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(winners[0]["price"], 1.0);

    let path = format!("book?token_id={token}");
    let (status, body) = ask(&sites.clob, "GET", &path, &Value::Null, later_ms);
    assert_eq!(status, 404);
    assert_eq!(body["error"], "No orderbook exists for the requested token id");
    let path = format!("prices-history?market={token}&interval=max");
    let history = |now_ms| ask(&sites.clob, "GET", &path, &Value::Null, now_ms).1;
    assert!(!history(NOW_MS)["history"].as_array().unwrap().is_empty());
    assert_eq!(history(later_ms), json!({ "history": [] }));
    let closed =
        ask(&sites.gamma, "GET", "markets/keyset?closed=true&limit=100", &Value::Null, later_ms).1;
    let closed = closed["markets"].as_array().unwrap();
    assert!(closed.iter().all(|market| market["closedTime"].as_str().unwrap().ends_with("+00")));
}

#[test]
fn histories_have_their_bounds() {
    let sites = sites();
    let token = &inner(&open_markets(&sites)[0], "clobTokenIds")[0];
    let now = NOW_MS / 1_000;
    let day = get(
        &sites.clob,
        &format!("prices-history?market={token}&startTs={}&endTs={now}&fidelity=60", now - 86_400),
    );
    let points = day["history"].as_array().unwrap();
    assert_eq!(points.len(), 24);
    assert!(points.iter().all(|point| point["t"].is_i64() && point["p"].is_f64()));
    for (query, error) in [
        ("startTs=1&endTs=2000000", "invalid filters: 'startTs' and 'endTs' interval is too long"),
        ("interval=1w&fidelity=1", "invalid filters: minimum 'fidelity' for '1w' range is 5"),
    ] {
        let path = format!("prices-history?market={token}&{query}");
        let (status, body) = ask(&sites.clob, "GET", &path, &Value::Null, NOW_MS);
        assert_eq!((status, &body["error"]), (400, &json!(error)));
    }
    let body = json!({ "markets": [token], "interval": "1d", "fidelity": 60 });
    let (_, batch) = ask(&sites.clob, "POST", "batch-prices-history", &body, NOW_MS);
    assert_eq!(batch["history"][token].as_array().unwrap().len(), 24);
    assert_eq!(ask(&sites.clob, "GET", "book?token_id=abc", &Value::Null, NOW_MS).0, 400);
}
