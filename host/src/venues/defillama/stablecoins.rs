//! Stablecoins: what circulates of them, where, and at which price.

use serde_json::{Value, json};

use super::{DAY_MS, days, figure, object};
use crate::venues::random::Noise;

/// A stablecoin. The last one is young: a month ago there was no record of it.
struct Asset {
    id: &'static str,
    name: &'static str,
    symbol: &'static str,
    gecko_id: &'static str,
    /// What it is worth one of.
    unit: &'static str,
    mechanism: &'static str,
    chains: &'static [&'static str],
    /// Billions of its unit.
    billions: f64,
    /// Whether there was a record of it a month ago.
    old: bool,
}

const ASSETS: [Asset; 8] = [
    Asset {
        id: "1",
        name: "Tether",
        symbol: "USDT",
        gecko_id: "tether",
        unit: "peggedUSD",
        mechanism: "fiat-backed",
        chains: &["Tron", "Ethereum", "BSC", "Solana"],
        billions: 184.0,
        old: true,
    },
    Asset {
        id: "2",
        name: "USD Coin",
        symbol: "USDC",
        gecko_id: "usd-coin",
        unit: "peggedUSD",
        mechanism: "fiat-backed",
        chains: &["Ethereum", "Solana", "Base", "Hyperliquid L1"],
        billions: 75.0,
        old: true,
    },
    Asset {
        id: "146",
        name: "Ethena USDe",
        symbol: "USDe",
        gecko_id: "ethena-usde",
        unit: "peggedUSD",
        mechanism: "crypto-backed",
        chains: &["Ethereum"],
        billions: 9.1,
        old: true,
    },
    Asset {
        id: "5",
        name: "Dai",
        symbol: "DAI",
        gecko_id: "dai",
        unit: "peggedUSD",
        mechanism: "crypto-backed",
        chains: &["Ethereum", "Polygon"],
        billions: 4.6,
        old: true,
    },
    Asset {
        id: "209",
        name: "Sky Dollar",
        symbol: "USDS",
        gecko_id: "usds",
        unit: "peggedUSD",
        mechanism: "crypto-backed",
        chains: &["Ethereum", "Base"],
        billions: 5.2,
        old: true,
    },
    Asset {
        id: "119",
        name: "First Digital USD",
        symbol: "FDUSD",
        gecko_id: "first-digital-usd",
        unit: "peggedUSD",
        mechanism: "fiat-backed",
        chains: &["BSC"],
        billions: 1.1,
        old: true,
    },
    Asset {
        id: "120",
        name: "PayPal USD",
        symbol: "PYUSD",
        gecko_id: "paypal-usd",
        unit: "peggedUSD",
        mechanism: "fiat-backed",
        chains: &["Ethereum", "Solana"],
        billions: 2.8,
        old: true,
    },
    Asset {
        id: "50",
        name: "EURC",
        symbol: "EURC",
        gecko_id: "euro-coin",
        unit: "peggedEUR",
        mechanism: "fiat-backed",
        chains: &["Ethereum", "Base"],
        billions: 0.3,
        old: false,
    },
];

fn circulating(noise: Noise, symbol: &str, billions: f64, at_ms: i64) -> f64 {
    figure(noise.of("stablecoin").of(symbol), billions * 1e9, 0.004, at_ms)
}

fn price(noise: Noise, symbol: &str, at_ms: i64) -> f64 {
    let euro = if symbol == "EURC" { 1.08 } else { 1.0 };
    euro * (1.0 + 0.0008 * noise.of("peg").of(symbol).smooth(at_ms, 5 * 3_600_000))
}

fn share(chains: &[&str], index: usize) -> f64 {
    // Half on the first chain, half of the rest on the next, what is left on the last.
    let last = index + 1 == chains.len();
    0.5_f64.powi(i32::try_from(if last { index } else { index + 1 }).unwrap_or_default())
}

