//! When a job is due: a pure function of time.
//!
//! An interval stays on a grid: `anchor + k × interval`. A stall coalesces, it never drifts. A cron
//! expression is read on the wall clock of a zone; [`Cron`] says what happens when clocks change.
//!
//! ```
//! use std::time::Duration;
//! use scheduler_core::Cadence;
//!
//! let minutely: Cadence = "every 1m".parse()?;
//! assert_eq!(minutely, Cadence::every(Duration::from_secs(60)));
//! assert_eq!(minutely.next_after(0, 59_999), Some(60_000));
//! assert_eq!(minutely.next_after(0, 60_000), Some(120_000), "strictly later");
//!
//! let weekly: Cadence = "cron 30 9 * * MON in America/New_York".parse()?;
//! assert_eq!(weekly, Cadence::cron("30 9 * * MON", "America/New_York")?);
//! # Ok::<(), scheduler_core::CadenceError>(())
//! ```

mod cron;
mod preview;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use self::cron::Cron;
pub use self::preview::{Fire, FireNote};
use crate::clock::millis;

/// When a job is due.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cadence {
    /// At each multiple of the interval after an anchor. Whole milliseconds, at least one.
    Every(Duration),
    /// When the wall clock of a zone shows a time that the expression names.
    Cron(Cron),
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
    #[error(
        "`{0}` is not a cadence; expected `every 60s`, `cron 25 * * * * in Europe/Berlin` or `manual`"
    )]
    Unknown(String),
    /// A cron expression with too few or too many fields.
    #[error(
        "cron expression `{expression}` has {count} fields; expected 5 (minute, hour, day of month, month, day of week) or 6 (second before them)"
    )]
    CronFields {
        /// The expression.
        expression: String,
        /// How many fields it has.
        count: usize,
    },
    /// A field of a cron expression that means nothing.
    #[error(
        "the {field} `{value}` of cron expression `{expression}` is refused; expected {expected}, `*`, a list, a range or a step"
    )]
    CronField {
        /// The expression.
        expression: String,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// The values that it may have.
        expected: &'static str,
    },
    /// A cron expression whose days do not come.
    #[error("cron expression `{expression}` never fires: no such day comes")]
    NeverFires {
        /// The expression.
        expression: String,
    },
    /// A name that is no zone of the IANA database.
    #[error("`{zone}` is not a time zone; expected an IANA name like `Europe/Berlin` or `UTC`")]
    Zone {
        /// The name.
        zone: String,
    },
}

const LONGEST: Duration = Duration::from_secs(10_000 * 86_400);

impl Cadence {
    /// Due every `interval`.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self::Every(interval)
    }

    /// Due when the wall clock of `zone` shows what `expression` names.
    ///
    /// # Errors
    /// As [`Cron::new`].
    pub fn cron(expression: &str, zone: &str) -> Result<Self, CadenceError> {
        Cron::new(expression, zone).map(Self::Cron)
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
            Self::Every(_) | Self::Cron(_) | Self::Manual => Ok(()),
        }
    }

    /// The first slot strictly later than `after_ms`, on the grid of `anchor_ms` (epoch
    /// milliseconds; of no meaning to a cron expression); `None` when there is none.
    #[must_use]
    pub fn next_after(&self, anchor_ms: i64, after_ms: i64) -> Option<i64> {
        if let Self::Cron(cron) = self {
            return cron.next_after(after_ms);
        }
        let interval_ms = self.interval_ms()?;
        let passed = (after_ms.saturating_sub(anchor_ms)).div_euclid(interval_ms);
        anchor_ms.checked_add((passed.checked_add(1)?).checked_mul(interval_ms)?)
    }

    /// The length of an interval in milliseconds; `None` for every other cadence.
    #[must_use]
    pub fn interval_ms(&self) -> Option<i64> {
        match self {
            Self::Every(interval) => Some(millis(*interval).max(1)),
            Self::Cron(_) | Self::Manual => None,
        }
    }

    /// The span between the next two slots after `after_ms`, milliseconds: the interval, or what
    /// comes nearest to one. `None` for a manual cadence.
    #[must_use]
    pub fn spacing_ms(&self, after_ms: i64) -> Option<i64> {
        let next = self.next_after(after_ms, after_ms)?;
        Some(self.next_after(after_ms, next)? - next)
    }
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}", humantime::format_duration(*interval)),
            Self::Cron(cron) => cron.fmt(f),
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
            Some(("cron", rest)) => {
                let (expression, zone) = rest.rsplit_once(" in ").ok_or_else(unknown)?;
                Self::cron(expression, zone.trim())?
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
            Cadence::cron("  */15  0 9-17 * * mon-FRI ", "America/New_York").unwrap(),
            Cadence::cron("25 * * * *", "UTC").unwrap(),
        ] {
            assert_eq!(cadence.to_string().parse(), Ok(cadence));
        }
    }

    #[test]
    fn a_text_that_is_no_cadence_is_named() {
        for text in [
            "",
            "every",
            "every x",
            "hourly",
            "every 0s",
            "every 40000000000s",
            "cron",
            "cron * * * * *",
            "cron * * * * * in",
        ] {
            let error = text.parse::<Cadence>().expect_err(text);
            assert!(!error.to_string().is_empty());
        }
        assert_eq!("every 0s".parse::<Cadence>(), Err(CadenceError::TooShort(Duration::ZERO)));
    }
}
