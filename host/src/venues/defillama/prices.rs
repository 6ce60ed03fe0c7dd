//! Prices of coins, a few minutes old; a key that is not known is left out without a word.

use serde_json::{Map, Value, json};

use crate::venues::market::Market;
use crate::venues::random::Noise;

/// Keys of the perpetuals' coins.
const COINS: [(&str, &str, f64); 9] = [
    ("coingecko:bitcoin", "BTC", 1.0),
    ("coingecko:ethereum", "ETH", 1.0),
    ("coingecko:solana", "SOL", 1.0),
    ("coingecko:hyperliquid", "HYPE", 1.0),
    ("coingecko:ripple", "XRP", 1.0),
    ("coingecko:dogecoin", "DOGE", 1.0),
    ("coingecko:avalanche-2", "AVAX", 1.0),
    ("coingecko:chainlink", "LINK", 1.0),
    // The perpetual is of a thousand of them.
    ("coingecko:pepe", "kPEPE", 0.001),
];

/// Keys of tokens on chains: symbol, decimals, price.
const TOKENS: [(&str, &str, u32, f64); 3] = [
    ("ethereum:0x1f9840a85d5af5bf1d1762f925bdaddc4201f984", "UNI", 18, 6.24),
    ("ethereum:0xdac17f958d2ee523a2206206994597c13d831ec7", "USDT", 6, 1.0),
    ("ethereum:0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "USDC", 6, 1.0),
];

/// The prices of the keys, which commas separate.
pub(super) fn at(market: &Market, keys: &str, at_ms: i64) -> Value {
    let mut coins = Map::new();
    for key in keys.split(',') {
        if let Some(price) = price(market, key, at_ms) {
            coins.insert(key.to_owned(), price);
        }
    }
    json!({ "coins": coins })
}

fn price(market: &Market, key: &str, at_ms: i64) -> Option<Value> {
    let noise = market.noise().of("prices").of(key);
    // Written every minute, read three to five minutes later.
    let late_ms = 180_000 + noise.below(120_000).cast_signed();
    let written_ms = (at_ms - late_ms).div_euclid(60_000) * 60_000;
    let timestamp = written_ms / 1_000;
    if let Some((_, name, factor)) = COINS.iter().find(|(known, ..)| *known == key) {
        let coin = market.find(name)?;
        let price = market.context(coin, written_ms)?.oracle * factor;
        let symbol = name.trim_start_matches('k');
        return Some(json!({
            "symbol": symbol, "price": significant(price), "timestamp": timestamp,
            "confidence": 0.99,
        }));
    }
    let lower = key.to_lowercase();
    let (_, symbol, decimals, base) = TOKENS.iter().find(|(known, ..)| *known == lower)?;
    Some(json!({
        "decimals": decimals, "symbol": symbol,
        "price": significant(base * moved(noise, *base, written_ms)),
        "timestamp": timestamp, "confidence": 0.99,
    }))
}

/// A dollar keeps near a dollar.
fn moved(noise: Noise, base: f64, at_ms: i64) -> f64 {
    let stable = (base - 1.0).abs() < f64::EPSILON;
    1.0 + if stable { 0.0006 } else { 0.08 } * noise.smooth(at_ms, 11 * 3_600_000)
}

/// Seven significant figures or so.
fn significant(price: f64) -> f64 {
    let scale = if price > 1_000.0 {
        1e2
    } else if price > 1.0 {
        1e6
    } else {
        1e10
    };
    (price * scale).round() / scale
}
