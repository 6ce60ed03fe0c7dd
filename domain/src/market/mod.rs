//! Market data: what a bar is, how bars come in, what is missing; what a market is worth now.
//!
//! Everything but [`import_candles`] is pure: that one reads, calls the rules, and saves.

mod candle;
mod csv;
mod derive;
mod gap;
mod generate;
mod import;
mod interval;
mod perpetual;
mod prediction;
mod price;
mod report;
mod row;
mod seen;
mod statistic;
mod symbol;

pub use candle::Candle;
pub use csv::{CandleReader, CsvError, LONGEST_LINE, Row};
pub use derive::{derive_candles, start_of};
pub use gap::Gap;
pub use generate::RandomWalk;
pub use import::{ImportError, import_candles};
pub use interval::{Interval, UnknownInterval};
pub use perpetual::{AssetContext, Listing, Mid, Quote, SettledFunding, Side, Trade};
pub use prediction::{OddsPoint, PredictionMarket, PredictionQuote, PredictionTrade, Resolution};
pub use price::{Dated, MarginTier, PRICE_MAX_AGE_MS, Price, Terms, UNTOLD_MAX_LEVERAGE};
pub use report::{ImportReport, LISTED, Reject, Rejects};
pub use row::RejectReason;
pub use statistic::Statistic;
pub use symbol::{InvalidSymbol, check_symbol};
