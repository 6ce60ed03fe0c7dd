//! The stream at `/ws/market`: whole books first, then what changes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::book::Book;
use super::catalogue::{Catalogue, SLOT_MS};
use super::contract::{Contract, Standing};
use super::shapes;
use crate::venues::line::{Ended, Heard, Line};

/// How often there may be something new.
const TURN_MS: i64 = 250;
/// A connection with more assets than this gets no books at first.
const DUMPED: usize = 500;

struct Session<'a> {
    catalogue: &'a Catalogue,
    /// Tokens that are subscribed to.
    tokens: BTreeSet<String>,
    /// Markets of these tokens, and what was brought of each.
    watched: BTreeMap<i64, Watched>,
    /// Whether the client asked for what is not for everybody.
    custom: bool,
    /// The quarter of an hour whose new markets were announced.
    slot: i64,
}

struct Watched {
    contract: Arc<Contract>,
    step: i64,
    book: Book,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(catalogue: &Catalogue, mut line: Line) {
    let slot = line.now_ms().div_euclid(SLOT_MS);
    let mut session = Session {
        catalogue,
        tokens: BTreeSet::new(),
        watched: BTreeMap::new(),
        custom: false,
        slot,
    };
    let mut next_ms = line.now_ms();
    loop {
        let done = match line.hear(next_ms).await {
            Ok(Heard::Text(text)) => session.obey(&mut line, &text).await,
            Ok(Heard::Nothing) => {
                let now_ms = line.now_ms();
                next_ms = now_ms + TURN_MS;
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
    async fn obey(&mut self, line: &mut Line, text: &str) -> Result<(), Ended> {
        if text == "PING" {
            return line.pong("PONG".to_owned()).await;
        }
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(assets) = message["assets_ids"].as_array() else {
            return line.text("INVALID OPERATION").await;
        };
        let assets = assets.iter().filter_map(Value::as_str);
        if message["operation"] == "unsubscribe" {
            for token in assets {
                self.tokens.remove(token);
            }
            let tokens = &self.tokens;
            self.watched.retain(|_, watched| {
                watched.contract.tokens.iter().any(|token| tokens.contains(token))
            });
            return Ok(());
        }
        if message["custom_feature_enabled"] == true {
            self.custom = true;
        }
        let now_ms = line.now_ms();
        let new: Vec<_> = assets
            .filter(|token| !self.tokens.contains(*token))
            .filter_map(|token| {
                let (contract, outcome) = self.catalogue.by_token(token, now_ms)?;
                (contract.standing(now_ms) == Standing::Open).then_some((contract, outcome))
            })
            .take(line.limits().subscriptions.saturating_sub(self.tokens.len()))
            .collect();
        if new.is_empty() {
            return line.text("NO NEW ASSETS").await;
        }
        let mut books = Vec::with_capacity(new.len());
        for (contract, outcome) in new {
            self.tokens.insert(contract.tokens[outcome].clone());
            books.push(shapes::book_frame(&contract, outcome, now_ms));
            let step = contract.step(now_ms);
            self.watched.entry(contract.id).or_insert_with(|| Watched {
                book: contract.book(step),
                step,
                contract,
            });
        }
        if message["initial_dump"] == false || self.tokens.len() > DUMPED {
            return Ok(());
        }
        line.bring(books.into()).await
    }

    /// Sends what is new.
    async fn bring(&mut self, line: &mut Line, now_ms: i64) -> Result<(), Ended> {
        let mut over = Vec::new();
        for (id, watched) in &mut self.watched {
            let contract = &watched.contract;
            if let Standing::Resolved(outcome) = contract.standing(now_ms) {
                over.push(*id);
                if self.custom {
                    line.bring(resolution(contract, outcome)).await?;
                }
                continue;
            }
            let step = contract.step(now_ms);
            if step == watched.step {
                continue;
            }
            let book = contract.book(step);
            if let Some(frame) = changes(contract, &watched.book, &book, step) {
                line.bring(frame).await?;
            }
            let moved = (book.bid(), book.ask()) != (watched.book.bid(), watched.book.ask());
            for outcome in 0..2 {
                if !self.tokens.contains(&contract.tokens[outcome]) {
                    continue;
                }
                if moved && self.custom {
                    line.bring(best(contract, outcome, &book, step)).await?;
                }
                if let Some(frame) = trade(contract, outcome, step) {
                    line.bring(frame).await?;
                }
            }
            watched.step = step;
            watched.book = book;
        }
        for id in over {
            if let Some(watched) = self.watched.remove(&id) {
                for token in &watched.contract.tokens {
                    self.tokens.remove(token);
                }
            }
        }
        self.announce(line, now_ms).await
    }

    /// Tells of the markets whose books are new.
    async fn announce(&mut self, line: &mut Line, now_ms: i64) -> Result<(), Ended> {
        let slot = now_ms.div_euclid(SLOT_MS);
        if slot == self.slot {
            return Ok(());
        }
        self.slot = slot;
        if !self.custom {
            return Ok(());
        }
        for event in self.catalogue.events(now_ms).iter() {
            for contract in event.markets.iter().filter(|new| new.starts_ms == slot * SLOT_MS) {
                line.bring(announcement(contract)).await?;
            }
        }
        Ok(())
    }
}

/// What has changed from one book to the next, for both outcomes; none when nothing has.
fn changes(contract: &Contract, before: &Book, after: &Book, step: i64) -> Option<Value> {
    let mut changed = Vec::new();
    for (side, was, is) in [("BUY", &before.bids, &after.bids), ("SELL", &before.asks, &after.asks)]
    {
        let prices: BTreeSet<_> = was.keys().chain(is.keys()).collect();
        for price in prices {
            if was.get(price) != is.get(price) {
                changed.push((side, *price, is.get(price).copied().unwrap_or_default()));
            }
        }
    }
    if changed.is_empty() {
        return None;
    }
    let mut entries = Vec::with_capacity(changed.len() * 2);
    for (side, price, size) in changed {
        let other = if side == "BUY" { "SELL" } else { "BUY" };
        for (outcome, side, price) in [(0, side, price), (1, other, 1_000 - price)] {
            let (bid, ask) = bests(after, outcome);
            entries.push(json!({
                "asset_id": contract.tokens[outcome], "price": shapes::price(price),
                // The whole size of the level; nothing removes it.
                "size": shapes::size(size), "side": side,
                "hash": shapes::hash(contract, outcome, step), "best_bid": bid, "best_ask": ask,
            }));
        }
    }
    Some(json!({
        "event_type": "price_change", "market": contract.condition,
        "timestamp": contract.stepped_ms(step).to_string(), "price_changes": entries,
    }))
}

fn bests(book: &Book, outcome: usize) -> (String, String) {
    let (bid, ask) = (book.bid().unwrap_or_default(), book.ask().unwrap_or(1_000));
    let (bid, ask) = if outcome == 0 { (bid, ask) } else { (1_000 - ask, 1_000 - bid) };
    (shapes::price(bid), shapes::price(ask))
}

fn best(contract: &Contract, outcome: usize, book: &Book, step: i64) -> Value {
    let (bid, ask) = bests(book, outcome);
    let spread = book.ask().unwrap_or(1_000) - book.bid().unwrap_or_default();
    json!({
        "event_type": "best_bid_ask", "market": contract.condition,
        "asset_id": contract.tokens[outcome], "best_bid": bid, "best_ask": ask,
        "spread": shapes::price(spread),
        "timestamp": contract.stepped_ms(step).to_string(),
    })
}

fn trade(contract: &Contract, outcome: usize, step: i64) -> Option<Value> {
    let fill = contract.fill(step)?;
    let price = if outcome == 0 { fill.price } else { 1_000 - fill.price };
    Some(json!({
        "event_type": "last_trade_price", "market": contract.condition,
        "asset_id": contract.tokens[outcome], "price": shapes::price(price),
        "side": if fill.buy == (outcome == 0) { "BUY" } else { "SELL" },
        "size": shapes::size(fill.size), "fee_rate_bps": "0",
        "timestamp": contract.stepped_ms(step).to_string(),
    }))
}

fn resolution(contract: &Contract, winner: usize) -> Value {
    json!({
        "event_type": "market_resolved", "id": contract.id.to_string(),
        "market": contract.condition, "assets_ids": contract.tokens,
        "winning_asset_id": contract.tokens[winner],
        "winning_outcome": contract.outcomes[winner],
        "timestamp": contract.resolved_ms().to_string(),
    })
}

fn announcement(contract: &Contract) -> Value {
    json!({
        "event_type": "new_market", "id": contract.id.to_string(),
        "question": contract.question, "market": contract.condition, "slug": contract.slug,
        "assets_ids": contract.tokens, "outcomes": contract.outcomes,
        "event_message": { "id": contract.event_id.to_string(), "title": contract.question },
        "timestamp": contract.starts_ms.to_string(),
    })
}
