//! The stream of Hyperliquid: what is asked for, what a frame becomes.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::{Venue, backfill};
use crate::ingestion::{CHANNELS as ALL, Channel, OpenMinutes, PriceKind, Reject, Rows, Suspects};
use crate::market::{AssetContext, Mid, Quote};
use crate::sources::hyperliquid::{Frame, Subscription, read_frame};
use crate::store::ingestion_runs;
use crate::store::market_gaps::MarketGap;
use crate::workers::ingestion::PollError;
use crate::workers::ingestion::stream::{
    Delivery, Feed, Heard, Message, Outbox, Row, SessionRules,
};

/// The channels of the stream; the constants below are indices.
pub(super) static CHANNELS: [&Channel; 5] = {
    // The first five of the venue, in this order; a test looks.
    [&ALL[0], &ALL[1], &ALL[2], &ALL[3], &ALL[4]]
};
const CONTEXTS: usize = 0;
const MIDS: usize = 1;
const TRADES: usize = 2;
const QUOTES: usize = 3;
pub(super) const CANDLES: usize = 4;

/// The stream of the watched coins.
pub(super) struct HyperliquidFeed {
    venue: Venue,
    coins: Vec<String>,
    suspects: Suspects,
    /// What is asked for and not acknowledged, by coin.
    unacknowledged: HashMap<String, HashSet<Subscription>>,
    minutes: OpenMinutes,
    /// When the last frame of data came, in this run or before it.
    datum_ms: Option<i64>,
    datum_since_tick: bool,
    background: JoinSet<()>,
}

/// A silence longer than this is a gap: the venue replays less to who connects again.
const GAP_MS: i64 = 20_000;

impl HyperliquidFeed {
    pub(super) fn new(venue: Venue) -> Self {
        Self {
            venue,
            coins: Vec::new(),
            suspects: Suspects::default(),
            unacknowledged: HashMap::new(),
            minutes: OpenMinutes::default(),
            datum_ms: None,
            datum_since_tick: false,
            background: JoinSet::new(),
        }
    }

    /// Asks for the next coins, once those before are acknowledged.
    fn ask(&mut self) -> Vec<String> {
        let mut requests = Vec::new();
        for coin in self.suspects.next_batch() {
            let subscriptions = Subscription::of_coin(&coin);
            requests.extend(subscriptions.iter().map(Subscription::request));
            self.unacknowledged.insert(coin, subscriptions.into());
        }
        requests
    }

    fn acknowledge(&mut self, subscription: &Subscription) -> Vec<String> {
        let Some(coin) = subscription.coin() else { return Vec::new() };
        let Some(waiting) = self.unacknowledged.get_mut(coin) else { return Vec::new() };
        waiting.remove(subscription);
        if !waiting.is_empty() {
            return Vec::new();
        }
        self.unacknowledged.remove(coin);
        self.suspects.acknowledged(coin);
        self.ask()
    }

    /// Keeps the rows of coins that were asked for: others have no business here.
    fn of_ours<T>(&self, rows: &mut Rows<T>, symbol: impl Fn(&T) -> &str) {
        let (good, strange): (Vec<T>, Vec<T>) = std::mem::take(&mut rows.good)
            .into_iter()
            .partition(|row| self.coins.iter().any(|coin| coin == symbol(row)));
        for row in strange {
            rows.rejects.count(Reject::new("unasked_coin", symbol(&row)));
        }
        rows.good = good;
    }

    fn contexts(&self, mut rows: Rows<AssetContext>, now_ms: i64) -> Delivery {
        self.of_ours(&mut rows, |context| &context.symbol);
        deliver_contexts(&self.venue, rows, now_ms)
    }

    fn quotes(&self, mut rows: Rows<Quote>, now_ms: i64) -> Delivery {
        self.of_ours(&mut rows, |quote| &quote.symbol);
        let judge = |quote: &Quote| {
            let (Some((bid, _)), Some((ask, _))) = (quote.bid, quote.ask) else { return Ok(()) };
            let mid = (bid + ask) / rust_decimal::Decimal::TWO;
            self.venue.guarded(|guards| guards.admit(PriceKind::Quote, &quote.symbol, mid, now_ms))
        };
        admitted(QUOTES, rows, now_ms, judge, Row::Quote)
    }
}

