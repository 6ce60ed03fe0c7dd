//! Everything that decisions are made with, for any number of strategies: candles, prices, settled
//! funding, statistics and odds. Five statements, however many strategies, symbols and bars.
//!
//! What came in after the instant of the decision is left out, and a statistic has the value that
//! was first seen of it: the same decision can be made again later.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::json;

use super::prices;
use super::sql::{Column, read_rows};
use crate::decisions::{
    AccountView, Datum, MarketView, OutcomeQuote, Snapshot, StatisticNeed, bars_needed, features,
    outcomes, statistic_key,
};
use crate::market::{Candle, Dated, Interval, Price};
use crate::strategy::{Feature, StrategyGraph};

/// What is known of the markets at one instant.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    as_of_ms: i64,
    candles: BTreeMap<(String, Interval), Vec<Candle>>,
    prices: BTreeMap<String, Price>,
    funding: BTreeMap<String, Vec<Datum>>,
    statistics: BTreeMap<(String, String), Vec<Datum>>,
    odds: BTreeMap<(String, String), Datum>,
}

/// Settled funding is late by so much at most; statistics of a day by so much.
const LATE_FUNDING_MS: i64 = 3 * 3_600_000;
const LATE_STATISTIC_MS: i64 = 3 * 86_400_000;

/// Loads what strategies need to know at an instant, epoch milliseconds.
///
/// # Errors
/// The driver's error.
pub async fn load<'g>(
    database: &impl ConnectionTrait,
    graphs: impl IntoIterator<Item = &'g StrategyGraph>,
    as_of_ms: i64,
) -> Result<Knowledge, StoreError> {
    let graphs: Vec<&StrategyGraph> = graphs.into_iter().collect();
    if graphs.is_empty() {
        return Ok(Knowledge { as_of_ms, ..Knowledge::default() });
    }
    let symbols: BTreeSet<&str> =
        graphs.iter().flat_map(|graph| &graph.universe).map(String::as_str).collect();
    Ok(Knowledge {
        as_of_ms,
        candles: load_candles(database, &graphs, as_of_ms).await?,
        prices: prices::load(database, symbols).await?,
        funding: load_funding(database, &graphs, as_of_ms).await?,
        statistics: load_statistics(database, &graphs, as_of_ms).await?,
        odds: load_odds(database, &graphs, as_of_ms).await?,
    })
}

impl Knowledge {
    /// The instant of it all, epoch milliseconds.
    #[must_use]
    pub fn as_of_ms(&self) -> i64 {
        self.as_of_ms
    }

    /// What one strategy knows.
    #[must_use]
    pub fn snapshot(&self, graph: &StrategyGraph, account: Option<AccountView>) -> Snapshot {
        let interval = graph.timeframe;
        let market = |symbol: &String| (symbol.clone(), self.market(symbol, interval, graph));
        let statistics = features([graph]).filter_map(|feature| {
            let key = statistic_key(feature)?;
            Some((key, self.statistic(feature)?))
        });
        Snapshot {
            as_of_ms: self.as_of_ms,
            markets: graph.universe.iter().map(market).collect(),
            statistics: statistics.collect(),
            account,
        }
    }

    fn market(&self, symbol: &str, interval: Interval, graph: &StrategyGraph) -> MarketView {
        let mut view = MarketView::unknown(interval);
        if let Some(bars) = self.candles.get(&(symbol.to_owned(), interval)) {
            // Others may need more: what is known depends on the strategy alone.
            view.bars = bars[bars.len().saturating_sub(bars_needed(graph))..].to_vec();
        }
        view.funding = self.funding.get(symbol).cloned().unwrap_or_default();
        let Some(price) = self.prices.get(symbol) else { return view };
        let datum = |dated: Option<Dated>| self.datum(dated);
        view.mark = datum(price.mark);
        view.oracle = datum(price.oracle);
        view.mid = datum(price.mid);
        view.open_interest = datum(price.open_interest);
        view.premium = datum(price.premium);
        view.spread = price.bid.zip(price.ask).and_then(|(bid, ask)| {
            let value = ask.value.saturating_sub(bid.value);
            datum(Some(Dated { value, received_at_ms: bid.received_at_ms.min(ask.received_at_ms) }))
        });
        if let Some(step) = price.terms.as_ref().and_then(|terms| terms.size_step.to_f64()) {
            view.size_step = step;
        }
        view
    }

