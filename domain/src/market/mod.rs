//! Market data: what a bar is, how bars come in, what is missing.

mod candle;
mod generate;
mod interval;

pub use candle::Candle;
pub use generate::RandomWalk;
pub use interval::{Interval, UnknownInterval};
