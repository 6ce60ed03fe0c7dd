//! Answers compared with what is documented, and with each other.

use std::sync::Arc;

use serde_json::{Value, json};

use super::DefiLlama;
use crate::venues::market::Market;
use crate::venues::site::{Asked, Body, Reply, Site};
use crate::venues::tests::NOW_MS;
use crate::venues::tests::shape::{assert_shape, documented};

fn reply(path: &str, query: &[(&str, &str)], now_ms: i64) -> Reply {
    let market = Market::new(1, &["BTC", "ETH"].map(str::to_owned), 1);
    let site = DefiLlama::new(Arc::new(market), 200);
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let asked = Asked {
        method: "GET".to_owned(),
        path: path.split('/').map(str::to_owned).collect(),
        query: query.iter().map(pair).collect(),
        ..Asked::default()
    };
    site.reply(site.endpoint(&asked), &asked, now_ms)
}

#[track_caller]
fn ask(path: &str, query: &[(&str, &str)]) -> Value {
    match reply(path, query, NOW_MS) {
        Reply { status: 200, body: Body::Json(document), .. } => document,
        other => panic!("{path}: {other:?}"),
    }
}

/// The same with the documents whose keys are names replaced by their first value.
fn unnamed(mut document: Value, names: &[&str]) -> Value {
    fn walk(document: &mut Value, names: &[&str]) {
        match document {
            Value::Array(parts) => parts.iter_mut().for_each(|part| walk(part, names)),
            Value::Object(parts) => {
                for (key, part) in parts.iter_mut() {
                    if names.contains(&key.as_str()) && part.is_object() {
                        let first = part.as_object().and_then(|part| part.values().next());
                        *part = first.cloned().unwrap_or_default();
                    }
                    walk(part, names);
                }
            }
            _ => {}
        }
    }
    walk(&mut document, names);
    document
}

#[test]
fn answers_have_the_documented_shapes() {
    let exclude = [("excludeTotalDataChart", "true"), ("excludeTotalDataChartBreakdown", "true")];
    let prices =
        "prices/current/coingecko:ethereum,ethereum:0x1f9840a85d5af5bf1d1762f925bdaddc4201f984,x:y";
    for (path, query, text, names) in [
        (
            "protocols",
            &[][..],
            include_str!("../documented/defillama_protocols.json"),
            &["chainTvls"][..],
        ),
        ("v2/chains", &[], include_str!("../documented/defillama_v2_chains.json"), &[]),
        (
            "v2/historicalChainTvl/Ethereum",
            &[],
            include_str!("../documented/defillama_historicalChainTvl_Ethereum.json"),
            &[],
        ),
        ("pools", &[], include_str!("../documented/defillama_yields_pools.json"), &[]),
        (
            "overview/dexs",
            &exclude,
            include_str!("../documented/defillama_overview_dexs.json"),
            &[],
        ),
        (prices, &[], include_str!("../documented/defillama_prices_current.json"), &[]),
    ] {
        assert_shape(&unnamed(ask(path, query), names), &unnamed(documented(text), names));
    }
}

#[test]
fn a_stablecoin_without_a_record_has_a_number_in_place_of_a_document() {
    let like = documented(include_str!("../documented/defillama_stablecoins.json"));
    let like = unnamed(like, &["chainCirculating"]);
    let mut answer =
        unnamed(ask("stablecoins", &[("includePrices", "true")]), &["chainCirculating"]);
    let assets = answer["peggedAssets"].as_array_mut().unwrap();
    let young = assets.pop().unwrap();
    assert_eq!(young["circulatingPrevMonth"], 0);
    assert!(young["circulating"]["peggedEUR"].is_number());
    for asset in assets {
        assert!(asset["circulatingPrevMonth"].is_object());
        asset["circulatingPrevMonth"].take();
        asset["chainCirculating"].take();
        assert_shape(asset, &like["peggedAssets"][0]);
    }
}

#[test]
fn the_last_day_of_a_chain_is_what_the_list_says() {
    let days = ask("v2/historicalChainTvl/Hyperliquid L1", &[]);
    let last = days.as_array().unwrap().last().unwrap();
    assert_eq!(last["date"].as_i64().unwrap() % 86_400, 0);
    let chains = ask("v2/chains", &[]);
    let chain = chains.as_array().unwrap().iter().find(|chain| chain["name"] == "Hyperliquid L1");
    assert_eq!(last["tvl"], chain.unwrap()["tvl"]);

    let all = ask("v2/historicalChainTvl", &[]);
    let sum: f64 =
        chains.as_array().unwrap().iter().map(|chain| chain["tvl"].as_f64().unwrap()).sum();
    let last = all.as_array().unwrap().last().unwrap()["tvl"].as_f64().unwrap();
    assert!((last / sum - 1.0).abs() < 1e-12);
}

#[test]
fn only_the_current_day_changes() {
    let history = |now_ms| match reply("v2/historicalChainTvl/Solana", &[], now_ms).body {
        Body::Json(Value::Array(days)) => days,
        other => panic!("{other:?}"),
    };
    let (before, after) = (history(NOW_MS), history(NOW_MS + 7_200_000));
    let last = before.len() - 1;
    assert_eq!(before[..last], after[..last]);
    assert_ne!(before[last], after[last]);
}

#[test]
fn what_is_not_known_is_refused_in_the_way_of_its_host() {
    let Reply { status, body: Body::Json(body), .. } =
        reply("v2/historicalChainTvl/Nowhere", &[], NOW_MS)
    else {
        panic!("no document")
    };
    assert_eq!((status, &body["statusCode"]), (200, &json!(400)), "an envelope, as a success");
    assert_eq!(reply("protocol/nothing", &[], NOW_MS).status, 400);
    assert_eq!(reply("nothing", &[], NOW_MS).status, 404);
    assert_eq!(ask("prices/current/coingecko:nothing", &[]), json!({ "coins": {} }));
    for path in [
        "protocol/lido",
        "stablecoincharts/Ethereum",
        "overview/fees",
        "stablecoinprices",
        "overview/open-interest",
        "summary/dexs/curve",
        "stablecoinchains",
        "tvl/lido",
    ] {
        assert!(!ask(path, &[]).is_null(), "{path}");
    }
    let pools = ask("pools", &[]);
    let pool = pools["data"][0]["pool"].as_str().unwrap();
    assert!(ask(&format!("chart/{pool}"), &[])["data"].as_array().unwrap().len() > 600);
}
