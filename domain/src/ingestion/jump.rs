//! Values that jump: held back until a second sample or a second source says the same, so that a
//! broken feed never liquidates anybody.

use std::time::Duration;

/// How much a value may change within a span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JumpRule {
    /// The largest change, as a fraction of the last good value.
    pub limit: f64,
    /// A last good value older than this says nothing about the new one.
    pub within: Duration,
}

impl JumpRule {
    /// Prices: 20 % within 10 s.
    pub const PRICE: Self = Self { limit: 0.20, within: Duration::from_secs(10) };
    /// Value locked: 50 % within an hour.
    pub const VALUE_LOCKED: Self = Self { limit: 0.50, within: Duration::from_secs(3_600) };
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Good,
    /// It is held back until it is confirmed.
    Held,
}

/// The last good value of one key, and the one that waits for confirmation.
#[derive(Debug, Clone, Copy, Default)]
pub struct JumpGuard {
    good: Option<(f64, i64)>,
    held: Option<f64>,
}

/// Two samples of a jump confirm each other when they differ by no more than this fraction.
const AGREEMENT: f64 = 0.02;

impl JumpGuard {
    /// Judges a value of `at_ms`. A value that agrees with the one held back confirms it.
    pub fn judge(&mut self, value: f64, at_ms: i64, rule: &JumpRule) -> Verdict {
        let within_ms = i64::try_from(rule.within.as_millis()).unwrap_or(i64::MAX);
        let jumps = self.good.is_some_and(|(good, good_at_ms)| {
            at_ms.saturating_sub(good_at_ms) < within_ms && change(good, value) > rule.limit
        });
        let confirmed = self.held.is_some_and(|held| change(held, value) <= AGREEMENT);
        if jumps && !confirmed {
            self.held = Some(value);
            return Verdict::Held;
        }
        *self = Self { good: Some((value, at_ms)), held: None };
        Verdict::Good
    }

    /// Takes a value as good because another source says so.
    pub fn confirm(&mut self, value: f64, at_ms: i64) {
        *self = Self { good: Some((value, at_ms)), held: None };
    }
}

/// The change from one value to another as a fraction of the first; from zero, everything is.
fn change(from: f64, to: f64) -> f64 {
    if from == to {
        return 0.0;
    }
    ((to - from) / from).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_held_until_a_second_sample_agrees() {
        let mut guard = JumpGuard::default();
        let mut check = |value, at_ms, expected| {
            assert_eq!(guard.judge(value, at_ms, &JumpRule::PRICE), expected, "{value} at {at_ms}");
        };
        check(100.0, 0, Verdict::Good);
        check(119.0, 1_000, Verdict::Good);
        check(50.0, 2_000, Verdict::Held);
        // It was a bad frame: the next is as before.
        check(118.0, 3_000, Verdict::Good);
        check(60.0, 4_000, Verdict::Held);
        check(60.5, 5_000, Verdict::Good);
        check(61.0, 6_000, Verdict::Good);
        // Two different jumps do not confirm each other.
        check(5.0, 7_000, Verdict::Held);
        check(500.0, 8_000, Verdict::Held);
        // After a silence the last good value says nothing.
        check(500.0, 30_000, Verdict::Good);
    }

    #[test]
    fn a_value_that_falls_to_zero_is_held() {
        let mut guard = JumpGuard::default();
        assert_eq!(guard.judge(1e9, 0, &JumpRule::VALUE_LOCKED), Verdict::Good);
        assert_eq!(guard.judge(0.0, 1_000, &JumpRule::VALUE_LOCKED), Verdict::Held);
        assert_eq!(guard.judge(0.0, 2_000, &JumpRule::VALUE_LOCKED), Verdict::Good);
        guard.confirm(1e9, 3_000);
        assert_eq!(guard.judge(0.9e9, 4_000, &JumpRule::VALUE_LOCKED), Verdict::Good);
    }
}
