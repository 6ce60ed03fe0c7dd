//! The catalogue: events and markets, page by page.

use std::sync::Arc;

use serde_json::{Value, json};

use super::catalogue::{Catalogue, Event};
use super::contract::{Contract, Standing};
use super::shapes;
use crate::venues::endpoint::Endpoint;
use crate::venues::site::{Asked, Reply, Site};

/// The deepest that paging by offset goes.
const DEEPEST: i64 = 2_000;

/// The catalogue's host.
#[derive(Debug)]
pub(crate) struct Gamma {
    catalogue: Arc<Catalogue>,
    per_minute: u32,
}

/// Something that is listed, and what it is sorted by.
struct Row {
    id: i64,
    day: f64,
    volume: f64,
    liquidity: f64,
    starts_ms: i64,
    ends_ms: i64,
    document: Value,
}

impl Gamma {
    pub(crate) fn new(catalogue: Arc<Catalogue>, per_minute: u32) -> Self {
        Self { catalogue, per_minute }
    }

    fn events(&self, asked: &Asked, now_ms: i64) -> Vec<Row> {
        let closed = asked.parameter("closed") == Some("true");
        let events = self.catalogue.events(now_ms);
        let wanted = |event: &&Event| {
            shapes::is_closed(event, now_ms) == closed
                && matches(asked, "slug", &event.slug)
                && matches(asked, "id", &event.id.to_string())
        };
        events.iter().filter(wanted).map(|event| event_row(event, now_ms)).collect()
    }

    fn markets(&self, asked: &Asked, now_ms: i64) -> Vec<Row> {
        let closed = asked.parameter("closed") == Some("true");
        let events = self.catalogue.events(now_ms);
        let wanted = |contract: &Contract| {
            let resolved = matches!(contract.standing(now_ms), Standing::Resolved(_));
            let tokens = asked.parameter("clob_token_ids");
            resolved == closed
                && matches(asked, "slug", &contract.slug)
                && matches(asked, "id", &contract.id.to_string())
                && matches(asked, "condition_ids", &contract.condition)
                && tokens.is_none_or(|tokens| {
                    tokens.split(',').any(|token| contract.outcome(token).is_some())
                })
        };
        let pairs = events
            .iter()
            .flat_map(|event| event.markets.iter().map(move |contract| (event, contract)));
        pairs
            .filter(|(_, contract)| wanted(contract))
            .map(|(event, contract)| market_row(event, contract, now_ms))
            .collect()
    }

    /// One event or market by its id or its slug.
    fn one(&self, endpoint: Endpoint, parts: &[&str], now_ms: i64) -> Reply {
        let (by_slug, key) = match parts {
            [_, "slug", slug] => (true, *slug),
            [_, id] => (false, *id),
            _ => return missing(),
        };
        let is = |id: i64, slug: &str| if by_slug { slug == key } else { id.to_string() == key };
        let events = self.catalogue.events(now_ms);
        let found = if endpoint == Endpoint::GammaEvent {
            let event = events.iter().find(|event| is(event.id, &event.slug));
            event.map(|event| shapes::event(event, now_ms))
        } else {
            events.iter().find_map(|event| {
                let contract = event.markets.iter().find(|market| is(market.id, &market.slug))?;
                Some(shapes::market(contract, Some(event), now_ms))
            })
        };
        found.map_or_else(missing, Reply::json)
    }
}

impl Site for Gamma {
    fn endpoint(&self, asked: &Asked) -> Endpoint {
        match asked.parts().as_slice() {
            ["events", "keyset"] => Endpoint::GammaEventsKeyset,
            ["markets", "keyset"] => Endpoint::GammaMarketsKeyset,
            ["events"] => Endpoint::GammaEvents,
            ["markets"] => Endpoint::GammaMarkets,
            ["events", _] | ["events", "slug", _] => Endpoint::GammaEvent,
            ["markets", _] | ["markets", "slug", _] => Endpoint::GammaMarket,
            _ => Endpoint::Unknown,
        }
    }

    fn reply(&self, endpoint: Endpoint, asked: &Asked, now_ms: i64) -> Reply {
        if asked.method != "GET" {
            return Reply::text(405, "Method Not Allowed");
        }
        let reply = match endpoint {
            Endpoint::GammaEventsKeyset => keyset("events", self.events(asked, now_ms), asked, 500),
            Endpoint::GammaMarketsKeyset => {
                keyset("markets", self.markets(asked, now_ms), asked, 100)
            }
            Endpoint::GammaEvents => offset(self.events(asked, now_ms), asked),
            Endpoint::GammaMarkets => offset(self.markets(asked, now_ms), asked)
                .with_header("deprecation", "true")
                .with_header("sunset", "Fri, 01 May 2026")
                .with_header("warning", "299 - \"use /markets/keyset\""),
            Endpoint::GammaEvent | Endpoint::GammaMarket => {
                self.one(endpoint, &asked.parts(), now_ms)
            }
            _ => missing(),
        };
        reply.with_header("cache-control", "max-age=300")
    }

