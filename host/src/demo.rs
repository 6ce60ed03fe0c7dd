//! What the demo consists of: a market, back-tests of it, and clones that trade, audition and enter
//! the arena.

use domain::backtesting::BacktestRequest;
use domain::decisions::ProviderKind;
use domain::lifecycle::AuditionRules;
use domain::market::{Candle, Interval, RandomWalk};
use domain::prop::{AccountKind, AccountRules};
use domain::services;
use domain::sources::hyperliquid::HyperliquidClient;
use domain::sources::{Priority, SourceUrls};
use domain::store::clones::{self, NewClone, ProfileStatus};
use domain::store::prop::NewAccount;
use domain::store::strategy_graphs::{self, StrategyGraph};
use domain::store::{candles, instruments};
use domain::strategy::{DEFAULT_GRAPH_JSON, GraphError, ValidGraph};
use rust_decimal::Decimal;
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
/// The length of the history that is asked of a venue: it tells 5,000 bars.
const TOLD_DAYS: i64 = 200;
/// The length of the part that a later back-test plays.
const PART_DAYS: i64 = 90;
/// Bars of one write transaction.
const BATCH: usize = 5_000;

/// How long an audition of the demo lasts.
const AUDITION_MS: i64 = 20_000;
/// What an account of the demo begins with, in USD.
const INITIAL: i64 = 10_000;

/// Strategies that clones trade by, on bars of a minute: they act within minutes.
const TREND: &str = include_str!("../../examples/graphs/minute-trend.json");
const REVERSION: &str = include_str!("../../examples/graphs/minute-reversion.json");

/// A clone of the demo.
struct Cast {
    name: &'static str,
    graph: Option<&'static str>,
    provider: ProviderKind,
    /// Whether it auditions; else it has a practice account.
    auditions: bool,
}

const CLONES: [Cast; 4] = [
    Cast { name: "Noor", graph: None, provider: ProviderKind::Noop, auditions: false },
    Cast { name: "Tess", graph: Some(TREND), provider: ProviderKind::RuleGraph, auditions: false },
    Cast {
        name: "Mona",
        graph: Some(REVERSION),
        provider: ProviderKind::RuleGraph,
        auditions: false,
    },
    Cast { name: "Ava", graph: Some(TREND), provider: ProviderKind::RuleGraph, auditions: true },
];

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
    last_ms: i64,
    bars: usize,
    symbols: Vec<String>,
    graphs: Vec<ValidGraph>,
    submitted: usize,
}

/// The hourly bars of an instrument, oldest first.
type History = (String, Vec<Candle>);

impl Demo {
    /// Stores a year of made-up bars up to now, makes the clones with their accounts and auditions,
    /// and queues the first back-tests.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the database has instruments already: made-up bars must not mix
    /// with real ones. The database's otherwise.
    pub async fn seed(store: &Store) -> Result<Self, Failure> {
        let first_ms = store.clock().now_ms() - DAYS * DAY_MS;
        let made_up = (1..).zip(MARKET).map(|(seed, (symbol, price, volatility))| {
            let walk = RandomWalk::new(seed, INTERVAL, first_ms, price, volatility);
            (symbol.to_owned(), walk.take(bars()).collect())
        });
        Self::seed_with(store, made_up.collect()).await
    }

    /// The same with the history that simulated venues tell of their coins.
    ///
    /// # Errors
    /// As [`seed`](Self::seed), or a venue's.
    pub async fn seed_from(store: &Store, urls: &SourceUrls) -> Result<Self, Failure> {
        let client = HyperliquidClient::new(&urls.hyperliquid, store.clock().clone())
            .map_err(anyhow::Error::from)?;
        let now_ms = store.clock().now_ms();
        // The last bar is under way.
        let to_ms = now_ms - now_ms % INTERVAL.as_millis() - 1;
        let mut told = Vec::new();
        for (symbol, ..) in MARKET {
            let from_ms = to_ms - TOLD_DAYS * DAY_MS;
            let rows = client.candles(symbol, INTERVAL, from_ms, to_ms, Priority::Live).await;
            told.push((symbol.to_owned(), rows.map_err(anyhow::Error::from)?.good));
        }
        Self::seed_with(store, told).await
    }

