//! The highest and the lowest of a window.

use std::collections::VecDeque;

/// A queue of candidates, best first, each with its bar: a value that is older and not better than
/// another can never become the extreme. Amortised constant time per bar.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Extreme {
    candidates: VecDeque<(usize, f64)>,
    period: usize,
    seen: usize,
    /// 1 for the highest, −1 for the lowest.
    sign: f64,
}

impl Extreme {
    pub(super) fn highest(period: usize) -> Self {
        Self::new(period, 1.0)
    }

    pub(super) fn lowest(period: usize) -> Self {
        Self::new(period, -1.0)
    }

    pub(super) fn push(&mut self, value: f64) -> Option<f64> {
        while self.candidates.back().is_some_and(|last| last.1 * self.sign <= value * self.sign) {
            self.candidates.pop_back();
        }
        if self.candidates.front().is_some_and(|first| first.0 + self.period <= self.seen) {
            self.candidates.pop_front();
        }
        self.candidates.push_back((self.seen, value));
        self.seen += 1;
        let best = self.candidates.front()?.1;
        (self.seen >= self.period).then_some(best)
    }

    pub(super) fn reset(&mut self) {
        self.candidates.clear();
        self.seen = 0;
    }

    fn new(period: usize, sign: f64) -> Self {
        Self { candidates: VecDeque::with_capacity(period + 1), period, seen: 0, sign }
    }
}
