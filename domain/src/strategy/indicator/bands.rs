//! Where a value stands within the spread of its window.

use super::window::Window;
use crate::strategy::reading::{Reading, Unknown};

/// Mean and population deviation of a window.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Bands {
    window: Window,
    spread: Spread,
}

/// In which unit the place is given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spread {
    /// 0 at the lower Bollinger band, 1 at the upper; `width` deviations from middle to band.
    Position {
        /// Deviations.
        width: f64,
    },
    /// Deviations from the mean.
    Score,
}

impl Bands {
    pub(super) fn new(period: usize, spread: Spread) -> Self {
        Self { window: Window::new(period), spread }
    }

    pub(super) fn push(&mut self, value: f64) -> Reading<f64> {
        self.window.push(value);
        if !self.window.is_full() {
            return Reading::Unknown(Unknown::WarmUp);
        }
        let deviation = self.window.population_variance().sqrt();
        if deviation == 0.0 {
            return Reading::Unknown(Unknown::DivisionByZero);
        }
        let score = (value - self.window.mean()) / deviation;
        Reading::number(match self.spread {
            Spread::Score => score,
            Spread::Position { width } => (score / width + 1.0) / 2.0,
        })
    }

    pub(super) fn reset(&mut self) {
        self.window.clear();
    }
}
