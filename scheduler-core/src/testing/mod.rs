//! For the tests of those who use this library.
//!
//! [`ManualClock`] is time that moves only when told to, [`MemoryStore`] a database that needs no
//! file. [`SteppedScheduler`] lets slots come until a time that a test says, and [`Runs`] and [`Rows`]
//! assert what became of them, on every store. [`simulation`] runs your jobs on several hosts through
//! schedules of faults. The feature `contract` adds the module `contract`: what every store must do, as
//! tests for a store of one's own.

#[cfg(feature = "contract")]
pub mod contract;
mod evidence;
mod manual_clock;
mod rows;
pub mod simulation;
mod skewed_clock;
mod stepped;

pub use evidence::{Evidence, Rows, Runs};
pub use manual_clock::ManualClock;
pub use rows::{JobEdit, QueueRow, RunRow};
pub use skewed_clock::SkewedClock;
pub use stepped::SteppedScheduler;

pub use crate::store::memory::MemoryStore;