    async fn seed_with(store: &Store, histories: Vec<History>) -> Result<Self, Failure> {
        let present = instruments::list(store.reader()).await?;
        if !present.is_empty() {
            let present: Vec<_> = present.into_iter().map(|found| found.symbol).collect();
            return Err(Failure::usage(format!(
                "the database has instruments ({}), and made-up candles must not mix with real \
                 ones; choose an empty database (--database-url or DATABASE_URL)",
                present.join(", ")
            )));
        }
        let times = || histories.iter().flat_map(|(_, bars)| bars).map(|bar| bar.open_time_ms);
        let (first_ms, last_ms) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        let bars = histories.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
        let symbols = histories.iter().map(|(symbol, _)| symbol.clone()).collect();
        for (symbol, bars) in histories {
            for bars in bars.chunks(BATCH) {
                store_bars(store, symbol.clone(), bars.to_vec()).await?;
            }
        }
        for cast in &CLONES {
            enter(store, cast).await?;
        }
        let graphs = graphs().map_err(|error| Failure::Work(error.into()))?;
        let mut demo = Self { first_ms, last_ms, bars, symbols, graphs, submitted: 0 };
        for _ in 0..FIRST {
            demo.submit_next(store).await?;
        }
        Ok(demo)
    }

    /// What was put in, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let symbols = self.symbols.join(", ");
        let (bars, queued) = (self.bars, self.submitted);
        let clones = CLONES.map(|cast| cast.name).join(", ");
        format!(
            "{bars} made-up {INTERVAL} candles each of {symbols}; clones {clones}, one of them in an \
             audition; {queued} back-tests of {USERS} users queued"
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
        let symbol = self.symbols[(graph + round) % self.symbols.len()].clone();
        let part = (number >= FIRST).then(|| self.part(number));
        BacktestRequest {
            user_id: i64::try_from(number % USERS).unwrap_or_default() + 1,
            clone_id: None,
            graph: self.graphs[graph].clone(),
            symbol,
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
        let days = (self.last_ms - self.first_ms) / DAY_MS;
        let from_ms = self.first_ms + number * 37 % (days - PART_DAYS).max(1) * DAY_MS;
        (from_ms, from_ms + PART_DAYS * DAY_MS)
    }
}

fn bars() -> usize {
    usize::try_from(DAYS * DAY_MS / INTERVAL.as_millis()).unwrap_or_default()
}

async fn store_bars(store: &Store, symbol: String, bars: Vec<Candle>) -> Result<(), StoreError> {
    let now_ms = store.clock().now_ms();
    store
        .write("store the demo's candles", move |txn| {
            Box::pin(async move {
                instruments::introduce(txn, &symbol, now_ms).await?;
                candles::upsert(txn, &symbol, INTERVAL, &bars).await?;
                Ok(())
            })
        })
        .await
}

/// Makes a clone with its practice account or its audition.
async fn enter(store: &Store, cast: &'static Cast) -> Result<(), Failure> {
    let graph = cast.graph.map(ValidGraph::parse).transpose().map_err(anyhow::Error::from)?;
    let now_ms = store.clock().now_ms();
    let clone_id: i64 = store
        .write("make a clone of the demo", move |txn| {
            Box::pin(async move {
                if let Some(graph) = &graph {
                    let version = StrategyGraph {
                        graph_hash: graph.hash().to_owned(),
                        name: graph.graph().name.clone(),
                        graph: graph.canonical_json().to_owned(),
                        created_at_ms: now_ms,
                    };
                    strategy_graphs::record(txn, &version).await?;
                }
                let clone = NewClone {
                    user_id: 1,
                    name: cast.name.to_owned(),
                    graph_hash: graph.map(|graph| graph.hash().to_owned()),
                    provider: cast.provider,
                    budget: None,
                };
                let clone_id = clones::insert(txn, &clone, now_ms).await?;
                if cast.auditions {
                    clones::set_profile(txn, clone_id, ProfileStatus::Approved, now_ms).await?;
                }
                Ok::<i64, StoreError>(clone_id)
            })
        })
        .await?;
    if cast.auditions {
        // Its window is seconds: what it decides before the first data counts for nothing.
        let rules = AuditionRules {
            window_ms: AUDITION_MS,
            max_data_skip_share: Decimal::ONE,
            ..AuditionRules::default()
        };
        services::auditions::request(store, clone_id, rules).await.map_err(anyhow::Error::from)?;
    } else {
        let account = NewAccount {
            clone_id,
            kind: AccountKind::Practice,
            rules: AccountRules::default(),
            initial: INITIAL.into(),
            creation_key: None,
        };
        services::accounts::open_account(store, account).await.map_err(anyhow::Error::from)?;
    }
    Ok(())
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
            "8760 made-up 1h candles each of BTC, ETH, SOL; clones Noor, Tess, Mona, Ava, one of them \
             in an audition; 5 back-tests of 3 users queued"
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
