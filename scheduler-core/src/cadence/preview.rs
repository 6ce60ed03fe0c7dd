//! When a cadence fires next, for people: a pure function.

use std::fmt;

use super::Cadence;

/// A slot to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    /// The slot, epoch milliseconds.
    pub at_ms: i64,
    /// What the wall clock of the cadence's zone shows then, as in `2026-10-25 02:30:00 CEST`; an
    /// interval's is UTC.
    pub local: String,
    /// What the change of the clocks does to it.
    pub note: Option<FireNote>,
}

/// What the change of the clocks does to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FireNote {
    /// Its own wall-clock time is not there on this day: it fires at the first instant after it.
    AfterGap,
    /// Its wall-clock time comes twice on this day: it fires the first time only.
    Once,
    /// Its wall-clock time comes twice on this day, and this is the first.
    FirstOfTwo,
    /// Its wall-clock time comes twice on this day, and this is the second.
    SecondOfTwo,
}

impl fmt::Display for FireNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterGap => "the clock skips its time: first instant after the gap",
            Self::Once => "the clock shows this time twice: fires the first time only",
            Self::FirstOfTwo => "the clock shows this time twice: this is the first",
            Self::SecondOfTwo => "the clock shows this time twice: this is the second",
        })
    }
}

impl Cadence {
    /// The next `count` slots strictly later than `after_ms`, on the grid of `anchor_ms` (epoch
    /// milliseconds), as a person reads them. None for a manual cadence.
    ///
    /// ```
    /// use scheduler_core::{Cadence, FireNote};
    ///
    /// // The evening before clocks go forward in Berlin: 02:30 is not there.
    /// let daily = Cadence::cron("30 2 * * *", "Europe/Berlin")?;
    /// let fires = daily.preview(0, 1_774_724_400_000, 2);
    /// assert_eq!(fires[0].local, "2026-03-29 03:00:00 CEST");
    /// assert_eq!(fires[0].note, Some(FireNote::AfterGap));
    /// assert_eq!(fires[1].local, "2026-03-30 02:30:00 CEST");
    /// # Ok::<(), scheduler_core::CadenceError>(())
    /// ```
    #[must_use]
    pub fn preview(&self, anchor_ms: i64, after_ms: i64, count: usize) -> Vec<Fire> {
        let first = self.next_after(anchor_ms, after_ms);
        std::iter::successors(first, |slot_ms| self.next_after(anchor_ms, *slot_ms))
            .take(count)
            .filter_map(|at_ms| {
                let (local, note) = match self {
                    Self::Cron(cron) => cron.shown(at_ms)?,
                    Self::Every(_) | Self::Manual => (utc(at_ms)?, None),
                };
                Some(Fire { at_ms, local, note })
            })
            .collect()
    }
}

fn utc(at_ms: i64) -> Option<String> {
    let at = chrono::DateTime::from_timestamp_millis(at_ms)?;
    Some(at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string().replace(".000 ", " "))
}
