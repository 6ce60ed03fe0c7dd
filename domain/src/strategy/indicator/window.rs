//! The last n numbers.

/// A ring of fixed size, allocated once.
#[derive(Debug, Clone)]
pub(in crate::strategy) struct Window {
    values: Vec<f64>,
    size: usize,
    next: usize,
}

impl Window {
    /// An empty window of `size` numbers, at least one.
    pub(in crate::strategy) fn new(size: usize) -> Self {
        let size = size.max(1);
        Self { values: Vec::with_capacity(size), size, next: 0 }
    }

    /// Takes `value` and gives back the number that it pushes out, if the window was full.
    #[inline]
    pub(in crate::strategy) fn push(&mut self, value: f64) -> Option<f64> {
        let evicted = if self.is_full() {
            Some(std::mem::replace(&mut self.values[self.next], value))
        } else {
            self.values.push(value);
            None
        };
        self.next += 1;
        if self.next == self.size {
            self.next = 0;
        }
        evicted
    }

    #[inline]
    pub(in crate::strategy) fn is_full(&self) -> bool {
        self.values.len() == self.size
    }

    /// Whether the newest number stands in the last place of the ring, once in `size` pushes.
    pub(super) fn has_wrapped(&self) -> bool {
        self.next == 0
    }

    /// The numbers, in no particular order.
    pub(in crate::strategy) fn values(&self) -> &[f64] {
        &self.values
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.next = 0;
    }

    /// The mean, exactly the value itself when all are equal.
    pub(super) fn mean(&self) -> f64 {
        let Some(&anchor) = self.values.first() else { return 0.0 };
        anchor + self.values.iter().map(|value| value - anchor).sum::<f64>() / self.count()
    }

    /// The mean squared distance from the mean, in two passes: sums of squares of prices would
    /// lose every digit of a small spread.
    pub(in crate::strategy) fn population_variance(&self) -> f64 {
        let mean = self.mean();
        self.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / self.count()
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 1000 numbers")]
    fn count(&self) -> f64 {
        self.values.len() as f64
    }
}
