//! Whether a channel's data can be used.

use super::channel::Channel;

/// What is known about a channel. Times are epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelState {
    /// When a run of it last succeeded.
    pub last_success_at_ms: Option<i64>,
    /// The time of its newest good datum: the source's where it tells one, else when it came.
    pub last_datum_at_ms: Option<i64>,
    /// Runs that failed since.
    pub consecutive_failures: i64,
}

/// How old a channel's newest good datum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Recent.
    Fresh,
    /// Usable, but it should have been replaced by now.
    Late,
    /// Too old to decide with.
    Stale,
    /// There was none yet.
    Never,
}

impl Freshness {
    /// The word for it in answers and tables of the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Late => "late",
            Self::Stale => "stale",
            Self::Never => "never",
        }
    }

    /// Whether features made of it are unknown.
    #[must_use]
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Stale | Self::Never)
    }
}

/// Judges a channel by the age of its newest good datum at `now_ms`, not by whether a request
/// succeeded: an empty answer is a success and refreshes nothing.
#[must_use]
pub fn judge(channel: &Channel, state: &ChannelState, now_ms: i64) -> Freshness {
    let Some(datum_ms) = state.last_datum_at_ms else { return Freshness::Never };
    let age_ms = u128::try_from(now_ms.saturating_sub(datum_ms)).unwrap_or_default();
    match age_ms {
        age if age > channel.stale_after.as_millis() => Freshness::Stale,
        age if age > channel.late_after.as_millis() => Freshness::Late,
        _ => Freshness::Fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingestion::{Source, find_channel};

    #[test]
    fn the_age_of_the_newest_datum_decides() {
        let mids = find_channel(Source::Hyperliquid, "mids").unwrap();
        let check = |datum: Option<i64>, expected| {
            let state = ChannelState {
                last_success_at_ms: Some(1_000_000),
                last_datum_at_ms: datum,
                consecutive_failures: 0,
            };
            assert_eq!(judge(mids, &state, 1_000_000), expected, "{datum:?}");
        };
        check(None, Freshness::Never);
        check(Some(1_000_000), Freshness::Fresh);
        check(Some(1_000_500), Freshness::Fresh);
        check(Some(985_000), Freshness::Fresh);
        check(Some(984_999), Freshness::Late);
        check(Some(940_000), Freshness::Late);
        check(Some(939_999), Freshness::Stale);
    }
}
