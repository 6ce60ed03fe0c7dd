//! One request: bounded in time, size and rate, retried when that may help.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use scheduler_core::{Backoff, Clock};
use serde_json::Value;

use super::breaker::{Admission, Breaker};
use super::budget::{Budget, Priority};
use super::failure::{Answer, SourceError, read_answer};

/// How a source is asked.
#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// Weight, or requests, per minute.
    pub per_minute: u32,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How long an answer may take, body included.
    pub timeout: Duration,
    /// The longest body, in bytes.
    pub longest_body: usize,
    /// What happens after a failure that may pass.
    pub retry: Retry,
}

/// How often a request is tried.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all, at least one.
    pub tries: u32,
    /// The waits between them; each is drawn at random between nothing and this.
    pub backoff: Backoff,
    /// A source that asks for more patience than this is not waited for.
    pub patience: Duration,
}

impl Default for Retry {
    /// Four tries, waits of up to 0.5, 1 and 2 s, and as long as a source asks for.
    fn default() -> Self {
        let backoff = Backoff {
            first: Duration::from_millis(500),
            factor: 2.0,
            longest: Duration::from_secs(60),
            jitter: 0.0,
        };
        Self { tries: 4, backoff, patience: Duration::from_secs(300) }
    }
}

impl FetcherOptions {
    /// 5 s to connect, 10 s to answer, bodies of at most 5 MB, the default retries.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        Self {
            per_minute,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            longest_body: 5 << 20,
            retry: Retry::default(),
        }
    }
}

/// A key that opens a source. It is in no log: its Debug shows nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a key.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The address.
    pub url: String,
    /// The document to post; without one it is a GET.
    pub body: Option<Value>,
    /// What it costs of the budget.
    pub weight: u32,
    /// Who asks.
    pub priority: Priority,
    /// Sent as `Authorization: Bearer`.
    pub key: Option<Secret>,
}

impl Request {
    /// A GET of weight 1.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), body: None, weight: 1, priority: Priority::Live, key: None }
    }

    /// A POST of a document.
    #[must_use]
    pub fn post(url: impl Into<String>, body: Value, weight: u32) -> Self {
        Self { url: url.into(), body: Some(body), weight, priority: Priority::Live, key: None }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_key(self, key: Secret) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same with another priority.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }
}

/// Asks one source; cheap to clone, its budget and breaker are shared by the clones.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    options: FetcherOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    budget: Budget,
    breaker: Breaker,
}

/// Who we say we are: hosts refuse clients that say nothing.
pub(super) const USER_AGENT_NAME: &str = concat!("arena/", env!("CARGO_PKG_VERSION"));

