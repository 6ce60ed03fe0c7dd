//! Frames of the stream, and what is sent to it.

use serde_json::{Value, json};

use super::books::{AHEAD_MS, best, book, probability};
use super::markets::field;
use crate::ingestion::{Reject, Rejects, decimal, name, not_in_the_future, whole};
use crate::market::{PredictionQuote, PredictionTrade, Resolution, Side};

/// One event of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum PredictionFrame {
    /// The whole book of a token.
    Book(PredictionQuote),
    /// The best prices of a token after a change.
    Best(PredictionQuote),
    /// A trade.
    Trade(PredictionTrade),
    /// A token's prices have another step from now on: what was known of its book is void.
    TickSize(String),
    /// A question was answered.
    Resolved(Resolution),
    /// The answer to a ping.
    Pong,
    /// Text that is no document, or an event that is not asked for.
    Other,
}

/// Reads a frame that came at `now_ms`: one event or a list of them. Nothing makes it fail.
#[must_use]
pub fn read_frames(text: &str, now_ms: i64) -> (Vec<PredictionFrame>, Rejects) {
    let mut rejects = Rejects::default();
    if text.trim() == "PONG" {
        return (vec![PredictionFrame::Pong], rejects);
    }
    let Ok(frame) = serde_json::from_str::<Value>(text) else {
        return (vec![PredictionFrame::Other], rejects);
    };
    let events = match &frame {
        Value::Array(events) => events.as_slice(),
        event => std::slice::from_ref(event),
    };
    let mut frames = Vec::new();
    for event in events {
        read_event(event, now_ms, &mut frames, &mut rejects);
    }
    (frames, rejects)
}

fn read_event(
    event: &Value,
    now_ms: i64,
    frames: &mut Vec<PredictionFrame>,
    rejects: &mut Rejects,
) {
    let one = match field(event, "event_type").as_str() {
        Some("book") => book(event, now_ms).map(PredictionFrame::Book),
        Some("best_bid_ask") => {
            best(event, field(event, "timestamp"), now_ms).map(PredictionFrame::Best)
        }
        Some("price_change") => {
            let changes = field(event, "price_changes").as_array();
            for change in changes.into_iter().flatten() {
                let quote = best(change, field(event, "timestamp"), now_ms);
                frames.extend(rejects.keep(quote).map(PredictionFrame::Best));
            }
            return;
        }
        Some("last_trade_price") => trade(event, now_ms).map(PredictionFrame::Trade),
        Some("tick_size_change") => {
            name("asset_id", field(event, "asset_id")).map(PredictionFrame::TickSize)
        }
        Some("market_resolved") => resolved(event, now_ms).map(PredictionFrame::Resolved),
        _ => Ok(PredictionFrame::Other),
    };
    frames.extend(rejects.keep(one));
}

fn trade(event: &Value, now_ms: i64) -> Result<PredictionTrade, Reject> {
    let at_ms = whole("timestamp", field(event, "timestamp"))?;
    let side = match field(event, "side").as_str() {
        Some("BUY") => Side::Buy,
        Some("SELL") => Side::Sell,
        other => return Err(Reject::new("bad_side", format!("side is {other:?}"))),
    };
    Ok(PredictionTrade {
        token_id: name("asset_id", field(event, "asset_id"))?,
        at_ms: not_in_the_future(at_ms, now_ms, AHEAD_MS)?,
        price: probability("price", field(event, "price"))?.normalize(),
        size: decimal("size", field(event, "size"))?.normalize(),
        side,
    })
}

fn resolved(event: &Value, now_ms: i64) -> Result<Resolution, Reject> {
    Ok(Resolution {
        condition_id: name("market", field(event, "market"))?,
        winning_outcome: name("winning_outcome", field(event, "winning_outcome"))?,
        resolved_at_ms: now_ms,
    })
}

/// The first message of a connection.
#[must_use]
pub fn subscribe(tokens: &[String]) -> String {
    json!({"assets_ids": tokens, "type": "market", "initial_dump": true,
        "custom_feature_enabled": true})
    .to_string()
}

