//! The volatility that `vol_target` sizes by.

use super::indicator::Window;
use super::reading::{Reading, Unknown};

/// The yearly volatility of the last bar-to-bar returns: sample standard deviation of simple
/// returns times √(periods per year), as in the metrics of a back-test.
#[derive(Debug, Clone)]
pub struct RealizedVolatility {
    returns: Window,
    last_close: Option<f64>,
    periods_per_year: f64,
}

impl RealizedVolatility {
    /// Over `lookback` returns (at least 2), of bars of which `periods_per_year` make a year.
    #[must_use]
    pub fn new(lookback: usize, periods_per_year: f64) -> Self {
        Self { returns: Window::new(lookback.max(2)), last_close: None, periods_per_year }
    }

    /// Takes the close of the next bar.
    pub fn push(&mut self, close: f64) {
        if let Some(last) = self.last_close.replace(close) {
            self.returns.push(close / last - 1.0);
        }
    }

    /// The yearly volatility as a fraction; unknown before `lookback` returns are there.
    #[must_use]
    pub fn yearly(&self) -> Reading<f64> {
        if !self.returns.is_full() {
            return Reading::Unknown(Unknown::WarmUp);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 1000 returns")]
        let count = self.returns.values().len() as f64;
        let variance = self.returns.population_variance() * count / (count - 1.0);
        Reading::number((variance * self.periods_per_year).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy: std([0.1, -0.1, 0.05], ddof=1) · √365.
    #[test]
    fn volatility_is_the_sample_deviation_of_the_last_returns_by_year() {
        let mut volatility = RealizedVolatility::new(3, 365.0);
        for close in [50.0, 100.0, 110.0, 99.0] {
            volatility.push(close);
        }
        // The first return (50 → 100) has left the window after the next close.
        volatility.push(103.95);
        let expected = 0.104_083_299_973_306_65 * 365.0_f64.sqrt();
        let yearly = volatility.yearly().known().expect("full");
        assert!((yearly - expected).abs() < 1e-12, "{yearly} {expected}");
    }

    #[test]
    fn volatility_is_unknown_before_the_window_is_full() {
        let mut volatility = RealizedVolatility::new(3, 365.0);
        for close in [100.0, 101.0, 102.0] {
            volatility.push(close);
            assert_eq!(volatility.yearly(), Reading::Unknown(Unknown::WarmUp));
        }
    }
}
