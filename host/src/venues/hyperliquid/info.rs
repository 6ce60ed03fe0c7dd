//! `/info`: one document for each type of request, and what it costs.

use serde_json::{Value, json};

use super::{Hyperliquid, shapes};
use crate::venues::decimal::rounded;
use crate::venues::endpoint::Endpoint;
use crate::venues::market::Interval;
use crate::venues::site::Reply;

/// Settlements in an answer.
const SETTLEMENTS: usize = 500;
/// Trades in an answer.
const TRADES: usize = 10;
const HOUR_MS: i64 = 3_600_000;

pub(super) fn endpoint(request: &Value) -> Endpoint {
    match request["type"].as_str().unwrap_or_default() {
        "meta" => Endpoint::Meta,
        "metaAndAssetCtxs" => Endpoint::MetaAndAssetCtxs,
        "allMids" => Endpoint::AllMids,
        "l2Book" => Endpoint::L2Book,
        "candleSnapshot" => Endpoint::CandleSnapshot,
        "fundingHistory" => Endpoint::FundingHistory,
        "recentTrades" => Endpoint::RecentTrades,
        "predictedFundings" => Endpoint::PredictedFundings,
        "perpDexs" => Endpoint::PerpDexs,
        "allPerpMetas" => Endpoint::AllPerpMetas,
        "exchangeStatus" => Endpoint::ExchangeStatus,
        _ => Endpoint::Unknown,
    }
}

impl Hyperliquid {
    /// The answer to a request.
    pub(super) fn info(&self, endpoint: Endpoint, request: &Value, now_ms: i64) -> Reply {
        let market = &self.market;
        // Of the exchanges inside the exchange there is only the main one.
        let other_dex = request["dex"].as_str().is_some_and(|dex| !dex.is_empty());
        match endpoint {
            Endpoint::Meta | Endpoint::MetaAndAssetCtxs | Endpoint::AllMids if other_dex => null(),
            Endpoint::Meta => Reply::json(shapes::meta(market)).weighing(20),
            Endpoint::MetaAndAssetCtxs => {
                let contexts: Vec<_> = (0..market.perpetuals().len())
                    .map(|coin| shapes::context(market, coin, now_ms))
                    .collect();
                Reply::json(json!([shapes::meta(market), contexts])).weighing(20)
            }
            Endpoint::AllMids => Reply::json(shapes::mids(market, now_ms)).weighing(2),
            Endpoint::L2Book => self.book(request, now_ms),
            Endpoint::CandleSnapshot => self.candles(&request["req"], now_ms),
            Endpoint::FundingHistory => self.funding(request, now_ms),
            Endpoint::RecentTrades => self.trades(request, now_ms),
            Endpoint::PredictedFundings => self.predicted(now_ms),
            Endpoint::PerpDexs => Reply::json(json!([null])).weighing(20),
            Endpoint::AllPerpMetas => Reply::json(json!([shapes::meta(market)])).weighing(20),
            Endpoint::ExchangeStatus => {
                Reply::json(json!({ "specialStatuses": null, "time": now_ms })).weighing(2)
            }
            _ => unreadable(),
        }
    }

    fn book(&self, request: &Value, now_ms: i64) -> Reply {
        let Some(coin) = request["coin"].as_str() else { return unreadable() };
        let figures = &request["nSigFigs"];
        if !figures.is_null() && !figures.as_u64().is_some_and(|figures| (2..=5).contains(&figures))
        {
            return unreadable();
        }
        let book = self.market.find(coin).map(|coin| shapes::book(&self.market, coin, 20, now_ms));
        Reply::json(book.unwrap_or_default()).weighing(2)
    }

    fn candles(&self, request: &Value, now_ms: i64) -> Reply {
        let (Some(coin), Some(interval), Some(from_ms), Some(to_ms)) = (
            request["coin"].as_str(),
            request["interval"].as_str().and_then(Interval::parse),
            request["startTime"].as_i64(),
            request["endTime"].as_i64(),
        ) else {
            return unreadable();
        };
        let Some(coin) = self.market.find(coin) else { return null() };
        let perpetual = &self.market.perpetuals()[coin];
        let candles: Vec<_> = self
            .market
            .candles(coin, interval, from_ms, to_ms, now_ms)
            .iter()
            .map(|bar| shapes::candle(perpetual, interval, bar))
            .collect();
        let weight = 20 + rows(&candles, 60);
        Reply::json(candles).weighing(weight)
    }

    fn funding(&self, request: &Value, now_ms: i64) -> Reply {
        let (Some(coin), Some(from_ms)) = (request["coin"].as_str(), request["startTime"].as_i64())
        else {
            return unreadable();
        };
        let to_ms = request["endTime"].as_i64().unwrap_or(now_ms).min(now_ms);
        let Some(index) = self.market.find(coin) else { return null() };
        let settled: Vec<_> = self
            .market
            .settlements(index, from_ms, to_ms, SETTLEMENTS)
            .into_iter()
            .map(|settled| {
                json!({
                    "coin": coin, "fundingRate": rounded(settled.rate, 10),
                    "premium": rounded(settled.premium, 10), "time": settled.time_ms,
                })
            })
            .collect();
        let weight = 20 + rows(&settled, 20);
        Reply::json(settled).weighing(weight)
    }

    fn trades(&self, request: &Value, now_ms: i64) -> Reply {
        let Some(coin) = request["coin"].as_str() else { return unreadable() };
        let Some(coin) = self.market.find(coin) else { return null() };
        let perpetual = &self.market.perpetuals()[coin];
        let trades: Vec<_> = self
            .market
            .trades(coin, now_ms - 60_000, now_ms)
            .iter()
            .rev()
            .take(TRADES)
            .map(|trade| shapes::trade(perpetual, trade))
            .collect();
        let weight = 20 + rows(&trades, 20);
        Reply::json(trades).weighing(weight)
    }

    fn predicted(&self, now_ms: i64) -> Reply {
        let next_ms = Interval::H1.floor(now_ms) + HOUR_MS;
        let next_8h_ms = Interval::H8.floor(now_ms) + 8 * HOUR_MS;
        let rows: Vec<_> = self
            .market
            .perpetuals()
            .iter()
            .enumerate()
            .filter_map(|(coin, perpetual)| {
                let funding = self.market.context(coin, now_ms)?.funding;
                let elsewhere = rounded(funding * 8.0, 8);
                Some(json!([perpetual.name, [
                    ["BinPerp", { "fundingRate": elsewhere, "nextFundingTime": next_8h_ms }],
                    ["HlPerp", { "fundingRate": rounded(funding, 10), "nextFundingTime": next_ms }],
                    ["BybitPerp", null],
                ]]))
            })
            .collect();
        Reply::json(rows).weighing(20)
    }
}

/// The weight of so many rows.
fn rows(rows: &[Value], of_one: usize) -> u32 {
    u32::try_from(rows.len().div_ceil(of_one)).unwrap_or(u32::MAX)
}

/// What the exchange says of a coin or an inner exchange that it does not know.
fn null() -> Reply {
    Reply::json(Value::Null).with_status(500).weighing(20)
}

fn unreadable() -> Reply {
    Reply::text(422, "Failed to deserialize the JSON body into the target type").weighing(20)
}
