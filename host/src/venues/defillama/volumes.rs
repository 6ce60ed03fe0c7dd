//! Volumes of exchanges, fees, open interest: one family of answers.

use serde_json::{Value, json};

use super::{DAY_MS, change, days, figure, object, refused, slug};
use crate::venues::endpoint::Endpoint;
use crate::venues::random::Noise;
use crate::venues::site::Reply;

/// Id, name, module, chains, millions of USD a day.
const EXCHANGES: [(&str, &str, &str, &[&str], f64); 12] = [
    ("2198", "Uniswap V3", "uniswap-v3", &["Ethereum", "Base", "Arbitrum"], 1_450.0),
    ("5690", "Uniswap V4", "uniswap-v4", &["Ethereum", "Base"], 720.0),
    ("194", "PancakeSwap AMM V3", "pancakeswap-v3", &["BSC", "Base"], 1_900.0),
    ("214", "Raydium AMM", "raydium", &["Solana"], 610.0),
    ("2667", "Orca DEX", "orca", &["Solana"], 480.0),
    ("3317", "Meteora DLMM", "meteora-dlmm", &["Solana"], 390.0),
    ("1482", "Aerodrome Slipstream", "aerodrome-slipstream", &["Base"], 640.0),
    ("3", "Curve DEX", "curve", &["Ethereum", "Arbitrum"], 310.0),
    ("4481", "Hyperliquid Spot Orderbook", "hyperliquid-spot", &["Hyperliquid L1"], 240.0),
    ("3891", "Cetus AMM", "cetus", &["Sui"], 110.0),
    ("2088", "Pharaoh Exchange", "pharaoh", &["Avalanche"], 60.0),
    ("383", "Osmosis DEX", "osmosis", &["Osmosis"], 12.0),
];

/// What is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Volume,
    Fees,
    OpenInterest,
}

impl Kind {
    pub(super) fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::FeesOverview => Self::Fees,
            Endpoint::OpenInterestOverview => Self::OpenInterest,
            _ => Self::Volume,
        }
    }

    /// As a share of the volume of a day.
    fn share(self) -> f64 {
        match self {
            Self::Volume => 1.0,
            Self::Fees => 0.0011,
            Self::OpenInterest => 1.4,
        }
    }
}

/// What an overview is to be of.
pub(super) struct Wanted<'a> {
    pub(super) kind: Kind,
    pub(super) chain: Option<&'a str>,
    pub(super) chart: bool,
    pub(super) breakdown: bool,
}

fn volume(noise: Noise, name: &str, millions: f64, at_ms: i64) -> f64 {
    figure(noise.of("volume").of(name), millions * 1e6, 0.22, at_ms).round()
}

pub(super) fn overview(noise: Noise, wanted: &Wanted<'_>, now_ms: i64) -> Value {
    let on_chain = |chains: &[&str]| {
        wanted.chain.is_none_or(|wanted| chains.iter().any(|on| on.eq_ignore_ascii_case(wanted)))
    };
    let exchanges: Vec<_> =
        EXCHANGES.iter().filter(|(_, _, _, chains, _)| on_chain(chains)).collect();
    let at = |name: &str, millions: f64, at_ms| {
        volume(noise, name, millions * wanted.kind.share(), at_ms)
    };
    let sum = |at_ms: i64| -> f64 {
        exchanges.iter().map(|(_, name, .., millions)| at(name, *millions, at_ms)).sum()
    };
    let protocols: Vec<_> = exchanges
        .iter()
        .map(|(id, name, module, chains, millions)| {
            let (now, before) = (at(name, *millions, now_ms), at(name, *millions, now_ms - DAY_MS));
            json!({
                "defillamaId": id, "name": name, "displayName": name, "module": module,
                "category": "Dexs", "disabled": false, "change_1d": change(before, now),
                "total24h": now, "total48hto24h": before, "chains": chains, "breakdown24h": null,
                "latestFetchIsOk": true,
            })
        })
        .collect();
    let chart: Vec<Value> = if wanted.chart {
        days(now_ms).map(|(day_ms, at_ms)| json!([day_ms / 1_000, sum(at_ms)])).collect()
    } else {
        Vec::new()
    };
    let breakdown: Vec<Value> = if wanted.breakdown {
        days(now_ms)
            .map(|(day_ms, at_ms)| {
                let parts = exchanges
                    .iter()
                    .map(|(_, name, .., millions)| (*name, at(name, *millions, at_ms).into()));
                json!([day_ms / 1_000, object(parts)])
            })
            .collect()
    } else {
        Vec::new()
    };
    let week: f64 = (0..7).map(|day| sum(now_ms - day * DAY_MS)).sum();
    json!({
        "totalDataChart": chart, "totalDataChartBreakdown": breakdown, "breakdown24h": null,
        "chain": wanted.chain,
        "allChains": super::chains::CHAINS.iter().map(|(name, ..)| *name).collect::<Vec<_>>(),
        "total24h": sum(now_ms), "total48hto24h": sum(now_ms - DAY_MS), "total7d": week,
        "change_1d": change(sum(now_ms - DAY_MS), sum(now_ms)), "protocols": protocols,
    })
}

pub(super) fn summary(noise: Noise, wanted: &str, now_ms: i64) -> Reply {
    let Some((id, name, module, chains, millions)) =
        EXCHANGES.iter().find(|(_, name, module, ..)| *module == wanted || slug(name) == wanted)
    else {
        return refused("Protocol is not in our database");
    };
    let at = |at_ms| volume(noise, name, *millions, at_ms);
    let chart: Vec<_> =
        days(now_ms).map(|(day_ms, at_ms)| json!([day_ms / 1_000, at(at_ms)])).collect();
    let (now, before) = (at(now_ms), at(now_ms - DAY_MS));
    Reply::json(json!({
        "defillamaId": id, "name": name, "displayName": name, "module": module, "category": "Dexs",
        "disabled": false, "chains": chains, "total24h": now, "total48hto24h": before,
        "change_1d": change(before, now), "totalDataChart": chart, "totalDataChartBreakdown": [],
        "latestFetchIsOk": true,
    }))
}
