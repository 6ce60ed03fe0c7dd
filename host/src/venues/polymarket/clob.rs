//! The order books over REST.

use std::sync::Arc;

use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::contract::{Contract, Standing};
use super::history::{self, Window};
use super::shapes;
use crate::venues::endpoint::Endpoint;
use crate::venues::site::{Asked, Reply, Site};

/// Tokens of a request for books, and markets of a request for histories.
const BOOKS: usize = 500;
const HISTORIES: usize = 20;

/// The order books' host.
#[derive(Debug)]
pub(crate) struct Clob {
    catalogue: Arc<Catalogue>,
    per_minute: u32,
}

impl Clob {
    pub(crate) fn new(catalogue: Arc<Catalogue>, per_minute: u32) -> Self {
        Self { catalogue, per_minute }
    }

    /// The market of a token that has a book.
    fn find(&self, token: &str, now_ms: i64) -> Option<(Arc<Contract>, usize)> {
        let found = self.catalogue.by_token(token, now_ms);
        found.filter(|(contract, _)| contract.standing(now_ms) == Standing::Open)
    }

    /// Answers about the book of the token that is asked for.
    fn about(
        &self,
        asked: &Asked,
        now_ms: i64,
        answer: impl FnOnce(&Contract, usize) -> Reply,
    ) -> Reply {
        let token = asked.parameter("token_id").unwrap_or_default();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_digit()) {
            return refused(400, "Invalid token id");
        }
        match self.find(token, now_ms) {
            Some((contract, outcome)) => answer(&contract, outcome),
            None => refused(404, "No orderbook exists for the requested token id"),
        }
    }

    /// Answers about every token of a body that has a book.
    fn each<T>(
        &self,
        asked: &Asked,
        now_ms: i64,
        answer: impl Fn(&Contract, usize) -> T,
    ) -> Result<Vec<T>, Reply> {
        let body = asked.json();
        let Some(wanted) = body.as_ref().and_then(Value::as_array) else {
            return Err(refused(400, "Invalid payload"));
        };
        if wanted.len() > BOOKS {
            return Err(refused(400, "Payload exceeds the limit"));
        }
        let tokens = wanted.iter().filter_map(|wanted| wanted["token_id"].as_str());
        let found = tokens.filter_map(|token| self.find(token, now_ms));
        Ok(found.map(|(contract, outcome)| answer(&contract, outcome)).collect())
    }

    fn settlement(&self, condition: &str, now_ms: i64) -> Reply {
        let events = self.catalogue.events(now_ms);
        let mut contracts = events.iter().flat_map(|event| &event.markets);
        let Some(contract) = contracts.find(|contract| contract.condition == condition) else {
            return refused(404, "market not found");
        };
        let standing = contract.standing(now_ms);
        let prices = shapes::prices(contract, now_ms);
        let token = |outcome: usize| {
            json!({
                "token_id": contract.tokens[outcome], "outcome": contract.outcomes[outcome],
                "price": prices[outcome], "winner": standing == Standing::Resolved(outcome),
            })
        };
        Reply::json(json!({
            "condition_id": contract.condition, "question": contract.question,
            "market_slug": contract.slug,
            "end_date_iso": crate::venues::date::rfc3339(contract.ends_ms),
            "closed": matches!(standing, Standing::Resolved(_)), "active": true, "archived": false,
            "accepting_orders": standing == Standing::Open, "enable_order_book": true,
            "tokens": [token(0), token(1)],
            "minimum_order_size": 5, "minimum_tick_size": contract.tick as f64 / 1_000.0,
            "neg_risk": contract.neg_risk,
        }))
    }

    fn history(&self, asked: &Asked, now_ms: i64) -> Reply {
        let Some(token) = asked.parameter("market") else {
            return refused(400, "invalid filters: 'market' must be given");
        };
        let bounds = (asked.number("startTs"), asked.number("endTs"));
        let interval = asked.parameter("interval");
        match Window::parse(bounds, interval, asked.number("fidelity"), now_ms / 1_000) {
            Ok(window) => Reply::json(json!({ "history": self.prices(token, window, now_ms) })),
            Err(error) => refused(400, &error),
        }
    }

    fn histories(&self, asked: &Asked, now_ms: i64) -> Reply {
        let body = asked.json().unwrap_or_default();
        let Some(tokens) = body["markets"].as_array() else {
            return refused(400, "invalid filters: 'markets' must be given");
        };
        if tokens.len() > HISTORIES {
            return refused(400, "invalid filters: too many 'markets'");
        }
        let bounds = (body["start_ts"].as_i64(), body["end_ts"].as_i64());
        let interval = body["interval"].as_str();
        match Window::parse(bounds, interval, body["fidelity"].as_i64(), now_ms / 1_000) {
            Ok(window) => {
                let tokens = tokens.iter().filter_map(Value::as_str);
                let each = tokens
                    .map(|token| (token.to_owned(), self.prices(token, window, now_ms).into()));
                let history: serde_json::Map<_, _> = each.collect();
                Reply::json(json!({ "history": history }))
            }
            Err(error) => refused(400, &error),
        }
    }

    fn prices(&self, token: &str, window: Window, now_ms: i64) -> Vec<Value> {
        let found = self.catalogue.by_token(token, now_ms);
        found
            .map(|(contract, outcome)| history::prices(&contract, outcome, window, now_ms))
            .unwrap_or_default()
    }
}

