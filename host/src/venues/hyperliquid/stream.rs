//! The stream at `/ws`: subscriptions, and the frames that they bring.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::subscription::{Refusal, Subscription};
use super::{Hyperliquid, info, shapes};
use crate::venues::line::{Ended, Heard, Line};
use crate::venues::market::{Interval, Market};
use crate::venues::site::Body;

/// How often there is something new.
const BLOCK_MS: i64 = 100;
/// A connection on which the exchange says nothing for this long is cut.
const SILENCE_MS: i64 = 60_000;
/// A new subscription to trades begins with those of this long before.
const REPLAY_MS: i64 = 20_000;
const MIDS_MS: i64 = 5_000;
const BOOK_MS: i64 = 5_000;
const FAST_BOOK_MS: i64 = 500;
const CONTEXT_MS: i64 = 1_000;
const CANDLE_MS: i64 = 1_000;

/// What a subscription has brought so far.
#[derive(Debug, Clone, Default)]
struct Brought {
    /// When; for trades, up to which time.
    at_ms: i64,
    /// What, where only changes are brought.
    last: Value,
}

struct Session<'a> {
    exchange: &'a Hyperliquid,
    subscriptions: BTreeMap<Subscription, Brought>,
    most: usize,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(exchange: &Hyperliquid, mut line: Line) {
    let most = line.limits().subscriptions;
    let mut session = Session { exchange, subscriptions: BTreeMap::new(), most };
    let mut next_ms = line.now_ms();
    loop {
        let done = match line.hear(next_ms).await {
            Ok(Heard::Text(text)) => session.obey(&mut line, &text).await,
            Ok(Heard::Nothing) => {
                let now_ms = line.now_ms();
                if now_ms - line.last_sent_ms() > SILENCE_MS {
                    return;
                }
                next_ms = now_ms + BLOCK_MS;
                session.bring(&mut line, now_ms).await
            }
            Err(Ended) => return,
        };
        if done.is_err() {
            return;
        }
    }
}

impl Session<'_> {
    fn market(&self) -> &Market {
        &self.exchange.market
    }

    /// Does what a message of the client says.
    async fn obey(&mut self, line: &mut Line, text: &str) -> Result<(), Ended> {
        let unreadable = || {
            let start: String = text.chars().take(200).collect();
            error(format!("Error parsing JSON into valid websocket request: {start}"))
        };
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return line.say(unreadable()).await;
        };
        match message["method"].as_str().unwrap_or_default() {
            "ping" => line.pong(json!({ "channel": "pong" }).to_string()).await,
            "post" => {
                let answer = self.post(&message, line.now_ms());
                line.say(answer.unwrap_or_else(unreadable)).await
            }
            method @ ("subscribe" | "unsubscribe") => {
                let wanted = &message["subscription"];
                let poisoned =
                    wanted["coin"].as_str().is_some_and(|coin| line.faults().is_poisoned(coin));
                if poisoned {
                    return Err(Ended);
                }
                let subscription = match Subscription::parse(self.market(), wanted) {
                    Ok(subscription) => subscription,
                    Err(Refusal::Unreadable) => return line.say(unreadable()).await,
                    Err(Refusal::Fatal) => return Err(Ended),
                };
                let answer = self.subscribe(method, subscription, line.now_ms());
                line.say(answer).await
            }
            _ => line.say(unreadable()).await,
        }
    }

    fn subscribe(&mut self, method: &str, subscription: Subscription, now_ms: i64) -> Value {
        let document = subscription.document(self.market());
        let known = self.subscriptions.contains_key(&subscription);
        match (method, known) {
            ("subscribe", true) => return error(format!("Already subscribed: {document}")),
            ("subscribe", false) if self.subscriptions.len() >= self.most => {
                return error(format!("Cannot track more than {} total subscriptions.", self.most));
            }
            ("subscribe", false) => {
                let at_ms = match subscription {
                    Subscription::Trades(_) => now_ms - REPLAY_MS,
                    _ => 0,
                };
                self.subscriptions.insert(subscription, Brought { at_ms, last: Value::Null });
            }
            (_, true) => {
                self.subscriptions.remove(&subscription);
            }
            (_, false) => return error(format!("Already unsubscribed: {document}")),
        }
        let data = json!({ "method": method, "subscription": document });
        json!({ "channel": "subscriptionResponse", "data": data })
    }

    /// A request to `/info` that comes over the stream.
    fn post(&self, message: &Value, now_ms: i64) -> Option<Value> {
        let (id, request) = (message["id"].as_u64()?, &message["request"]);
        if request["type"] != "info" {
            return None;
        }
        let payload = &request["payload"];
        let reply = self.exchange.info(info::endpoint(payload), payload, now_ms);
        let response = match reply.body {
            Body::Json(data) => {
                let payload = json!({ "type": payload["type"], "data": data });
                json!({ "type": "info", "payload": payload })
            }
            _ => json!({ "type": "error", "payload": "Invalid info request" }),
        };
        Some(json!({ "channel": "post", "data": { "id": id, "response": response } }))
    }

    /// Sends what is new.
    async fn bring(&mut self, line: &mut Line, now_ms: i64) -> Result<(), Ended> {
        let market = &self.exchange.market;
        for (subscription, brought) in &mut self.subscriptions {
            for frame in new(market, *subscription, brought, now_ms) {
                line.bring(frame).await?;
            }
        }
        Ok(())
    }
}

