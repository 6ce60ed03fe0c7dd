//! Value locked on each chain, now and day by day.

use serde_json::{Value, json};

use super::{days, figure};
use crate::venues::random::Noise;
use crate::venues::site::Reply;

/// Name, gecko id, symbol, CoinMarketCap id, chain id, billions of USD.
type Facts =
    (&'static str, Option<&'static str>, &'static str, Option<&'static str>, Option<i64>, f64);

pub(super) const CHAINS: [Facts; 12] = [
    ("Ethereum", Some("ethereum"), "ETH", Some("1027"), Some(1), 68.0),
    ("Solana", Some("solana"), "SOL", Some("5426"), None, 9.4),
    ("Bitcoin", Some("bitcoin"), "BTC", Some("1"), None, 6.9),
    ("BSC", Some("binancecoin"), "BNB", Some("1839"), Some(56), 6.6),
    ("Tron", Some("tron"), "TRX", Some("1958"), Some(728_126_428), 4.6),
    ("Base", None, "", None, Some(8_453), 4.4),
    ("Arbitrum", Some("arbitrum"), "ARB", Some("11841"), Some(42_161), 2.9),
    ("Hyperliquid L1", Some("hyperliquid"), "HYPE", Some("32196"), Some(999), 1.9),
    ("Avalanche", Some("avalanche-2"), "AVAX", Some("5805"), Some(43_114), 1.4),
    ("Polygon", Some("polygon-ecosystem-token"), "POL", Some("28321"), Some(137), 1.1),
    ("Sui", Some("sui"), "SUI", Some("20947"), None, 0.9),
    ("Harmony", Some("harmony"), "ONE", Some("3945"), Some(1_666_600_000), 0.0021),
];

/// USD that are locked on a chain.
fn locked(noise: Noise, name: &str, billions: f64, at_ms: i64) -> f64 {
    figure(noise.of("chain").of(name), billions * 1e9, 0.02, at_ms)
}

pub(super) fn list(noise: Noise, now_ms: i64) -> Vec<Value> {
    CHAINS
        .iter()
        .map(|(name, gecko_id, symbol, cmc_id, chain_id, billions)| {
            json!({
                "gecko_id": gecko_id, "tvl": locked(noise, name, *billions, now_ms),
                "tokenSymbol": symbol, "cmcId": cmc_id, "name": name, "chainId": chain_id,
            })
        })
        .collect()
}

/// The days of one chain, or of all of them together.
pub(super) fn history(noise: Noise, chain: Option<&str>, now_ms: i64) -> Reply {
    let wanted = |name: &str| chain.is_none_or(|chain| chain.eq_ignore_ascii_case(name));
    let chains: Vec<_> = CHAINS.iter().filter(|(name, ..)| wanted(name)).collect();
    if chains.is_empty() {
        // An answer of the function behind the host, passed on as if it were a success.
        return Reply::json(json!({
            "statusCode": 400,
            "body": json!({ "message": "There is no chain with that name" }).to_string(),
            "headers": { "Content-Type": "application/json" },
        }));
    }
    let days: Vec<_> = days(now_ms)
        .map(|(day_ms, at_ms)| {
            let sum: f64 = chains
                .iter()
                .map(|(name, .., billions)| locked(noise, name, *billions, at_ms))
                .sum();
            json!({ "date": day_ms / 1_000, "tvl": sum })
        })
        .collect();
    Reply::json(days)
}
