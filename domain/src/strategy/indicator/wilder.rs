//! Wilder's smoothed indicators ("New Concepts in Technical Trading Systems", 1978), with the
//! seeds of TA-Lib: the plain mean of the first n, then `(last · (n − 1) + new) / n`.

use super::average::{Mean, count};

/// Relative strength index, 0 to 100.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Rsi {
    last: Option<f64>,
    gain: Smoothed,
    loss: Smoothed,
}

impl Rsi {
    pub(super) fn new(period: usize) -> Self {
        Self { last: None, gain: Smoothed::new(period), loss: Smoothed::new(period) }
    }

    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        let change = value - self.last.replace(value)?;
        let gain = self.gain.push(change.max(0.0));
        let loss = self.loss.push((-change).max(0.0));
        let (gain, loss) = (gain?, loss?);
        // TA-Lib says 0 for a window without any change, which reads as "oversold"; we say 50.
        Some(if gain + loss == 0.0 { 50.0 } else { 100.0 * (gain / (gain + loss)) })
    }

    pub(super) fn reset(&mut self) {
        self.last = None;
        self.gain.reset();
        self.loss.reset();
    }
}

/// Average true range: the first true range is that of the second bar.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Atr {
    last_close: Option<f64>,
    range: Smoothed,
}

impl Atr {
    pub(super) fn new(period: usize) -> Self {
        Self { last_close: None, range: Smoothed::new(period) }
    }

    pub(super) fn push(&mut self, high: f64, low: f64, close: f64) -> Option<f64> {
        let last = self.last_close.replace(close)?;
        self.range.push((high - low).max((high - last).abs()).max((low - last).abs()))
    }

    pub(super) fn reset(&mut self) {
        self.last_close = None;
        self.range.reset();
    }
}

#[derive(Debug, Clone)]
struct Smoothed {
    seed: Mean,
    period: f64,
    value: Option<f64>,
}

impl Smoothed {
    fn new(period: usize) -> Self {
        Self { seed: Mean::new(period), period: count(period), value: None }
    }

    fn push(&mut self, value: f64) -> Option<f64> {
        self.value = match self.value {
            Some(last) => Some((last * (self.period - 1.0) + value) / self.period),
            None => self.seed.push(value),
        };
        self.value
    }

    fn reset(&mut self) {
        self.seed.reset();
        self.value = None;
    }
}
