//! What the demo consists of: a made-up market, and back-tests of it.

use domain::backtesting::BacktestRequest;
use domain::market::{Candle, Interval, RandomWalk};
use domain::services;
use domain::store::{candles, instruments};
use domain::strategy::{DEFAULT_GRAPH_JSON, GraphError, ValidGraph};
use scheduler_core::{Store, StoreError};
use serde_json::Value;

use crate::failure::Failure;

/// Symbol, price of the first bar in USD, and standard deviation of a bar, of each instrument.
const MARKET: [(&str, f64, f64); 3] =
    [("BTC", 60_000.0, 0.005), ("ETH", 2_500.0, 0.007), ("SOL", 150.0, 0.010)];
const INTERVAL: Interval = Interval::H1;
const DAY_MS: i64 = 86_400_000;
/// The length of the history.
const DAYS: i64 = 365;
/// The length of the part that a later back-test plays.
const PART_DAYS: i64 = 90;
/// Bars of one write transaction.
const BATCH: usize = 5_000;

/// Strategies of the demo beside variations of the default graph.
const GRAPHS: [&str; 2] = [
    include_str!("../../examples/graphs/rsi-reversion.json"),
    include_str!("../../examples/graphs/breakout.json"),
];
/// Fast and slow period of each variation of the default graph.
const CROSSES: [(u16, u16); 3] = [(20, 50), (10, 30), (50, 200)];
const USERS: usize = 3;
/// Back-tests that are queued at the beginning: every strategy once, over the whole history.
const FIRST: usize = CROSSES.len() + GRAPHS.len();

/// A seeded demo.
#[derive(Debug)]
pub struct Demo {
    first_ms: i64,
    graphs: Vec<ValidGraph>,
    submitted: usize,
}

impl Demo {
    /// Stores a year of made-up bars up to now and queues the first back-tests.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the database has instruments already: made-up bars must not mix
    /// with real ones. The database's otherwise.
    pub async fn seed(store: &Store) -> Result<Self, Failure> {
        let present = instruments::list(store.reader()).await?;
        if !present.is_empty() {
            let present: Vec<_> = present.into_iter().map(|found| found.symbol).collect();
            return Err(Failure::usage(format!(
                "the database has instruments ({}), and made-up candles must not mix with real \
                 ones; choose an empty database (--database-url or DATABASE_URL)",
                present.join(", ")
            )));
        }
        let first_ms = store.clock().now_ms() - DAYS * DAY_MS;
        for (seed, (symbol, price, volatility)) in (1..).zip(MARKET) {
            let walk = RandomWalk::new(seed, INTERVAL, first_ms, price, volatility);
            let bars: Vec<Candle> = walk.take(bars()).collect();
            for bars in bars.chunks(BATCH) {
                store_bars(store, symbol, bars.to_vec()).await?;
            }
        }
        let graphs = graphs().map_err(|error| Failure::Work(error.into()))?;
        let mut demo = Self { first_ms, graphs, submitted: 0 };
        for _ in 0..FIRST {
            demo.submit_next(store).await?;
        }
        Ok(demo)
    }

    /// What was put in, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let symbols = MARKET.map(|(symbol, ..)| symbol).join(", ");
        let (bars, queued) = (bars(), self.submitted);
        format!(
            "{bars} made-up {INTERVAL} candles each of {symbols}; \
             {queued} back-tests of {USERS} users queued"
        )
    }

    /// Queues one more back-test and answers its id. The next ones differ in user, instrument,
    /// strategy and part of the history, in an order that is the same each time.
    ///
    /// # Errors
    /// The database's.
    pub async fn submit_next(&mut self, store: &Store) -> Result<String, Failure> {
        let request = self.request(self.submitted);
        self.submitted += 1;
        Ok(services::backtests::submit(store, request).await?)
    }

    fn request(&self, number: usize) -> BacktestRequest {
        let (round, graph) = (number / self.graphs.len(), number % self.graphs.len());
        let (symbol, ..) = MARKET[(graph + round) % MARKET.len()];
        let part = (number >= FIRST).then(|| self.part(number));
        BacktestRequest {
            user_id: i64::try_from(number % USERS).unwrap_or_default() + 1,
            clone_id: None,
            graph: self.graphs[graph].clone(),
            symbol: symbol.to_owned(),
            interval: INTERVAL,
            from_ms: part.map(|(from_ms, _)| from_ms),
            to_ms: part.map(|(_, to_ms)| to_ms),
            initial_cash: BacktestRequest::DEFAULT_CASH,
            fee_rate: BacktestRequest::DEFAULT_FEE_RATE,
            slippage_rate: BacktestRequest::DEFAULT_SLIPPAGE_RATE,
            priority: 0,
        }
    }

    /// A part of the history; 37 days on each time, which has no common divisor with what is left.
    fn part(&self, number: usize) -> (i64, i64) {
        let number = i64::try_from(number).unwrap_or_default();
        let from_ms = self.first_ms + number * 37 % (DAYS - PART_DAYS) * DAY_MS;
        (from_ms, from_ms + PART_DAYS * DAY_MS)
    }
}

