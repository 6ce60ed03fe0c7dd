//! The language model that clones may ask.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use domain::sources::{LanguageModel, LanguageModelOptions, Prices, Secret};
use domain::workers::Providers;
use rust_decimal::Decimal;
use scheduler_core::SystemClock;

use crate::config::{self, Environment};
use crate::failure::Failure;

/// The variable that holds the key: never a flag, which every process could see.
const LLM_API_KEY: &str = "LLM_API_KEY";

/// A language model behind an OpenAI-compatible host. Without one, clones that ask for it are
/// skipped, and say so. Its key comes from the variable LLM_API_KEY.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Language model")]
pub(crate) struct ModelArgs {
    /// The host, without `/v1`.
    #[arg(long, env = "LLM_URL", value_name = "URL", requires = "llm_model", value_parser = config::http_url)]
    llm_url: Option<String>,
    /// Which model.
    #[arg(long, env = "LLM_MODEL", value_name = "NAME", requires = "llm_url")]
    llm_model: Option<String>,
    /// Requests per minute, over all clones of this process.
    #[arg(long, env = "LLM_PER_MINUTE", value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    llm_per_minute: u32,
    /// What a million tokens that are asked cost (USD).
    #[arg(long, env = "LLM_PRICE_IN", value_name = "USD", default_value = "0", value_parser = config::price)]
    llm_price_in: Decimal,
    /// What a million tokens that are answered cost (USD).
    #[arg(long, env = "LLM_PRICE_OUT", value_name = "USD", default_value = "0", value_parser = config::price)]
    llm_price_out: Decimal,
}

impl ModelArgs {
    /// Who can be asked.
    ///
    /// # Errors
    /// When this machine's TLS cannot be set up, or the key is no text.
    pub(crate) fn providers(&self, environment: Environment<'_>) -> Result<Providers, Failure> {
        let (Some(base_url), Some(model)) = (&self.llm_url, &self.llm_model) else {
            return Ok(Providers::without_model());
        };
        let options = LanguageModelOptions {
            base_url: base_url.clone(),
            model: model.clone(),
            key: environment(LLM_API_KEY)?.map(Secret::new),
            prices: Prices { tokens_in: self.llm_price_in, tokens_out: self.llm_price_out },
            per_minute: self.llm_per_minute,
        };
        let model = LanguageModel::new(options, Arc::new(SystemClock))
            .context("the language model cannot be reached from here")?;
        Ok(Providers::with_model(Arc::new(model)))
    }
}