pub(super) fn list(noise: Noise, priced: bool, now_ms: i64) -> Value {
    let assets: Vec<_> = ASSETS
        .iter()
        .map(|asset| {
            let Asset { id, name, symbol, gecko_id, unit, mechanism, chains, billions, old } =
                asset;
            let at = |share: f64, at_ms| {
                object([(*unit, (share * circulating(noise, symbol, *billions, at_ms)).into())])
            };
            // Where there is no record, a number stands in place of the document.
            let month = |share| if *old { at(share, now_ms - 30 * DAY_MS) } else { 0.into() };
            let on_chains = chains.iter().enumerate().map(|(index, chain)| {
                let share = share(chains, index);
                let figures = json!({
                    "current": at(share, now_ms),
                    "circulatingPrevDay": at(share, now_ms - DAY_MS),
                    "circulatingPrevWeek": at(share, now_ms - 7 * DAY_MS),
                    "circulatingPrevMonth": month(share),
                });
                (*chain, figures)
            });
            let mut asset = json!({
                "id": id, "name": name, "symbol": symbol, "gecko_id": gecko_id, "pegType": unit,
                "priceSource": "defillama", "pegMechanism": mechanism,
                "circulating": at(1.0, now_ms),
                "circulatingPrevDay": at(1.0, now_ms - DAY_MS),
                "circulatingPrevWeek": at(1.0, now_ms - 7 * DAY_MS),
                "circulatingPrevMonth": month(1.0),
                "chainCirculating": object(on_chains), "chains": chains,
            });
            if priced {
                asset["price"] = price(noise, symbol, now_ms).into();
            }
            asset
        })
        .collect();
    json!({ "peggedAssets": assets })
}

/// The days of a chain or of `all`, of one asset or of all of them.
pub(super) fn chart(noise: Noise, chain: &str, id: Option<&str>, now_ms: i64) -> Vec<Value> {
    let assets: Vec<_> = ASSETS
        .iter()
        .filter(|asset| id.is_none_or(|id| id == asset.id))
        .filter_map(|Asset { symbol, unit, chains, billions, .. }| {
            let found = chains.iter().position(|known| known.eq_ignore_ascii_case(chain));
            let share = if chain == "all" { 1.0 } else { share(chains, found?) };
            Some((*symbol, *unit, billions * share))
        })
        .collect();
    if assets.is_empty() {
        return Vec::new();
    }
    days(now_ms)
        .map(|(day_ms, at_ms)| {
            let (mut units, mut usd) = (serde_json::Map::new(), serde_json::Map::new());
            for (symbol, unit, billions) in &assets {
                let amount = circulating(noise, symbol, *billions, at_ms);
                let add = |sums: &mut serde_json::Map<String, Value>, amount: f64| {
                    let sum = sums.get(*unit).and_then(Value::as_f64).unwrap_or_default();
                    sums.insert((*unit).to_owned(), (sum + amount).into());
                };
                add(&mut units, amount);
                add(&mut usd, amount * price(noise, symbol, at_ms));
            }
            json!({
                // A text, unlike in every other series.
                "date": (day_ms / 1_000).to_string(),
                "totalCirculating": units, "totalCirculatingUSD": usd,
                "totalMintedUSD": object([("peggedUSD", 0.into())]),
                "totalBridgedToUSD": object([("peggedUSD", 0.into())]),
            })
        })
        .collect()
}

pub(super) fn chains(noise: Noise, now_ms: i64) -> Vec<Value> {
    super::chains::CHAINS
        .iter()
        .filter_map(|(name, gecko_id, symbol, ..)| {
            let sum: f64 = ASSETS
                .iter()
                .filter_map(|Asset { symbol, chains, billions, .. }| {
                    let index = chains.iter().position(|chain| chain == name)?;
                    Some(circulating(noise, symbol, *billions, now_ms) * share(chains, index))
                })
                .sum();
            (sum > 0.0).then(|| {
                json!({
                    "gecko_id": gecko_id, "totalCirculatingUSD": { "peggedUSD": sum },
                    "tokenSymbol": symbol, "name": name,
                })
            })
        })
        .collect()
}

pub(super) fn prices(noise: Noise, now_ms: i64) -> Vec<Value> {
    days(now_ms)
        .map(|(day_ms, at_ms)| {
            let prices = ASSETS.iter().map(|Asset { symbol, gecko_id, old, .. }| {
                (*gecko_id, old.then(|| price(noise, symbol, at_ms)).into())
            });
            json!({ "date": day_ms / 1_000, "prices": object(prices) })
        })
        .collect()
}
