//! Pools and what they yield.

use serde_json::{Value, json};

use super::{DAY_MS, days, figure, refused};
use crate::venues::date;
use crate::venues::random::Noise;
use crate::venues::site::Reply;

/// Chain, project, symbol, millions of USD, percent a year, whether it is of stablecoins alone.
const POOLS: [(&str, &str, &str, f64, f64, bool); 20] = [
    ("Ethereum", "lido", "STETH", 20_600.0, 3.1, false),
    ("Ethereum", "aave-v3", "WEETH", 6_900.0, 0.02, false),
    ("Ethereum", "ether.fi-stake", "WEETH", 6_400.0, 3.3, false),
    ("Ethereum", "ethena-usde", "SUSDE", 4_800.0, 6.2, true),
    ("Ethereum", "aave-v3", "USDT", 4_100.0, 4.4, true),
    ("Ethereum", "aave-v3", "USDC", 3_300.0, 4.6, true),
    ("Ethereum", "sky-lending", "SUSDS", 2_900.0, 4.5, true),
    ("Solana", "jito-liquid-staking", "JITOSOL", 2_400.0, 6.4, false),
    ("Solana", "kamino-lend", "USDC", 410.0, 5.1, true),
    ("Base", "morpho-blue", "STEAKUSDC", 380.0, 5.9, true),
    ("Tron", "justlend", "SUNTRX", 330.0, 5.7, false),
    ("Arbitrum", "aave-v3", "USDC", 190.0, 3.8, true),
    ("Arbitrum", "gmx-v2-perps", "BTC-USDC", 140.0, 14.0, false),
    ("Hyperliquid L1", "hyperlend", "WHYPE", 120.0, 2.1, false),
    ("Base", "aerodrome-v1", "USDC-AERO", 71.0, 28.0, false),
    ("Ethereum", "uniswap-v3", "USDC-WETH", 96.0, 11.0, false),
    ("BSC", "venus-core-pool", "USDT", 88.0, 3.4, true),
    ("Avalanche", "benqi-lending", "SAVAX", 64.0, 0.4, false),
    ("Sui", "suilend", "USDC", 45.0, 6.8, true),
    // What an aggregator marks as an outlier.
    ("BSC", "pancakeswap-amm", "MOON-WBNB", 1.2, 44_718.0, false),
];

fn id(noise: Noise, index: usize) -> String {
    let hex = noise.of("pool").at(index as i64).hex(32);
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    // As of a random UUID.
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

fn figures(noise: Noise, index: usize, at_ms: i64) -> (f64, f64) {
    let noise = noise.of("yield").at(index as i64);
    let (.., millions, percent, _) = POOLS[index];
    let apy = figure(noise.at(1), percent, 0.08, at_ms);
    (figure(noise, millions * 1e6, 0.03, at_ms).round(), (apy * 1e5).round() / 1e5)
}

pub(super) fn list(noise: Noise, now_ms: i64) -> Value {
    let data: Vec<_> = POOLS
        .iter()
        .enumerate()
        .map(|(index, (chain, project, symbol, _, percent, stable))| {
            let (tvl, apy) = figures(noise, index, now_ms);
            let before = |days: i64| apy - figures(noise, index, now_ms - days * DAY_MS).1;
            let pair = symbol.contains('-');
            // A pool of two tokens pays a reward beside what it earns.
            let reward = pair.then_some(apy * 0.4);
            let token = format!("0x{}", noise.of("token").at(index as i64).hex(40));
            json!({
                "chain": chain, "project": project, "symbol": symbol, "tvlUsd": tvl,
                "apyBase": apy - reward.unwrap_or_default(), "apyReward": reward, "apy": apy,
                "rewardTokens": pair.then(|| [token.clone()]),
                "pool": id(noise, index),
                "apyPct1D": before(1), "apyPct7D": before(7), "apyPct30D": before(30),
                "stablecoin": stable, "ilRisk": if pair { "yes" } else { "no" },
                "exposure": if pair { "multi" } else { "single" },
                "predictions": {
                    "predictedClass": if before(7) < 0.0 { "Down" } else { "Stable/Up" },
                    "predictedProbability": 51 + noise.at(index as i64).below(40),
                    "binnedConfidence": 1,
                },
                "poolMeta": null, "mu": percent, "sigma": percent * 0.02, "count": 589,
                "outlier": *percent > 1_000.0, "underlyingTokens": [token],
                "il7d": pair.then_some(0.01), "apyBase7d": pair.then_some(apy * 0.58),
                "apyMean30d": (apy + figures(noise, index, now_ms - 30 * DAY_MS).1) / 2.0,
                "volumeUsd1d": pair.then_some(tvl * 0.3), "volumeUsd7d": pair.then_some(tvl * 2.0),
                "apyBaseInception": null,
            })
        })
        .collect();
    json!({ "status": "success", "data": data })
}

pub(super) fn chart(noise: Noise, pool: &str, now_ms: i64) -> Reply {
    let Some(index) = (0..POOLS.len()).find(|index| id(noise, *index) == pool) else {
        return refused("No pool with that id");
    };
    let data: Vec<_> = days(now_ms)
        .map(|(_, at_ms)| {
            let (tvl, apy) = figures(noise, index, at_ms);
            json!({
                "timestamp": date::rfc3339_millis(at_ms), "tvlUsd": tvl, "apy": apy, "apyBase": apy,
                "apyReward": null, "il7d": null, "apyBase7d": null,
            })
        })
        .collect();
    Reply::json(json!({ "status": "success", "data": data }))
}
