//! The channels: what is fetched or streamed, how often, and when it is late.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where data come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Perpetuals: prices, trades, candles, funding.
    Hyperliquid,
    /// Statistics of chains, protocols, stablecoins and pools.
    Defillama,
    /// Odds of events.
    Polymarket,
}

/// How a channel's data arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A job asks for them.
    Polled {
        /// How often.
        every: Duration,
        /// When, as a cron expression in UTC, where the source has times of its own; otherwise on a
        /// grid from the first start.
        at: Option<&'static str>,
        /// The hard deadline of one cycle.
        timeout: Duration,
    },
    /// A connection delivers them; one row per connection and [`WINDOW`](Channel::WINDOW).
    Streamed,
}

/// A kind of data from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Whose data.
    pub source: Source,
    /// Its name, unique within the source.
    pub name: &'static str,
    /// How they arrive.
    pub how: How,
    /// Whether the arena cannot decide without it: `arena ingestion check` fails when it is stale.
    pub required: bool,
    /// The newest datum is late when it is older than this.
    pub late_after: Duration,
    /// Features made of it are unknown when it is older than this.
    pub stale_after: Duration,
}

/// A source that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source; expected hyperliquid, defillama or polymarket")]
pub struct UnknownSource(pub String);

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hyperliquid, Self::Defillama, Self::Polymarket];

    /// The word for it in tables, flags and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hyperliquid => "hyperliquid",
            Self::Defillama => "defillama",
            Self::Polymarket => "polymarket",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or_else(|| UnknownSource(text.to_owned()))
    }
}

impl Channel {
    /// A stream leaves one row per connection and this span.
    pub const WINDOW: Duration = Duration::from_secs(60);

    /// The name of its job, as in `ingest_hyperliquid_meta`.
    #[must_use]
    pub fn job(&self) -> String {
        format!("ingest_{}_{}", self.source, self.name)
    }

    /// Whether a connection delivers it.
    #[must_use]
    pub fn is_streamed(&self) -> bool {
        self.how == How::Streamed
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.name)
    }
}

/// Finds a channel by its names.
#[must_use]
pub fn find_channel(source: Source, name: &str) -> Option<&'static Channel> {
    CHANNELS.iter().find(|channel| channel.source == source && channel.name == name)
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

const fn streamed(source: Source, name: &'static str, late_s: u64, stale_s: u64) -> Channel {
    Channel {
        source,
        name,
        how: How::Streamed,
        required: true,
        late_after: Duration::from_secs(late_s),
        stale_after: Duration::from_secs(stale_s),
    }
}

const fn polled(
    source: Source,
    name: &'static str,
    every_s: u64,
    timeout_s: u64,
    late_s: u64,
    stale_s: u64,
) -> Channel {
    Channel {
        source,
        name,
        how: How::Polled {
            every: Duration::from_secs(every_s),
            at: None,
            timeout: Duration::from_secs(timeout_s),
        },
        required: false,
        late_after: Duration::from_secs(late_s),
        stale_after: Duration::from_secs(stale_s),
    }
}

/// The same at times of the source's own, which come `every` so often.
const fn at(cron: &'static str, channel: Channel) -> Channel {
    match channel.how {
        How::Polled { every, timeout, .. } => {
            Channel { how: How::Polled { every, at: Some(cron), timeout }, ..channel }
        }
        How::Streamed => channel,
    }
}

const fn required(channel: Channel) -> Channel {
    Channel { required: true, ..channel }
}

/// The sweep of what a source piles up.
const fn maintenance(source: Source) -> Channel {
    polled(source, "maintenance", HOUR, 10 * MINUTE, 3 * HOUR, 24 * HOUR)
}

