//! One host of a venue: what it is asked and what it replies, without the network.

use std::collections::BTreeMap;

use serde_json::Value;

use super::endpoint::Endpoint;

/// A request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The parts of the path, decoded.
    pub(crate) path: Vec<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A parameter that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.parameter(name)?.parse().ok()
    }

    /// The parts of the path, to match on.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// What it takes of the caller's budget.
    pub(crate) weight: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Json(Value),
    Text(String),
    Nothing,
}

impl Reply {
    pub(crate) fn json(document: impl Into<Value>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Json(document.into()), weight: 1 }
    }

    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Text(text.into()), weight: 1 }
    }

    pub(crate) fn nothing(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Nothing, weight: 1 }
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn weighing(self, weight: u32) -> Self {
        Self { weight, ..self }
    }
}

/// A host.
pub(crate) trait Site: Send + Sync + 'static {
    /// What a request is for.
    fn endpoint(&self, asked: &Asked) -> Endpoint;

    /// The answer at a time of the venue's clock.
    fn reply(&self, endpoint: Endpoint, asked: &Asked, now_ms: i64) -> Reply;

    /// Weight, or requests, that a caller may spend in a minute.
    fn per_minute(&self) -> u32;

    /// The answer to a caller that has spent it.
    fn limited(&self) -> Reply;
}
