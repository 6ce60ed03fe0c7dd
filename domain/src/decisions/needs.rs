//! What a strategy has to be told: which bars, which statistics, which odds.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::snapshot::Datum;
use crate::strategy::{
    ActionKind, Comparison, Entry, Feature, Indicator, Logic, Node, NodeKind, Sizing, StrategyGraph,
};

/// Fewest and most bars that are loaded of a market.
const FEWEST_BARS: usize = 100;
const MOST_BARS: usize = 5_000;
/// Averages that never forget are close to their value after so many times their period.
const SETTLED: usize = 4;

/// How many bars a graph has to see before what it says of the newest is what a back-test over a
/// long history would say, near enough.
#[must_use]
pub fn bars_needed(graph: &StrategyGraph) -> usize {
    let nodes: BTreeMap<&str, &Node> =
        graph.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut known = BTreeMap::new();
    let deepest = graph.nodes.iter().map(|node| memory(node, &nodes, &mut known)).max();
    let sizing = graph.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::OpenLong(entry) | ActionKind::OpenShort(entry) => Some(lookback(entry)),
        ActionKind::Close => None,
    });
    let needed = deepest.unwrap_or_default().max(sizing.max().unwrap_or_default());
    // One more than the warm-up, on which nothing fires.
    (needed.max(graph.warmup_bars) + 2).clamp(FEWEST_BARS, MOST_BARS.max(graph.warmup_bars + 2))
}

/// Bars that a node looks back, with what its inputs look back. Graphs have no cycles.
fn memory<'g>(
    node: &'g Node,
    nodes: &BTreeMap<&str, &'g Node>,
    known: &mut BTreeMap<&'g str, usize>,
) -> usize {
    if let Some(bars) = known.get(node.id.as_str()) {
        return *bars;
    }
    let inputs = node.inputs.iter().filter_map(|id| nodes.get(id.as_str()).copied());
    let deepest = inputs.map(|input| memory(input, nodes, known)).max().unwrap_or_default();
    let bars = deepest + own_memory(&node.kind);
    known.insert(&node.id, bars);
    bars
}

fn own_memory(kind: &NodeKind) -> usize {
    match kind {
        NodeKind::Indicator(indicator) => match *indicator {
            Indicator::Ema(period) | Indicator::Rsi(period) | Indicator::Atr(period) => {
                SETTLED * period
            }
            Indicator::Macd { slow, signal, .. } => SETTLED * (slow + signal),
            Indicator::BbPos { period, .. }
            | Indicator::Sma(period)
            | Indicator::Roc(period)
            | Indicator::ZScore(period)
            | Indicator::Highest(period)
            | Indicator::Lowest(period) => period,
        },
        NodeKind::Compare(Comparison::Cross(_)) => 1,
        NodeKind::Logic(Logic::HoldFor(bars)) => *bars,
        _ => 0,
    }
}

fn lookback(entry: &Entry) -> usize {
    match entry.sizing {
        Sizing::VolTarget { lookback, .. } => lookback + 1,
        _ => 0,
    }
}

/// A statistic that is written by ingestion, under the name that it has there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatisticNeed {
    /// What is measured.
    pub feature: &'static str,
    /// Of what.
    pub subject: String,
    /// Over which window its change is asked for (ms); 0 for its value.
    pub window_ms: i64,
}

impl StatisticNeed {
    /// What a feature of a graph needs, if it is a statistic.
    #[must_use]
    pub fn of(feature: &Feature) -> Option<Self> {
        let need = |feature, subject: &str, window_ms| {
            Some(Self { feature, subject: subject.to_owned(), window_ms })
        };
        match feature {
            Feature::Tvl { chain } => need("chain_tvl_usd", chain, 0),
            Feature::TvlChange { chain, window_ms } => need("chain_tvl_usd", chain, *window_ms),
            Feature::StablecoinSupplyChange { window_ms } => {
                need("stablecoin_supply_usd", "all", *window_ms)
            }
            Feature::DexVolumeChange { chain, window_ms } => {
                need("dex_volume_usd", chain, *window_ms)
            }
            Feature::PoolApy { pool } => need("pool_apy", pool, 0),
            _ => None,
        }
    }

    /// Its value at the newest of these times, oldest first, or its change over the window up to
    /// there as a fraction; `None` where there is no value to compare with.
    #[must_use]
    pub fn read(&self, values: &[Datum]) -> Option<Datum> {
        let newest = *values.last()?;
        if self.window_ms == 0 {
            return Some(newest);
        }
        let before_ms = newest.at_ms - self.window_ms;
        let before = values.iter().rev().find(|datum| datum.at_ms <= before_ms)?;
        let change = newest.value / before.value - 1.0;
        change.is_finite().then_some(Datum { value: change, ..newest })
    }
}

/// The features that graphs read.
pub fn features<'g>(
    graphs: impl IntoIterator<Item = &'g StrategyGraph>,
) -> impl Iterator<Item = &'g Feature> {
    graphs.into_iter().flat_map(|graph| &graph.nodes).filter_map(|node| match &node.kind {
        NodeKind::Input(input) => Some(&input.feature),
        _ => None,
    })
}

/// Outcomes of events that graphs read: condition and outcome.
#[must_use]
pub fn outcomes<'g>(
    graphs: impl IntoIterator<Item = &'g StrategyGraph>,
) -> BTreeSet<(&'g str, &'g str)> {
    features(graphs)
        .filter_map(|feature| match feature {
            Feature::PmOdds { condition_id, outcome } => {
                Some((condition_id.as_str(), outcome.as_str()))
            }
            _ => None,
        })
        .collect()
}