impl Site for Clob {
    fn endpoint(&self, asked: &Asked) -> Endpoint {
        match asked.parts().as_slice() {
            ["book"] => Endpoint::Book,
            ["books"] => Endpoint::Books,
            ["midpoint"] => Endpoint::Midpoint,
            ["midpoints"] => Endpoint::Midpoints,
            ["price"] => Endpoint::Price,
            ["spread"] => Endpoint::Spread,
            ["last-trade-price"] => Endpoint::LastTradePrice,
            ["tick-size"] => Endpoint::TickSize,
            ["time"] => Endpoint::ClobTime,
            ["markets", _] => Endpoint::ClobMarket,
            ["prices-history"] => Endpoint::PricesHistory,
            ["batch-prices-history"] => Endpoint::BatchPricesHistory,
            ["ws", "market"] => Endpoint::PolymarketStream,
            _ => Endpoint::Unknown,
        }
    }

    fn reply(&self, endpoint: Endpoint, asked: &Asked, now_ms: i64) -> Reply {
        let posted = [Endpoint::Books, Endpoint::Midpoints, Endpoint::BatchPricesHistory]
            .contains(&endpoint);
        if (asked.method == "POST") != posted {
            return Reply::text(405, "Method Not Allowed");
        }
        // Of an open market both sides of the book have levels.
        let best = |contract: &Contract, outcome: usize| {
            let book = contract.book(contract.step(now_ms)).of(outcome);
            (book.bid().unwrap_or_default(), book.ask().unwrap_or(1_000))
        };
        let middle = |contract: &Contract, outcome: usize| {
            let (bid, ask) = best(contract, outcome);
            // Ten-thousandths, as the sum of both may be odd.
            crate::venues::decimal::decimal(i128::from(bid + ask) * 5, 4)
        };
        match endpoint {
            Endpoint::Book => self.about(asked, now_ms, |contract, outcome| {
                Reply::json(shapes::book(contract, outcome, now_ms))
            }),
            Endpoint::Books => {
                let books = self.each(asked, now_ms, |contract, outcome| {
                    shapes::book(contract, outcome, now_ms)
                });
                books.map_or_else(|refused| refused, Reply::json)
            }
            Endpoint::Midpoint => self.about(asked, now_ms, |contract, outcome| {
                Reply::json(json!({ "mid": middle(contract, outcome) }))
            }),
            Endpoint::Midpoints => {
                let middles = self.each(asked, now_ms, |contract, outcome| {
                    (contract.tokens[outcome].clone(), Value::from(middle(contract, outcome)))
                });
                let map = |pairs: Vec<_>| {
                    Reply::json(pairs.into_iter().collect::<serde_json::Map<_, _>>())
                };
                middles.map_or_else(|refused| refused, map)
            }
            Endpoint::Price => self.about(asked, now_ms, |contract, outcome| {
                let (bid, ask) = best(contract, outcome);
                match asked.parameter("side") {
                    Some("BUY") => Reply::json(json!({ "price": shapes::price(bid) })),
                    Some("SELL") => Reply::json(json!({ "price": shapes::price(ask) })),
                    _ => refused(400, "Invalid side"),
                }
            }),
            Endpoint::Spread => self.about(asked, now_ms, |contract, outcome| {
                let (bid, ask) = best(contract, outcome);
                Reply::json(json!({ "spread": shapes::price(ask - bid) }))
            }),
            Endpoint::LastTradePrice => self.about(asked, now_ms, |contract, outcome| {
                let step = contract.step(now_ms);
                let bought = contract.last_fill(step).is_some_and(|fill| fill.buy);
                Reply::json(json!({
                    "price": shapes::last_price(contract, outcome, step),
                    "side": if bought == (outcome == 0) { "BUY" } else { "SELL" },
                }))
            }),
            Endpoint::TickSize => self.about(asked, now_ms, |contract, _| {
                Reply::json(json!({ "minimum_tick_size": contract.tick as f64 / 1_000.0 }))
            }),
            Endpoint::ClobTime => Reply::json(now_ms / 1_000),
            Endpoint::ClobMarket => {
                self.settlement(asked.parts().get(1).copied().unwrap_or_default(), now_ms)
            }
            Endpoint::PricesHistory => self.history(asked, now_ms),
            Endpoint::BatchPricesHistory => self.histories(asked, now_ms),
            _ => refused(404, "Not Found"),
        }
    }

    fn per_minute(&self) -> u32 {
        self.per_minute
    }

    fn limited(&self) -> Reply {
        Reply::text(429, "error code: 1015")
    }
}

fn refused(status: u16, error: &str) -> Reply {
    Reply::json(json!({ "error": error })).with_status(status)
}
