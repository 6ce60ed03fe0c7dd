//! One measurement of one queue in a process of its own, so that nothing of another peer runs beside it.
//!
//! A peer implements [`Peer`]; its program calls [`measure`] and [`answer`], which prints one line of
//! JSON for the bench. Handlers say with [`handled`] that they began.

mod drive;
mod handled;

use std::any::Any;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

pub use self::drive::measure;
pub use self::handled::handled;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Jobs per second that one task enqueues, each awaited until it is committed.
    Enqueue1,
    /// The same by sixteen tasks.
    Enqueue16,
    /// Rows per second that one task enqueues a thousand at a time.
    Bulk,
    /// Jobs per second that ten workers finish.
    Drain10,
    /// Jobs per second that fifty workers finish.
    Drain50,
    /// Milliseconds from the call that enqueues to the first line of an idle worker's handler.
    Pickup,
    /// Milliseconds by which a thousand jobs begin late that are due together each second.
    Ticks,
}

/// What a measuring program is asked for.
#[derive(Debug, Clone, Parser)]
pub struct Request {
    /// Which of its peers.
    #[arg(long)]
    pub peer: String,
    /// What is measured.
    #[arg(long)]
    pub work: Work,
    /// The address of an empty database; none for ticks.
    #[arg(long, default_value = "")]
    pub database: String,
    /// How many jobs wait when a drain begins, or tick.
    #[arg(long)]
    pub jobs: usize,
    /// How long an enqueue or ticks are measured, and a drain at most.
    #[arg(long)]
    pub seconds: f64,
}

/// The figure of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Per second, or the median in milliseconds.
    pub value: f64,
    /// The 99th percentile in milliseconds, of latencies.
    pub p99: Option<f64>,
    /// Handlers that began although their job had begun before, of a drain.
    pub repeated: u64,
    /// Ticks that did not run, in percent.
    pub lost: Option<f64>,
}

/// A queue, open on its database. Clones share it.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Whether one call can enqueue many rows.
    const HAS_BULK: bool = true;

    /// Enqueues so many rows at once, and returns when they are committed.
    fn enqueue(&self, rows: usize) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Starts workers whose handler calls [`handled`] and does nothing else. They work until what is
    /// answered is dropped, or the process ends.
    fn start(
        &self,
        concurrency: usize,
    ) -> impl Future<Output = anyhow::Result<Box<dyn Any + Send>>> + Send;

    /// How many rows the database does not hold as done.
    fn unfinished(&self) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Prints the figure, or why there is none.
///
/// # Errors
///
/// Whatever the measurement failed with.
#[expect(clippy::print_stdout, reason = "the bench reads it")]
pub fn answer(figure: anyhow::Result<Figure>) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&figure?).context("a figure")?);
    Ok(())
}
