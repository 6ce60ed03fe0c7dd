//! For the tests of those who use this library.
//!
//! [`ManualClock`] is time that moves only when told to, [`MemoryStore`] a database that needs no
//! file. [`simulation`] runs your jobs on several hosts through schedules of faults. The feature `contract` adds the module `contract`: what every store must do, as tests
//! for a store of one's own.

#[cfg(feature = "contract")]
pub mod contract;
mod manual_clock;
mod rows;
pub mod simulation;
mod skewed_clock;

pub use manual_clock::ManualClock;
pub use rows::{JobEdit, QueueRow, RunRow};
pub use skewed_clock::SkewedClock;

pub use crate::store::memory::MemoryStore;
