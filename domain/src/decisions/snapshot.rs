//! Everything that is known when a decision is made, and nothing later.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::market::{Candle, Interval};
use crate::strategy::Feature;

/// What is known at one instant. Prices and statistics are doubles: they decide, they are not
/// booked.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Snapshot {
    /// The instant, epoch milliseconds. Every datum is at most this new.
    pub as_of_ms: i64,
    /// By symbol.
    pub markets: BTreeMap<String, MarketView>,
    /// Statistics of chains, pools and events, by [`statistic_key`].
    pub statistics: BTreeMap<String, Datum>,
    /// The account that trades; `None` for a clone on its own.
    pub account: Option<AccountView>,
}

/// A value and its time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Datum {
    /// The value.
    pub value: f64,
    /// When it was true, epoch milliseconds.
    pub at_ms: i64,
}

/// One market.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MarketView {
    /// The length of the bars.
    #[serde(serialize_with = "as_text")]
    pub interval: Interval,
    /// Closed bars, oldest first.
    #[serde(serialize_with = "as_rows")]
    pub bars: Vec<Candle>,
    /// Sizes are multiples of this (base currency).
    pub size_step: f64,
    /// The venue's mark (USD).
    pub mark: Option<Datum>,
    /// The oracle's price (USD).
    pub oracle: Option<Datum>,
    /// The middle of the book (USD).
    pub mid: Option<Datum>,
    /// Ask minus bid (USD).
    pub spread: Option<Datum>,
    /// Open interest (base currency).
    pub open_interest: Option<Datum>,
    /// Premium over the oracle, as a fraction.
    pub premium: Option<Datum>,
    /// Settled hourly funding rates, oldest first.
    pub funding: Vec<Datum>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountView {
    /// Its equity (USD).
    pub equity: f64,
    /// The highest that its equity was (USD).
    pub peak_equity: f64,
    /// What it holds, by symbol.
    pub positions: BTreeMap<String, PositionView>,
}

/// A position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PositionView {
    /// Base currency; negative is short.
    pub size: f64,
    /// Its average price (USD).
    pub entry: f64,
}

impl MarketView {
    /// A market of which nothing is known.
    #[must_use]
    pub fn unknown(interval: Interval) -> Self {
        Self {
            interval,
            bars: Vec::new(),
            size_step: 1e-8,
            mark: None,
            oracle: None,
            mid: None,
            spread: None,
            open_interest: None,
            premium: None,
            funding: Vec::new(),
        }
    }

    /// The end of the newest closed bar, epoch milliseconds.
    #[must_use]
    pub fn closed_at_ms(&self) -> Option<i64> {
        self.bars.last().map(|bar| bar.open_time_ms + self.interval.as_millis())
    }
}

impl Snapshot {
    /// Its SHA-256, in hexadecimal: two decisions from one snapshot can be compared.
    #[must_use]
    pub fn hash(&self) -> String {
        // Doubles are finite here or become null: a map of plain data always serialises.
        let text = serde_json::to_string(self).unwrap_or_default();
        Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
            use std::fmt::Write as _;
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// Under which key a snapshot holds a feature that is neither a market's nor an account's.
#[must_use]
pub fn statistic_key(feature: &Feature) -> Option<String> {
    let name = feature.name();
    match feature {
        Feature::Tvl { chain } => Some(format!("{name}:{chain}")),
        Feature::TvlChange { chain, window_ms } | Feature::DexVolumeChange { chain, window_ms } => {
            Some(format!("{name}:{chain}:{window_ms}"))
        }
        Feature::StablecoinSupplyChange { window_ms } => Some(format!("{name}:{window_ms}")),
        Feature::PoolApy { pool } => Some(format!("{name}:{pool}")),
        Feature::PmOdds { condition_id, outcome } => {
            Some(format!("{name}:{condition_id}:{outcome}"))
        }
        _ => None,
    }
}

fn as_text<S: serde::Serializer>(interval: &Interval, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(interval.as_str())
}

/// `[open_time_ms, open, high, low, close, volume]`: a model pays for each character.
fn as_rows<S: serde::Serializer>(bars: &[Candle], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        bars.iter()
            .map(|bar| (bar.open_time_ms, bar.open, bar.high, bar.low, bar.close, bar.volume)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_content() {
        let snapshot = Snapshot { as_of_ms: 1, ..Snapshot::default() };
        assert_eq!(snapshot.hash(), snapshot.clone().hash());
        assert_eq!(snapshot.hash().len(), 64);
        let mut other = snapshot.clone();
        other.statistics.insert("tvl:Ethereum".into(), Datum { value: 1.0, at_ms: 0 });
        assert_ne!(snapshot.hash(), other.hash());
    }

    #[test]
    fn a_statistic_has_the_name_of_all_that_it_depends_on() {
        let check = |feature: Feature, expected: Option<&str>| {
            assert_eq!(statistic_key(&feature).as_deref(), expected);
        };
        check(Feature::Mark, None);
        check(Feature::Tvl { chain: "Ethereum".into() }, Some("tvl:Ethereum"));
        check(Feature::TvlChange { chain: "Base".into(), window_ms: 7 }, Some("tvl_change:Base:7"));
        check(
            Feature::PmOdds { condition_id: "0xab".into(), outcome: "Yes".into() },
            Some("pm_odds:0xab:Yes"),
        );
    }
}
