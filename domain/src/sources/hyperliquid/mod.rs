//! Hyperliquid: what it says over REST and over its WebSocket, read leniently.
//!
//! Prices and sizes come as text, counts and times as numbers; either may stand for the other. A
//! row that cannot be read is refused and counted, the rest of its batch stays.

mod client;
mod frame;
mod rows;
mod subscription;

pub(crate) use client::oldest_candle_ms;
pub use client::{HyperliquidClient, Meta};
pub use frame::{Frame, read_frame};
pub use subscription::Subscription;
