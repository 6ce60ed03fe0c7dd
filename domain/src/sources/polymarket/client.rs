//! Polymarket over REST: the catalogue and the order books are two hosts.

use std::collections::HashSet;
use std::sync::Arc;

use scheduler_core::Clock;
use serde_json::{Value, json};

use super::books::{book, probability};
use super::markets::{field, market, resolution};
use crate::ingestion::{Reject, Rows, whole};
use crate::market::{OddsPoint, PredictionMarket, PredictionQuote, Resolution};
use crate::sources::{Fetcher, FetcherOptions, Priority, Request, SourceError};

/// Asks Polymarket; cheap to clone, its budgets are shared by the clones.
#[derive(Debug, Clone)]
pub struct PolymarketClient {
    catalogue: Fetcher,
    books: Fetcher,
    gamma: String,
    clob: String,
}

/// Far below what either host allows.
const PER_MINUTE: u32 = 300;
const LONGEST_BODY: usize = 20 << 20;
/// Events of a page of the catalogue.
const PAGE: usize = 100;
/// Books of one request.
const BOOKS: usize = 200;
/// The longest window of history that the venue answers, with room to spare; seconds.
const WINDOW_S: i64 = 14 * 86_400;

impl PolymarketClient {
    /// A client of these two hosts.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when this machine's TLS cannot be set up.
    pub fn new(gamma: &str, clob: &str, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let options = || FetcherOptions {
            longest_body: LONGEST_BODY,
            ..FetcherOptions::per_minute(PER_MINUTE)
        };
        let base = |url: &str| url.trim_end_matches('/').to_owned();
        Ok(Self {
            catalogue: Fetcher::new(options(), Arc::clone(&clock))?,
            books: Fetcher::new(options(), clock)?,
            gamma: base(gamma),
            clob: base(clob),
        })
    }

    /// The markets of open events, those with the highest volume first, of at most `pages` pages.
    /// A pager that repeats itself ends: parameters that the host does not know are ignored there.
    ///
    /// # Errors
    /// The fetch's, or a page without events.
    pub async fn markets(&self, pages: usize) -> Result<Rows<PredictionMarket>, SourceError> {
        let mut rows = Rows::default();
        let mut seen = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..pages {
            let mut url = format!(
                "{}/events/keyset?closed=false&order=volume24hr&ascending=false&limit={PAGE}",
                self.gamma
            );
            if let Some(cursor) = &cursor {
                url.push_str("&after_cursor=");
                url.push_str(&in_query(cursor));
            }
            let page = self.catalogue.fetch(&Request::get(url)).await?;
            let events = field(&page, "events").as_array();
            let events = events.ok_or_else(|| malformed(&self.gamma, "events are no list"))?;
            let Some(first) = events.first().map(|event| field(event, "id").to_string()) else {
                break;
            };
            if !seen.insert(first) {
                break;
            }
            let markets = events.iter().flat_map(|event| field(event, "markets").as_array());
            rows.absorb(Rows::read(markets.flatten(), market));
            cursor = field(&page, "next_cursor").as_str().map(str::to_owned);
            match &cursor {
                Some(next) if !next.is_empty() && seen.insert(format!("cursor {next}")) => {}
                _ => break,
            }
        }
        Ok(rows)
    }

    /// The books of tokens, received now. A token without a book is absent.
    ///
    /// # Errors
    /// The fetch's.
    pub async fn quotes(&self, tokens: &[String]) -> Result<Rows<PredictionQuote>, SourceError> {
        let mut rows = Rows::default();
        for tokens in tokens.chunks(BOOKS) {
            let asked: Vec<Value> = tokens.iter().map(|token| json!({"token_id": token})).collect();
            let request = Request::post(format!("{}/books", self.clob), asked.into(), 1);
            let document = self.books.fetch(&request).await?;
            let books = document.as_array();
            let books = books.ok_or_else(|| malformed(&self.clob, "books are no list"))?;
            let now_ms = self.books.clock().now_ms();
            rows.absorb(Rows::read(books, |row| book(row, now_ms)));
        }
        Ok(rows)
    }

    /// The odds of a token from one time to another, epoch milliseconds, one point per
    /// `fidelity_s`, in as many windows as that takes.
    ///
    /// # Errors
    /// The fetch's; [`SourceError::Refused`] for a token that the venue does not know.
    pub async fn history(
        &self,
        token: &str,
        (from_ms, to_ms): (i64, i64),
        fidelity_s: u32,
    ) -> Result<Rows<OddsPoint>, SourceError> {
        let mut rows = Rows::default();
        let (mut from_s, to_s) = (from_ms.div_euclid(1_000), to_ms.div_euclid(1_000));
        while from_s < to_s {
            let end_s = to_s.min(from_s + WINDOW_S);
            let url = format!(
                "{}/prices-history?market={}&startTs={from_s}&endTs={end_s}&fidelity={}",
                self.clob,
                in_query(token),
                (fidelity_s / 60).max(1)
            );
            let request = Request::get(url).with_priority(Priority::Repair);
            let document = self.books.fetch(&request).await?;
            let history = field(&document, "history").as_array();
            let history = history.ok_or_else(|| malformed(&self.clob, "history is no list"))?;
            let now_ms = self.books.clock().now_ms();
            rows.absorb(Rows::read(history, |row| point(token, row, fidelity_s, now_ms)));
            from_s = end_s;
        }
        Ok(rows)
    }

    /// How a market was answered; `None` while it is not.
    ///
    /// # Errors
    /// The fetch's; [`SourceError::Refused`] for a market that the venue does not know.
    pub async fn resolution(
        &self,
        condition_id: &str,
    ) -> Result<Result<Option<Resolution>, Reject>, SourceError> {
        let url = format!("{}/markets/{}", self.clob, in_query(condition_id));
        let document = self.books.fetch(&Request::get(url)).await?;
        Ok(resolution(&document, self.books.clock().now_ms()))
    }
}

fn point(token: &str, row: &Value, fidelity_s: u32, now_ms: i64) -> Result<OddsPoint, Reject> {
    let at_s = whole("t", field(row, "t"))?;
    let in_range = (0..=now_ms.div_euclid(1_000) + 60).contains(&at_s);
    if !in_range {
        return Err(Reject::new("bad_time", format!("t is {at_s}")));
    }
    Ok(OddsPoint {
        token_id: token.to_owned(),
        at_ms: at_s * 1_000,
        fidelity_s,
        odds: probability("p", field(row, "p"))?,
        received_at_ms: now_ms,
    })
}

fn malformed(host: &str, detail: &str) -> SourceError {
    SourceError::Malformed { host: host.to_owned(), detail: detail.to_owned() }
}

/// A text as a part of a query or a path.
fn in_query(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
