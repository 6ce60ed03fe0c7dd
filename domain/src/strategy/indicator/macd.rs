//! Moving average convergence divergence.

use super::average::Ema;
use crate::strategy::graph::MacdLine;

/// Fast minus slow average, and its own average, seeded as TA-Lib does: both averages begin on
/// the same bar (the fast one skips the first bars), and no line is known before the signal is.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Macd {
    fast: Ema,
    slow: Ema,
    signal: Ema,
    line: MacdLine,
    skip: usize,
    seen: usize,
}

impl Macd {
    pub(super) fn new(fast: usize, slow: usize, signal: usize, line: MacdLine) -> Self {
        Self {
            fast: Ema::new(fast),
            slow: Ema::new(slow),
            signal: Ema::new(signal),
            line,
            skip: slow.saturating_sub(fast),
            seen: 0,
        }
    }

    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        let slow = self.slow.push(value);
        if self.seen < self.skip {
            self.seen += 1;
            return None;
        }
        let fast = self.fast.push(value);
        let macd = fast? - slow?;
        let signal = self.signal.push(macd)?;
        Some(match self.line {
            MacdLine::Macd => macd,
            MacdLine::Signal => signal,
            MacdLine::Histogram => macd - signal,
        })
    }

    pub(super) fn reset(&mut self) {
        self.fast.reset();
        self.slow.reset();
        self.signal.reset();
        self.seen = 0;
    }
}
