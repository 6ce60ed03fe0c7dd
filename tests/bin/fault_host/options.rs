//! How a host is to behave: words of the form `NAME=VALUE`, spans in milliseconds.

use std::time::Duration;

use anyhow::{Context, bail};

pub(crate) struct Options {
    /// The job's interval, or the queue's safety poll.
    pub(crate) interval: Duration,
    pub(crate) lease: Duration,
    /// How long a run works before it books.
    pub(crate) work: Duration,
    /// The grace period of a stop.
    pub(crate) grace: Duration,
    /// Whether a run that is told to return does so.
    pub(crate) obeys: bool,
    /// Whether the first run waits for what it is told on standard input.
    pub(crate) hold: bool,
    /// How often a slot runs again after interruptions, or how often a row may crash.
    pub(crate) reruns: u32,
}

impl Options {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            interval: Duration::from_millis(200),
            lease: Duration::from_millis(900),
            work: Duration::from_millis(50),
            grace: Duration::from_secs(30),
            obeys: false,
            hold: false,
            reruns: 1,
        };
        for word in words {
            let (name, value) = word.split_once('=').context("an option is NAME=VALUE")?;
            let number: u64 = value.parse().with_context(|| format!("`{word}`: not a number"))?;
            let span = Duration::from_millis(number);
            match name {
                "interval" => options.interval = span,
                "lease" => options.lease = span,
                "work" => options.work = span,
                "grace" => options.grace = span,
                "obeys" => options.obeys = number > 0,
                "hold" => options.hold = number > 0,
                "reruns" => options.reruns = u32::try_from(number)?,
                name => bail!("`{name}` is no option"),
            }
        }
        Ok(options)
    }
}