fn bars() -> usize {
    usize::try_from(DAYS * DAY_MS / INTERVAL.as_millis()).unwrap_or_default()
}

async fn store_bars(
    store: &Store,
    symbol: &'static str,
    bars: Vec<Candle>,
) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    store
        .write("store the demo's candles", move |txn| {
            Box::pin(async move {
                instruments::introduce(txn, symbol, now_ms).await?;
                candles::upsert(txn, symbol, INTERVAL, &bars).await?;
                Ok(())
            })
        })
        .await
}

/// Every strategy of the demo.
fn graphs() -> Result<Vec<ValidGraph>, GraphError> {
    let crosses = CROSSES.into_iter().map(|(fast, slow)| cross(fast, slow));
    crosses.chain(GRAPHS.map(ValidGraph::parse)).collect()
}

/// The default graph with other periods.
fn cross(fast: u16, slow: u16) -> Result<ValidGraph, GraphError> {
    let mut graph: Value = serde_json::from_str(DEFAULT_GRAPH_JSON).unwrap_or_default();
    graph["name"] = format!("sma-{fast}-{slow}").into();
    graph["warmup_bars"] = slow.into();
    for node in graph["nodes"].as_array_mut().into_iter().flatten() {
        match node["id"].as_str() {
            Some("fast") => node["params"]["period"] = fast.into(),
            Some("slow") => node["params"]["period"] = slow.into(),
            _ => {}
        }
    }
    ValidGraph::from_value(&graph)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use domain::store::backtest_jobs;

    use super::*;

    #[test]
    fn the_strategies_are_valid_and_differ() {
        let graphs = graphs().unwrap();
        let names: Vec<_> = graphs.iter().map(|graph| graph.graph().name.as_str()).collect();
        assert_eq!(names, ["sma-20-50", "sma-10-30", "sma-50-200", "rsi-reversion", "breakout"]);
        let hashes: HashSet<_> = graphs.iter().map(ValidGraph::hash).collect();
        assert_eq!(hashes.len(), graphs.len());
        assert!(graphs.iter().all(|graph| graph.graph().timeframe == INTERVAL));
    }

    #[tokio::test]
    async fn a_seeded_database_has_a_year_of_bars_and_back_tests_that_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        migration::up(store.reader()).await.unwrap();
        let mut demo = Demo::seed(&store).await.unwrap();
        assert_eq!(
            demo.summary(),
            "8760 made-up 1h candles each of BTC, ETH, SOL; 5 back-tests of 3 users queued"
        );
        for _ in 0..30 {
            demo.submit_next(&store).await.unwrap();
        }
        let queued = backtest_jobs::list(store.reader(), None, 100).await.unwrap();
        assert_eq!(queued.len(), 35);
        let (mut users, mut kinds) = (HashSet::new(), HashSet::new());
        for job in queued {
            users.insert(job.user_id);
            kinds.insert((job.symbol, job.graph_hash));
        }
        assert_eq!((users.len(), kinds.len()), (3, 15), "every strategy meets every instrument");

        let again = Demo::seed(&store).await.unwrap_err();
        assert_eq!(again.code(), 2);
        assert!(again.report().contains("has instruments (BTC, ETH, SOL)"), "{}", again.report());
    }
}