/// Asks for more tokens.
#[must_use]
pub fn subscribe_more(tokens: &[String]) -> String {
    json!({"assets_ids": tokens, "operation": "subscribe"}).to_string()
}

/// Asks for fewer.
#[must_use]
pub fn unsubscribe(tokens: &[String]) -> String {
    json!({"assets_ids": tokens, "operation": "unsubscribe"}).to_string()
}

/// The client's ping: no document.
#[must_use]
pub fn ping() -> &'static str {
    "PING"
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_658_680_000;

    fn read(frame: Value) -> (Vec<PredictionFrame>, Rejects) {
        read_frames(&frame.to_string(), NOW)
    }

    #[test]
    fn captured_frames_are_read_as_an_object_and_in_a_list() {
        let book = json!({"market":"0x6bd5","asset_id":"3509","timestamp":"1786604072222","hash":"ed47",
            "bids":[{"price":"0.01","size":"3149725.72"},{"price":"0.02","size":"100"}],
            "asks":[{"price":"0.99","size":"156606.14"},{"price":"0.98","size":"50.5"}],
            "tick_size":"0.01","event_type":"book","last_trade_price":"0.920"});
        let change = json!({"market":"0x2857","timestamp":"1790658674035","event_type":"price_change",
            "price_changes":[
            {"asset_id":"7667","price":"0.301","size":"1000","side":"BUY","hash":"b7","best_bid":"0.301","best_ask":"0.397"},
            {"asset_id":"5417","price":"0.699","size":"1000","side":"SELL","hash":"c0","best_bid":"0.603","best_ask":"1"},
            {"asset_id":"1","price":"0.1","size":"0","side":"SELL","best_bid":"NaN","best_ask":"0.5"}]});
        let (frames, rejects) = read(json!([book, change]));
        let best: Vec<_> = frames
            .iter()
            .map(|frame| match frame {
                PredictionFrame::Book(quote) | PredictionFrame::Best(quote) => {
                    let text = |price: Option<rust_decimal::Decimal>| {
                        price.map_or("-".to_owned(), |price| price.to_string())
                    };
                    format!("{} {} {}", quote.token_id, text(quote.bid), text(quote.ask))
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(best, ["3509 0.02 0.98", "7667 0.301 0.397", "5417 0.603 -"]);
        assert_eq!(rejects.total(), 1);
    }

    #[test]
    fn trades_resolutions_and_strange_events_are_told_apart() {
        let trade = json!({"event_type":"last_trade_price","market":"0x6a67","asset_id":"1140","price":".4560",
            "side":"BUY","size":"219.217767","fee_rate_bps":"0","timestamp":"1750428146322"});
        let (frames, _) = read(trade);
        let PredictionFrame::Trade(trade) = &frames[0] else { panic!("{frames:?}") };
        assert_eq!((trade.price.to_string().as_str(), trade.side), ("0.456", Side::Buy));
        let won = json!({"event_type":"market_resolved","market":"0x311d","winning_asset_id":"7604",
            "winning_outcome":"Yes","timestamp":"1766790415550"});
        assert!(
            matches!(&read(won).0[0], PredictionFrame::Resolved(won) if won.condition_id == "0x311d")
        );
        let tick =
            json!({"event_type":"tick_size_change","asset_id":"7132","new_tick_size":"0.01"});
        assert_eq!(read(tick).0, [PredictionFrame::TickSize("7132".into())]);
        for other in
            [json!({"event_type":"new_market"}), json!({}), json!([]), json!(null), json!(5)]
        {
            let (frames, rejects) = read(other.clone());
            assert!(frames.iter().all(|frame| *frame == PredictionFrame::Other), "{other}");
            assert_eq!(rejects.total(), 0);
        }
        assert_eq!(read_frames("PONG", NOW).0, [PredictionFrame::Pong]);
        assert_eq!(read_frames("NO NEW ASSETS", NOW).0, [PredictionFrame::Other]);
    }
}
