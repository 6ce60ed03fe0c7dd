//! How many rows a consumer claims before there is a place for them: a pure function.

use std::time::Duration;

/// What waits here should be begun within this span: meanwhile other hosts cannot have it.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Rows that wait for one place at most.
const MOST_PER_PLACE: u128 = 16;

/// Rows to hold beyond those that run: as many as handlers of this mean duration begin within
/// [`LONGEST_WAIT`], at most `at_most`. None before anything is known of them.
pub(super) fn depth(concurrency: u32, at_most: u32, mean: Option<Duration>) -> u32 {
    let Some(mean) = mean else { return 0 };
    let per_place = (LONGEST_WAIT.as_micros() / mean.as_micros().max(1)).min(MOST_PER_PLACE);
    let rows = u128::from(concurrency) * per_place;
    u32::try_from(rows).unwrap_or(u32::MAX).min(at_most)
}

/// The mean with one more duration in it, of which it takes an eighth.
pub(super) fn mean_with(mean: Option<Duration>, took: Duration) -> Duration {
    mean.map_or(took, |mean| mean.saturating_mul(7).saturating_add(took) / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_handlers_are_fed_ahead_and_long_ones_are_not() {
        let table = [
            // (concurrency, at most, mean in ms) -> rows
            ((10, 500, None), 0),
            ((10, 500, Some(0)), 160),
            ((10, 500, Some(12)), 160),
            ((10, 500, Some(50)), 40),
            ((10, 500, Some(200)), 10),
            ((10, 500, Some(201)), 0),
            ((50, 500, Some(1)), 500),
            ((50, 0, Some(1)), 0),
            ((u32::MAX, u32::MAX, Some(0)), u32::MAX),
        ];
        for ((concurrency, at_most, mean), expected) in table {
            let mean = mean.map(Duration::from_millis);
            assert_eq!(depth(concurrency, at_most, mean), expected, "{concurrency} {mean:?}");
        }
    }

    #[test]
    fn a_mean_follows_what_handlers_take() {
        let second = Duration::from_secs(1);
        let mut mean = mean_with(None, Duration::ZERO);
        assert_eq!(mean, Duration::ZERO);
        for _ in 0..40 {
            mean = mean_with(Some(mean), second);
        }
        assert!(mean > second.mul_f64(0.99) && mean <= second, "{mean:?}");
    }
}
