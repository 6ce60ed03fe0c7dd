//! Market data: what a bar is, how bars come in, what is missing.

mod candle;
mod interval;

pub use candle::Candle;
pub use interval::{Interval, UnknownInterval};
