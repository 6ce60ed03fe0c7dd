//! A language model behind an OpenAI-compatible host: `POST {base}/v1/chat/completions`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rust_decimal::Decimal;
use scheduler_core::{Backoff, Clock};
use serde_json::Value;

use super::failure::SourceError;
use super::fetcher::{Fetcher, FetcherOptions, Request, Retry, Secret};
use crate::decisions::{
    Answered, DecisionProvider, DecisionRequest, Format, Output, ProviderError, ProviderKind,
    Reply, Usage, completion_request, read_completion,
};

/// How the model is reached, and what it costs.
#[derive(Debug, Clone)]
pub struct LanguageModelOptions {
    /// The host, without `/v1`.
    pub base_url: String,
    /// Which model.
    pub model: String,
    /// The key; hosts on this machine may need none.
    pub key: Option<Secret>,
    /// What tokens cost.
    pub prices: Prices,
    /// Requests per minute, over all clones of this process.
    pub per_minute: u32,
}

/// What a million tokens cost (USD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    /// Of what is asked.
    pub tokens_in: Decimal,
    /// Of what is answered.
    pub tokens_out: Decimal,
}

/// Asks the model. One retry where a failure may pass; the key is in no log and no row.
#[derive(Debug)]
pub struct LanguageModel {
    fetcher: Fetcher,
    options: LanguageModelOptions,
    /// The host has said that it knows no schemas.
    plain: AtomicBool,
}

/// The longest answer of a host, in bytes.
const LONGEST_BODY: usize = 256 << 10;
/// What is kept of an answer for audits, in bytes.
const LONGEST_RAW: usize = 16 << 10;
const MILLION: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);

impl LanguageModel {
    /// A client of one host.
    ///
    /// # Errors
    /// When this machine's TLS cannot be set up.
    pub fn new(options: LanguageModelOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let backoff = Backoff { first: Duration::from_millis(500), ..Retry::default().backoff };
        let fetcher = Fetcher::new(
            FetcherOptions {
                timeout: Duration::from_secs(20),
                longest_body: LONGEST_BODY,
                // Nobody waits for a limit: the next slot asks again.
                retry: Retry { tries: 2, backoff, patience: Duration::ZERO },
                ..FetcherOptions::per_minute(options.per_minute)
            },
            clock,
        )?;
        Ok(Self { fetcher, options, plain: AtomicBool::new(false) })
    }

    async fn ask(&self, request: &DecisionRequest) -> Result<Value, SourceError> {
        if !self.plain.load(Ordering::Acquire) {
            match self.post(request, Format::Schema).await {
                Err(SourceError::Refused { detail, .. }) if knows_no_schema(&detail) => {
                    tracing::info!(model = self.options.model, "the model's host knows no schemas");
                    self.plain.store(true, Ordering::Release);
                }
                answer => return answer,
            }
        }
        self.post(request, Format::Object).await
    }

    async fn post(&self, request: &DecisionRequest, format: Format) -> Result<Value, SourceError> {
        let LanguageModelOptions { base_url, model, key, .. } = &self.options;
        let url = format!("{}/v1/chat/completions", base_url.trim_end_matches('/'));
        let asked = Request::post(url, completion_request(model, request, format), 1);
        let asked = match key {
            Some(key) => asked.with_key(key.clone()),
            None => asked,
        };
        self.fetcher.fetch(&asked).await
    }

    fn answered(&self, reply: Reply) -> Answered {
        let Reply { output, tokens_in, tokens_out, model, content } = reply;
        let cost_usd = self.options.prices.of(tokens_in, tokens_out);
        Answered {
            output,
            usage: Usage { tokens_in, tokens_out, cost_usd },
            model: Some(model.unwrap_or_else(|| self.options.model.clone())),
            raw_response: content.map(|text| text[..text.floor_char_boundary(LONGEST_RAW)].into()),
        }
    }

    fn failed(&self, error: ProviderError) -> Answered {
        let model = Some(self.options.model.clone());
        Answered { model, ..Answered::free(Err::<Output, _>(error)) }
    }
}

#[async_trait]
impl DecisionProvider for LanguageModel {
    fn kind(&self) -> ProviderKind {
        ProviderKind::HttpLlm
    }

    /// # Cancellation
    /// Dropping the future abandons the question; the host may still charge for it.
    async fn decide(&self, request: &DecisionRequest, limit: Duration) -> Answered {
        let symbols = &request.graph.graph().universe;
        match tokio::time::timeout(limit, self.ask(request)).await {
            Err(_) => self.failed(ProviderError::Timeout { limit }),
            Ok(Err(error)) => self.failed(provider_error(error)),
            Ok(Ok(body)) => self.answered(read_completion(&body, symbols)),
        }
    }
}

impl Prices {
    /// What so many tokens cost.
    #[must_use]
    pub fn of(&self, tokens_in: u64, tokens_out: u64) -> Decimal {
        let cost = |price: Decimal, tokens: u64| {
            price.checked_mul(Decimal::from(tokens)).unwrap_or(Decimal::MAX) / MILLION
        };
        cost(self.tokens_in, tokens_in).saturating_add(cost(self.tokens_out, tokens_out))
    }
}

fn knows_no_schema(detail: &str) -> bool {
    detail.starts_with("status 400") && {
        let detail = detail.to_ascii_lowercase();
        detail.contains("json_schema") || detail.contains("response_format")
    }
}

fn provider_error(error: SourceError) -> ProviderError {
    match error {
        SourceError::Limited { retry_after, .. } => ProviderError::RateLimited { retry_after },
        SourceError::Timeout { limit, .. } => ProviderError::Timeout { limit },
        SourceError::Refused { .. } => ProviderError::Refused(error.to_string()),
        SourceError::Malformed { .. } | SourceError::TooLarge { .. } => {
            ProviderError::Malformed(error.to_string())
        }
        _ => ProviderError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
