//! For the tests of those who use this library.

mod manual_clock;

pub use manual_clock::ManualClock;
