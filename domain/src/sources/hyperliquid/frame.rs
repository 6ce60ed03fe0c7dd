//! A frame of the WebSocket.

use serde_json::Value;

use super::rows::{candle, context, field, quote, trade};
use super::subscription::Subscription;
use crate::ingestion::{Reject, Rows, name, positive_decimal};
use crate::market::{AssetContext, Candle, Interval, Mid, Quote, Trade};

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A subscription stands.
    Acknowledged(Option<Subscription>),
    /// Mark, oracle and funding.
    Contexts(Rows<AssetContext>),
    /// Mids of all coins.
    Mids(Rows<Mid>),
    /// The best bid and ask.
    Quotes(Rows<Quote>),
    /// Trades.
    Trades(Rows<Trade>),
    /// Bars with their coins.
    Candles(Rows<(String, Candle)>),
    /// The answer to a ping.
    Pong,
    /// The venue refuses something.
    Refused(String),
    /// Text that is no document: a greeting.
    Text,
    /// A channel that is not asked for.
    Unknown(String),
}

/// What is kept of a refusal.
const SHOWN: usize = 200;

/// Reads a frame that came at `now_ms`. Nothing makes it fail.
#[must_use]
pub fn read_frame(text: &str, now_ms: i64) -> Frame {
    let Ok(frame) = serde_json::from_str::<Value>(text) else { return Frame::Text };
    let data = field(&frame, "data");
    match field(&frame, "channel").as_str() {
        Some("subscriptionResponse") => Frame::Acknowledged(Subscription::acknowledged(data)),
        Some("activeAssetCtx") => Frame::Contexts(contexts(data, now_ms)),
        Some("allMids") => Frame::Mids(mids(field(data, "mids"), now_ms)),
        Some("bbo") => Frame::Quotes(Rows::read(many(data), |row| quote(row, now_ms))),
        Some("trades") => Frame::Trades(Rows::read(many(data), |row| trade(row, now_ms))),
        Some("candle") => {
            Frame::Candles(Rows::read(many(data), |row| candle(row, Interval::M1, now_ms)))
        }
        Some("pong") => Frame::Pong,
        Some("error") => {
            let said = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
            Frame::Refused(said[..said.floor_char_boundary(SHOWN)].to_owned())
        }
        Some(other) => Frame::Unknown(other[..other.floor_char_boundary(SHOWN)].to_owned()),
        None => Frame::Text,
    }
}

/// Mids by coin. Spot pairs and other markets are passed over: `@142`, `PURR/USDC`, `#12`.
pub(super) fn mids(mids: &Value, received_at_ms: i64) -> Rows<Mid> {
    let Some(mids) = mids.as_object() else {
        return refused("mids are no object");
    };
    let is_perpetual = |coin: &String| !coin.starts_with(['@', '#']) && !coin.contains('/');
    Rows::read(mids.iter().filter(|(coin, _)| is_perpetual(coin)), |(coin, mid)| {
        Ok(Mid {
            symbol: name("coin", &Value::String(coin.clone()))?,
            mid: positive_decimal("mid", mid)?,
            received_at_ms,
        })
    })
}

fn contexts(data: &Value, now_ms: i64) -> Rows<AssetContext> {
    Rows::read_some(many(data), |row| {
        context(&name("coin", field(row, "coin"))?, field(row, "ctx"), now_ms)
    })
}

/// The venue documents lists where it sends single rows, and the other way round.
fn many(data: &Value) -> &[Value] {
    match data {
        Value::Array(rows) => rows,
        Value::Null => &[],
        row => std::slice::from_ref(row),
    }
}

pub(super) fn refused<T>(detail: &str) -> Rows<T> {
    let mut rows = Rows { read: 1, ..Rows::default() };
    rows.rejects.count(Reject::new("bad_row", detail));
    rows
}

#[cfg(test)]
mod tests;
