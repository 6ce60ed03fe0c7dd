//! Market data: what a bar is, how bars come in, what is missing; what a market is worth now.
//!
//! Everything but [`import_candles`] is pure: that one reads, calls the rules, and saves.

mod candle;
mod csv;
mod gap;
mod generate;
mod import;
mod interval;
mod price;
mod report;
mod row;
mod seen;
mod symbol;

pub use candle::Candle;
pub use csv::{CandleReader, CsvError, LONGEST_LINE, Row};
pub use gap::Gap;
pub use generate::RandomWalk;
pub use import::{ImportError, import_candles};
pub use interval::{Interval, UnknownInterval};
pub use price::{Dated, MarginTier, PRICE_MAX_AGE_MS, Price, Terms, UNTOLD_MAX_LEVERAGE};
pub use report::{ImportReport, LISTED, Reject, Rejects};
pub use row::RejectReason;
pub use symbol::{InvalidSymbol, check_symbol};
