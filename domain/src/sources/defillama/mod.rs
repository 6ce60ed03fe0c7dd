//! DefiLlama: statistics of chains, protocols, stablecoins, pools and coins, read leniently.
//!
//! Its numbers are JSON numbers with nulls between them; refusals may come with status 200. A row
//! that cannot be read is refused and counted, the rest of its batch stays.

mod client;
mod rows;

pub use client::DefillamaClient;

/// The names of the features that are made of its answers. Strategies ask for some of them.
pub mod features {
    /// Value locked on a chain, USD; by chain. By the hour, and of days past as their history says.
    pub const CHAIN_TVL: &str = "chain_tvl_usd";
    /// Value locked in a protocol, USD; by slug.
    pub const PROTOCOL_TVL: &str = "protocol_tvl_usd";
    /// A stablecoin in circulation, in its peg; by symbol and the source's number, as in `USDT-1`.
    pub const STABLECOIN_CIRCULATING: &str = "stablecoin_circulating";
    /// All stablecoins in circulation that are pegged to the dollar, USD; the subject is `all`.
    pub const STABLECOIN_SUPPLY: &str = "stablecoin_supply_usd";
    /// The price of a stablecoin, USD.
    pub const STABLECOIN_PRICE: &str = "stablecoin_price_usd";
    /// Value locked in a pool, USD; by the pool's identity.
    pub const POOL_TVL: &str = "pool_tvl_usd";
    /// What a pool yields in a year, percent; by the pool's identity.
    pub const POOL_APY: &str = "pool_apy";
    /// Traded within 24 hours, USD; by chain, and `all` of them.
    pub const DEX_VOLUME: &str = "dex_volume_usd";
    /// Traded within 24 hours, USD; by exchange.
    pub const EXCHANGE_VOLUME: &str = "exchange_volume_usd";
    /// A price, USD; by DefiLlama's key, as in `coingecko:bitcoin`.
    pub const PRICE: &str = "price_usd";
}
