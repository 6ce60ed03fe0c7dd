//! Hyperliquid: `POST /info` and the stream at `/ws`.

mod info;
mod shapes;
mod stream;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::endpoint::Endpoint;
use super::market::Market;
use super::site::{Asked, Reply, Site};

pub(crate) use self::stream::serve;

/// The exchange.
#[derive(Debug, Clone)]
pub(crate) struct Hyperliquid {
    market: Arc<Market>,
    per_minute: u32,
}

impl Hyperliquid {
    pub(crate) fn new(market: Arc<Market>, per_minute: u32) -> Self {
        Self { market, per_minute }
    }
}

impl Site for Hyperliquid {
    fn endpoint(&self, asked: &Asked) -> Endpoint {
        match asked.parts().as_slice() {
            ["info"] => info::endpoint(&asked.json().unwrap_or_default()),
            ["ws"] => Endpoint::HyperliquidStream,
            _ => Endpoint::Unknown,
        }
    }

    fn reply(&self, endpoint: Endpoint, asked: &Asked, now_ms: i64) -> Reply {
        if asked.parts() != ["info"] {
            return Reply::nothing(404);
        }
        if asked.method != "POST" {
            return Reply::nothing(405);
        }
        if !asked.content_type.starts_with("application/json") {
            return Reply::text(415, "Expected request with `Content-Type: application/json`");
        }
        let Some(request) = asked.json() else {
            return Reply::text(400, "Failed to parse the request body as JSON");
        };
        self.info(endpoint, &request, now_ms)
    }

    fn per_minute(&self) -> u32 {
        self.per_minute
    }

    fn limited(&self) -> Reply {
        Reply::json(serde_json::Value::Null).with_status(429)
    }
}
