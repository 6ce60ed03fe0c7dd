//! How ingestion stands: each channel, each source, the whole.

use super::channel::{CHANNELS, Channel, Source};
use super::freshness::{ChannelState, Freshness, judge};

/// What is known about a channel that has been run, or was introduced at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Whose data.
    pub source: String,
    /// The channel.
    pub channel: String,
    /// How its last run stands, as in `ingestion_runs.status`.
    pub status: String,
    /// What its age is judged by.
    pub state: ChannelState,
    /// Why its last failure failed.
    pub last_error: Option<String>,
}

/// How ingestion stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestionHealth {
    /// How all channels stand together.
    pub standing: Standing,
    /// The moment, epoch milliseconds.
    pub generated_at_ms: i64,
    /// Every channel there is, by source, run or not.
    pub channels: Vec<ChannelHealth>,
}

/// How one channel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelHealth {
    /// The channel.
    pub channel: &'static Channel,
    /// How its last run stands; `never_run` before the first.
    pub status: String,
    /// Whether its data can be used.
    pub freshness: Freshness,
    /// The age of its newest good datum, milliseconds.
    pub age_ms: Option<i64>,
    /// What it was judged by.
    pub state: ChannelState,
    /// Why its last failure failed; text from outside.
    pub last_error: Option<String>,
}

/// How several channels stand together. Those that are required decide; where none is, all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// None is stale.
    Ok,
    /// Some are stale.
    Degraded,
    /// All are.
    Down,
}

impl Standing {
    /// The word for it in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl IngestionHealth {
    /// Judges all channels at `now_ms`. A channel without facts has never run.
    #[must_use]
    pub fn assess(facts: &[ChannelFacts], now_ms: i64) -> Self {
        let channels: Vec<ChannelHealth> = CHANNELS
            .iter()
            .map(|channel| {
                let known = facts.iter().find(|facts| {
                    facts.source == channel.source.as_str() && facts.channel == channel.name
                });
                ChannelHealth::assess(channel, known, now_ms)
            })
            .collect();
        Self { standing: standing(channels.iter()), generated_at_ms: now_ms, channels }
    }

    /// The channels of one source.
    pub fn of(&self, source: Source) -> impl Iterator<Item = &ChannelHealth> + Clone {
        self.channels.iter().filter(move |health| health.channel.source == source)
    }

    /// How the channels of one source stand together.
    #[must_use]
    pub fn standing_of(&self, source: Source) -> Standing {
        standing(self.of(source))
    }

    /// The required channels whose data cannot be used.
    pub fn stale_required(&self) -> impl Iterator<Item = &ChannelHealth> {
        self.channels.iter().filter(|health| health.channel.required && health.is_stale())
    }
}

impl ChannelHealth {
    fn assess(channel: &'static Channel, facts: Option<&ChannelFacts>, now_ms: i64) -> Self {
        let state = facts.map(|facts| facts.state).unwrap_or_default();
        Self {
            channel,
            status: facts.map_or("never_run", |facts| &facts.status).to_owned(),
            freshness: judge(channel, &state, now_ms),
            age_ms: state.last_datum_at_ms.map(|at_ms| now_ms.saturating_sub(at_ms).max(0)),
            state,
            last_error: facts.and_then(|facts| facts.last_error.clone()),
        }
    }

    /// Whether its data cannot be used.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.freshness.is_stale()
    }
}

fn standing<'h>(channels: impl Iterator<Item = &'h ChannelHealth> + Clone) -> Standing {
    let any_required = channels.clone().any(|health| health.channel.required);
    let decisive = channels.filter(|health| health.channel.required || !any_required);
    let (mut stale, mut fresh) = (false, false);
    for health in decisive {
        stale |= health.is_stale();
        fresh |= !health.is_stale();
    }
    match (stale, fresh) {
        (false, _) => Standing::Ok,
        (true, true) => Standing::Degraded,
        (true, false) => Standing::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn facts(channel: &Channel, datum_age_ms: i64) -> ChannelFacts {
        ChannelFacts {
            source: channel.source.as_str().to_owned(),
            channel: channel.name.to_owned(),
            status: "succeeded".to_owned(),
            state: ChannelState {
                last_success_at_ms: Some(NOW),
                last_datum_at_ms: Some(NOW - datum_age_ms),
                consecutive_failures: 0,
            },
            last_error: None,
        }
    }

    /// The facts of the channels that are chosen, each with a datum of this moment.
    fn fresh(chosen: impl Fn(&Channel) -> bool) -> Vec<ChannelFacts> {
        CHANNELS.iter().filter(|channel| chosen(channel)).map(|one| facts(one, 0)).collect()
    }

    #[test]
    fn what_never_ran_is_there_and_down() {
        let health = IngestionHealth::assess(&[], NOW);
        assert_eq!(health.standing, Standing::Down);
        assert_eq!(health.channels.len(), CHANNELS.len());
        let never = |one: &ChannelHealth| (one.status == "never_run", one.age_ms, one.is_stale());
        assert!(health.channels.iter().all(|one| never(one) == (true, None, true)));
        let required = CHANNELS.iter().filter(|channel| channel.required).count();
        assert_eq!(health.stale_required().count(), required);
    }

    #[test]
    fn the_required_channels_decide_and_where_there_are_none_all_do() {
        let check = |facts: &[ChannelFacts], expected: [Standing; 4]| {
            let health = IngestionHealth::assess(facts, NOW);
            let [hyperliquid, defillama, polymarket] =
                Source::ALL.map(|one| health.standing_of(one));
            assert_eq!([health.standing, hyperliquid, defillama, polymarket], expected);
        };
        use Standing::{Degraded, Down, Ok};
        check(&fresh(|channel| channel.required), [Ok, Ok, Down, Down]);
        check(&fresh(|channel| channel.name == "mids"), [Degraded, Degraded, Down, Down]);
        check(&fresh(|channel| channel.source == Source::Defillama), [Down, Down, Ok, Down]);
        check(&fresh(|channel| channel.name == "yields"), [Down, Down, Degraded, Down]);
        check(&fresh(|_| true), [Ok; 4]);
    }

    #[test]
    fn an_age_is_that_of_the_datum_and_never_negative() {
        let mids = CHANNELS.iter().find(|channel| channel.name == "mids").unwrap();
        let check = |age_ms, expected_age, freshness| {
            let health = IngestionHealth::assess(&[facts(mids, age_ms)], NOW);
            let found = health.channels.iter().find(|one| one.channel == mids).unwrap();
            assert_eq!((found.age_ms, found.freshness), (Some(expected_age), freshness));
        };
        check(14_000, 14_000, Freshness::Fresh);
        check(16_000, 16_000, Freshness::Late);
        check(61_000, 61_000, Freshness::Stale);
        check(-5_000, 0, Freshness::Fresh);
    }
}
