//! The venues over the network, as their clients see them.

pub(super) mod shape;

mod http;
mod stream;

use std::sync::Arc;

use scheduler_core::testing::ManualClock;

use super::market::Market;
use super::polymarket::Catalogue;
use super::{RunningVenues, VenueOptions, Venues};

/// 2026-11-24T12:34:56Z
pub(super) const NOW_MS: i64 = 1_795_523_696_000;

/// Venues whose clock moves when told to.
async fn venues() -> (RunningVenues, ManualClock) {
    let clock = ManualClock::at(NOW_MS);
    let options = VenueOptions { clock: Arc::new(clock.clone()), ..VenueOptions::default() };
    (Venues::start(options).await.unwrap(), clock)
}

/// The tokens of every market that is open when the tests begin.
fn tokens() -> Vec<String> {
    let coins: Vec<String> = VenueOptions::default().coins;
    let market = Arc::new(Market::new(VenueOptions::default().seed, &coins, 1));
    Catalogue::new(market).open_tokens(NOW_MS)
}
