//! What happened in a simulation, in order, for people.

use std::fmt;

use chrono::{DateTime, NaiveDateTime};

use crate::run::{RunStatus, Trigger};

/// What happened at what simulated time on which host; shown as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    pub(super) begins_at_ms: i64,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at_ms: i64,
    pub(super) process: Name,
    pub(super) event: Event,
}

/// A process: the host, and which start of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) host: usize,
    pub(super) start: u32,
}

/// A run, as people tell it apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunName {
    pub(super) job: String,
    pub(super) slot_ms: i64,
    pub(super) attempt: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Starts,
    NotStarted(String),
    Crashes,
    Freezes { for_ms: i64 },
    Wakes,
    ClockIsSet { ahead_ms: i64 },
    StoreIsSlow { for_ms: i64 },
    StoreFails { for_ms: i64 },
    Stops,
    Stopped,
    NoAnswer { call: &'static str, committed: bool },
    Began { run: RunName, trigger: Trigger, token: i64 },
    Ended { run: RunName, status: RunStatus },
    LostItsEnd { run: RunName },
    Closed { run: RunName },
    Overlapped { run: RunName },
    Missed { job: String, from_ms: i64, until_ms: i64, count: i64 },
    Effect { lease: String, token: i64, landed: bool },
    FaultsEnd,
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} UTC", time(self.begins_at_ms).format("%F %T"))?;
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}", clock(self.at_ms), self.process, self.event)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start {
            0 => f.write_str("--"),
            start => write!(f, "{}{start}", letter(self.host)),
        }
    }
}

/// `a`, `b`, …
pub(super) fn letter(host: usize) -> char {
    u8::try_from(host).map_or('?', |host| char::from(b'a'.saturating_add(host)))
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.job, clock(self.slot_ms))?;
        if self.attempt > 1 {
            write!(f, ", attempt {}", self.attempt)?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starts => f.write_str("the process starts"),
            Self::NotStarted(error) => write!(f, "the process could not start: {error}"),
            Self::Crashes => f.write_str("CRASHES"),
            Self::Freezes { for_ms } => write!(f, "FREEZES for {}", span(*for_ms)),
            Self::Wakes => f.write_str("wakes up"),
            Self::ClockIsSet { ahead_ms: 0 } => f.write_str("CLOCK is right again"),
            Self::ClockIsSet { ahead_ms } => {
                let side = if *ahead_ms < 0 { "behind" } else { "ahead" };
                write!(f, "CLOCK is set: {} {side}", span(ahead_ms.abs()))
            }
            Self::StoreIsSlow { for_ms } => write!(f, "STORE is slow for {}", span(*for_ms)),
            Self::StoreFails { for_ms } => {
                write!(f, "STORE fails now and then for {}", span(*for_ms))
            }
            Self::Stops => f.write_str("is told to stop"),
            Self::Stopped => f.write_str("has stopped"),
            Self::NoAnswer { call, committed: false } => write!(f, "no answer: could not {call}"),
            Self::NoAnswer { call, committed: true } => {
                write!(f, "no answer, although committed: could not {call}")
            }
            Self::Began { run, trigger, token } => {
                write!(f, "{run}: begins ({trigger}, token {token})")
            }
            Self::Ended { run, status } => write!(f, "{run}: {status}"),
            Self::LostItsEnd { run } => write!(f, "{run}: ends too late, its lease is lost"),
            Self::Closed { run } => write!(f, "{run}: found cut off, closed as lease_lost"),
            Self::Overlapped { run } => write!(f, "{run}: finds the lease held"),
            Self::Missed { job, from_ms, count: 1, .. } => {
                write!(f, "{job}: missed {}", clock(*from_ms))
            }
            Self::Missed { job, from_ms, until_ms, count } => {
                write!(
                    f,
                    "{job}: missed {count} slots, {} to {}",
                    clock(*from_ms),
                    clock(*until_ms)
                )
            }
            Self::Effect { lease, token, landed: true } => {
                write!(f, "{lease}: effect, token {token}")
            }
            Self::Effect { lease, token, landed: false } => {
                write!(f, "{lease}: effect refused, token {token}")
            }
            Self::FaultsEnd => f.write_str("from here on nothing goes wrong"),
        }
    }
}

/// The time of day, UTC.
pub(super) fn clock(at_ms: i64) -> impl fmt::Display {
    time(at_ms).format("%T%.3f")
}

fn time(at_ms: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().naive_utc()
}

/// As in `2.5 s`.
pub(super) fn span(span_ms: i64) -> String {
    let (seconds, rest_ms) = (span_ms / 1_000, span_ms % 1_000);
    if rest_ms == 0 { format!("{seconds} s") } else { format!("{seconds}.{rest_ms:03} s") }
}
