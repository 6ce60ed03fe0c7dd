//! DefiLlama over REST: a host per family of paths.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::Clock;
use serde_json::Value;

use super::rows::{
    Said, chain, chain_day, exchange, field, pool, price, protocol, stablecoin, supply, volume,
};
use crate::ingestion::Rows;
use crate::market::{Interval, Statistic, start_of};
use crate::sources::{DefillamaUrls, Fetcher, FetcherOptions, Priority, Request, SourceError};

/// Asks DefiLlama; cheap to clone, its budget is shared by the clones.
#[derive(Debug, Clone)]
pub struct DefillamaClient {
    fetcher: Fetcher,
    urls: DefillamaUrls,
}

/// The open plan allows "10 to 200" requests a minute.
const PER_MINUTE: u32 = 10;
/// Some of its bodies are tens of megabytes.
const TIMEOUT: Duration = Duration::from_secs(60);
const LONGEST_BODY: usize = 100 << 20;
/// Keys of one request for prices.
const KEYS: usize = 100;

impl DefillamaClient {
    /// A client of these hosts.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when this machine's TLS cannot be set up.
    pub fn new(urls: DefillamaUrls, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let options = FetcherOptions {
            timeout: TIMEOUT,
            longest_body: LONGEST_BODY,
            ..FetcherOptions::per_minute(PER_MINUTE)
        };
        Ok(Self { fetcher: Fetcher::new(options, clock)?, urls })
    }

    /// Value locked on the chains that are named, dated to this hour.
    ///
    /// # Errors
    /// The fetch's, or an answer that is no list.
    pub async fn chains(&self, wanted: &[String]) -> Result<Rows<Statistic>, SourceError> {
        let document = self.get(&self.urls.api, "/v2/chains").await?;
        let hour_ms = self.hour_ms();
        let is_wanted = |row: &&Value| {
            field(row, "name").as_str().is_some_and(|name| wanted.iter().any(|w| w == name))
        };
        let rows = list(&self.urls.api, &document)?.iter().filter(is_wanted);
        Ok(flat(Rows::read(rows, |row| chain(row, hour_ms))))
    }

    /// Value locked on a chain by day, with days that were revised since.
    ///
    /// # Errors
    /// The fetch's; [`SourceError::Refused`] for a chain that the source does not know.
    pub async fn chain_history(&self, chain: &str) -> Result<Rows<Statistic>, SourceError> {
        let path = format!("/v2/historicalChainTvl/{}", in_path(chain));
        let document = self.get(&self.urls.api, &path).await?;
        let now_ms = self.now_ms();
        let rows = list(&self.urls.api, &document)?;
        Ok(flat(Rows::read(rows, |row| chain_day(chain, row, now_ms))))
    }

    /// Value locked in the larger protocols, dated to this hour.
    ///
    /// # Errors
    /// As [`chains`](Self::chains).
    pub async fn protocols(&self) -> Result<Rows<Statistic>, SourceError> {
        let document = self.get(&self.urls.api, "/protocols").await?;
        let hour_ms = self.hour_ms();
        let rows = list(&self.urls.api, &document)?;
        Ok(flat(Rows::read(rows, |row| protocol(row, hour_ms))))
    }

    /// Stablecoins in circulation and their prices, dated to this hour.
    ///
    /// # Errors
    /// As [`chains`](Self::chains).
    pub async fn stablecoins(&self) -> Result<Rows<Statistic>, SourceError> {
        let host = &self.urls.stablecoins;
        let document = self.get(host, "/stablecoins?includePrices=true").await?;
        let hour_ms = self.hour_ms();
        let coins = list(host, field(&document, "peggedAssets"))?;
        let mut rows = flat(Rows::read(coins, |row| stablecoin(row, hour_ms)));
        rows.good.extend(supply(coins, hour_ms));
        Ok(rows)
    }

