//! DefiLlama: statistics of chains, protocols, stablecoins, pools and coins, read leniently.
//!
//! Its numbers are JSON numbers with nulls between them; refusals may come with status 200. A row
//! that cannot be read is refused and counted, the rest of its batch stays.

mod client;
mod rows;

pub use client::DefillamaClient;

/// The names of the features that are made of its answers.
pub mod features {
    /// Value locked on a chain, USD; by chain.
    pub const CHAIN_TVL: &str = "chain_tvl_usd";
    /// The same by day, as its history says; by chain.
    pub const CHAIN_TVL_DAILY: &str = "chain_tvl_daily_usd";
    /// Value locked in a protocol, USD; by slug.
    pub const PROTOCOL_TVL: &str = "protocol_tvl_usd";
    /// A stablecoin in circulation, in its peg; by symbol and the source's number, as in `USDT-1`.
    pub const STABLECOIN_CIRCULATING: &str = "stablecoin_circulating";
    /// The price of a stablecoin, USD.
    pub const STABLECOIN_PRICE: &str = "stablecoin_price_usd";
    /// Value locked in a pool, USD; by the pool's identity.
    pub const POOL_TVL: &str = "pool_tvl_usd";
    /// What a pool yields in a year, percent.
    pub const POOL_APY: &str = "pool_apy_pct";
    /// Traded within a day on all exchanges, USD; the subject is `all`.
    pub const DEX_VOLUME_TOTAL: &str = "dex_volume_total_usd";
    /// Traded within a day, USD; by exchange.
    pub const DEX_VOLUME: &str = "dex_volume_usd";
    /// A price, USD; by DefiLlama's key, as in `coingecko:bitcoin`.
    pub const PRICE: &str = "price_usd";
}