/// Contexts that passed the guards, as a delivery of their channel.
pub(super) fn deliver_contexts(venue: &Venue, rows: Rows<AssetContext>, now_ms: i64) -> Delivery {
    let judge = |context: &AssetContext| match context.mark {
        Some(mark) => {
            venue.guarded(|guards| guards.admit(PriceKind::Mark, &context.symbol, mark, now_ms))
        }
        None => Ok(()),
    };
    admitted(CONTEXTS, rows, now_ms, judge, Row::Context)
}

fn deliver_mids(venue: &Venue, rows: Rows<Mid>, now_ms: i64) -> Delivery {
    let judge = |mid: &Mid| {
        venue.guarded(|guards| guards.admit(PriceKind::Mid, &mid.symbol, mid.mid, now_ms))
    };
    admitted(MIDS, rows, now_ms, judge, Row::Mid)
}

fn admitted<T>(
    channel: usize,
    rows: Rows<T>,
    now_ms: i64,
    judge: impl Fn(&T) -> Result<(), Reject>,
    wrap: impl Fn(T) -> Row,
) -> Delivery {
    let Rows { good, read, mut rejects } = rows;
    let good: Vec<Row> = good
        .into_iter()
        .filter_map(|row| rejects.keep(judge(&row).map(|()| row)))
        .map(wrap)
        .collect();
    let newest_ms = (!good.is_empty()).then_some(now_ms);
    Delivery { channel, rows: good, read, rejects, newest_ms }
}

#[async_trait]
impl Feed for HyperliquidFeed {
    fn url(&self) -> &str {
        &self.venue.options.urls.hyperliquid_ws
    }

    fn rules(&self) -> SessionRules {
        SessionRules {
            ping: r#"{"method":"ping"}"#,
            ping_every_ms: 20_000,
            silent_after_ms: 45_000,
            // Mids come every five seconds.
            frozen_after_ms: 60_000,
            longest_ms: 24 * 3_600_000,
        }
    }

    async fn prepare(&mut self, _: i64) -> Result<(), PollError> {
        self.coins = self.venue.watched().await?;
        if self.datum_ms.is_none() {
            // What another owner brought last: the time since then is a gap, too.
            let reader = self.venue.store.reader();
            self.datum_ms = ingestion_runs::find_last_datum(reader, CHANNELS[TRADES]).await?;
        }
        Ok(())
    }

    fn opened(&mut self, outbox: &Outbox, now_ms: i64) -> Vec<String> {
        self.background.abort_all();
        let (venue, coins, outbox) = (self.venue.clone(), self.coins.clone(), outbox.clone());
        let silent_since_ms = self.datum_ms;
        self.background.spawn(async move {
            backfill::fill(&venue, &coins, silent_since_ms, now_ms, &outbox).await;
        });
        self.unacknowledged.clear();
        self.suspects.connect(&self.coins, now_ms);
        let mut requests = vec![Subscription::AllMids.request()];
        requests.extend(self.ask());
        requests
    }

    fn read(&mut self, text: &str, now_ms: i64) -> Heard {
        let mut heard = Heard { is_data: true, ..Heard::default() };
        match read_frame(text, now_ms) {
            Frame::Contexts(rows) => heard.deliveries.push(self.contexts(rows, now_ms)),
            Frame::Mids(rows) => {
                heard.deliveries.push(deliver_mids(&self.venue, rows, now_ms));
            }
            Frame::Quotes(rows) => heard.deliveries.push(self.quotes(rows, now_ms)),
            Frame::Trades(mut rows) => {
                self.of_ours(&mut rows, |trade| &trade.symbol);
                let newest_ms = rows.good.iter().map(|trade| trade.time_ms).max();
                let Rows { good, read, rejects } = rows;
                let rows = good.into_iter().map(Row::Trade).collect();
                let trades = Delivery { channel: TRADES, rows, read, rejects, newest_ms };
                heard.deliveries.push(trades);
            }
            Frame::Candles(mut rows) => {
                self.of_ours(&mut rows, |(symbol, _)| symbol);
                for (symbol, candle) in &rows.good {
                    self.minutes.take(symbol, *candle);
                }
                let Rows { read, rejects, .. } = rows;
                heard.deliveries.push(Delivery {
                    channel: CANDLES,
                    read,
                    rejects,
                    ..Delivery::default()
                });
            }
            Frame::Acknowledged(subscription) => {
                heard.is_data = false;
                heard.replies = subscription
                    .map(|subscription| self.acknowledge(&subscription))
                    .unwrap_or_default();
            }
            Frame::Refused(said) => {
                heard.is_data = false;
                tracing::warn!(said, "hyperliquid refuses something");
            }
            Frame::Unknown(channel) => {
                heard.is_data = false;
                tracing::debug!(channel, "a frame of an unknown channel");
            }
            Frame::Pong => (heard.is_data, heard.is_pong) = (false, true),
            Frame::Text => heard.is_data = false,
        }
        if heard.is_data {
            self.datum_ms = Some(now_ms);
            self.datum_since_tick = true;
        }
        heard
    }

