//! What a venue says about a market of events. Odds are exact, between 0 and 1; times are epoch
//! milliseconds; a token is one outcome of one market.

use rust_decimal::Decimal;

use super::Side;

/// A question with outcomes.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionMarket {
    /// The venue's identity of it.
    pub condition_id: String,
    /// The question. Written by strangers: bounded, and to be escaped where it is shown.
    pub question: String,
    /// Its name in addresses.
    pub slug: String,
    /// When it ends, as planned.
    pub end_at_ms: Option<i64>,
    /// Whether orders are taken now.
    pub tradable: bool,
    /// What was traded within a day, in USD.
    pub volume_24h: Option<f64>,
    /// Token and outcome, as in `(…, "Yes")`; empty until its books are there.
    pub tokens: Vec<(String, String)>,
}

/// The best prices of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictionQuote {
    /// The token.
    pub token_id: String,
    /// The best bid.
    pub bid: Option<Decimal>,
    /// The best ask.
    pub ask: Option<Decimal>,
    /// When the book last changed, by the venue.
    pub at_ms: i64,
    /// The venue's fingerprint of the book.
    pub book_hash: Option<String>,
    /// When it came.
    pub received_at_ms: i64,
}

/// A spread this wide is a book without makers: it says nothing.
const GHOST_SPREAD: Decimal = Decimal::from_parts(9, 0, 0, false, 1);

impl PredictionQuote {
    /// Whether nobody asks and nobody bids. That is legal and says nothing: what was quoted before
    /// grows old.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bid.is_none() && self.ask.is_none()
    }

    /// The odds between bid and ask; `None` for a book that has one side or no makers.
    #[must_use]
    pub fn odds(&self) -> Option<Decimal> {
        let (bid, ask) = (self.bid?, self.ask?);
        (ask >= bid && ask - bid < GHOST_SPREAD).then(|| (bid + ask) / Decimal::TWO)
    }
}

/// One trade. All of it together is its identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PredictionTrade {
    /// The token.
    pub token_id: String,
    /// When it happened.
    pub at_ms: i64,
    /// The price.
    pub price: Decimal,
    /// How many shares.
    pub size: Decimal,
    /// What the taker did.
    pub side: Side,
}

/// Odds at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddsPoint {
    /// The token.
    pub token_id: String,
    /// The time.
    pub at_ms: i64,
    /// The distance of the series' points in seconds; 0 for a stream, which tells each change.
    pub fidelity_s: u32,
    /// The odds.
    pub odds: Decimal,
    /// When they came.
    pub received_at_ms: i64,
}

/// How a question was answered. Final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The market.
    pub condition_id: String,
    /// The outcome that won.
    pub winning_outcome: String,
    /// When that was learnt.
    pub resolved_at_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_between_a_bid_and_an_ask_that_mean_something() {
        let check = |bid: Option<&str>, ask: Option<&str>, expected: Option<&str>| {
            let quote = PredictionQuote {
                token_id: "1".into(),
                bid: bid.map(|price| price.parse().unwrap()),
                ask: ask.map(|price| price.parse().unwrap()),
                at_ms: 0,
                book_hash: None,
                received_at_ms: 0,
            };
            let odds = quote.odds().map(|odds| odds.normalize().to_string());
            assert_eq!(odds.as_deref(), expected, "{bid:?} {ask:?}");
        };
        check(Some("0.41"), Some("0.43"), Some("0.42"));
        check(Some("0.01"), Some("0.99"), None);
        check(Some("0.05"), Some("0.949"), Some("0.4995"));
        check(Some("0.5"), Some("0.4"), None);
        check(None, Some("0.4"), None);
        check(Some("0.4"), None, None);
    }
}
