//! Cron expressions in a time zone, with stated rules for the days on which clocks change.
//!
//! Parsing and the search on the wall clock are croner's; the rules for gap and fold are here:
//!
//! | | hours are named (`30 2 * * *`, `*/15 1-3 * * *`) | any hour (`*/15 * * * *`, `0 */2 * * *`) |
//! |---|---|---|
//! | the clock goes forward: a wall-clock time is not there | once, at the first instant after the gap | not at all: the next time that is there |
//! | the clock goes back: a wall-clock time comes twice | once, the first time | both times |
//!
//! So a daily job runs once on every day, and a job of every hour or minute keeps its real pace.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Days, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Year};

use super::CadenceError;
use super::preview::FireNote;

/// A cron expression of five or six fields in an IANA time zone; cheap to clone.
///
/// Fields are minute, hour, day of month, month, day of week, with seconds before them where there
/// are six: `*`, lists, ranges, steps, names of months and days, `L`, `W` and `#`. When both days
/// are given, either will do. See [`Cadence::cron`](super::Cadence::cron).
#[derive(Clone)]
pub struct Cron {
    inner: Arc<Inner>,
}

struct Inner {
    expression: String,
    zone: Tz,
    pattern: croner::Cron,
    /// Whether the hour is any, so that the pattern follows real time.
    any_hour: bool,
}

const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31, or L"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of week", "0 to 7, or SUN to SAT"),
];

impl Cron {
    /// Reads an expression and the name of a zone, as in `Europe/Berlin` or `UTC`.
    ///
    /// # Errors
    /// The first field that is wrong with what would be right, a zone that is unknown, or an
    /// expression that never fires.
    pub fn new(expression: &str, zone: &str) -> Result<Self, CadenceError> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let expression = fields.join(" ");
        if !(5..=6).contains(&fields.len()) {
            return Err(CadenceError::CronFields { expression, count: fields.len() });
        }
        let zone: Tz = zone.parse().map_err(|_| CadenceError::Zone { zone: zone.to_owned() })?;
        let parser = CronParser::builder().year(Year::Disallowed).build();
        for ((field, expected), value) in FIELDS.iter().skip(6 - fields.len()).zip(&fields) {
            let alone: Vec<&str> =
                FIELDS.iter().map(|(name, _)| if name == field { *value } else { "*" }).collect();
            if value.contains('@') || parser.parse(&alone.join(" ")).is_err() {
                return Err(CadenceError::CronField {
                    expression,
                    field,
                    value: (*value).to_owned(),
                    expected,
                });
            }
        }
        let pattern = parser
            .parse(&expression)
            .map_err(|source| CadenceError::Unknown(format!("cron {expression}: {source}")))?;
        let any_hour = pattern.pattern.hours.from_wildcard;
        let cron = Self { inner: Arc::new(Inner { expression, zone, pattern, any_hour }) };
        match cron.next_after(0) {
            Some(_) => Ok(cron),
            None => Err(CadenceError::NeverFires { expression: cron.inner.expression.clone() }),
        }
    }

    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.inner.expression
    }

    /// The name of the zone.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.inner.zone.name()
    }

    /// The first slot strictly later than `after_ms`, epoch milliseconds.
    pub(super) fn next_after(&self, after_ms: i64) -> Option<i64> {
        // Slots are whole seconds, so a slot after a fraction is after its whole second.
        let after = DateTime::from_timestamp(after_ms.div_euclid(1_000), 0)?;
        let after = after.with_timezone(&self.inner.zone);
        let next = if self.inner.any_hour {
            self.inner.pattern.find_next_occurrence(&after, false).ok()?
        } else {
            self.next_named(&after)?
        };
        Some(next.timestamp_millis())
    }

    /// The same where hours are named: the search is on the wall clock, where no hour is missing or
    /// comes twice, and what it finds is brought to the time line.
    fn next_named(&self, after: &DateTime<Tz>) -> Option<DateTime<Tz>> {
        let mut wall = after.naive_local();
        loop {
            let next = self.inner.pattern.find_next_occurrence(&wall.and_utc(), false).ok()?;
            wall = next.naive_utc();
            let instant = self.first_instant(wall)?;
            // In the second hour of a fold, wall-clock times are ahead whose first time is past.
            if instant > *after {
                return Some(instant);
            }
        }
    }

    /// The first instant at which the wall clock shows this time, or a later one if it never does.
    fn first_instant(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        let zone = self.inner.zone;
        if let LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) =
            zone.from_local_datetime(&wall)
        {
            return Some(instant);
        }
        // Between these two the clock goes forward, over `wall`: halve the span down to that second.
        let day = Days::new(2);
        let instant = |utc: DateTime<Utc>| utc.with_timezone(&zone);
        let mut before = wall.checked_sub_days(day)?.and_utc();
        let mut after = wall.checked_add_days(day)?.and_utc();
        while after - before > TimeDelta::seconds(1) {
            let middle = before + (after - before) / 2;
            let middle = DateTime::from_timestamp(middle.timestamp(), 0)?;
            if instant(middle).naive_local() < wall {
                before = middle;
            } else {
                after = middle;
            }
        }
        Some(instant(after))
    }

    /// How the wall clock shows a slot, and what is special about it.
    pub(super) fn shown(&self, at_ms: i64) -> Option<(String, Option<FireNote>)> {
        let at = DateTime::from_timestamp_millis(at_ms)?.with_timezone(&self.inner.zone);
        let twice = match self.inner.zone.from_local_datetime(&at.naive_local()) {
            LocalResult::Ambiguous(first, _) => Some(at == first),
            LocalResult::Single(_) | LocalResult::None => None,
        };
        let its_own_time = self.inner.pattern.is_time_matching(&at).unwrap_or(true);
        let note = match twice {
            Some(_) if !self.inner.any_hour => Some(FireNote::Once),
            Some(true) => Some(FireNote::FirstOfTwo),
            Some(false) => Some(FireNote::SecondOfTwo),
            None if !its_own_time => Some(FireNote::AfterGap),
            None => None,
        };
        Some((at.format("%Y-%m-%d %H:%M:%S %Z").to_string(), note))
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (self.expression(), self.inner.zone) == (other.expression(), other.inner.zone)
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {} in {}", self.expression(), self.zone())
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({self})")
    }
}

#[cfg(test)]
mod tests;
