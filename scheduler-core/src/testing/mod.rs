//! For the tests of those who use this library.
//!
//! [`ManualClock`] is time that moves only when told to, [`MemoryStore`] a database that needs no
//! file. The feature `contract` adds the module `contract`: what every store must do, as tests
//! for a store of one's own.

#[cfg(feature = "contract")]
pub mod contract;
mod manual_clock;
mod rows;
mod skewed_clock;

pub use manual_clock::ManualClock;
pub use rows::{JobEdit, QueueRow, RunRow};
pub use skewed_clock::SkewedClock;

pub use crate::store::memory::MemoryStore;
