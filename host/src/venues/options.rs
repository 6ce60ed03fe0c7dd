//! What the simulated venues are like.

use std::sync::Arc;

use scheduler_core::{Clock, SystemClock};

use super::market::Perpetual;

/// How venues are started.
#[derive(Clone)]
pub struct VenueOptions {
    /// Decides everything that happens, together with the clock.
    pub seed: u64,
    /// The perpetuals that are traded. One that is delisted comes on top.
    pub coins: Vec<String>,
    /// How many times as many trades there are as usual: six or so in a second.
    pub pace: u32,
    /// What callers may ask for.
    pub limits: VenueLimits,
    /// The venues' clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for VenueOptions {
    /// Seed 1, ten perpetuals, the public limits, the system's clock.
    fn default() -> Self {
        Self {
            seed: 1,
            coins: Perpetual::names().map(str::to_owned).collect(),
            pace: 1,
            limits: VenueLimits::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for VenueOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VenueOptions")
            .field("seed", &self.seed)
            .field("coins", &self.coins)
            .field("pace", &self.pace)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The limits of the public venues. All callers count as one, as from one address.
#[derive(Debug, Clone, Copy)]
pub struct VenueLimits {
    /// Weight that Hyperliquid grants in a minute.
    pub hyperliquid_per_minute: u32,
    /// Requests that DefiLlama grants in a minute.
    pub defillama_per_minute: u32,
    /// Requests that each host of Polymarket grants in a minute.
    pub polymarket_per_minute: u32,
    /// Connections of a stream at once.
    pub connections: usize,
    /// Connections of a stream that may be opened within a minute.
    pub connections_per_minute: usize,
    /// Subscriptions of a connection; at Polymarket, assets.
    pub subscriptions: usize,
    /// Messages that a connection may send in a minute.
    pub messages_per_minute: usize,
}

impl Default for VenueLimits {
    fn default() -> Self {
        Self {
            hyperliquid_per_minute: 1_200,
            defillama_per_minute: 200,
            polymarket_per_minute: 24_000,
            connections: 100,
            connections_per_minute: 30,
            subscriptions: 1_000,
            messages_per_minute: 2_000,
        }
    }
}
