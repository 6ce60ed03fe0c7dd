//! Hyperliquid over REST: one POST for everything.

use std::sync::Arc;

use scheduler_core::Clock;
use serde_json::{Value, json};

use super::frame::mids;
use super::rows::{candle, context, field, funding, listing};
use crate::ingestion::{Rows, name};
use crate::market::{AssetContext, Candle, Interval, Listing, Mid, SettledFunding};
use crate::sources::{Fetcher, FetcherOptions, Priority, Request, SourceError};

/// Asks Hyperliquid; cheap to clone, its budget is shared by the clones.
#[derive(Debug, Clone)]
pub struct HyperliquidClient {
    fetcher: Fetcher,
    url: String,
    host: String,
}

/// The list of coins.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// The coins.
    pub listings: Rows<Listing>,
    /// The document as it came.
    pub document: Value,
}

/// Half of what the venue allows from one address.
const WEIGHT_PER_MINUTE: u32 = 600;

impl HyperliquidClient {
    /// A client of the venue at this base address.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when this machine's TLS cannot be set up.
    pub fn new(base: &str, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        Self::with_options(base, FetcherOptions::per_minute(WEIGHT_PER_MINUTE), clock)
    }

    /// A client with bounds of one's own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_options(
        base: &str,
        options: FetcherOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let base = base.trim_end_matches('/');
        let fetcher = Fetcher::new(options, clock)?;
        Ok(Self { fetcher, url: format!("{base}/info"), host: base.to_owned() })
    }

    /// The coins and their limits.
    ///
    /// # Errors
    /// The fetch's, or an answer without a universe.
    pub async fn meta(&self) -> Result<Meta, SourceError> {
        let document = self.ask(json!({"type": "meta"}), 20, Priority::Live).await?;
        let listings = self.listings(&document)?;
        Ok(Meta { listings, document })
    }

    /// Mark, oracle and funding of every coin, received now. The two lists of the answer are
    /// joined by position: when their lengths differ, nothing of it can be trusted.
    ///
    /// # Errors
    /// The fetch's, or lists that do not match.
    pub async fn contexts(&self) -> Result<Rows<AssetContext>, SourceError> {
        let asked = json!({"type": "metaAndAssetCtxs"});
        let document = self.ask(asked, 20, Priority::Live).await?;
        let now_ms = self.now_ms();
        let universe = self.list(document.get(0).and_then(|meta| meta.get("universe")), "universe");
        let contexts = self.list(document.get(1), "contexts");
        let (universe, contexts) = (universe?, contexts?);
        if universe.len() != contexts.len() {
            let (coins, contexts) = (universe.len(), contexts.len());
            return Err(self.meaningless(format!("{coins} coins and {contexts} contexts")));
        }
        Ok(Rows::read_some(universe.iter().zip(contexts), |(coin, ctx)| {
            context(&name("name", field(coin, "name"))?, ctx, now_ms)
        }))
    }

    /// The mids of every coin, received now.
    ///
    /// # Errors
    /// The fetch's.
    pub async fn mids(&self) -> Result<Rows<Mid>, SourceError> {
        let document = self.ask(json!({"type": "allMids"}), 2, Priority::Live).await?;
        if !document.is_object() {
            return Err(self.meaningless("mids are no object".to_owned()));
        }
        Ok(mids(&document, self.now_ms()))
    }

    /// Bars of a coin from the one that contains `from_ms` to the one that contains `to_ms`; the
    /// last may be under way.
    ///
    /// # Errors
    /// The fetch's; [`SourceError::Refused`] for a coin that the venue does not know.
    pub async fn candles(
        &self,
        coin: &str,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
        priority: Priority,
    ) -> Result<Rows<Candle>, SourceError> {
        let expected = to_ms.saturating_sub(from_ms).max(0) / interval.as_millis() + 1;
        let weight = 20 + u32::try_from(expected.min(MOST_CANDLES) / 60).unwrap_or_default();
        let asked = json!({"type": "candleSnapshot", "req": {
            "coin": coin, "interval": interval.as_str(), "startTime": from_ms, "endTime": to_ms}});
        let document = self.ask(asked, weight, priority).await?;
        let now_ms = self.now_ms();
        let mut rows = Rows::read(self.list(Some(&document), "candles")?, |row| {
            let (symbol, candle) = candle(row, interval, now_ms)?;
            if symbol == coin { Ok(candle) } else { Err(other_coin(&symbol)) }
        });
        rows.good.sort_by_key(|candle| candle.open_time_ms);
        rows.good.dedup_by_key(|candle| candle.open_time_ms);
        Ok(rows)
    }

    /// A page of a coin's settled funding, oldest first, from `from_ms` on.
    ///
    /// # Errors
    /// The fetch's; [`SourceError::Refused`] for a coin that the venue does not know.
    pub async fn funding(
        &self,
        coin: &str,
        from_ms: i64,
    ) -> Result<Rows<SettledFunding>, SourceError> {
        let asked = json!({"type": "fundingHistory", "coin": coin, "startTime": from_ms});
        let hours = self.now_ms().saturating_sub(from_ms).max(0) / Interval::H1.as_millis() + 1;
        let weight = 20 + u32::try_from(hours.min(MOST_FUNDINGS) / 20).unwrap_or_default();
        let document = self.ask(asked, weight, Priority::Repair).await?;
        let now_ms = self.now_ms();
        Ok(Rows::read(self.list(Some(&document), "funding")?, |row| {
            let row = funding(row, now_ms)?;
            if row.symbol == coin { Ok(row) } else { Err(other_coin(&row.symbol)) }
        }))
    }

    /// Reads the coins of a meta document.
    fn listings(&self, document: &Value) -> Result<Rows<Listing>, SourceError> {
        let tables = field(document, "marginTables");
        let universe = self.list(document.get("universe"), "universe")?;
        Ok(Rows::read(universe, |row| listing(row, tables)))
    }

    async fn ask(
        &self,
        asked: Value,
        weight: u32,
        priority: Priority,
    ) -> Result<Value, SourceError> {
        let request = Request::post(&self.url, asked, weight).with_priority(priority);
        let document = self.fetcher.fetch(&request).await?;
        if document.is_null() {
            // What it does not know, it answers with nothing.
            let detail = "status 200: null".to_owned();
            return Err(SourceError::Refused { host: self.host.clone(), detail });
        }
        Ok(document)
    }

    fn list<'v>(&self, value: Option<&'v Value>, what: &str) -> Result<&'v [Value], SourceError> {
        let list = value.and_then(Value::as_array).map(Vec::as_slice);
        list.ok_or_else(|| self.meaningless(format!("{what} is no list")))
    }

    fn meaningless(&self, detail: String) -> SourceError {
        SourceError::Malformed { host: self.host.clone(), detail }
    }

    fn now_ms(&self) -> i64 {
        self.fetcher.clock().now_ms()
    }
}

/// The venue keeps this many bars of an interval.
const MOST_CANDLES: i64 = 5_000;
/// And gives this many fundings at once.
const MOST_FUNDINGS: i64 = 500;

/// The oldest open time that the venue still has bars of.
#[must_use]
pub(crate) fn oldest_candle_ms(interval: Interval, now_ms: i64) -> i64 {
    now_ms.saturating_sub((MOST_CANDLES - 1) * interval.as_millis())
}

fn other_coin(symbol: &str) -> crate::ingestion::Reject {
    crate::ingestion::Reject::new("other_coin", format!("a row of {symbol}"))
}
