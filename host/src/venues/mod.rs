//! Simulated venues on loopback: Hyperliquid, DefiLlama and Polymarket as their clients see them.
//!
//! They answer in the shapes, with the limits and with the failures of the real ones, over REST and
//! WebSocket, about a seeded market that moves with the clock. Demonstrations, runs without a
//! network and tests use them in place of the public hosts:
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use host::venues::{Endpoint, Fault, VenueOptions, Venues};
//!
//! let venues = Venues::start(VenueOptions::default()).await?;
//! println!("HYPERLIQUID_URL={}", venues.urls().hyperliquid);
//! venues.faults().push(Endpoint::MetaAndAssetCtxs, Fault::limited(Some(1)));
//! venues.stop().await;
//! # Ok(()) }
//! ```

mod date;
mod decimal;
mod defillama;
mod endpoint;
mod faults;
mod hyperliquid;
mod line;
mod log;
mod market;
mod network;
mod options;
mod polymarket;
mod random;
mod running;
mod site;
#[cfg(test)]
mod tests;

pub use self::endpoint::Endpoint;
pub use self::faults::{Chaos, Fault, Faults, Step};
pub use self::log::{Log, Message, Seen};
pub use self::options::{VenueLimits, VenueOptions};
pub use self::running::{Host, RunningVenues, VenueUrls, Venues};