/// The frames that a subscription is owed, which are noted as brought.
fn new(
    market: &Market,
    subscription: Subscription,
    brought: &mut Brought,
    now_ms: i64,
) -> Vec<Value> {
    let due = |every_ms| now_ms - brought.at_ms >= every_ms;
    match subscription {
        Subscription::AllMids if due(MIDS_MS) => {
            brought.at_ms = now_ms;
            vec![frame("allMids", json!({ "mids": shapes::mids(market, now_ms) }))]
        }
        Subscription::Context(coin) if due(CONTEXT_MS) => {
            brought.at_ms = now_ms;
            let ctx = shapes::context(market, coin, now_ms);
            let coin = market.perpetuals().get(coin).map(|perpetual| perpetual.name.as_str());
            vec![frame("activeAssetCtx", json!({ "coin": coin, "ctx": ctx }))]
        }
        Subscription::Book(coin, _, _, fast) if due(if fast { FAST_BOOK_MS } else { BOOK_MS }) => {
            brought.at_ms = now_ms;
            let depth = if fast { 5 } else { 20 };
            vec![frame("l2Book", shapes::book(market, coin, depth, now_ms))]
        }
        Subscription::Best(coin) => {
            let best = shapes::best(market, coin, now_ms);
            if best["bbo"] == brought.last {
                return Vec::new();
            }
            brought.last = best["bbo"].clone();
            vec![frame("bbo", best)]
        }
        Subscription::Trades(coin) => {
            let trades = market.trades(coin, brought.at_ms, now_ms);
            brought.at_ms = now_ms;
            let Some(perpetual) = market.perpetuals().get(coin) else { return Vec::new() };
            let trades: Vec<_> =
                trades.iter().map(|trade| shapes::trade(perpetual, trade)).collect();
            if trades.is_empty() { Vec::new() } else { vec![frame("trades", trades)] }
        }
        Subscription::Candle(coin, interval) if due(CANDLE_MS) => {
            candles(market, coin, interval, brought, now_ms)
        }
        _ => Vec::new(),
    }
}

/// The candle in progress when it has changed, after the one before it when that has ended since.
fn candles(
    market: &Market,
    coin: usize,
    interval: Interval,
    brought: &mut Brought,
    now_ms: i64,
) -> Vec<Value> {
    let Some(perpetual) = market.perpetuals().get(coin) else { return Vec::new() };
    let open_ms = interval.floor(now_ms);
    let shape = |bar| shapes::candle(perpetual, interval, &bar);
    let mut frames = Vec::new();
    let last_ms = brought.last["t"].as_i64();
    if let Some(last_ms) = last_ms.filter(|last_ms| *last_ms < open_ms)
        && let Some(ended) = market.candle(coin, interval, last_ms, now_ms).map(shape)
        && ended != brought.last
    {
        frames.push(frame("candle", ended));
    }
    if let Some(now) = market.candle(coin, interval, open_ms, now_ms).map(shape)
        && now != brought.last
    {
        brought.last = now.clone();
        frames.push(frame("candle", now));
    }
    brought.at_ms = now_ms;
    frames
}

fn frame(channel: &str, data: impl Into<Value>) -> Value {
    json!({ "channel": channel, "data": data.into() })
}

fn error(text: String) -> Value {
    json!({ "channel": "error", "data": text })
}