    fn tick(&mut self, now_ms: i64) -> Heard {
        let mut deliveries = Vec::new();
        for (symbol, minutes) in self.minutes.close(now_ms) {
            let newest_ms = minutes.last().map(|bar| bar.open_time_ms + 60_000);
            let rows = vec![Row::Minutes(symbol, minutes)];
            deliveries.push(Delivery { channel: CANDLES, rows, newest_ms, ..Delivery::default() });
        }
        if std::mem::take(&mut self.datum_since_tick) {
            // A coin that nobody trades is silent on a socket that lives.
            let alive =
                |channel| Delivery { channel, newest_ms: Some(now_ms), ..Delivery::default() };
            deliveries.extend([TRADES, QUOTES].map(alive));
        }
        Heard { deliveries, ..Heard::default() }
    }

    fn closed(&mut self, now_ms: i64) {
        if let Some(coin) = self.suspects.closed(now_ms) {
            tracing::warn!(coin, "a coin that ends every connection is left alone for an hour");
        }
    }

    async fn substitute(&mut self, outbox: &Outbox) {
        let venue = self.venue.clone();
        let now_ms = || venue.store.clock().now_ms();
        match venue.client.contexts().await {
            Ok(mut rows) => {
                rows.good.retain(|context| self.coins.contains(&context.symbol));
                let contexts = deliver_contexts(&venue, rows, now_ms());
                let _ = outbox.send(Message::Rows(contexts)).await;
            }
            Err(error) => tracing::debug!(%error, "no substitute for the stream's contexts"),
        }
        match venue.client.mids().await {
            Ok(rows) => {
                let _ = outbox.send(Message::Rows(deliver_mids(&venue, rows, now_ms()))).await;
            }
            Err(error) => tracing::debug!(%error, "no substitute for the stream's mids"),
        }
    }
}

/// The gap of a coin that a silence left, if it was long enough to be one.
pub(super) fn gap(coin: &str, silent_since_ms: Option<i64>, now_ms: i64) -> Option<MarketGap> {
    let from_ms = silent_since_ms.filter(|since_ms| now_ms.saturating_sub(*since_ms) > GAP_MS)?;
    Some(MarketGap { symbol: coin.to_owned(), from_ms, to_ms: now_ms })
}

/// A delivery that notes a gap of a channel.
pub(super) fn gap_noted(channel: usize, gap: MarketGap) -> Delivery {
    Delivery { channel, rows: vec![Row::Gap(gap)], ..Delivery::default() }
}

pub(super) const TRADES_CHANNEL: usize = TRADES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingestion::Source;

    #[test]
    fn the_channels_are_where_their_indices_say() {
        let name = |index: usize| (CHANNELS[index].source, CHANNELS[index].name);
        assert_eq!(name(CONTEXTS), (Source::Hyperliquid, "asset_contexts"));
        assert_eq!(name(MIDS), (Source::Hyperliquid, "mids"));
        assert_eq!(name(TRADES), (Source::Hyperliquid, "trades"));
        assert_eq!(name(QUOTES), (Source::Hyperliquid, "bbo"));
        assert_eq!(name(CANDLES), (Source::Hyperliquid, "candles"));
        assert!(CHANNELS.iter().all(|channel| channel.is_streamed()));
    }
}
