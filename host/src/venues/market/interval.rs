//! The lengths of a candle that the exchange knows.

use super::MINUTE_MS;

const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Interval {
    M1,
    M3,
    M5,
    M15,
    M30,
    H1,
    H2,
    H4,
    H8,
    H12,
    D1,
    D3,
    W1,
    Month,
}

impl Interval {
    const NAMES: [(&'static str, Self); 14] = [
        ("1m", Self::M1),
        ("3m", Self::M3),
        ("5m", Self::M5),
        ("15m", Self::M15),
        ("30m", Self::M30),
        ("1h", Self::H1),
        ("2h", Self::H2),
        ("4h", Self::H4),
        ("8h", Self::H8),
        ("12h", Self::H12),
        ("1d", Self::D1),
        ("3d", Self::D3),
        ("1w", Self::W1),
        ("1M", Self::Month),
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, interval)| interval)
    }

    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES
            .into_iter()
            .find(|(_, interval)| *interval == self)
            .map_or("1m", |(name, _)| name)
    }

    /// When the candle that contains a time opens.
    pub(crate) fn floor(self, at_ms: i64) -> i64 {
        match self.fixed() {
            Some(length_ms) => at_ms - at_ms.rem_euclid(length_ms),
            None => month_start(at_ms.div_euclid(DAY_MS)) * DAY_MS,
        }
    }

    /// When the candle after this one opens.
    pub(crate) fn next(self, open_ms: i64) -> i64 {
        match self.fixed() {
            Some(length_ms) => open_ms + length_ms,
            // 32 days on is in the next month whichever month this is.
            None => self.floor(open_ms + 32 * DAY_MS),
        }
    }

    fn fixed(self) -> Option<i64> {
        Some(match self {
            Self::M1 => MINUTE_MS,
            Self::M3 => 3 * MINUTE_MS,
            Self::M5 => 5 * MINUTE_MS,
            Self::M15 => 15 * MINUTE_MS,
            Self::M30 => 30 * MINUTE_MS,
            Self::H1 => DAY_MS / 24,
            Self::H2 => DAY_MS / 12,
            Self::H4 => DAY_MS / 6,
            Self::H8 => DAY_MS / 3,
            Self::H12 => DAY_MS / 2,
            Self::D1 => DAY_MS,
            Self::D3 => 3 * DAY_MS,
            Self::W1 => 7 * DAY_MS,
            Self::Month => return None,
        })
    }
}

/// The first day of the month of a day, both counted from 1970-01-01.
fn month_start(day: i64) -> i64 {
    let (.., of_month) = crate::venues::date::civil(day);
    day - (of_month - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candle_contains_its_times() {
        // 2026-11-24T12:34:56Z
        let at_ms = 1_795_523_696_000;
        for (name, opens_ms) in [
            ("1m", 1_795_523_640_000),
            ("1h", 1_795_521_600_000),
            ("1d", 1_795_478_400_000),
            // 2026-11-01
            ("1M", 1_793_491_200_000),
        ] {
            let interval = Interval::parse(name).unwrap();
            assert_eq!(interval.floor(at_ms), opens_ms, "{name}");
            assert_eq!(interval.as_str(), name);
            let next = interval.next(opens_ms);
            assert_eq!(interval.floor(next), next, "{name}");
            assert_eq!(interval.floor(next - 1), opens_ms, "{name}");
        }
        assert_eq!(Interval::parse("7m"), None);
    }
}
