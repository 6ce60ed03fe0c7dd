//! Protocols and what is locked in them. Some count the same money twice, so their sum is not that
//! of the chains.

use serde_json::{Value, json};

use super::{DAY_MS, HOUR_MS, change, days, figure, object, refused, slug};
use crate::venues::random::Noise;
use crate::venues::site::Reply;

/// Id, name, symbol, category, chains, billions of USD.
type Facts = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str], f64);

const PROTOCOLS: [Facts; 24] = [
    ("2269", "Binance CEX", "-", "CEX", &["Ethereum", "Bitcoin", "BSC"], 152.0),
    ("182", "Lido", "LDO", "Liquid Staking", &["Ethereum", "Solana"], 25.0),
    ("1599", "Aave V3", "AAVE", "Lending", &["Ethereum", "Arbitrum", "Base", "Polygon"], 31.0),
    ("2519", "EigenLayer", "EIGEN", "Restaking", &["Ethereum"], 12.0),
    ("5506", "Ethena USDe", "ENA", "Basis Trading", &["Ethereum"], 9.0),
    ("2626", "ether.fi Stake", "ETHFI", "Liquid Restaking", &["Ethereum"], 8.0),
    ("2198", "Uniswap V3", "UNI", "Dexs", &["Ethereum", "Base", "Arbitrum"], 3.1),
    ("1", "Uniswap V2", "UNI", "Dexs", &["Ethereum"], 1.2),
    ("118", "MakerDAO", "MKR", "CDP", &["Ethereum"], 5.8),
    ("3655", "Pendle", "PENDLE", "Yield", &["Ethereum", "Arbitrum"], 4.2),
    ("4025", "Morpho Blue", "MORPHO", "Lending", &["Ethereum", "Base"], 6.1),
    ("3", "Curve DEX", "CRV", "Dexs", &["Ethereum", "Arbitrum", "Polygon"], 2.0),
    ("2975", "Jito Liquid Staking", "JTO", "Liquid Staking", &["Solana"], 2.4),
    ("214", "Raydium AMM", "RAY", "Dexs", &["Solana"], 1.9),
    ("4611", "Kamino Lend", "KMNO", "Lending", &["Solana"], 2.6),
    ("183", "JustLend", "JST", "Lending", &["Tron"], 3.9),
    ("2904", "Hyperliquid Bridge", "HYPE", "Bridge", &["Arbitrum"], 4.1),
    ("5761", "HyperLend", "-", "Lending", &["Hyperliquid L1"], 0.5),
    ("194", "PancakeSwap AMM", "CAKE", "Dexs", &["BSC", "Base"], 1.7),
    ("474", "Venus Core Pool", "XVS", "Lending", &["BSC"], 1.8),
    ("1482", "Aerodrome V1", "AERO", "Dexs", &["Base"], 0.6),
    ("2857", "Suilend", "SEND", "Lending", &["Sui"], 0.4),
    ("467", "BENQI Lending", "QI", "Lending", &["Avalanche"], 0.3),
    ("383", "Osmosis DEX", "OSMO", "Dexs", &["Osmosis"], 0.05),
];

fn locked(noise: Noise, name: &str, billions: f64, at_ms: i64) -> f64 {
    figure(noise.of("protocol").of(name), billions * 1e9, 0.025, at_ms)
}

/// What is locked on each chain: the first one has the most.
fn by_chain<'a>(chains: &'a [&str], tvl: f64) -> impl Iterator<Item = (&'a str, f64)> {
    let rest = chains.len().saturating_sub(1).max(1) as f64;
    let first = if chains.len() > 1 { 0.7 } else { 1.0 };
    chains.iter().enumerate().map(move |(index, chain)| {
        (*chain, tvl * if index == 0 { first } else { (1.0 - first) / rest })
    })
}

pub(super) fn list(noise: Noise, now_ms: i64) -> Vec<Value> {
    PROTOCOLS
        .iter()
        .map(|(id, name, symbol, category, chains, billions)| {
            let at = |at_ms| locked(noise, name, *billions, at_ms);
            let tvl = at(now_ms);
            let chain_tvls = by_chain(chains, tvl).map(|(chain, tvl)| (chain, tvl.into()));
            // Of a token that nobody trades there is no market value.
            let traded = *symbol != "-";
            let mcap = figure(noise.of("mcap").of(name), billions * 3e8, 0.05, now_ms);
            let chain = if chains.len() > 1 { "Multi-Chain" } else { chains[0] };
            json!({
                "id": id, "name": name, "symbol": symbol, "category": category,
                "slug": slug(name), "chain": chain, "chains": chains, "tvl": tvl,
                "chainTvls": object(chain_tvls),
                "change_1h": change(at(now_ms - HOUR_MS), tvl),
                "change_1d": change(at(now_ms - DAY_MS), tvl),
                "change_7d": change(at(now_ms - 7 * DAY_MS), tvl),
                "mcap": traded.then_some(mcap),
            })
        })
        .collect()
}

pub(super) fn one(noise: Noise, wanted: &str, now_ms: i64) -> Reply {
    let found = PROTOCOLS.iter().find(|(_, name, ..)| slug(name) == wanted);
    let Some((id, name, symbol, category, chains, billions)) = found else {
        return refused("Protocol is not in our database");
    };
    let days: Vec<_> = days(now_ms)
        .map(|(day_ms, at_ms)| (day_ms / 1_000, locked(noise, name, *billions, at_ms)))
        .collect();
    let series = |share: f64| -> Vec<Value> {
        days.iter()
            .map(|(date, tvl)| json!({ "date": date, "totalLiquidityUSD": tvl * share }))
            .collect()
    };
    let on_chains = by_chain(chains, 1.0).map(|(chain, share)| {
        (chain, json!({ "tvl": series(share), "tokensInUsd": null, "tokens": null }))
    });
    let tvl = locked(noise, name, *billions, now_ms);
    let current = by_chain(chains, tvl).map(|(chain, tvl)| (chain, tvl.into()));
    Reply::json(json!({
        "id": id, "name": name, "symbol": symbol, "category": category, "chains": chains,
        "currentChainTvls": object(current), "chainTvls": object(on_chains), "tvl": series(1.0),
    }))
}

/// A bare number.
pub(super) fn tvl(noise: Noise, wanted: &str, now_ms: i64) -> Reply {
    match PROTOCOLS.iter().find(|(_, name, ..)| slug(name) == wanted) {
        Some((_, name, .., billions)) => Reply::json(locked(noise, name, *billions, now_ms)),
        None => refused("Protocol is not in our database"),
    }
}
