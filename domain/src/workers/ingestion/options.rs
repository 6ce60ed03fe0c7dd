//! How ingestion works: which sources, where they are, what is watched.

use std::time::Duration;

use crate::ingestion::Source;
use crate::sources::SourceUrls;

/// How ingestion works.
#[derive(Debug, Clone)]
pub struct IngestionOptions {
    /// Whose channels are registered.
    pub sources: Vec<Source>,
    /// Where the sources are.
    pub urls: SourceUrls,
    /// The coins that are streamed, where the venue lists them.
    pub coins: Vec<String>,
    /// The chains whose value is followed.
    pub chains: Vec<String>,
    /// The keys of DefiLlama's prices that are followed, as in `coingecko:bitcoin`.
    pub price_keys: Vec<String>,
    /// How many prediction markets are watched, by volume.
    pub prediction_markets: u32,
    /// How far back bars and funding are fetched when there are none.
    pub history: Duration,
    /// How long what piles up is kept.
    pub retention: Retention,
}

/// How long rows are kept. Bars and settled funding are kept for good: back-tests are made of them.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Trades of perpetuals and of tokens.
    pub trades: Duration,
    /// The history of contexts and of odds.
    pub states: Duration,
    /// What bars were before they were corrected again, and lists of instruments before they changed.
    /// What was first seen of a bar is kept for good.
    pub revisions: Duration,
    /// Statistics as they came. Of older ones the value of each midnight (UTC) stays.
    pub statistics: Duration,
    /// Statistics of midnights. The past that a source tells is not taken in beyond this.
    pub days: Duration,
    /// Prediction markets that discovery has not seen, with their tokens and quotes.
    pub markets: Duration,
    /// Runs of channels, and gaps.
    pub runs: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Retention {
    /// Trades and runs for 14 days, states for 30, revisions, statistics and markets for 90, days for
    /// two years.
    fn default() -> Self {
        Self {
            trades: 14 * DAY,
            states: 30 * DAY,
            revisions: 90 * DAY,
            statistics: 90 * DAY,
            days: 2 * 365 * DAY,
            markets: 90 * DAY,
            runs: 14 * DAY,
        }
    }
}

impl Default for IngestionOptions {
    /// All sources at their public addresses, three days of history, and a handful of each that
    /// everybody trades.
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            sources: Source::ALL.to_vec(),
            urls: SourceUrls::default(),
            coins: texts(&["BTC", "ETH", "SOL", "HYPE"]),
            chains: texts(&["Ethereum", "Solana", "Arbitrum", "Base", "Hyperliquid L1"]),
            price_keys: texts(&[
                "coingecko:bitcoin",
                "coingecko:ethereum",
                "coingecko:solana",
                "coingecko:hyperliquid",
            ]),
            prediction_markets: 50,
            history: 3 * DAY,
            retention: Retention::default(),
        }
    }
}