/// The newest book of an outcome, and its last trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutcomeQuote {
    /// The best bid.
    pub bid: Option<Decimal>,
    /// The best ask.
    pub ask: Option<Decimal>,
    /// When they came, epoch milliseconds.
    pub quoted_at_ms: i64,
    /// The price of the last trade.
    pub last_trade: Option<Decimal>,
    /// When it was, epoch milliseconds.
    pub traded_at_ms: Option<i64>,
}

/// A spread up to here tells odds: Polymarket shows the last trade beyond it.
const WIDEST_SPREAD: Decimal = Decimal::from_parts(1, 0, 0, false, 1);
/// A trade this old tells none.
const OLDEST_TRADE_MS: i64 = 3_600_000;

impl OutcomeQuote {
    /// The odds as the venue shows them: the middle of a narrow book, else the last trade of the
    /// hour, else nothing.
    #[must_use]
    pub fn odds(&self, as_of_ms: i64) -> Option<Datum> {
        let between = self
            .bid
            .zip(self.ask)
            .filter(|(bid, ask)| ask >= bid && ask.saturating_sub(*bid) <= WIDEST_SPREAD);
        let (odds, at_ms) = match (between, self.last_trade.zip(self.traded_at_ms)) {
            (Some((bid, ask)), _) => {
                let middle = bid.saturating_add(ask).checked_div(Decimal::TWO)?;
                (middle, self.quoted_at_ms)
            }
            (None, Some((price, at_ms))) if as_of_ms - at_ms < OLDEST_TRADE_MS => (price, at_ms),
            _ => return None,
        };
        let value = odds.to_f64().filter(|odds| (0.0..=1.0).contains(odds))?;
        Some(Datum { value, at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{ValidGraph, default_graph};

    #[test]
    fn bars_reach_back_as_far_as_the_deepest_chain() {
        assert_eq!(bars_needed(default_graph().graph()), FEWEST_BARS);
        let with = |nodes: &str, warmup: usize| {
            let graph = format!(
                r#"{{"schema_version":1,"name":"g","universe":["BTC"],"timeframe":"1h","warmup_bars":{warmup},
                "nodes":[{{"id":"px","type":"input","feature":"price","params":{{"field":"close"}}}},
                  {nodes},{{"id":"zero","type":"const","value":"0"}},
                  {{"id":"go","type":"compare","op":"gt","inputs":["x","zero"]}}],
                "actions":[{{"id":"exit","when":"go","do":"close"}}]}}"#
            );
            bars_needed(ValidGraph::parse(&graph).expect("valid").graph())
        };
        let ema = |id: &str, of: &str, period: usize| {
            format!(
                r#"{{"id":"{id}","type":"indicator","fn":"ema","inputs":["{of}"],"params":{{"period":{period}}}}}"#
            )
        };
        assert_eq!(with(&ema("x", "px", 200), 10), 802);
        let chained = format!("{},{}", ema("y", "px", 100), ema("x", "y", 50));
        assert_eq!(with(&chained, 10), 602);
        assert_eq!(with(&ema("x", "px", 10), 700), 702);
    }

    #[test]
    fn a_change_compares_with_the_newest_value_before_the_window() {
        let at = |at_ms, value| Datum { value, at_ms };
        let values = [at(0, 100.0), at(10, 110.0), at(20, 132.0)];
        let need = |window_ms| StatisticNeed { feature: "x", subject: "y".into(), window_ms };
        assert_eq!(need(0).read(&values), Some(at(20, 132.0)));
        let change = need(10).read(&values).unwrap();
        assert!((change.value - 0.2).abs() < 1e-12 && change.at_ms == 20);
        let change = need(15).read(&values).unwrap();
        assert!((change.value - 0.32).abs() < 1e-12);
        assert_eq!(need(21).read(&values), None);
        assert_eq!(need(0).read(&[]), None);
        assert_eq!(need(10).read(&[at(0, 0.0), at(10, 1.0)]), None);
    }

    #[test]
    fn odds_are_the_middle_of_a_narrow_book_else_a_recent_trade() {
        let d = |text: &str| Some(text.parse::<Decimal>().unwrap());
        let check = |bid, ask, trade: Option<(&str, i64)>, expected: Option<(f64, i64)>| {
            let quote = OutcomeQuote {
                bid,
                ask,
                quoted_at_ms: 9,
                last_trade: trade.and_then(|(price, _)| d(price)),
                traded_at_ms: trade.map(|(_, at_ms)| at_ms),
            };
            let odds = quote.odds(OLDEST_TRADE_MS).map(|datum| (datum.value, datum.at_ms));
            assert_eq!(odds, expected, "{quote:?}");
        };
        check(d("0.40"), d("0.50"), Some(("0.9", 1)), Some((0.45, 9)));
        check(d("0.40"), d("0.51"), Some(("0.9", 1)), Some((0.9, 1)));
        check(d("0.40"), d("0.51"), Some(("0.9", 0)), None);
        check(None, d("0.51"), Some(("0.5", 7)), Some((0.5, 7)));
        check(d("0.6"), d("0.5"), None, None);
        check(None, None, Some(("1.5", 7)), None);
    }
}
