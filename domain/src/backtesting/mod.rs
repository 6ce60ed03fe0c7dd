//! Back-tests: a strategy graph over a history of bars, in one deterministic pass.
//!
//! The graph decides at the close of a bar; the order fills at the open of the next. Nothing in
//! the pass can see a later bar, so the results of a history do not change when it grows.
//!
//! ```
//! use std::ops::ControlFlow;
//! use domain::backtesting::{self, Settings};
//! use domain::market::{Candle, Interval, RandomWalk};
//! use domain::strategy::default_graph;
//!
//! let candles: Vec<Candle> =
//!     RandomWalk::new(7, Interval::H1, 0, 60_000.0, 0.005).take(5_000).collect();
//! let result = backtesting::run(
//!     &candles,
//!     Interval::H1,
//!     &default_graph(),
//!     &Settings::default(),
//!     |_done, _total| ControlFlow::Continue(()),
//! )?;
//! assert_eq!(result.bars, 5_000);
//! # Ok::<(), backtesting::BacktestError>(())
//! ```

mod account;
mod candles;
mod engine;
mod error;
mod metrics;
mod result;
mod settings;
mod submission;

pub use engine::run;
pub use error::BacktestError;
pub use metrics::{Drawdown, Metric, Performance, TradeStatistics, Undefined};
pub use result::{BacktestResult, EQUITY_POINTS, ExitReason, Trade};
pub use settings::{MAXIMUM_RATE, Settings};
pub use submission::{BacktestRequest, History, NewBacktest, SubmissionError, validate};
