//! Names of everything that may be asked, for fault plans and for the log.

/// A request that a venue answers, or a stream that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named as at the venue")]
pub enum Endpoint {
    // Hyperliquid: the `type` of a request to `/info`, and the stream at `/ws`.
    Meta,
    MetaAndAssetCtxs,
    AllMids,
    L2Book,
    CandleSnapshot,
    FundingHistory,
    RecentTrades,
    PredictedFundings,
    PerpDexs,
    AllPerpMetas,
    ExchangeStatus,
    HyperliquidStream,
    // DefiLlama.
    Protocols,
    Protocol,
    Tvl,
    Chains,
    HistoricalChainTvl,
    Stablecoins,
    StablecoinCharts,
    StablecoinChains,
    StablecoinPrices,
    Pools,
    PoolChart,
    DexsOverview,
    DexsSummary,
    FeesOverview,
    OpenInterestOverview,
    PricesCurrent,
    PricesHistorical,
    // Polymarket: the catalogue (Gamma), the order books (CLOB), and the stream at `/ws/market`.
    GammaEventsKeyset,
    GammaMarketsKeyset,
    GammaEvents,
    GammaMarkets,
    GammaEvent,
    GammaMarket,
    Book,
    Books,
    Midpoint,
    Midpoints,
    Price,
    Spread,
    LastTradePrice,
    TickSize,
    ClobTime,
    ClobMarket,
    PricesHistory,
    BatchPricesHistory,
    PolymarketStream,
    /// What no venue knows.
    Unknown,
}
