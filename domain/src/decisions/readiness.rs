//! Whether there is enough fresh data to ask anybody.

use super::conclusion::SkipReason;
use super::snapshot::{MarketView, Snapshot};
use crate::strategy::ValidGraph;

/// A mark older than this decides nothing.
const FRESH_MARK_MS: i64 = 60_000;

/// Checks the data of every symbol of the graph: without fresh bars, marks and warm-up a decision
/// is skipped, not made on yesterday's prices.
///
/// # Errors
/// Why it is skipped.
pub fn check_ready(graph: &ValidGraph, snapshot: &Snapshot) -> Result<(), SkipReason> {
    let graph = graph.graph();
    for symbol in &graph.universe {
        let market = snapshot.markets.get(symbol).ok_or(SkipReason::MissingFeature)?;
        let closed_at_ms = market.closed_at_ms().ok_or(SkipReason::MissingFeature)?;
        // The bar after the newest closed one may be under way, not over.
        let oldest_ms = snapshot.as_of_ms - 2 * market.interval.as_millis();
        if closed_at_ms < oldest_ms || is_stale(market, snapshot.as_of_ms) {
            return Err(SkipReason::StaleData);
        }
        if market.bars.len() <= graph.warmup_bars {
            return Err(SkipReason::Warmup);
        }
    }
    Ok(())
}

/// A market without any mark is judged by its bars alone.
fn is_stale(market: &MarketView, as_of_ms: i64) -> bool {
    market.mark.is_some_and(|mark| as_of_ms - mark.at_ms > FRESH_MARK_MS)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Datum;
    use super::*;
    use crate::market::{Interval, RandomWalk};
    use crate::strategy::default_graph;

    const HOUR_MS: i64 = 3_600_000;

    fn snapshot(bars: usize, as_of_ms: i64) -> Snapshot {
        let mut market = MarketView::unknown(Interval::H1);
        market.bars = RandomWalk::new(1, Interval::H1, 0, 100.0, 0.01).take(bars).collect();
        let symbol = default_graph().graph().universe[0].clone();
        Snapshot { as_of_ms, markets: [(symbol, market)].into(), ..Snapshot::default() }
    }

    #[test]
    fn old_bars_old_marks_and_few_bars_are_told_apart() {
        let graph = default_graph();
        let warmup = graph.graph().warmup_bars;
        let bars = warmup + 1;
        let end_ms = i64::try_from(bars).unwrap() * HOUR_MS;
        let check = |snapshot: &Snapshot, expected| {
            assert_eq!(check_ready(&graph, snapshot), expected);
        };
        check(&snapshot(bars, end_ms), Ok(()));
        check(&snapshot(bars, end_ms + 2 * HOUR_MS), Ok(()));
        check(&snapshot(bars, end_ms + 2 * HOUR_MS + 1), Err(SkipReason::StaleData));
        check(&snapshot(0, 0), Err(SkipReason::MissingFeature));
        check(&Snapshot::default(), Err(SkipReason::MissingFeature));
        if warmup > 0 {
            check(&snapshot(warmup, end_ms - HOUR_MS), Err(SkipReason::Warmup));
        }
        let mut marked = snapshot(bars, end_ms);
        let market = marked.markets.values_mut().next().unwrap();
        market.mark = Some(Datum { value: 100.0, at_ms: end_ms - 60_001 });
        check(&marked, Err(SkipReason::StaleData));
    }
}
