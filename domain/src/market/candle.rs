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

impl Candle {
    /// Whether it can be: finite, above zero, open and close between the extremes, volume not
    /// below zero.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let Self { open, high, low, close, volume, .. } = *self;
        let prices = [open, high, low, close];
        prices.iter().all(|price| price.is_finite() && *price > 0.0)
            && (low..=high).contains(&open)
            && (low..=high).contains(&close)
            && volume.is_finite()
            && volume >= 0.0
    }
}
