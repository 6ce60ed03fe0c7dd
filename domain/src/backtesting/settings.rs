//! What a back-test assumes about the account and the venue.

use super::error::BacktestError;

/// The highest fee or slippage that is taken seriously: 10 % of a fill.
pub const MAXIMUM_RATE: f64 = 0.1;

/// What a back-test assumes about the account and the venue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Equity at the start (USD).
    pub initial_cash: f64,
    /// Fee of a fill as a fraction of its notional.
    pub fee_rate: f64,
    /// How much worse than the market a fill is, as a fraction of its price.
    pub slippage_rate: f64,
    /// Sizes are whole multiples of this (base currency).
    pub size_step: f64,
}

impl Default for Settings {
    /// 10,000 USD, a taker fee of 0.045 % (Hyperliquid's base tier), no slippage, 8 decimals.
    fn default() -> Self {
        Self { initial_cash: 10_000.0, fee_rate: 0.000_45, slippage_rate: 0.0, size_step: 1e-8 }
    }
}

impl Settings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`BacktestError::Setting`] for the first field that is not a number or out of range.
    pub fn check(&self) -> Result<(), BacktestError> {
        let refuse =
            |field, value, expected| Err(BacktestError::Setting { field, value, expected });
        let is_amount = |value: f64| value > 0.0 && value <= 1e15;
        let is_rate = |value: f64| (0.0..=MAXIMUM_RATE).contains(&value);
        if !is_amount(self.initial_cash) {
            return refuse("initial_cash", self.initial_cash, "an amount above 0, at most 1e15");
        }
        if !is_rate(self.fee_rate) {
            return refuse("fee_rate", self.fee_rate, "a fraction from 0 to 0.1");
        }
        if !is_rate(self.slippage_rate) {
            return refuse("slippage_rate", self.slippage_rate, "a fraction from 0 to 0.1");
        }
        if !(self.size_step >= 1e-18 && self.size_step <= 1e15) {
            return refuse("size_step", self.size_step, "a step from 1e-18 to 1e15");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_mean_nothing_are_refused_by_name() {
        let check = |settings: Settings, expected: &str| {
            let outcome = settings.check().map_err(|error| error.to_string());
            assert_eq!(outcome.err().as_deref().unwrap_or("valid"), expected);
        };
        let good = Settings::default();
        check(good, "valid");
        check(Settings { fee_rate: 0.0, slippage_rate: 0.1, ..good }, "valid");
        for (cash, shown) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            check(
                Settings { initial_cash: cash, ..good },
                &format!("`initial_cash` is {shown}; expected an amount above 0, at most 1e15"),
            );
        }
        for (rate, shown) in [(-0.1, "-0.1"), (0.11, "0.11"), (f64::NAN, "NaN"), (45.0, "45")] {
            check(
                Settings { fee_rate: rate, ..good },
                &format!("`fee_rate` is {shown}; expected a fraction from 0 to 0.1"),
            );
            check(
                Settings { slippage_rate: rate, ..good },
                &format!("`slippage_rate` is {shown}; expected a fraction from 0 to 0.1"),
            );
        }
        for (step, shown) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN")] {
            check(
                Settings { size_step: step, ..good },
                &format!("`size_step` is {shown}; expected a step from 1e-18 to 1e15"),
            );
        }
    }
}
