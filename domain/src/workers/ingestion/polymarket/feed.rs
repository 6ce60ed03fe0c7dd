//! The stream of Polymarket: the watched tokens' books and trades.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::Venue;
use crate::ingestion::{CHANNELS as ALL, Channel, Reject};
use crate::market::PredictionQuote;
use crate::sources::polymarket::{
    PredictionFrame, ping, read_frames, subscribe, subscribe_more, unsubscribe,
};
use crate::store::{ingestion_runs, prediction_markets};
use crate::workers::ingestion::PollError;
use crate::workers::ingestion::stream::{
    self, Delivery, Feed, Heard, Message, Outbox, Row, SessionRules,
};

/// The channels of the stream; the constants below are indices.
pub(super) static CHANNELS: [&Channel; 2] = [&ALL[19], &ALL[21]];
const ODDS: usize = 0;
const TRADES: usize = 1;

/// The channel that the witness bears witness of.
pub(super) fn odds() -> &'static Channel {
    CHANNELS[ODDS]
}

/// Tokens of one connection: with more, the venue sends no first books.
const MOST_TOKENS: usize = 400;
/// The watch, and what the witness says, are looked at this often.
const LOOK_MS: i64 = 10_000;
/// How long a stream waits for the first discovery.
const DISCOVERY_MS: i64 = 20_000;

/// The stream of the watched tokens.
pub(super) struct PolymarketFeed {
    venue: Venue,
    tokens: BTreeSet<String>,
    /// Tokens of which only a whole book is believed.
    void: HashSet<String>,
    /// When the witness distrusted the stream before this connection; another time means this one.
    distrusted_ms: Option<i64>,
    /// What the database said last, if it was looked at since this connection stands.
    seen: Arc<Mutex<Option<Seen>>>,
    datum_since_tick: bool,
    background: JoinSet<()>,
}

impl PolymarketFeed {
    pub(super) fn new(venue: Venue) -> Self {
        Self {
            venue,
            tokens: BTreeSet::new(),
            void: HashSet::new(),
            distrusted_ms: None,
            seen: Arc::default(),
            datum_since_tick: false,
            background: JoinSet::new(),
        }
    }

    fn quote(&mut self, quote: PredictionQuote, is_whole: bool) -> Result<Option<Row>, Reject> {
        self.check(&quote.token_id)?;
        if quote.is_empty() {
            return Ok(None);
        }
        if is_whole {
            self.void.remove(&quote.token_id);
        } else if self.void.contains(&quote.token_id) {
            return Ok(None);
        }
        Ok(Some(Row::TokenQuote(quote)))
    }

    fn check(&self, token: &str) -> Result<(), Reject> {
        if self.tokens.contains(token) {
            return Ok(());
        }
        Err(Reject::new("unasked_token", token))
    }

    /// The messages that make the connection agree with the watch.
    fn follow_the_watch(&mut self) -> Vec<String> {
        let found = held(&self.seen).as_mut().map(|seen| std::mem::take(&mut seen.watch));
        let Some(watch) = found.filter(|watch| !watch.is_empty()) else { return Vec::new() };
        let new: Vec<String> = watch.difference(&self.tokens).cloned().collect();
        let old: Vec<String> = self.tokens.difference(&watch).cloned().collect();
        self.tokens = watch;
        let mut messages = Vec::new();
        if !new.is_empty() {
            messages.push(subscribe_more(&new));
        }
        if !old.is_empty() {
            messages.push(unsubscribe(&old));
        }
        messages
    }
}

/// What the database says about the stream.
#[derive(Debug, Default)]
struct Seen {
    /// The watched tokens.
    watch: BTreeSet<String>,
    /// When the witness last distrusted the stream.
    distrusted_ms: Option<i64>,
}

async fn look(venue: &Venue) -> Result<Seen, PollError> {
    let distrusted_ms = ingestion_runs::find_distrust(venue.store.reader(), odds()).await?;
    Ok(Seen { watch: watched(venue).await?, distrusted_ms })
}

fn held(seen: &Mutex<Option<Seen>>) -> MutexGuard<'_, Option<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watched(venue: &Venue) -> Result<BTreeSet<String>, PollError> {
    let tokens = prediction_markets::list_watched(venue.store.reader()).await?;
    Ok(tokens.into_iter().map(|token| token.token_id).take(MOST_TOKENS).collect())
}

#[async_trait]
impl Feed for PolymarketFeed {
    fn url(&self) -> &str {
        &self.venue.options.urls.polymarket_ws
    }

    fn rules(&self) -> SessionRules {
        SessionRules {
            ping: ping(),
            ping_every_ms: 10_000,
            silent_after_ms: 30_000,
            frozen_after_ms: 120_000,
            longest_ms: 30 * 60_000,
        }
    }

