//! How far the clock of a process is off the one of its database, measured without trusting either.
//!
//! ```text
//!  process   before ────────────── after        ahead = (before + after) / 2 − database
//!  database            database                 give or take half of the round trip
//! ```

use std::fmt;
use std::time::Duration;

/// How far a process's clock is off its database's. Nought where they are the same clock, as on
/// SQLite.
///
/// What stands in the database is decided by the database's clock, and what a process waits for by
/// its own; a host that is far off waits for the wrong moments and judges deadlines wrongly. So it
/// begins nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockSkew {
    ahead_ms: i64,
    uncertain_ms: i64,
}

/// Why this process may not begin anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of this host is {0} the database's, and at most {limit} s is allowed: \
     synchronise both machines (NTP), then start again",
    limit = ClockSkew::LIMIT.as_secs()
)]
pub struct ClockSkewError(pub ClockSkew);

/// One look at the database's clock between two at one's own, all in epoch milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockSample {
    pub(crate) before_ms: i64,
    pub(crate) database_ms: i64,
    pub(crate) after_ms: i64,
}

impl ClockSkew {
    /// A host that is further off than this begins nothing.
    pub const LIMIT: Duration = Duration::from_secs(30);
    const LIMIT_MS: i64 = 30_000;

    /// How far the process is ahead of the database, in milliseconds; negative when it is behind.
    #[must_use]
    pub const fn ahead_ms(self) -> i64 {
        self.ahead_ms
    }

    /// What [`ahead_ms`](Self::ahead_ms) may be wrong by either way, in milliseconds: half of the
    /// round trip that it was measured with.
    #[must_use]
    pub const fn uncertain_ms(self) -> i64 {
        self.uncertain_ms
    }

    /// Whether the process may begin something: it is off by [`LIMIT`](Self::LIMIT) at most.
    #[must_use]
    pub const fn is_tolerable(self) -> bool {
        self.ahead_ms.unsigned_abs() <= Self::LIMIT_MS.unsigned_abs()
    }

    /// The skew that the sample with the shortest round trip shows; `None` when none can be used.
    pub(crate) fn measured(samples: &[ClockSample]) -> Option<Self> {
        let usable = samples.iter().filter(|sample| sample.round_trip_ms().is_some());
        usable.min_by_key(|sample| sample.round_trip_ms()).map(|sample| sample.skew())
    }

    /// Whether the limit lies outside what the measurement may be wrong by.
    const fn is_clear(self) -> bool {
        let off_ms = self.ahead_ms.unsigned_abs();
        off_ms.abs_diff(Self::LIMIT_MS.unsigned_abs()) > self.uncertain_ms.unsigned_abs()
    }

    /// Whether the two differ by more than what the second may be wrong by, and a second.
    pub(crate) const fn is_news_beside(self, noted: Self) -> bool {
        let moved_ms = self.ahead_ms.abs_diff(noted.ahead_ms);
        moved_ms > self.uncertain_ms.unsigned_abs().saturating_add(1_000)
    }
}

impl ClockSample {
    /// The skew, if the round trip was short enough to tell on which side of the limit it is.
    pub(crate) fn clear_skew(self) -> Option<ClockSkew> {
        ClockSkew::measured(&[self]).filter(|skew| skew.is_clear())
    }

    /// `None` when the process's clock was set back meanwhile.
    pub(crate) fn round_trip_ms(self) -> Option<i64> {
        let span_ms = self.after_ms.saturating_sub(self.before_ms);
        (span_ms >= 0).then_some(span_ms)
    }

    fn skew(self) -> ClockSkew {
        let span_ms = self.after_ms.saturating_sub(self.before_ms);
        let half_ms = span_ms / 2;
        let middle_ms = self.before_ms.saturating_add(half_ms);
        ClockSkew {
            ahead_ms: middle_ms.saturating_sub(self.database_ms),
            // The longer half, and the millisecond that the database rounds up to.
            uncertain_ms: (span_ms - half_ms).saturating_add(1),
        }
    }
}

/// As in `12.5 s ahead of`.
impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.ahead_ms.unsigned_abs().saturating_add(50) / 100;
        let side = if self.ahead_ms < 0 { "behind" } else { "ahead of" };
        write!(f, "{}.{} s {side}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn sample(before_ms: i64, database_ms: i64, after_ms: i64) -> ClockSample {
        ClockSample { before_ms, database_ms, after_ms }
    }

    #[test]
    fn the_sample_with_the_shortest_round_trip_tells_the_skew() {
        #[track_caller]
        fn check(samples: &[ClockSample], ahead_and_uncertain_ms: Option<(i64, i64)>) {
            let measured = ClockSkew::measured(samples);
            let measured = measured.map(|skew| (skew.ahead_ms(), skew.uncertain_ms()));
            assert_eq!(measured, ahead_and_uncertain_ms, "{samples:?}");
        }
        check(&[], None);
        check(&[sample(1_000, 1_000, 1_000)], Some((0, 1)));
        check(&[sample(1_000, 1_005, 1_010)], Some((0, 6)));
        check(&[sample(61_000, 1_005, 61_010)], Some((60_000, 6)));
        check(&[sample(1_000, 61_005, 1_010)], Some((-60_000, 6)));
        // A connection was made during the first, the third waited.
        let tries = [sample(0, 700, 800), sample(900, 905, 910), sample(920, 930, 1_500)];
        check(&tries, Some((0, 6)));
        // The clock was set back during one of them, or all.
        check(&[sample(5_000, 10, 20), sample(30, 40, 60)], Some((5, 16)));
        check(&[sample(5_000, 10, 20)], None);
    }

    #[test]
    fn thirty_seconds_are_tolerable_and_a_millisecond_more_is_not() {
        for (ahead_ms, tolerable) in [
            (0, true),
            (29_000, true),
            (30_000, true),
            (30_001, false),
            (-30_000, true),
            (-30_001, false),
            (i64::MIN, false),
            (i64::MAX, false),
        ] {
            let skew = ClockSkew { ahead_ms, uncertain_ms: 0 };
            assert_eq!(skew.is_tolerable(), tolerable, "{ahead_ms}");
        }
    }

    #[test]
    fn a_slow_look_does_not_tell_where_the_limit_is_near() {
        #[track_caller]
        fn check(sample: ClockSample, clear: Option<i64>) {
            assert_eq!(sample.clear_skew().map(ClockSkew::ahead_ms), clear, "{sample:?}");
        }
        check(sample(0, 2, 5), Some(0));
        check(sample(0, 10_000, 20_000), Some(0));
        check(sample(29_000, 0, 29_100), Some(29_050));
        check(sample(29_000, 0, 31_500), None);
        check(sample(300_000, 0, 310_000), Some(305_000));
        // A clock that was set during the look.
        check(sample(0, 60_000, 60_000), None);
        check(sample(60_000, 0, 0), None);
    }

    #[test]
    fn the_error_says_how_far_and_what_to_do() {
        let error = |ahead_ms| ClockSkewError(ClockSkew { ahead_ms, uncertain_ms: 2 }).to_string();
        assert_eq!(
            error(300_049),
            "the clock of this host is 300.0 s ahead of the database's, and at most 30 s is \
             allowed: synchronise both machines (NTP), then start again"
        );
        assert!(error(-31_260).contains("31.3 s behind the database's"), "{}", error(-31_260));
    }
}
