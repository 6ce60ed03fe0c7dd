//! `/info`, compared with what is documented.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Hyperliquid;
use crate::venues::market::Market;
use crate::venues::site::{Asked, Body, Reply, Site};
use crate::venues::tests::NOW_MS;
use crate::venues::tests::shape::{assert_shape, documented};

const HOUR_MS: i64 = 3_600_000;

fn exchange() -> Hyperliquid {
    let coins = ["BTC", "ETH", "DYDX", "kPEPE"].map(str::to_owned);
    Hyperliquid::new(Arc::new(Market::new(1, &coins, 1)), 1_200)
}

fn reply(body: &str) -> Reply {
    let exchange = exchange();
    let asked = Asked {
        method: "POST".to_owned(),
        path: vec!["info".to_owned()],
        content_type: "application/json".to_owned(),
        body: body.as_bytes().to_vec(),
        ..Asked::default()
    };
    exchange.reply(exchange.endpoint(&asked), &asked, NOW_MS)
}

#[track_caller]
fn ask(request: Value) -> Value {
    match reply(&request.to_string()) {
        Reply { status: 200, body: Body::Json(document), .. } => document,
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_have_the_documented_shapes() {
    let contexts = ask(json!({ "type": "metaAndAssetCtxs" }));
    let like = documented(include_str!("../documented/hyperliquid_metaAndAssetCtxs.json"));
    assert_eq!(contexts[0]["universe"].as_array().unwrap().len(), 5);
    assert_eq!(contexts[1].as_array().unwrap().len(), 5);
    assert_shape(&contexts[0]["universe"][0], &like[0]["universe"][0]);
    assert_shape(&contexts[0]["universe"][4], &like[0]["universe"][2]);
    assert_shape(&contexts[0]["marginTables"][1], &like[0]["marginTables"][1]);
    assert_shape(&contexts[1][0], &like[1][0]);
    for key in ["midPx", "premium", "impactPxs"] {
        assert!(contexts[1][4][key].is_null(), "a delisted coin has no {key}");
    }

    let candles = ask(json!({ "type": "candleSnapshot", "req": {
        "coin": "kPEPE", "interval": "1h",
        "startTime": NOW_MS - 10 * HOUR_MS, "endTime": NOW_MS,
    } }));
    assert_shape(
        &candles,
        &documented(include_str!("../documented/hyperliquid_candleSnapshot.json")),
    );
    let funding = ask(json!({
        "type": "fundingHistory", "coin": "BTC", "startTime": NOW_MS - 10 * HOUR_MS,
    }));
    assert_shape(
        &funding,
        &documented(include_str!("../documented/hyperliquid_fundingHistory.json")),
    );
    let book = ask(json!({ "type": "l2Book", "coin": "DYDX" }));
    assert_shape(&book, &documented(include_str!("../documented/hyperliquid_l2Book.json")));
    let mids = ask(json!({ "type": "allMids" }));
    assert!(mids.as_object().unwrap().values().all(Value::is_string));

    let frames = documented(include_str!("../documented/hyperliquid_frames.json"));
    let trade = &frames.as_array().unwrap().iter().find(|frame| frame["channel"] == "trades");
    let trades = ask(json!({ "type": "recentTrades", "coin": "BTC" }));
    assert_shape(&trades, &trade.unwrap()["data"]);
}

#[test]
fn candles_begin_with_the_one_that_contains_the_start_and_end_in_progress() {
    let from_ms = NOW_MS - 3 * HOUR_MS;
    let candles = ask(json!({ "type": "candleSnapshot", "req": {
        "coin": "BTC", "interval": "1h", "startTime": from_ms, "endTime": NOW_MS,
    } }));
    let candles = candles.as_array().unwrap();
    assert_eq!(candles.len(), 4);
    assert!(candles[0]["t"].as_i64() < Some(from_ms));
    assert!(candles[3]["T"].as_i64() > Some(NOW_MS));
    for candle in candles {
        let (open_ms, close_ms) = (candle["t"].as_i64(), candle["T"].as_i64());
        assert_eq!(close_ms, open_ms.map(|open_ms| open_ms + HOUR_MS - 1));
    }
}

#[test]
fn funding_comes_in_pages_of_five_hundred() {
    let mut from_ms = NOW_MS - 1_200 * HOUR_MS;
    let mut pages = Vec::new();
    loop {
        let page = ask(json!({ "type": "fundingHistory", "coin": "ETH", "startTime": from_ms }));
        let Some(last) = page.as_array().unwrap().last() else { break };
        from_ms = last["time"].as_i64().unwrap() + 1;
        pages.push(page.as_array().unwrap().len());
    }
    assert_eq!(pages, [500, 500, 200]);
}

#[test]
fn refusals_are_those_of_the_exchange() {
    for (request, status, body) in [
        (r#"{"type":"nonsense"}"#, 422, "Failed to deserialize the JSON body"),
        (r#"{"type":"l2Book"}"#, 422, "Failed to deserialize the JSON body"),
        (r#"{"type""#, 400, "Failed to parse the request body as JSON"),
        (r#"{"type":"l2Book","coin":"NOPE"}"#, 200, "null"),
        (r#"{"type":"fundingHistory","coin":"NOPE","startTime":0}"#, 500, "null"),
        (r#"{"type":"metaAndAssetCtxs","dex":"nope"}"#, 500, "null"),
        (r#"{"type":"l2Book","coin":"MATIC"}"#, 200, r#"{"coin":"MATIC","levels":[[],[]]"#),
    ] {
        let reply = reply(request);
        let text = match &reply.body {
            Body::Json(document) => document.to_string(),
            Body::Text(text) => text.clone(),
            Body::Nothing => String::new(),
        };
        assert_eq!(reply.status, status, "{request}");
        assert!(text.starts_with(body), "{request}: {text}");
    }
    let exchange = exchange();
    let get = Asked { method: "GET".to_owned(), path: vec!["info".to_owned()], ..Asked::default() };
    assert_eq!(exchange.reply(exchange.endpoint(&get), &get, NOW_MS).status, 405);
    let plain = Asked { method: "POST".to_owned(), ..get };
    assert_eq!(exchange.reply(exchange.endpoint(&plain), &plain, NOW_MS).status, 415);
}

#[test]
fn the_market_moves_and_trades_within_a_minute() {
    let exchange = exchange();
    let market = &exchange.market;
    let trades = market.trades(0, NOW_MS, NOW_MS + 60_000);
    assert!(trades.len() > 20, "{} trades", trades.len());
    let mut mids: Vec<_> =
        (0..60).filter_map(|second| market.quote(0, NOW_MS + second * 1_000)).collect();
    mids.dedup();
    assert!(mids.len() > 15, "{} mids", mids.len());
}
