//! Bar lengths.

use std::fmt;
use std::str::FromStr;

/// A bar length that markets publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// One minute.
    M1,
    /// Five minutes.
    M5,
    /// Fifteen minutes.
    M15,
    /// One hour.
    H1,
    /// Four hours.
    H4,
    /// One day.
    D1,
}

impl Interval {
    /// Every interval, shortest first.
    pub const ALL: [Self; 6] = [Self::M1, Self::M5, Self::M15, Self::H1, Self::H4, Self::D1];

    /// The length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        match self {
            Self::M1 => 60_000,
            Self::M5 => 300_000,
            Self::M15 => 900_000,
            Self::H1 => 3_600_000,
            Self::H4 => 14_400_000,
            Self::D1 => 86_400_000,
        }
    }

    /// Bars in a year of 365 days: crypto markets do not close.
    #[must_use]
    pub fn periods_per_year(self) -> f64 {
        const YEAR_MS: f64 = 365.0 * 86_400_000.0;
        #[expect(clippy::cast_precision_loss, reason = "at most 86.4 million")]
        let length = self.as_millis() as f64;
        YEAR_MS / length
    }

    /// The name, as in `1h`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M1 => "1m",
            Self::M5 => "5m",
            Self::M15 => "15m",
            Self::H1 => "1h",
            Self::H4 => "4h",
            Self::D1 => "1d",
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no interval.
#[derive(Debug, thiserror::Error)]
#[error("interval `{0}` is unknown; expected one of 1m, 5m, 15m, 1h, 4h, 1d")]
pub struct UnknownInterval(pub String);

impl FromStr for Interval {
    type Err = UnknownInterval;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.as_str() == name)
            .ok_or_else(|| UnknownInterval(name.to_owned()))
    }
}