impl Fetcher {
    /// A client of one source.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when this machine's TLS cannot be set up.
    pub fn new(options: FetcherOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT_NAME)
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            // A source that moves is a change that somebody should look at.
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(super::tls::client_config())
            .build()
            .map_err(|error| SourceError::Unavailable {
                host: "this machine".to_owned(),
                detail: chain(&error),
            })?;
        let state = State {
            budget: Budget::per_minute(options.per_minute, clock.now_ms()),
            breaker: Breaker::default(),
        };
        Ok(Self { inner: Arc::new(Inner { client, options, clock, state: Mutex::new(state) }) })
    }

    /// Asks, and reads the answer as a document. Waits for the budget; tries again after a failure
    /// that may pass.
    ///
    /// # Errors
    /// The last failure.
    ///
    /// # Cancellation
    /// Dropping the future abandons the request; what it took of the budget is gone.
    pub async fn fetch(&self, request: &Request) -> Result<Value, SourceError> {
        let retry = &self.inner.options.retry;
        let mut failures = 0;
        loop {
            let error = match self.fetch_once(request).await {
                Ok(document) => return Ok(document),
                Err(error) => error,
            };
            failures += 1;
            let impatient = error.patience().is_some_and(|asked| asked > retry.patience);
            if failures >= retry.tries.max(1) || !error.is_transient() || impatient {
                return Err(error);
            }
            // Full jitter: clients that failed together do not come back together.
            let wait = retry.backoff.delay(failures, 0.0).mul_f64(fastrand::f64());
            tracing::debug!(%error, failures, "a request failed; it is tried again");
            self.wait(millis(wait)).await;
        }
    }

    /// The clock that this client waits by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    async fn fetch_once(&self, request: &Request) -> Result<Value, SourceError> {
        let host = host_of(&request.url);
        self.take(request, host).await?;
        let answered = self.send(request, host).await;
        let now_ms = self.inner.clock.now_ms();
        let mut state = self.state();
        match &answered {
            Ok(_) | Err(SourceError::Refused { .. } | SourceError::TooLarge { .. }) => {
                state.breaker.succeeded();
            }
            Err(error) => match error.patience() {
                Some(pause) => state.budget.limited(pause, now_ms),
                None => {
                    if state.breaker.failed(now_ms) {
                        tracing::warn!(host, "the source is down; it is left alone for a while");
                    }
                }
            },
        }
        answered
    }

    /// Waits for the budget, unless the source is left alone.
    async fn take(&self, request: &Request, host: &str) -> Result<(), SourceError> {
        loop {
            let now_ms = self.inner.clock.now_ms();
            let taken = {
                let mut state = self.state();
                let taken = state.budget.take(request.weight, request.priority, now_ms);
                if taken.is_ok()
                    && let Admission::LeftAlone { until_ms, failures } = state.breaker.admit(now_ms)
                {
                    let host = host.to_owned();
                    return Err(SourceError::LeftAlone { host, until_ms, failures });
                }
                taken
            };
            match taken {
                Ok(()) => return Ok(()),
                Err(wait_ms) => self.wait(wait_ms).await,
            }
        }
    }

    async fn send(&self, request: &Request, host: &str) -> Result<Value, SourceError> {
        let Inner { client, options, .. } = self.inner.as_ref();
        let failed = |error: reqwest::Error| match error.is_timeout() {
            true => SourceError::Timeout { host: host.to_owned(), limit: options.timeout },
            false => SourceError::Unavailable { host: host.to_owned(), detail: chain(&error) },
        };
        let asked = match &request.body {
            None => client.get(&request.url),
            Some(body) => client
                .post(&request.url)
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string()),
        };
        let asked = match &request.key {
            None => asked,
            Some(Secret(key)) => asked.bearer_auth(key),
        };
        let mut response = asked.header(ACCEPT, "application/json").send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > options.longest_body {
                let limit = options.longest_body;
                return Err(SourceError::TooLarge { host: host.to_owned(), limit });
            }
            body.extend_from_slice(&chunk);
        }
        if let Some(Secret(key)) = &request.key {
            body = without(body, key);
        }
        let retry_after = retry_after.as_deref();
        read_answer(&Answer { host, status, retry_after, body: &body })
    }

    async fn wait(&self, wait_ms: i64) {
        let clock = &self.inner.clock;
        let until_ms = clock.now_ms().saturating_add(wait_ms);
        while clock.now_ms() < until_ms {
            clock.sleep_until(until_ms).await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// A body without the key that it was asked with: some hosts say which key they do not know, and what
/// they say is recorded.
fn without(body: Vec<u8>, key: &str) -> Vec<u8> {
    let (key, mut from) = (key.as_bytes(), 0);
    let repeats = |from: usize| body[from..].windows(key.len()).position(|part| part == key);
    if key.is_empty() || repeats(0).is_none() {
        return body;
    }
    let mut kept = Vec::with_capacity(body.len());
    while let Some(at) = repeats(from) {
        kept.extend_from_slice(&body[from..from + at]);
        kept.extend_from_slice("…".as_bytes());
        from += at + key.len();
    }
    kept.extend_from_slice(&body[from..]);
    kept
}

/// The host of an address, for messages: nothing of its path or query.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
