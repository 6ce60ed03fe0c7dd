//! Seeded market history for demonstrations, tests and benchmarks.
//!
//! Only `+`, `-`, `*` and `/` are used, so the same seed gives the same bits on every machine.

use crate::market::{Candle, Interval};

/// An endless random walk: the logarithm of the price has no drift, its step per bar has about
/// the standard deviation `volatility`. Two walks with equal arguments are equal, bar by bar.
///
/// ```
/// use domain::market::{Candle, Interval, RandomWalk};
/// let day: Vec<Candle> = RandomWalk::new(7, Interval::H1, 0, 60_000.0, 0.005).take(24).collect();
/// ```
#[derive(Debug, Clone)]
pub struct RandomWalk {
    random: SplitMix,
    step_ms: i64,
    open_time_ms: i64,
    price: f64,
    volatility: f64,
}

impl RandomWalk {
    /// A walk whose first bar opens at `start_price`, at the last grid time not after `start_ms`
    /// (epoch milliseconds).
    ///
    /// `volatility` is the standard deviation of one bar as a fraction; it is clamped to
    /// 0..=0.1, so that no bar can lose its whole price. A start price that is not finite and
    /// positive becomes 100.
    #[must_use]
    pub fn new(
        seed: u64,
        interval: Interval,
        start_ms: i64,
        start_price: f64,
        volatility: f64,
    ) -> Self {
        let step_ms = interval.as_millis();
        let price = if start_price.is_finite() && start_price > 0.0 { start_price } else { 100.0 };
        let volatility = if volatility.is_finite() { volatility.clamp(0.0, 0.1) } else { 0.0 };
        let open_time_ms = start_ms - start_ms.rem_euclid(step_ms);
        Self { random: SplitMix(seed), step_ms, open_time_ms, price, volatility }
    }
}

impl Iterator for RandomWalk {
    type Item = Candle;

    fn next(&mut self) -> Option<Candle> {
        let open = self.price;
        // Adding half the variance keeps the mean of the logarithm at zero.
        let growth =
            1.0 + self.volatility * self.random.normal() + self.volatility * self.volatility / 2.0;
        let close = open * growth;
        let high = open.max(close) * (1.0 + self.volatility * self.random.unit());
        let low = open.min(close) * (1.0 - self.volatility * self.random.unit());
        let volume = 10.0 + 90.0 * self.random.unit();
        let candle = Candle { open_time_ms: self.open_time_ms, open, high, low, close, volume };

        self.price = close;
        self.open_time_ms += self.step_ms;
        Some(candle)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): tiny, and fixed for ever, unlike a library's default.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1, with 53 random bits.
    fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// Nearly standard normal, within −6..6: the sum of twelve uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(seed: u64) -> Vec<Candle> {
        RandomWalk::new(seed, Interval::H1, 1_000_000_000_000, 100.0, 0.01).take(10_000).collect()
    }

    #[test]
    fn equal_seeds_give_equal_bars_and_other_seeds_do_not() {
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
    }

    #[test]
    fn every_bar_is_a_valid_candle_on_the_grid() {
        let candles = walk(3);
        for pair in candles.windows(2) {
            assert_eq!(pair[1].open_time_ms - pair[0].open_time_ms, 3_600_000);
            assert_eq!(pair[1].open, pair[0].close);
        }
        for candle in candles {
            assert_eq!(candle.open_time_ms % 3_600_000, 0);
            assert!(candle.low > 0.0 && candle.high.is_finite());
            assert!(candle.low <= candle.open.min(candle.close));
            assert!(candle.high >= candle.open.max(candle.close));
        }
    }

    #[test]
    fn steps_have_about_the_asked_volatility_and_no_drift() {
        let logs: Vec<f64> =
            walk(4).iter().map(|candle| (candle.close / candle.open).ln()).collect();
        let mean = logs.iter().sum::<f64>() / 10_000.0;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / 10_000.0;
        assert!((variance.sqrt() - 0.01).abs() < 0.0005, "sd {}", variance.sqrt());
        assert!(mean.abs() < 0.0004, "mean {mean}");
    }

    #[test]
    fn nonsense_arguments_still_give_a_walk() {
        let candle = RandomWalk::new(1, Interval::D1, -5, f64::NAN, f64::INFINITY).next();
        let candle = candle.expect("endless");
        assert_eq!((candle.open_time_ms, candle.open), (-86_400_000, 100.0));
    }
}
