//! DefiLlama: the paths of all its hosts under one base, as statistics of a made-up industry.
//!
//! Figures are written once an hour; the point of the current day changes until the day is over.

mod chains;
mod prices;
mod protocols;
mod stablecoins;
#[cfg(test)]
mod tests;
mod volumes;
mod yields;

use std::sync::Arc;

use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::market::{Market, OPENED_MS};
use super::random::Noise;
use super::site::{Asked, Reply, Site};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// The aggregator.
#[derive(Debug)]
pub(crate) struct DefiLlama {
    market: Arc<Market>,
    per_minute: u32,
}

impl DefiLlama {
    pub(crate) fn new(market: Arc<Market>, per_minute: u32) -> Self {
        Self { market, per_minute }
    }

    fn noise(&self) -> Noise {
        self.market.noise().of("defillama")
    }
}

impl Site for DefiLlama {
    fn endpoint(&self, asked: &Asked) -> Endpoint {
        match asked.parts().as_slice() {
            ["protocols"] => Endpoint::Protocols,
            ["protocol", _] => Endpoint::Protocol,
            ["tvl", _] => Endpoint::Tvl,
            ["v2", "chains"] => Endpoint::Chains,
            ["v2", "historicalChainTvl"] | ["v2", "historicalChainTvl", _] => {
                Endpoint::HistoricalChainTvl
            }
            ["stablecoins"] => Endpoint::Stablecoins,
            ["stablecoincharts", _] => Endpoint::StablecoinCharts,
            ["stablecoinchains"] => Endpoint::StablecoinChains,
            ["stablecoinprices"] => Endpoint::StablecoinPrices,
            ["pools"] => Endpoint::Pools,
            ["chart", _] => Endpoint::PoolChart,
            ["overview", "dexs"] | ["overview", "dexs", _] => Endpoint::DexsOverview,
            ["summary", "dexs", _] => Endpoint::DexsSummary,
            ["overview", "fees"] | ["overview", "fees", _] => Endpoint::FeesOverview,
            ["overview", "open-interest"] => Endpoint::OpenInterestOverview,
            ["prices", "current", _] => Endpoint::PricesCurrent,
            ["prices", "historical", _, _] => Endpoint::PricesHistorical,
            _ => Endpoint::Unknown,
        }
    }

    fn reply(&self, endpoint: Endpoint, asked: &Asked, now_ms: i64) -> Reply {
        if asked.method != "GET" {
            return Reply::json(json!({ "message": "Method Not Allowed" })).with_status(405);
        }
        let noise = self.noise();
        let parts = asked.parts();
        let last = parts.last().copied().unwrap_or_default();
        let reply = match endpoint {
            Endpoint::Protocols => Reply::json(protocols::list(noise, now_ms)),
            Endpoint::Protocol => protocols::one(noise, last, now_ms),
            Endpoint::Tvl => protocols::tvl(noise, last, now_ms),
            Endpoint::Chains => Reply::json(chains::list(noise, now_ms)),
            Endpoint::HistoricalChainTvl => chains::history(noise, parts.get(2).copied(), now_ms),
            Endpoint::Stablecoins => {
                let priced = asked.parameter("includePrices") == Some("true");
                Reply::json(stablecoins::list(noise, priced, now_ms))
            }
            Endpoint::StablecoinCharts => {
                let id = asked.parameter("stablecoin");
                Reply::json(stablecoins::chart(noise, last, id, now_ms))
            }
            Endpoint::StablecoinChains => Reply::json(stablecoins::chains(noise, now_ms)),
            Endpoint::StablecoinPrices => Reply::json(stablecoins::prices(noise, now_ms)),
            Endpoint::Pools => Reply::json(yields::list(noise, now_ms)),
            Endpoint::PoolChart => yields::chart(noise, last, now_ms),
            Endpoint::DexsOverview | Endpoint::FeesOverview | Endpoint::OpenInterestOverview => {
                let charts = |name| asked.parameter(name) != Some("true");
                let wanted = volumes::Wanted {
                    kind: volumes::Kind::of(endpoint),
                    chain: parts.get(2).copied(),
                    chart: charts("excludeTotalDataChart"),
                    breakdown: charts("excludeTotalDataChartBreakdown"),
                };
                Reply::json(volumes::overview(noise, &wanted, now_ms))
            }
            Endpoint::DexsSummary => volumes::summary(noise, last, now_ms),
            Endpoint::PricesCurrent => Reply::json(prices::at(&self.market, last, now_ms)),
            Endpoint::PricesHistorical => {
                let at_s = parts.get(2).and_then(|at_s| at_s.parse::<i64>().ok());
                match at_s {
                    Some(at_s) => Reply::json(prices::at(&self.market, last, at_s * 1_000)),
                    None => refused("Invalid timestamp"),
                }
            }
            _ => Reply::json(json!({ "message": "Not Found" })).with_status(404),
        };
        reply.with_header("cache-control", "public, max-age=600")
    }

    fn per_minute(&self) -> u32 {
        self.per_minute
    }

    fn limited(&self) -> Reply {
        Reply::text(429, "Too many requests").with_header("retry-after", "10")
    }
}

/// A statistic in USD: it moves around its base by about `volatility` a day, hour by hour.
fn figure(noise: Noise, base: f64, volatility: f64, at_ms: i64) -> f64 {
    let hour_ms = at_ms - at_ms.rem_euclid(HOUR_MS);
    let half = (volatility * noise.walk(hour_ms, 2 * HOUR_MS, 10) / 2.0).clamp(-0.9, 0.9);
    base * (1.0 + half) / (1.0 - half)
}

/// The change between two figures, in percent.
fn change(from: f64, to: f64) -> f64 {
    (to / from - 1.0) * 100.0
}

/// Every day of the history: its beginning, and the time whose figure stands for it, which for
/// the current day is now. In epoch milliseconds.
fn days(now_ms: i64) -> impl Iterator<Item = (i64, i64)> {
    let today_ms = now_ms - now_ms.rem_euclid(DAY_MS);
    (OPENED_MS / DAY_MS..=today_ms / DAY_MS)
        .map(|day| day * DAY_MS)
        .map(move |day_ms| (day_ms, if day_ms == today_ms { now_ms } else { day_ms }))
}

/// What stands in the body of a refusal.
fn refused(message: &str) -> Reply {
    Reply::json(json!({ "message": message })).with_status(400)
}

/// A name as it stands in an address.
fn slug(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

fn object<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Value {
    pairs
        .into_iter()
        .map(|(key, value)| (key.into(), value))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