    fn datum(&self, dated: Option<Dated>) -> Option<Datum> {
        let dated = dated.filter(|dated| dated.received_at_ms <= self.as_of_ms)?;
        Some(Datum { value: dated.value.to_f64()?, at_ms: dated.received_at_ms })
    }

    fn statistic(&self, feature: &Feature) -> Option<Datum> {
        if let Feature::PmOdds { condition_id, outcome } = feature {
            return self.odds.get(&(condition_id.clone(), outcome.clone())).copied();
        }
        let need = StatisticNeed::of(feature)?;
        need.read(self.statistics.get(&(need.feature.to_owned(), need.subject.clone()))?)
    }
}

async fn load_candles(
    database: &impl ConnectionTrait,
    graphs: &[&StrategyGraph],
    as_of_ms: i64,
) -> Result<BTreeMap<(String, Interval), Vec<Candle>>, StoreError> {
    let mut wanted: BTreeMap<(&str, Interval), usize> = BTreeMap::new();
    for graph in graphs {
        let bars = bars_needed(graph);
        for symbol in &graph.universe {
            let most = wanted.entry((symbol, graph.timeframe)).or_default();
            *most = bars.max(*most);
        }
    }
    let rows = wanted.iter().map(|((symbol, interval), bars)| {
        // A bar is known when it is over.
        let last_ms = as_of_ms - interval.as_millis();
        let bars = i64::try_from(*bars).unwrap_or(i64::MAX);
        let first_ms = last_ms.saturating_sub(bars.saturating_mul(interval.as_millis()));
        vec![json!(symbol), json!(interval.as_str()), json!(first_ms), json!(last_ms)]
    });
    let rows = rows.collect();
    let columns = [
        ("symbol", Column::Text),
        ("interval", Column::Text),
        ("first_ms", Column::Int),
        ("last_ms", Column::Int),
    ];
    let sql = "
        SELECT c.symbol, c.interval, c.open_time_ms, c.open, c.high, c.low, c.close, c.volume
        FROM {rows} JOIN candles c ON c.symbol = v.symbol AND c.interval = v.interval
            AND c.open_time_ms > v.first_ms AND c.open_time_ms <= v.last_ms
        ORDER BY c.symbol, c.interval, c.open_time_ms";
    let found: Vec<CandleRow> =
        read_rows(database, "load candles for decisions", sql, &columns, [], &rows).await?;
    let mut candles: BTreeMap<(String, Interval), Vec<Candle>> = BTreeMap::new();
    for row in found {
        let Ok(interval) = row.interval.parse() else { continue };
        let CandleRow { open_time_ms, open, high, low, close, volume, .. } = row;
        let candle = Candle { open_time_ms, open, high, low, close, volume };
        candles.entry((row.symbol, interval)).or_default().push(candle);
    }
    Ok(candles)
}

#[derive(FromQueryResult)]
struct CandleRow {
    symbol: String,
    interval: String,
    open_time_ms: i64,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
}

async fn load_funding(
    database: &impl ConnectionTrait,
    graphs: &[&StrategyGraph],
    as_of_ms: i64,
) -> Result<BTreeMap<String, Vec<Datum>>, StoreError> {
    let mut since: BTreeMap<&str, i64> = BTreeMap::new();
    for graph in graphs {
        let window = features([*graph]).filter_map(|feature| match feature {
            Feature::Funding { window_ms, .. } => Some(*window_ms),
            _ => None,
        });
        let Some(window_ms) = window.max() else { continue };
        for symbol in &graph.universe {
            let from_ms = as_of_ms.saturating_sub(window_ms).saturating_sub(LATE_FUNDING_MS);
            let earliest = since.entry(symbol).or_insert(from_ms);
            *earliest = from_ms.min(*earliest);
        }
    }
    let rows = since.iter().map(|(symbol, from_ms)| vec![json!(symbol), json!(from_ms)]).collect();
    let columns = [("symbol", Column::Text), ("from_ms", Column::Int)];
    let sql = "
        SELECT f.symbol, f.hour_ms, f.rate
        FROM {rows} JOIN funding f ON f.symbol = v.symbol AND f.hour_ms >= v.from_ms
        WHERE f.hour_ms <= $1 AND f.received_at_ms <= $1
        ORDER BY f.symbol, f.hour_ms";
    let values = [as_of_ms.into()];
    let found: Vec<FundingRow> =
        read_rows(database, "load funding for decisions", sql, &columns, values, &rows).await?;
    let mut funding: BTreeMap<String, Vec<Datum>> = BTreeMap::new();
    for row in found {
        let rate = row.rate.parse::<Decimal>().ok().and_then(|rate| rate.to_f64());
        if let Some(value) = rate {
            funding.entry(row.symbol).or_default().push(Datum { value, at_ms: row.hour_ms });
        }
    }
    Ok(funding)
}