    async fn prepare(&mut self, now_ms: i64) -> Result<(), PollError> {
        let clock = Arc::clone(self.venue.store.clock());
        loop {
            let seen = look(&self.venue).await?;
            if !seen.watch.is_empty() {
                (self.tokens, self.distrusted_ms) = (seen.watch, seen.distrusted_ms);
                *held(&self.seen) = None;
                return Ok(());
            }
            if clock.now_ms().saturating_sub(now_ms) >= DISCOVERY_MS {
                let detail = "no market is watched yet".to_owned();
                return Err(PollError::Meaningless { asked: "discovery", detail });
            }
            clock.sleep_until(clock.now_ms() + 500).await;
        }
    }

    fn opened(&mut self, _: &Outbox, _: i64) -> Vec<String> {
        self.void.clear();
        self.background.abort_all();
        let (venue, seen) = (self.venue.clone(), Arc::clone(&self.seen));
        self.background.spawn(async move {
            let clock = Arc::clone(venue.store.clock());
            loop {
                stream::wait_until(&clock, clock.now_ms() + LOOK_MS).await;
                match look(&venue).await {
                    Ok(found) => *held(&seen) = Some(found),
                    Err(error) => tracing::debug!(%error, "the watch could not be looked at"),
                }
            }
        });
        vec![subscribe(&self.tokens.iter().cloned().collect::<Vec<_>>())]
    }

    fn read(&mut self, text: &str, now_ms: i64) -> Heard {
        let (frames, rejects) = read_frames(text, now_ms);
        let refused = usize::try_from(rejects.total()).unwrap_or(usize::MAX);
        let mut odds = Delivery { channel: ODDS, read: refused, rejects, ..Delivery::default() };
        let mut trades = Delivery { channel: TRADES, ..Delivery::default() };
        let mut is_pong = false;
        for frame in frames {
            match frame {
                PredictionFrame::Book(quote) => take(&mut odds, self.quote(quote, true)),
                PredictionFrame::Best(quote) => take(&mut odds, self.quote(quote, false)),
                PredictionFrame::Trade(trade) => {
                    let checked = self.check(&trade.token_id);
                    take(&mut trades, checked.map(|()| Some(Row::TokenTrade(trade))));
                }
                PredictionFrame::TickSize(token) => {
                    self.void.insert(token);
                }
                PredictionFrame::Resolved(answer) => {
                    take(&mut odds, Ok(Some(Row::Resolved(answer))));
                }
                PredictionFrame::Pong => is_pong = true,
                PredictionFrame::Other => {}
            }
        }
        let is_data = odds.read + trades.read > 0;
        self.datum_since_tick |= is_data;
        for delivery in [&mut odds, &mut trades] {
            delivery.newest_ms = (!delivery.rows.is_empty()).then_some(now_ms);
        }
        let deliveries = [odds, trades].into_iter().filter(|delivery| delivery.read > 0).collect();
        Heard { deliveries, replies: Vec::new(), is_data, is_pong }
    }

    fn tick(&mut self, now_ms: i64) -> Heard {
        let replies = self.follow_the_watch();
        let mut deliveries = Vec::new();
        if std::mem::take(&mut self.datum_since_tick) {
            // A market that nobody trades is silent on a socket that lives.
            deliveries.push(Delivery {
                channel: TRADES,
                newest_ms: Some(now_ms),
                ..Delivery::default()
            });
        }
        Heard { deliveries, replies, ..Heard::default() }
    }

    fn distrust(&self) -> Option<&'static str> {
        let seen = held(&self.seen);
        let is_distrusted =
            seen.as_ref().is_some_and(|seen| seen.distrusted_ms != self.distrusted_ms);
        is_distrusted.then_some("the witness has seen what the stream did not bring")
    }

    fn closed(&mut self, _: i64) {
        self.background.abort_all();
    }

    async fn substitute(&mut self, outbox: &Outbox) {
        let tokens: Vec<String> = self.tokens.iter().cloned().collect();
        if tokens.is_empty() {
            return;
        }
        match self.venue.client.quotes(&tokens).await {
            Ok(rows) => {
                let mut odds =
                    Delivery { channel: ODDS, rejects: rows.rejects, ..Delivery::default() };
                for quote in rows.good {
                    take(&mut odds, self.quote(quote, true));
                }
                odds.read = rows.read;
                let now_ms = self.venue.store.clock().now_ms();
                odds.newest_ms = (!odds.rows.is_empty()).then_some(now_ms);
                let _ = outbox.send(Message::Rows(odds)).await;
            }
            Err(error) => tracing::debug!(%error, "no substitute for the stream's odds"),
        }
    }
}

fn take(delivery: &mut Delivery, row: Result<Option<Row>, Reject>) {
    delivery.read += 1;
    delivery.rows.extend(delivery.rejects.keep(row).flatten());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingestion::Source;

    #[test]
    fn the_channels_are_where_their_indices_say() {
        let name = |index: usize| (CHANNELS[index].source, CHANNELS[index].name);
        assert_eq!(name(ODDS), (Source::Polymarket, "odds"));
        assert_eq!(name(TRADES), (Source::Polymarket, "trades"));
        assert!(CHANNELS.iter().all(|channel| channel.is_streamed()));
    }
}
