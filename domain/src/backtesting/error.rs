//! Why a back-test gave no result.

/// Why a back-test gave no result. Bar numbers count from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BacktestError {
    /// A setting is not a number, or out of range.
    #[error("`{field}` is {value}; expected {expected}")]
    Setting {
        /// The field of [`Settings`](super::Settings).
        field: &'static str,
        /// Its value.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// There is no bar to test on.
    #[error("the history has no bars; expected at least one")]
    NoCandles,
    /// A price or a volume of a bar is impossible.
    #[error("bar {bar} (open_time_ms {open_time_ms}): `{field}` is {value}; expected {expected}")]
    CandleValue {
        /// The bar's place in the history.
        bar: usize,
        /// Its time.
        open_time_ms: i64,
        /// The field of [`Candle`](crate::market::Candle).
        field: &'static str,
        /// Its value.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// A bar does not begin on the interval's grid.
    #[error(
        "bar {bar}: `open_time_ms` is {open_time_ms}; expected a multiple of the interval, {interval_ms} ms"
    )]
    OffGrid {
        /// The bar's place in the history.
        bar: usize,
        /// Its time.
        open_time_ms: i64,
        /// The length of a bar (ms).
        interval_ms: i64,
    },
    /// A bar is not later than the one before.
    #[error(
        "bar {bar}: `open_time_ms` is {open_time_ms}; expected a time after the bar before, {previous_ms}"
    )]
    NotAscending {
        /// The bar's place in the history.
        bar: usize,
        /// Its time.
        open_time_ms: i64,
        /// The time of the bar before.
        previous_ms: i64,
    },
    /// Prices so far apart that money leaves the range of a number.
    #[error(
        "bar {bar} (open_time_ms {open_time_ms}): equity is no finite number; expected prices of a sane range"
    )]
    Overflow {
        /// The bar's place in the history.
        bar: usize,
        /// Its time.
        open_time_ms: i64,
    },
    /// The progress callback asked to stop.
    #[error("cancelled after {done} of {total} bars")]
    Cancelled {
        /// Bars processed.
        done: usize,
        /// Bars of the history.
        total: usize,
    },
}