    fn per_minute(&self) -> u32 {
        self.per_minute
    }

    fn limited(&self) -> Reply {
        Reply::text(429, "error code: 1015")
    }
}

/// Whether a filter lets a value through; several values are separated by commas.
fn matches(asked: &Asked, name: &str, value: &str) -> bool {
    asked.parameter(name).is_none_or(|wanted| wanted.split(',').any(|wanted| wanted == value))
}

fn event_row(event: &Event, now_ms: i64) -> Row {
    let [volume, liquidity, day] = shapes::event_amounts(event, now_ms);
    let ends_ms = event.markets.iter().map(|contract| contract.ends_ms).max();
    let starts_ms = event.markets.iter().map(|contract| contract.starts_ms).min();
    Row {
        id: event.id,
        day,
        volume,
        liquidity,
        starts_ms: starts_ms.unwrap_or_default(),
        ends_ms: ends_ms.unwrap_or_default(),
        document: shapes::event(event, now_ms),
    }
}

fn market_row(event: &Event, contract: &Contract, now_ms: i64) -> Row {
    let [volume, liquidity, day] = shapes::amounts(contract, now_ms.min(contract.resolved_ms()));
    Row {
        id: contract.id,
        day,
        volume,
        liquidity,
        starts_ms: contract.starts_ms,
        ends_ms: contract.ends_ms,
        document: shapes::market(contract, Some(event), now_ms),
    }
}

/// Sorts as asked, by id where nothing is asked; descending unless `ascending=true`.
fn sort(rows: &mut [Row], asked: &Asked) {
    let key: fn(&Row) -> f64 = match asked.parameter("order") {
        Some("volume24hr") => |row| row.day,
        Some("volumeNum" | "volume") => |row| row.volume,
        Some("liquidity" | "liquidityNum") => |row| row.liquidity,
        Some("startDate") => |row| row.starts_ms as f64,
        Some("endDate") => |row| row.ends_ms as f64,
        _ => |row| row.id as f64,
    };
    let falls = asked.parameter("order").is_some() && asked.parameter("ascending") != Some("true");
    rows.sort_by(|one, other| {
        let order = key(one).total_cmp(&key(other)).then(one.id.cmp(&other.id));
        if falls { order.reverse() } else { order }
    });
}

/// A page that begins after a cursor; the last one names no next.
fn keyset(name: &str, mut rows: Vec<Row>, asked: &Asked, most: usize) -> Reply {
    if asked.parameter("offset").is_some() {
        return invalid("offset is not supported, use after_cursor");
    }
    sort(&mut rows, asked);
    let limit = asked.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(20);
    let limit = limit.clamp(1, most);
    let from = match asked.parameter("after_cursor") {
        None | Some("") => 0,
        // The cursor names the last row of the page before.
        Some(cursor) => match rows.iter().position(|row| cursor_of(row) == cursor) {
            Some(last) => last + 1,
            None => return invalid("invalid cursor"),
        },
    };
    let page = rows.get(from..rows.len().min(from + limit)).unwrap_or_default();
    let documents: Vec<_> = page.iter().map(|row| row.document.clone()).collect();
    let mut answer = json!({ name: documents });
    if let Some(last) = page.last().filter(|_| from + limit < rows.len()) {
        answer["next_cursor"] = cursor_of(last).into();
    }
    Reply::json(answer)
}

fn cursor_of(row: &Row) -> String {
    format!("{:016x}", row.id.cast_unsigned().rotate_left(17) ^ 0x5bd1_e995)
}

/// A page by its offset, as it was once.
fn offset(mut rows: Vec<Row>, asked: &Asked) -> Reply {
    let offset = asked.number("offset").unwrap_or_default();
    if offset > DEEPEST {
        return invalid("offset too large, use /markets/keyset for deeper pagination");
    }
    sort(&mut rows, asked);
    let limit = asked.number("limit").unwrap_or(20).clamp(1, 100);
    let (skip, take) = (usize::try_from(offset).unwrap_or_default(), limit as usize);
    let page: Vec<_> = rows.into_iter().skip(skip).take(take).map(|row| row.document).collect();
    Reply::json(page)
}

fn invalid(error: &str) -> Reply {
    Reply::json(json!({ "type": "validation error", "error": error })).with_status(422)
}

fn missing() -> Reply {
    Reply::json(json!({ "type": "not found error", "error": "id not found" })).with_status(404)
}