    /// What the larger pools hold and yield, dated to this hour.
    ///
    /// # Errors
    /// As [`chains`](Self::chains).
    pub async fn yields(&self) -> Result<Rows<Statistic>, SourceError> {
        let host = &self.urls.yields;
        let document = self.get(host, "/pools").await?;
        let hour_ms = self.hour_ms();
        let rows = list(host, field(&document, "data"))?;
        Ok(flat(Rows::read(rows, |row| pool(row, hour_ms))))
    }

    /// What was traded within 24 hours by exchange, on all chains, dated to this hour.
    ///
    /// # Errors
    /// As [`chains`](Self::chains).
    pub async fn dex_volumes(&self) -> Result<Rows<Statistic>, SourceError> {
        let document = self.overview("").await?;
        let hour_ms = self.hour_ms();
        let exchanges = list(&self.urls.api, field(&document, "protocols"))?;
        let mut rows = flat(Rows::read(exchanges, |row| exchange(row, hour_ms)));
        rows.absorb(Rows::read([&document], |row| volume("all", row, hour_ms)));
        Ok(rows)
    }

    /// What was traded within 24 hours on a chain, dated to this hour.
    ///
    /// # Errors
    /// The fetch's; [`SourceError::Refused`] for a chain that the source does not know.
    pub async fn dex_volume(&self, chain: &str) -> Result<Rows<Statistic>, SourceError> {
        let document = self.overview(&format!("/{}", in_path(chain))).await?;
        let hour_ms = self.hour_ms();
        Ok(Rows::read([&document], |row| volume(chain, row, hour_ms)))
    }

    async fn overview(&self, of: &str) -> Result<Value, SourceError> {
        let flags = "excludeTotalDataChart=true&excludeTotalDataChartBreakdown=true";
        self.get(&self.urls.api, &format!("/overview/dexs{of}?{flags}")).await
    }

    /// Prices by key. A key that the source does not know is absent.
    ///
    /// # Errors
    /// As [`chains`](Self::chains).
    pub async fn prices(&self, keys: &[String]) -> Result<Rows<Statistic>, SourceError> {
        let host = &self.urls.coins;
        let mut rows = Rows::default();
        for keys in keys.chunks(KEYS) {
            let keys: Vec<String> = keys.iter().map(|key| in_path(key)).collect();
            let document = self.get(host, &format!("/prices/current/{}", keys.join(","))).await?;
            let now_ms = self.now_ms();
            let coins = field(&document, "coins").as_object();
            let coins = coins.ok_or_else(|| malformed(host, "coins are no object"))?;
            rows.absorb(flat(Rows::read(coins, |(key, row)| price(key, row, now_ms))));
        }
        Ok(rows)
    }

    async fn get(&self, host: &str, path: &str) -> Result<Value, SourceError> {
        let request = Request::get(format!("{host}{path}")).with_priority(Priority::Live);
        self.fetcher.fetch(&request).await
    }

    fn now_ms(&self) -> i64 {
        self.fetcher.clock().now_ms()
    }

    fn hour_ms(&self) -> i64 {
        start_of(self.now_ms(), Interval::H1)
    }
}

/// Several statistics of one row count as one.
fn flat(rows: Rows<Said>) -> Rows<Statistic> {
    let Rows { good, read, rejects } = rows;
    Rows { good: good.into_iter().flatten().collect(), read, rejects }
}

fn list<'v>(host: &str, document: &'v Value) -> Result<&'v [Value], SourceError> {
    document.as_array().map(Vec::as_slice).ok_or_else(|| malformed(host, "no list"))
}

fn malformed(host: &str, detail: &str) -> SourceError {
    SourceError::Malformed { host: host.to_owned(), detail: detail.to_owned() }
}

/// A name as a part of a path.
fn in_path(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_path_is_encoded() {
        assert_eq!(in_path("Hyperliquid L1"), "Hyperliquid%20L1");
        assert_eq!(in_path("coingecko:bitcoin"), "coingecko:bitcoin");
        assert_eq!(in_path("a/b?c,é"), "a%2Fb%3Fc%2C%C3%A9");
    }
}
