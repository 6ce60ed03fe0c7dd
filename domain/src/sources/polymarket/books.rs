//! Order books: only their best prices are kept.

use rust_decimal::Decimal;
use serde_json::Value;

use super::markets::field;
use crate::ingestion::{Reject, decimal, name, not_in_the_future, whole};
use crate::market::PredictionQuote;

/// The venue's clock may be this much ahead of ours.
pub(super) const AHEAD_MS: i64 = 60_000;

/// A book, of REST or of the stream. The best bid is the highest, wherever it stands.
pub(super) fn book(row: &Value, received_at_ms: i64) -> Result<PredictionQuote, Reject> {
    let levels = |side| -> Result<Vec<Decimal>, Reject> {
        let Some(levels) = field(row, side).as_array() else { return Ok(Vec::new()) };
        let price_of = |level: &Value| match decimal("size", field(level, "size"))? {
            size if size > Decimal::ZERO => Ok(Some(probability("price", field(level, "price"))?)),
            _ => Ok(None),
        };
        levels.iter().filter_map(|level| price_of(level).transpose()).collect()
    };
    quote(row, levels("bids")?.into_iter().max(), levels("asks")?.into_iter().min(), received_at_ms)
}

/// Best prices that the venue tells without a book.
pub(super) fn best(
    row: &Value,
    at: &Value,
    received_at_ms: i64,
) -> Result<PredictionQuote, Reject> {
    if ["best_bid", "best_ask"].iter().all(|name| field(row, name).is_null()) {
        return Err(Reject::new("missing_number", "neither best_bid nor best_ask"));
    }
    let bid = side_of(row, "best_bid")?;
    let ask = side_of(row, "best_ask")?;
    let dated = serde_json::json!({
        "asset_id": field(row, "asset_id"), "timestamp": at, "hash": field(row, "hash")});
    quote(&dated, bid, ask, received_at_ms)
}

/// An empty side is 0 or 1 there, or missing.
fn side_of(row: &Value, name: &'static str) -> Result<Option<Decimal>, Reject> {
    match field(row, name) {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        value => {
            let price = probability(name, value)?;
            Ok((price > Decimal::ZERO && price < Decimal::ONE).then_some(price))
        }
    }
}

fn quote(
    row: &Value,
    bid: Option<Decimal>,
    ask: Option<Decimal>,
    received_at_ms: i64,
) -> Result<PredictionQuote, Reject> {
    if let (Some(bid), Some(ask)) = (bid, ask)
        && bid > ask
    {
        return Err(Reject::new("crossed", format!("bid {bid} is above ask {ask}")));
    }
    let at_ms = whole("timestamp", field(row, "timestamp"))?;
    Ok(PredictionQuote {
        token_id: name("asset_id", field(row, "asset_id"))?,
        bid,
        ask,
        at_ms: not_in_the_future(at_ms, received_at_ms, AHEAD_MS)?,
        book_hash: name("hash", field(row, "hash")).ok(),
        received_at_ms,
    })
}

pub(super) fn probability(field: &'static str, value: &Value) -> Result<Decimal, Reject> {
    let price = decimal(field, value)?;
    if (Decimal::ZERO..=Decimal::ONE).contains(&price) {
        return Ok(price);
    }
    Err(Reject::new("out_of_range", format!("{field} is {price}, expected 0 to 1")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_786_604_080_000;

    #[test]
    fn the_best_price_is_found_in_any_order() {
        let level = |price: &str, size: &str| json!({"price": price, "size": size});
        let (low, high) = (level("0.01", "5"), level(".41", "7"));
        let gone = level("0.42", "0");
        for bids in [vec![&low, &high, &gone], vec![&gone, &high, &low]] {
            let row = json!({"asset_id":"52","timestamp":"1786604072222","bids":bids,
                "asks":[level("0.99","1"), level("0.43","1")],"last_trade_price":""});
            let quote = book(&row, NOW).unwrap();
            assert_eq!(quote.bid.unwrap().to_string(), "0.41");
            assert_eq!(quote.ask.unwrap().to_string(), "0.43");
            assert_eq!((quote.at_ms, quote.book_hash), (1_786_604_072_222, None));
        }
    }

    #[test]
    fn empty_books_are_legal_and_impossible_ones_are_not() {
        let empty =
            json!({"asset_id":"52","timestamp":1786604072222_i64,"bids":[],"asks":[],"hash":"ab"});
        let quote = book(&empty, NOW).unwrap();
        assert_eq!((quote.bid, quote.ask, quote.odds()), (None, None, None));
        let refused = |change: &dyn Fn(&mut Value), reason: &str| {
            let mut row = empty.clone();
            change(&mut row);
            assert_eq!(book(&row, NOW).unwrap_err().reason, reason, "{row}");
        };
        let level = |price: &str| json!([{"price": price, "size": "1"}]);
        refused(&|row| row["bids"] = level("1.2"), "out_of_range");
        refused(&|row| row["bids"] = level("NaN"), "not_a_number");
        refused(&|row| (row["bids"], row["asks"]) = (level("0.5"), level("0.4")), "crossed");
        refused(&|row| row["timestamp"] = json!(NOW + 60_001), "from_the_future");
        refused(&|row| row["asset_id"] = json!(""), "missing_text");
        let told = json!({"asset_id":"52","best_bid":"0","best_ask":"1"});
        assert!(best(&told, &json!(NOW), NOW).unwrap().is_empty());
        assert_eq!(
            best(&json!({"asset_id":"52"}), &json!(NOW), NOW).unwrap_err().reason,
            "missing_number"
        );
    }
}
