//! How long to wait before the next attempt: a pure function.

use std::time::Duration;

/// Exponential back-off with jitter: `first × factor^(failures − 1)`, at most `longest`, plus up
/// to `jitter` of itself.
///
/// ```
/// use std::time::Duration;
/// use scheduler_core::Backoff;
///
/// let backoff = Backoff::default();
/// assert_eq!(backoff.delay(1, 0.0), Duration::from_secs(5));
/// assert_eq!(backoff.delay(3, 0.0), Duration::from_secs(20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// What each further failure multiplies it by.
    pub factor: f64,
    /// The longest wait, before jitter.
    pub longest: Duration,
    /// The largest share that is added at random, so that rows that failed together do not come
    /// back together: 0.1 is up to ten per cent.
    pub jitter: f64,
}

impl Default for Backoff {
    /// 5 s, doubling, at most 15 min, up to ten per cent more.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            factor: 2.0,
            longest: Duration::from_secs(900),
            jitter: 0.1,
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures; `random` in 0…1 decides about the jitter.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let bounded = seconds.min(self.longest.as_secs_f64());
        let jittered = bounded * (1.0 + self.jitter.max(0.0) * random.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(jittered).unwrap_or(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let backoff = Backoff::default();
        let seconds = |failures| backoff.delay(failures, 0.0).as_secs();
        assert_eq!([0, 1, 2, 3, 8, 9, u32::MAX].map(seconds), [5, 5, 10, 20, 640, 900, 900]);
        assert_eq!(backoff.delay(1, 1.0), Duration::from_millis(5_500));
        let broken = Backoff { factor: f64::NAN, jitter: f64::NAN, ..backoff };
        assert!(broken.delay(5, f64::NAN) <= backoff.longest);
    }
}
