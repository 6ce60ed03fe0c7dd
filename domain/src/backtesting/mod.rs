//! Back-tests: what may be asked for.

mod submission;

pub use submission::{BacktestRequest, History, NewBacktest, SubmissionError, validate};
