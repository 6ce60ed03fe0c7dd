//! Where the sources are.

/// The addresses of the sources; the defaults are the public ones. None ends in `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUrls {
    /// Hyperliquid's REST, without `/info`.
    pub hyperliquid: String,
    /// Hyperliquid's WebSocket.
    pub hyperliquid_ws: String,
    /// DefiLlama's hosts.
    pub defillama: DefillamaUrls,
    /// Polymarket's catalogue.
    pub polymarket_gamma: String,
    /// Polymarket's order books.
    pub polymarket_clob: String,
    /// Polymarket's WebSocket of market data.
    pub polymarket_ws: String,
}

/// DefiLlama has a host per family of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefillamaUrls {
    /// Chains, protocols, volumes.
    pub api: String,
    /// Prices.
    pub coins: String,
    /// Stablecoins.
    pub stablecoins: String,
    /// Yields.
    pub yields: String,
}

impl Default for SourceUrls {
    fn default() -> Self {
        Self {
            hyperliquid: "https://api.hyperliquid.xyz".into(),
            hyperliquid_ws: "wss://api.hyperliquid.xyz/ws".into(),
            defillama: DefillamaUrls::default(),
            polymarket_gamma: "https://gamma-api.polymarket.com".into(),
            polymarket_clob: "https://clob.polymarket.com".into(),
            polymarket_ws: "wss://ws-subscriptions-clob.polymarket.com/ws/market".into(),
        }
    }
}

impl Default for DefillamaUrls {
    fn default() -> Self {
        Self {
            api: "https://api.llama.fi".into(),
            coins: "https://coins.llama.fi".into(),
            stablecoins: "https://stablecoins.llama.fi".into(),
            yields: "https://yields.llama.fi".into(),
        }
    }
}

impl DefillamaUrls {
    /// One host for all paths, as a simulated venue has.
    #[must_use]
    pub fn all_at(base: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { api: base.clone(), coins: base.clone(), stablecoins: base.clone(), yields: base }
    }
}
