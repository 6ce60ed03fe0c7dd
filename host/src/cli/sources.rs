//! Where market data come from: one flag and one variable per host.

use clap::Args;
use domain::sources::{DefillamaUrls, SourceUrls};

use crate::config;

/// Where the venues are. The defaults are the public ones.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Venues")]
pub(crate) struct SourceArgs {
    /// Hyperliquid's REST. [default: the public one]
    #[arg(long, env = "HYPERLIQUID_URL", value_name = "URL", value_parser = config::http_url)]
    hyperliquid_url: Option<String>,
    /// Hyperliquid's stream. [default: the public one]
    #[arg(long, env = "HYPERLIQUID_WS_URL", value_name = "URL", value_parser = config::ws_url)]
    hyperliquid_ws_url: Option<String>,
    /// DefiLlama, one address for all of its hosts. [default: the public ones]
    #[arg(long, env = "DEFILLAMA_URL", value_name = "URL", value_parser = config::http_url)]
    defillama_url: Option<String>,
    /// Polymarket's catalogue. [default: the public one]
    #[arg(long, env = "POLYMARKET_GAMMA_URL", value_name = "URL", value_parser = config::http_url)]
    polymarket_gamma_url: Option<String>,
    /// Polymarket's order books. [default: the public ones]
    #[arg(long, env = "POLYMARKET_CLOB_URL", value_name = "URL", value_parser = config::http_url)]
    polymarket_clob_url: Option<String>,
    /// Polymarket's stream. [default: the public one]
    #[arg(long, env = "POLYMARKET_WS_URL", value_name = "URL", value_parser = config::ws_url)]
    polymarket_ws_url: Option<String>,
}

impl SourceArgs {
    /// The addresses asked for, the public ones where none was.
    pub(crate) fn urls(&self) -> SourceUrls {
        let public = SourceUrls::default();
        let or = |given: &Option<String>, public: String| given.clone().unwrap_or(public);
        SourceUrls {
            hyperliquid: or(&self.hyperliquid_url, public.hyperliquid),
            hyperliquid_ws: or(&self.hyperliquid_ws_url, public.hyperliquid_ws),
            defillama: self
                .defillama_url
                .as_deref()
                .map_or(public.defillama, DefillamaUrls::all_at),
            polymarket_gamma: or(&self.polymarket_gamma_url, public.polymarket_gamma),
            polymarket_clob: or(&self.polymarket_clob_url, public.polymarket_clob),
            polymarket_ws: or(&self.polymarket_ws_url, public.polymarket_ws),
        }
    }
}
