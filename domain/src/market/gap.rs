//! What is missing between two bars.

use super::Interval;

/// Bars that a history lacks: every open time from `from_ms` (inclusive) to `to_ms` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Open time of the first missing bar, epoch milliseconds.
    pub from_ms: i64,
    /// Open time of the bar after the gap, epoch milliseconds.
    pub to_ms: i64,
    /// How many bars are missing, at least one.
    pub missing: i64,
}

impl Gap {
    /// The gap between a bar and the one that follows it, if bars are missing between them.
    ///
    /// Both open times lie on the interval's grid; `None` too when `next_ms` is not later.
    #[must_use]
    pub fn between(previous_ms: i64, next_ms: i64, interval: Interval) -> Option<Self> {
        let step = interval.as_millis();
        let missing = next_ms.saturating_sub(previous_ms) / step - 1;
        (missing > 0).then(|| Self { from_ms: previous_ms + step, to_ms: next_ms, missing })
    }
}

#[cfg(test)]
mod tests {
    use super::{Gap, Interval};

    #[test]
    fn a_gap_starts_at_the_first_missing_bar_and_ends_before_the_next_present_one() {
        #[track_caller]
        fn check(previous_hour: i64, next_hour: i64, expected: Option<(i64, i64, i64)>) {
            const HOUR: i64 = 3_600_000;
            let found = Gap::between(previous_hour * HOUR, next_hour * HOUR, Interval::H1);
            let expected = expected.map(|(from, to, missing)| Gap {
                from_ms: from * HOUR,
                to_ms: to * HOUR,
                missing,
            });
            assert_eq!(found, expected);
        }
        check(0, 1, None);
        check(0, 2, Some((1, 2, 1)));
        check(10, 34, Some((11, 34, 23)));
        check(5, 5, None);
        check(5, 3, None);
    }
}
