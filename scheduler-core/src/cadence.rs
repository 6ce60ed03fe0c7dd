//! When a job is due: a pure function of time.
//!
//! An interval stays on a grid: `anchor + k × interval`. A stall coalesces, it never drifts.
//!
//! ```
//! use std::time::Duration;
//! use scheduler_core::Cadence;
//!
//! let minutely: Cadence = "every 1m".parse()?;
//! assert_eq!(minutely, Cadence::every(Duration::from_secs(60)));
//! assert_eq!(minutely.next_after(0, 59_999), Some(60_000));
//! assert_eq!(minutely.next_after(0, 60_000), Some(120_000), "strictly later");
//! # Ok::<(), scheduler_core::CadenceError>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::millis;

/// When a job is due.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cadence {
    /// At each multiple of the interval after an anchor. Whole milliseconds, at least one.
    Every(Duration),
    /// Only when asked: [`run_once`](crate::Scheduler::run_once) or run-now.
    Manual,
}

/// Why a cadence is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CadenceError {
    /// An interval shorter than a millisecond.
    #[error("interval {0:?} is shorter than the clock's 1 ms; expected at least 1ms")]
    TooShort(Duration),
    /// An interval longer than ten thousand days: a typing mistake.
    #[error("interval {0:?} is longer than 10,000 days; use a manual cadence for `never`")]
    TooLong(Duration),
    /// A text that is no cadence.
    #[error("`{0}` is not a cadence; expected `every 60s` or `manual`")]
    Unknown(String),
}

const LONGEST: Duration = Duration::from_secs(10_000 * 86_400);

impl Cadence {
    /// Due every `interval`.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self::Every(interval)
    }

    /// Checks what the type alone does not exclude.
    ///
    /// # Errors
    /// An interval outside 1 ms … 10,000 days.
    pub fn validate(&self) -> Result<(), CadenceError> {
        match self {
            Self::Every(interval) if *interval < Duration::from_millis(1) => {
                Err(CadenceError::TooShort(*interval))
            }
            Self::Every(interval) if *interval > LONGEST => Err(CadenceError::TooLong(*interval)),
            Self::Every(_) | Self::Manual => Ok(()),
        }
    }

    /// The first slot strictly later than `after_ms`, on the grid of `anchor_ms` (epoch
    /// milliseconds); `None` when there is none.
    #[must_use]
    pub fn next_after(&self, anchor_ms: i64, after_ms: i64) -> Option<i64> {
        let interval_ms = self.interval_ms()?;
        let passed = (after_ms.saturating_sub(anchor_ms)).div_euclid(interval_ms);
        anchor_ms.checked_add((passed.checked_add(1)?).checked_mul(interval_ms)?)
    }

    /// The length of an interval in milliseconds; `None` for a manual cadence.
    #[must_use]
    pub fn interval_ms(&self) -> Option<i64> {
        match self {
            Self::Every(interval) => Some(millis(*interval).max(1)),
            Self::Manual => None,
        }
    }
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}", humantime::format_duration(*interval)),
            Self::Manual => f.write_str("manual"),
        }
    }
}

impl FromStr for Cadence {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || CadenceError::Unknown(text.to_owned());
        let cadence = match text.trim().split_once(' ') {
            None if text.trim() == "manual" => Self::Manual,
            Some(("every", interval)) => {
                Self::Every(humantime::parse_duration(interval).map_err(|_| unknown())?)
            }
            _ => return Err(unknown()),
        };
        cadence.validate()?;
        Ok(cadence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_stays_on_the_grid_of_its_anchor() {
        let cadence = Cadence::every(Duration::from_millis(100));
        for (anchor, after, next) in [
            (0, 0, 100),
            (0, 99, 100),
            (0, 100, 200),
            (30, 100, 130),
            (30, -1000, -970),
            (0, 1_000_000_050, 1_000_000_100),
        ] {
            assert_eq!(cadence.next_after(anchor, after), Some(next), "{anchor} {after}");
        }
        assert_eq!(Cadence::Manual.next_after(0, 5), None);
    }

    #[test]
    fn a_cadence_reads_back_as_it_was_written() {
        for cadence in [
            Cadence::Manual,
            Cadence::every(Duration::from_millis(1)),
            Cadence::every(Duration::from_secs(90)),
            Cadence::every(Duration::from_millis(86_400_001)),
        ] {
            assert_eq!(cadence.to_string().parse(), Ok(cadence));
        }
    }

    #[test]
    fn a_text_that_is_no_cadence_is_named() {
        for text in ["", "every", "every x", "hourly", "every 0s", "every 40000000000s"] {
            let error = text.parse::<Cadence>().expect_err(text);
            assert!(!error.to_string().is_empty());
        }
        assert_eq!("every 0s".parse::<Cadence>(), Err(CadenceError::TooShort(Duration::ZERO)));
    }
}
