//! Polymarket: its catalogue, its order books and its stream, read leniently.
//!
//! Lists stand as JSON inside of texts, numbers as texts or numbers, and the best price of a book
//! may be its first or its last: nothing is taken by position. A row that cannot be read is refused
//! and counted, the rest of its batch stays.

mod books;
mod client;
mod frame;
mod markets;

pub use client::PolymarketClient;
pub use frame::{PredictionFrame, ping, read_frames, subscribe, subscribe_more, unsubscribe};
