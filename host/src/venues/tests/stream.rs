//! Streams, with a client of their own.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use scheduler_core::testing::ManualClock;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::shape::{assert_shape, documented};
use super::{NOW_MS, venues};
use crate::venues::{Chaos, Endpoint, Step};

/// Longer than anything here takes.
const BOUND: Duration = Duration::from_secs(20);
const STREAM: Endpoint = Endpoint::HyperliquidStream;

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(url: &str) -> Self {
        Self(connect_async(url).await.unwrap().0)
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, subscription: Value) {
        self.send(json!({ "method": "subscribe", "subscription": subscription })).await;
    }

    /// The next text; none when the connection has ended.
    async fn text(&mut self) -> Option<String> {
        let next = tokio::time::timeout(BOUND, self.0.next()).await.expect("a frame in time");
        match next {
            Some(Ok(Message::Text(text))) => Some(text.to_string()),
            _ => None,
        }
    }

    /// Whether the connection goes on, while the clock does.
    async fn frame_or_end(&mut self, clock: &ManualClock) -> bool {
        match tokio::time::timeout(Duration::from_millis(5), self.0.next()).await {
            Err(_) => clock.advance(Duration::from_millis(500)),
            Ok(Some(Ok(Message::Text(_)))) => {}
            Ok(_) => return false,
        }
        true
    }

    /// The next frame of a channel, while the clock goes on; none when the connection has ended.
    async fn frame(&mut self, clock: &ManualClock, channel: &str) -> Option<Value> {
        let deadline = tokio::time::Instant::now() + BOUND;
        while tokio::time::Instant::now() < deadline {
            match tokio::time::timeout(Duration::from_millis(5), self.0.next()).await {
                Err(_) => clock.advance(Duration::from_millis(100)),
                Ok(Some(Ok(Message::Text(text)))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                    if frame["channel"] == channel {
                        return Some(frame);
                    }
                }
                Ok(_) => return None,
            }
        }
        panic!("no frame of {channel} within {BOUND:?}");
    }
}

#[tokio::test]
async fn every_subscription_is_acknowledged_and_brings_documented_frames() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
    let frames = documented(include_str!("../documented/hyperliquid_frames.json"));
    for (subscription, channel) in [
        (json!({ "type": "l2Book", "coin": "BTC", "nSigFigs": null, "fast": true }), "l2Book"),
        (json!({ "type": "bbo", "coin": "BTC" }), "bbo"),
        (json!({ "type": "activeAssetCtx", "coin": "BTC" }), "activeAssetCtx"),
        (json!({ "type": "allMids" }), "allMids"),
        (json!({ "type": "trades", "coin": "BTC" }), "trades"),
        (json!({ "type": "candle", "coin": "BTC", "interval": "1m" }), "candle"),
    ] {
        client.subscribe(subscription.clone()).await;
        let ack = client.frame(&clock, "subscriptionResponse").await.unwrap();
        assert_eq!(ack["data"]["method"], "subscribe");
        for (key, value) in subscription.as_object().unwrap() {
            assert_eq!(&ack["data"]["subscription"][key], value);
        }
        let mut frame = client.frame(&clock, channel).await.unwrap();
        let like = frames.as_array().unwrap().iter().find(|like| like["channel"] == channel);
        let mut like = like.unwrap().clone();
        if channel == "allMids" {
            // Its keys are coins.
            assert!(frame["data"]["mids"]["BTC"].is_string());
            frame["data"]["mids"].take();
            like["data"]["mids"].take();
        }
        assert_shape(&frame, &like);
        client.send(json!({ "method": "unsubscribe", "subscription": subscription })).await;
        let ack = client.frame(&clock, "subscriptionResponse").await.unwrap();
        assert_eq!(ack["data"]["method"], "unsubscribe");
    }
    assert_eq!(venues.log().messages(STREAM, 1).len(), 12);
    venues.stop().await;
    assert_eq!(client.text().await, None, "stopping ends the connection");
}

