//! One bar of market history.

/// Open, high, low, close and volume of one interval of one symbol. Prices in the quote
/// currency (USD), volume in the base currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candle {
    /// Start of the bar, epoch milliseconds, a multiple of the interval.
    pub open_time_ms: i64,
    /// First price of the bar.
    pub open: f64,
    /// Highest price of the bar.
    pub high: f64,
    /// Lowest price of the bar.
    pub low: f64,
    /// Last price of the bar.
    pub close: f64,
    /// Traded volume.
    pub volume: f64,
}