#[derive(FromQueryResult)]
struct FundingRow {
    symbol: String,
    hour_ms: i64,
    rate: String,
}

async fn load_statistics(
    database: &impl ConnectionTrait,
    graphs: &[&StrategyGraph],
    as_of_ms: i64,
) -> Result<BTreeMap<(String, String), Vec<Datum>>, StoreError> {
    let mut windows: BTreeMap<(&'static str, String), i64> = BTreeMap::new();
    for need in features(graphs.iter().copied()).filter_map(StatisticNeed::of) {
        let longest = windows.entry((need.feature, need.subject)).or_default();
        *longest = need.window_ms.max(*longest);
    }
    let rows = windows.iter().map(|((feature, subject), window_ms)| {
        let from_ms = as_of_ms.saturating_sub(*window_ms).saturating_sub(LATE_STATISTIC_MS);
        vec![json!(feature), json!(subject), json!(from_ms)]
    });
    let rows = rows.collect();
    let columns = [("feature", Column::Text), ("subject", Column::Text), ("from_ms", Column::Int)];
    let sql = "
        SELECT f.feature, f.subject, f.at_ms, f.first_value
        FROM {rows} JOIN features f ON f.feature = v.feature AND f.subject = v.subject
            AND f.at_ms >= v.from_ms
        WHERE f.at_ms <= $1 AND f.first_seen_at_ms <= $1
        ORDER BY f.feature, f.subject, f.at_ms";
    let values = [as_of_ms.into()];
    let found: Vec<StatisticRow> =
        read_rows(database, "load statistics for decisions", sql, &columns, values, &rows).await?;
    let mut statistics: BTreeMap<(String, String), Vec<Datum>> = BTreeMap::new();
    for row in found {
        let datum = Datum { value: row.first_value, at_ms: row.at_ms };
        statistics.entry((row.feature, row.subject)).or_default().push(datum);
    }
    Ok(statistics)
}

#[derive(FromQueryResult)]
struct StatisticRow {
    feature: String,
    subject: String,
    at_ms: i64,
    first_value: f64,
}

async fn load_odds(
    database: &impl ConnectionTrait,
    graphs: &[&StrategyGraph],
    as_of_ms: i64,
) -> Result<BTreeMap<(String, String), Datum>, StoreError> {
    let wanted = outcomes(graphs.iter().copied());
    let rows = wanted.iter().map(|(condition, outcome)| vec![json!(condition), json!(outcome)]);
    let rows = rows.collect();
    let columns = [("condition_id", Column::Text), ("outcome", Column::Text)];
    let sql = "
        SELECT t.condition_id, t.outcome, q.bid, q.ask, q.received_at_ms, q.last_trade,
               q.last_trade_at_ms
        FROM {rows} JOIN pm_tokens t ON t.condition_id = v.condition_id AND t.outcome = v.outcome
        JOIN pm_quotes q ON q.token_id = t.token_id";
    let found: Vec<OddsRow> =
        read_rows(database, "load odds for decisions", sql, &columns, [], &rows).await?;
    Ok(found.into_iter().filter_map(|row| row.odds(as_of_ms)).collect())
}

#[derive(FromQueryResult)]
struct OddsRow {
    condition_id: String,
    outcome: String,
    bid: Option<String>,
    ask: Option<String>,
    received_at_ms: i64,
    last_trade: Option<String>,
    last_trade_at_ms: Option<i64>,
}

impl OddsRow {
    fn odds(self, as_of_ms: i64) -> Option<((String, String), Datum)> {
        let is_known = self.received_at_ms <= as_of_ms;
        let price = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let quote = OutcomeQuote {
            bid: price(self.bid).filter(|_| is_known),
            ask: price(self.ask).filter(|_| is_known),
            quoted_at_ms: self.received_at_ms,
            last_trade: price(self.last_trade),
            traded_at_ms: self.last_trade_at_ms.filter(|at_ms| *at_ms <= as_of_ms),
        };
        Some(((self.condition_id, self.outcome), quote.odds(as_of_ms)?))
    }
}
