//! For the tests of those who use this library.

mod manual_clock;
mod skewed_clock;

pub use manual_clock::ManualClock;
pub use skewed_clock::SkewedClock;
