//! Moving averages.

use super::window::Window;

/// Simple moving average.
///
/// The sum is of distances from an anchor and is built anew once per window: no drift over
/// millions of bars, nothing left of an outlier, and exactly the price while it stands still, so
/// that two averages of a flat market do not cross by rounding.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Sma {
    window: Window,
    anchor: f64,
    distance: f64,
    period: f64,
}

impl Sma {
    pub(super) fn new(period: usize) -> Self {
        Self { window: Window::new(period), anchor: 0.0, distance: 0.0, period: count(period) }
    }

    #[inline]
    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        if self.window.values().is_empty() {
            self.anchor = value;
            self.distance = 0.0;
        }
        self.distance += value - self.anchor;
        if let Some(evicted) = self.window.push(value) {
            self.distance -= evicted - self.anchor;
        }
        if self.window.has_wrapped() {
            self.anchor = value;
            self.distance = self.window.values().iter().map(|value| value - self.anchor).sum();
        }
        self.window.is_full().then(|| self.anchor + self.distance / self.period)
    }

    pub(super) fn reset(&mut self) {
        self.window.clear();
    }
}

/// Exponential moving average, α = 2/(n+1), seeded with the mean of the first n (as TA-Lib).
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Ema {
    seed: Mean,
    weight: f64,
    value: Option<f64>,
}

impl Ema {
    pub(super) fn new(period: usize) -> Self {
        Self { seed: Mean::new(period), weight: 2.0 / (count(period) + 1.0), value: None }
    }

    #[inline]
    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        self.value = match self.value {
            Some(last) => Some(last + self.weight * (value - last)),
            None => self.seed.push(value),
        };
        self.value
    }

    pub(super) fn reset(&mut self) {
        self.seed.reset();
        self.value = None;
    }
}

/// The mean of the first n numbers, once they are there.
#[derive(Debug, Clone)]
pub(super) struct Mean {
    period: usize,
    seen: usize,
    sum: f64,
}

impl Mean {
    pub(super) fn new(period: usize) -> Self {
        Self { period, seen: 0, sum: 0.0 }
    }

    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        self.sum += value;
        self.seen += 1;
        (self.seen >= self.period).then(|| self.sum / count(self.period))
    }

    pub(super) fn reset(&mut self) {
        self.sum = 0.0;
        self.seen = 0;
    }
}

#[expect(clippy::cast_precision_loss, reason = "periods are at most 1000")]
pub(super) fn count(period: usize) -> f64 {
    period as f64
}
