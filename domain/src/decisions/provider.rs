//! Who is asked for a decision.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;

use super::budget::Usage;
use super::intent::Intent;
use super::snapshot::Snapshot;
use crate::strategy::ValidGraph;

/// What a provider is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRequest {
    /// Who decides.
    pub clone_id: i64,
    /// The clone's strategy.
    pub graph: ValidGraph,
    /// What it knows.
    pub snapshot: Snapshot,
}

/// What a provider answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// It looked, and changes nothing.
    Hold {
        /// Why.
        reason: String,
    },
    /// It proposes.
    Intents(Vec<Intent>),
}

/// An answer and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The answer, or why it is of no use.
    pub output: Result<Output, ProviderError>,
    /// What was used of the clone's budget, also by an answer of no use.
    pub usage: Usage,
    /// The model that answered.
    pub model: Option<String>,
    /// Its answer as it came, bounded: for audits.
    pub raw_response: Option<String>,
}

impl Answered {
    /// An answer that cost nothing.
    #[must_use]
    pub fn free(output: Result<Output, ProviderError>) -> Self {
        Self { output, usage: Usage::default(), model: None, raw_response: None }
    }
}

/// Why a provider gave no decision. No variant holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// It took too long.
    #[error("the provider did not answer within {limit:?}")]
    Timeout {
        /// The bound.
        limit: Duration,
    },
    /// It asks for patience.
    #[error("the provider limits the rate")]
    RateLimited {
        /// How long, where it says so.
        retry_after: Option<Duration>,
    },
    /// It is down.
    #[error("the provider is unavailable: {0}")]
    Unavailable(String),
    /// Its answer cannot be understood.
    #[error("the provider's answer cannot be understood: {0}")]
    Malformed(String),
    /// It will not answer this.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// The clone has used up its day's tokens or money.
    #[error("the clone's budget of the day is used up")]
    BudgetExceeded,
    /// What it needs is not configured.
    #[error("the provider is not configured: {0}")]
    NotConfigured(String),
}

/// Somebody who decides.
#[async_trait]
pub trait DecisionProvider: Send + Sync {
    /// Which kind it is: recorded with each run.
    fn kind(&self) -> ProviderKind;

    /// Decides, within `limit`. Never panics on data, never executes anything.
    async fn decide(&self, request: &DecisionRequest, limit: Duration) -> Answered;
}

/// The kinds of providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProviderKind {
    /// Always holds, and says so.
    #[default]
    Noop,
    /// Evaluates the clone's strategy graph; no I/O.
    RuleGraph,
    /// Asks a language model over HTTP.
    HttpLlm,
}

/// A kind that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no provider; expected noop, rule_graph or http_llm")]
pub struct UnknownProvider(pub String);

impl ProviderKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Noop, Self::RuleGraph, Self::HttpLlm];

    /// The word for it in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::RuleGraph => "rule_graph",
            Self::HttpLlm => "http_llm",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProviderKind {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownProvider(text.to_owned()))
    }
}

/// The provider of those who have none: it holds, and is recorded as what it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noop;

#[async_trait]
impl DecisionProvider for Noop {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Noop
    }

    async fn decide(&self, _: &DecisionRequest, _: Duration) -> Answered {
        Answered::free(Ok(Output::Hold { reason: "noop provider".to_owned() }))
    }
}