/// Every channel there is, by source.
///
/// Cadences and ages are those of the sources' own publishing: Hyperliquid pushes contexts each
/// second and settles funding by the hour, DefiLlama writes by the hour, Polymarket's books
/// change when somebody trades.
pub const CHANNELS: [Channel; 25] = {
    use Source::{Defillama, Hyperliquid, Polymarket};
    [
        streamed(Hyperliquid, "asset_contexts", 15, 60),
        streamed(Hyperliquid, "mids", 15, 60),
        streamed(Hyperliquid, "trades", 60, 120),
        streamed(Hyperliquid, "bbo", 60, 120),
        streamed(Hyperliquid, "candles", 150, 300),
        // The witness of the stream, and its substitute while it is down.
        required(polled(Hyperliquid, "asset_contexts_witness", 60, 30, 3 * MINUTE, 10 * MINUTE)),
        polled(Hyperliquid, "candle_audit", HOUR, 10 * MINUTE, 3 * HOUR, 6 * HOUR),
        // Settled at the full hour; asked for a little later, and again until everybody has it.
        required(at(
            "30 1,16,31,46 * * * *",
            polled(Hyperliquid, "funding", 15 * MINUTE, 5 * MINUTE, 75 * MINUTE, 130 * MINUTE),
        )),
        required(polled(Hyperliquid, "meta", HOUR, MINUTE, 3 * HOUR, 24 * HOUR)),
        maintenance(Hyperliquid),
        at("25 * * * *", polled(Defillama, "chains", HOUR, 5 * MINUTE, 3 * HOUR, 36 * HOUR)),
        polled(Defillama, "chain_history", 6 * HOUR, 10 * MINUTE, 36 * HOUR, 72 * HOUR),
        at("27 * * * *", polled(Defillama, "protocols", HOUR, 5 * MINUTE, 3 * HOUR, 12 * HOUR)),
        polled(Defillama, "stablecoins", HOUR, 5 * MINUTE, 3 * HOUR, 24 * HOUR),
        polled(Defillama, "yields", HOUR, 5 * MINUTE, 3 * HOUR, 12 * HOUR),
        polled(Defillama, "dex_volumes", 6 * HOUR, 5 * MINUTE, 12 * HOUR, 48 * HOUR),
        polled(Defillama, "prices", 5 * MINUTE, 2 * MINUTE, 15 * MINUTE, HOUR),
        maintenance(Defillama),
        polled(Polymarket, "discovery", 15 * MINUTE, 5 * MINUTE, HOUR, 6 * HOUR),
        Channel { required: false, ..streamed(Polymarket, "odds", 180, 600) },
        polled(Polymarket, "odds_witness", 60, 30, 3 * MINUTE, 10 * MINUTE),
        Channel { required: false, ..streamed(Polymarket, "trades", 24 * HOUR, 7 * 24 * HOUR) },
        polled(Polymarket, "history", 5 * MINUTE, 4 * MINUTE, 36 * HOUR, 72 * HOUR),
        polled(Polymarket, "resolution", 5 * MINUTE, 2 * MINUTE, HOUR, 6 * HOUR),
        maintenance(Polymarket),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_channel_has_a_name_of_its_own_that_a_job_may_have() {
        let mut names = HashSet::new();
        for channel in &CHANNELS {
            assert!(names.insert(channel.job()), "{channel} stands twice");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(channel.job().chars().all(plain), "{channel}");
            assert_eq!(find_channel(channel.source, channel.name), Some(channel));
        }
    }

    #[test]
    fn a_channel_is_late_before_it_is_stale_and_not_before_it_can_have_come() {
        for channel in &CHANNELS {
            assert!(channel.late_after < channel.stale_after, "{channel}");
            if let How::Polled { every, timeout, .. } = channel.how {
                assert!(channel.late_after > every, "{channel}");
                assert!(timeout < every, "{channel}: a cycle ends before the next is due");
            }
        }
    }

    #[test]
    fn a_source_is_read_as_it_is_written() {
        for source in Source::ALL {
            assert_eq!(source.as_str().parse(), Ok(source));
        }
        assert_eq!(
            "Hyperliquid".parse::<Source>().unwrap_err().to_string(),
            "`Hyperliquid` is no source; expected hyperliquid, defillama or polymarket"
        );
    }
}
