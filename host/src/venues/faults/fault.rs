//! How one answer is spoiled.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Edit;
use crate::venues::site::{Body, Reply};

/// An answer that is not what it should be. Without more it is the true answer.
#[derive(Clone, Default)]
pub struct Fault {
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Option<String>,
    edit: Option<Edit>,
    pub(crate) delay: Duration,
    pub(crate) truncate_at: Option<usize>,
    pub(crate) stall_at: Option<usize>,
}

impl Fault {
    /// The page of a proxy in front of a host that is down.
    pub const OUTAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
        <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

    /// A status and a body.
    #[must_use]
    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self { status: Some(status), body: Some(body.into()), ..Self::default() }
    }

    /// A rate limit: 429, the body `null`, and the seconds of `Retry-After` where there are some.
    #[must_use]
    pub fn limited(retry_after: Option<u64>) -> Self {
        let fault = Self::answer(429, "null").header("content-type", "application/json");
        match retry_after {
            Some(seconds) => fault.header("retry-after", seconds.to_string()),
            None => fault,
        }
    }

    /// 502 with the HTML page of a proxy.
    #[must_use]
    pub fn outage() -> Self {
        Self::answer(502, Self::OUTAGE).header("content-type", "text/html")
    }

    /// The true answer, changed.
    #[must_use]
    pub fn edited(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        let edit: Edit = Arc::new(move |document| {
            edit(document);
            true
        });
        Self { edit: Some(edit), ..Self::default() }
    }

    /// The true answer, after a while.
    #[must_use]
    pub fn slow(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The true answer, cut off after as many bytes.
    #[must_use]
    pub fn truncated(bytes: usize) -> Self {
        Self { truncate_at: Some(bytes), ..Self::default() }
    }

    /// The true answer, of which nothing comes after as many bytes, though the connection stands.
    #[must_use]
    pub fn stalled(bytes: usize) -> Self {
        Self { stall_at: Some(bytes), ..Self::default() }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Spoils an answer, but for its timing.
    pub(crate) fn apply(&self, mut reply: Reply) -> Reply {
        if let (Some(edit), Body::Json(document)) = (&self.edit, &mut reply.body) {
            edit(document);
        }
        if let Some(body) = &self.body {
            reply.body = Body::Text(body.clone());
        }
        if let Some(status) = self.status {
            reply.status = status;
        }
        reply.headers.extend(self.headers.iter().cloned());
        reply
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fault")
            .field("status", &self.status)
            .field("delay", &self.delay)
            .field("truncate_at", &self.truncate_at)
            .field("stall_at", &self.stall_at)
            .finish_non_exhaustive()
    }
}