#[tokio::test]
async fn what_was_streamed_is_what_the_candle_says() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
    client.subscribe(json!({ "type": "trades", "coin": "ETH" })).await;
    client.subscribe(json!({ "type": "candle", "coin": "ETH", "interval": "1m" })).await;
    // The minute after the one in which we come.
    let open_ms = NOW_MS - NOW_MS.rem_euclid(60_000) + 60_000;
    let (mut count, mut candle) = (0, Value::Null);
    while clock_before(&clock, open_ms + 61_500) {
        let next = tokio::time::timeout(Duration::from_millis(5), client.0.next()).await;
        let Ok(Some(Ok(Message::Text(text)))) = next else {
            clock.advance(Duration::from_millis(500));
            continue;
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let data = &frame["data"];
        if frame["channel"] == "trades" {
            let within = open_ms..open_ms + 60_000;
            let trades = data.as_array().unwrap().iter();
            count +=
                trades.filter(|trade| within.contains(&trade["time"].as_i64().unwrap())).count();
        } else if frame["channel"] == "candle" && data["t"] == open_ms {
            candle = data.clone();
        }
    }
    assert!(count > 5);
    assert_eq!(candle["n"], count);
    venues.stop().await;
}

fn clock_before(clock: &ManualClock, at_ms: i64) -> bool {
    use scheduler_core::Clock;
    clock.now_ms() < at_ms
}

