//! The rows of one short window, joined: of state the newest, of events each.

use std::collections::{BTreeMap, HashMap, HashSet};

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;

use super::delivery::Row;
use crate::ingestion::{Channel, ContextSampler};
use crate::market::{
    AssetContext, Candle, Mid, OddsPoint, PredictionQuote, PredictionTrade, Quote, Resolution,
    Trade,
};
use crate::store::market_gaps::{self, MarketGap};
use crate::store::{
    marks, mids, prediction_markets, prediction_odds, prediction_quotes, prediction_trades, quotes,
    trades,
};
use crate::workers::ingestion::bars;

/// Rows that wait for one transaction. Those of state are one per key.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    contexts: HashMap<String, AssetContext>,
    history: Vec<AssetContext>,
    mids: HashMap<String, Mid>,
    quotes: HashMap<String, Quote>,
    trades: Vec<Trade>,
    minutes: BTreeMap<String, BTreeMap<i64, Candle>>,
    token_quotes: HashMap<String, PredictionQuote>,
    odds: Vec<OddsPoint>,
    token_trades: HashSet<PredictionTrade>,
    resolved: Vec<Resolution>,
    gaps: Vec<(usize, MarketGap)>,
    filled: Vec<(usize, MarketGap)>,
    /// Which channel a kind of rows is of.
    origins: HashMap<Kind, usize>,
    size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Context,
    Mid,
    Quote,
    Trade,
    Minutes,
    TokenQuote,
    TokenTrade,
}

impl Batch {
    /// Adds a row of a channel.
    pub(super) fn add(&mut self, channel: usize, row: Row, sampler: &mut ContextSampler) {
        self.size += 1;
        match row {
            Row::Context(context) => {
                self.origins.insert(Kind::Context, channel);
                self.history.extend(sampler.sample(&context));
                keep_newest(&mut self.contexts, context.symbol.clone(), context, |context| {
                    context.received_at_ms
                });
            }
            Row::Mid(mid) => {
                self.origins.insert(Kind::Mid, channel);
                keep_newest(&mut self.mids, mid.symbol.clone(), mid, |mid| mid.received_at_ms);
            }
            Row::Quote(quote) => {
                self.origins.insert(Kind::Quote, channel);
                keep_newest(&mut self.quotes, quote.symbol.clone(), quote, |quote| quote.at_ms);
            }
            Row::Trade(trade) => {
                self.origins.insert(Kind::Trade, channel);
                self.trades.push(trade);
            }
            Row::Minutes(symbol, minutes) => {
                self.origins.insert(Kind::Minutes, channel);
                self.size += minutes.len();
                let bars = self.minutes.entry(symbol).or_default();
                bars.extend(minutes.into_iter().map(|bar| (bar.open_time_ms, bar)));
            }
            Row::TokenQuote(quote) => {
                self.origins.insert(Kind::TokenQuote, channel);
                self.odds.extend(point(&quote));
                keep_newest(&mut self.token_quotes, quote.token_id.clone(), quote, |quote| {
                    quote.at_ms
                });
            }
            Row::TokenTrade(trade) => {
                self.origins.insert(Kind::TokenTrade, channel);
                self.token_trades.insert(trade);
            }
            Row::Resolved(resolution) => self.resolved.push(resolution),
            Row::Gap(gap) => self.gaps.push((channel, gap)),
            Row::Filled(gap) => self.filled.push((channel, gap)),
        }
    }

    /// How many rows came into it.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Writes it; answers by channel how many rows changed something.
    pub(super) async fn write(
        &self,
        txn: &DatabaseTransaction,
        channels: &[&'static Channel],
        now_ms: i64,
    ) -> Result<Vec<u64>, StoreError> {
        let mut written = vec![0; channels.len()];
        let mut count = |kind, rows: u64| {
            if let Some(written) = self.origins.get(&kind).and_then(|at| written.get_mut(*at)) {
                *written += rows;
            }
        };
        count(Kind::Context, marks::upsert(txn, &by_key(&self.contexts)).await?);
        marks::append(txn, &self.history).await?;
        count(Kind::Mid, mids::upsert(txn, &by_key(&self.mids)).await?);
        count(Kind::Quote, quotes::upsert(txn, &by_key(&self.quotes)).await?);
        count(Kind::Trade, trades::append(txn, &self.trades).await?);
        for (symbol, minutes) in &self.minutes {
            let minutes: Vec<Candle> = minutes.values().copied().collect();
            count(Kind::Minutes, bars::keep_minutes(txn, symbol, &minutes, now_ms).await?);
        }
        let quotes = by_key(&self.token_quotes);
        count(Kind::TokenQuote, prediction_quotes::upsert(txn, &quotes).await?);
        prediction_odds::append(txn, &self.odds).await?;
        let trades: Vec<PredictionTrade> = self.token_trades.iter().cloned().collect();
        count(Kind::TokenTrade, prediction_trades::append(txn, &trades).await?);
        prediction_quotes::keep_last_trades(txn, &last_trades(&trades)).await?;
        for resolution in &self.resolved {
            prediction_markets::resolve(txn, resolution).await?;
        }
        for (channel, gap) in &self.gaps {
            market_gaps::note(txn, channels[*channel], gap, now_ms).await?;
        }
        for (channel, gap) in &self.filled {
            market_gaps::repair(txn, channels[*channel], gap, now_ms).await?;
        }
        Ok(written)
    }
}

/// Late frames do not replace newer state.
fn keep_newest<T>(rows: &mut HashMap<String, T>, key: String, row: T, time: impl Fn(&T) -> i64) {
    match rows.get_mut(&key) {
        Some(kept) if time(kept) > time(&row) => {}
        Some(kept) => *kept = row,
        None => {
            rows.insert(key, row);
        }
    }
}

/// In the order of their keys: transactions of several writers lock rows in one order.
fn by_key<T: Clone>(rows: &HashMap<String, T>) -> Vec<T> {
    let mut rows: Vec<(&String, &T)> = rows.iter().collect();
    rows.sort_by_key(|(key, _)| *key);
    rows.into_iter().map(|(_, row)| row.clone()).collect()
}

/// The odds of a book that has some.
fn point(quote: &PredictionQuote) -> Option<OddsPoint> {
    Some(OddsPoint {
        token_id: quote.token_id.clone(),
        at_ms: quote.at_ms,
        fidelity_s: 0,
        odds: quote.odds()?,
        received_at_ms: quote.received_at_ms,
    })
}

fn last_trades(trades: &[PredictionTrade]) -> Vec<PredictionTrade> {
    let mut last: HashMap<String, PredictionTrade> = HashMap::new();
    for trade in trades {
        keep_newest(&mut last, trade.token_id.clone(), trade.clone(), |trade| trade.at_ms);
    }
    by_key(&last)
}