#[tokio::test]
async fn pings_are_answered_and_nonsense_is_an_error_frame() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
    client.send(json!({ "method": "ping" })).await;
    assert_eq!(client.text().await.as_deref(), Some(r#"{"channel":"pong"}"#));
    client.send(json!({ "method": "subscribe" })).await;
    let error = client.frame(&clock, "error").await.unwrap();
    let text = error["data"].as_str().unwrap();
    assert!(text.starts_with("Error parsing JSON into valid websocket request: "), "{text}");
    client.subscribe(json!({ "type": "bbo", "coin": "SOL" })).await;
    client.subscribe(json!({ "type": "bbo", "coin": "SOL" })).await;
    let error = client.frame(&clock, "error").await.unwrap();
    assert_eq!(error["data"], r#"Already subscribed: {"coin":"SOL","type":"bbo"}"#);
    client
        .send(json!({ "method": "post", "id": 7, "request": { "type": "info", "payload": {
            "type": "l2Book", "coin": "SOL",
        } } }))
        .await;
    let answer = client.frame(&clock, "post").await.unwrap();
    assert_eq!(answer["data"]["id"], 7);
    assert_eq!(answer["data"]["response"]["payload"]["data"]["coin"], "SOL");
    venues.stop().await;
}

#[tokio::test]
async fn a_coin_that_is_not_known_kills_the_connection() {
    let (venues, _clock) = venues().await;
    for bad in ["NOPE", "btc", "XRP"] {
        venues.faults().poison("XRP");
        let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
        client.subscribe(json!({ "type": "bbo", "coin": bad })).await;
        assert_eq!(client.text().await, None, "{bad}");
    }
    venues.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_subscription_is_cut_after_a_minute() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
    assert_eq!(client.frame(&clock, "nothing").await, None);
    let lasted_ms = scheduler_core::Clock::now_ms(&clock) - NOW_MS;
    assert!((60_000..65_000).contains(&lasted_ms), "{lasted_ms}");
    venues.stop().await;
}

#[tokio::test]
async fn a_script_is_played_in_order() {
    let (venues, clock) = venues().await;
    let url = venues.urls().hyperliquid_ws.clone();
    venues.faults().script(
        STREAM,
        [
            Step::Text("Websocket connection established.".to_owned()),
            Step::AfterFrames(2),
            Step::Error("out of order".to_owned()),
            Step::Drop,
            Step::Refuse,
            Step::Close(1011),
        ],
    );
    let mut client = Client::connect(&url).await;
    let first = client.text().await;
    assert_eq!(first.as_deref(), Some("Websocket connection established."));
    client.subscribe(json!({ "type": "l2Book", "coin": "BTC", "fast": true })).await;
    for channel in ["l2Book", "l2Book", "error"] {
        assert!(client.frame(&clock, channel).await.is_some(), "{channel}");
    }
    assert_eq!(client.text().await, None);

    assert!(connect_async(&url).await.is_err(), "the next connection is refused");
    let mut client = Client::connect(&url).await;
    let Some(Ok(Message::Close(Some(close)))) = client.0.next().await else { panic!("no close") };
    assert_eq!(u16::from(close.code), 1011);
    assert_eq!(venues.faults().left(STREAM), 0);
    assert_eq!(venues.log().connections(STREAM), 2);
    venues.stop().await;
}

#[tokio::test]
async fn a_frozen_connection_answers_pings_and_brings_nothing() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
    client.subscribe(json!({ "type": "l2Book", "coin": "BTC", "fast": true })).await;
    client.frame(&clock, "l2Book").await.unwrap();
    venues.faults().script(STREAM, [Step::Freeze]);
    for _ in 0..20 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    client.send(json!({ "method": "ping" })).await;
    // What was on the way may still come; after the pong there is nothing.
    while client.text().await.as_deref() != Some(r#"{"channel":"pong"}"#) {}
    clock.advance(Duration::from_secs(5));
    client.send(json!({ "method": "ping" })).await;
    assert_eq!(client.text().await.as_deref(), Some(r#"{"channel":"pong"}"#));
    venues.stop().await;
}

#[tokio::test]
async fn frames_come_twice_in_the_wrong_order_or_changed() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().hyperliquid_ws).await;
    client.subscribe(json!({ "type": "l2Book", "coin": "BTC", "fast": true })).await;
    client.frame(&clock, "l2Book").await.unwrap();
    venues.faults().script(STREAM, [Step::Swap]);
    venues.faults().edit_frames(STREAM, 1, |frame| {
        frame["data"]["levels"] = json!([[], []]);
        true
    });
    // What was on the way comes first.
    let (mut later, mut earlier) = (Value::Null, Value::Null);
    while earlier["data"]["levels"] != json!([[], []]) {
        later = std::mem::replace(&mut earlier, client.frame(&clock, "l2Book").await.unwrap());
    }
    assert!(later["data"]["time"].as_i64() > earlier["data"]["time"].as_i64());
    venues.faults().script(STREAM, [Step::Duplicate(true)]);
    let mut time = Value::Null;
    loop {
        let frame = client.frame(&clock, "l2Book").await.unwrap();
        let before = std::mem::replace(&mut time, frame["data"]["time"].clone());
        if before == time {
            break;
        }
    }
    venues.stop().await;
}

#[tokio::test]
async fn polymarket_dumps_its_books_and_brings_what_changes() {
    let (venues, clock) = venues().await;
    let mut client = Client::connect(&venues.urls().polymarket_ws).await;
    client.0.send(Message::text("PING")).await.unwrap();
    assert_eq!(client.text().await.as_deref(), Some("PONG"));
    let tokens = super::tokens();
    let wanted = json!({
        "assets_ids": tokens, "type": "market", "initial_dump": true, "custom_feature_enabled": true,
    });
    client.send(wanted.clone()).await;
    let dump: Value = serde_json::from_str(&client.text().await.unwrap()).unwrap();
    let like = documented(include_str!("../documented/polymarket_frames.json"));
    assert_eq!(dump.as_array().unwrap().len(), tokens.len());
    for book in dump.as_array().unwrap() {
        assert_shape(book, &like[0]);
    }
    let mut missing =
        vec!["price_change", "best_bid_ask", "last_trade_price", "market_resolved", "new_market"];
    let deadline = tokio::time::Instant::now() + 3 * BOUND;
    while !missing.is_empty() && tokio::time::Instant::now() < deadline {
        match tokio::time::timeout(Duration::from_millis(5), client.0.next()).await {
            Err(_) => clock.advance(Duration::from_secs(10)),
            Ok(Some(Ok(Message::Text(text)))) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let kind = frame["event_type"].as_str().unwrap();
                missing.retain(|missing| *missing != kind);
                match kind {
                    "price_change" => assert_shape(&frame, &like[1]),
                    "best_bid_ask" => assert_shape(&frame, &like[2]),
                    _ => {}
                }
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    venues.stop().await;
}

#[tokio::test]
async fn chance_ends_and_refuses_connections_but_not_for_ever() {
    let (venues, clock) = venues().await;
    venues.faults().rage(Chaos { streams_per_minute: 60.0, ..Chaos::default() });
    let deadline = tokio::time::Instant::now() + BOUND;
    while venues.log().connections(STREAM) < 4 {
        assert!(tokio::time::Instant::now() < deadline, "the stream does not come back");
        // Thirty connections in a minute are allowed.
        clock.advance(Duration::from_secs(3));
        let Ok((socket, _)) = connect_async(&venues.urls().hyperliquid_ws).await else { continue };
        let mut client = Client(socket);
        while client.frame_or_end(&clock).await {}
    }
    venues.faults().clear();
    venues.stop().await;
}
