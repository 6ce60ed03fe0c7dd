//! A polled channel as a job.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Cadence, CadenceError, DefinitionError, JobContext, JobDefinition, RegisterError, RunSummary,
    Scheduler, StartPolicy, StoreError,
};
use serde_json::{Value, json};

use super::recorder::IngestionRecorder;
use crate::ingestion::{Channel, How, Rejects};
use crate::sources::SourceError;

/// What a cycle brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Rows that the source gave.
    pub rows_read: i64,
    /// Rows that changed something.
    pub rows_written: i64,
    /// Rows that were refused.
    pub rows_rejected: i64,
    /// The time of the newest good datum, epoch milliseconds; `None` refreshes nothing.
    pub last_datum_at_ms: Option<i64>,
    /// What went wrong with a part of it.
    pub problem: Option<String>,
}

/// Why a cycle brought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease of the cycle.
    #[error(transparent)]
    Fence(#[from] scheduler_core::FenceError),
    /// What writes a stream's rows ended: its own error says why.
    #[error("what came could not be written")]
    Stopped,
    /// An answer that is legal JSON and no answer.
    #[error("the answer to {asked} has no meaning: {detail}")]
    Meaningless {
        /// What was asked.
        asked: &'static str,
        /// What is wrong.
        detail: String,
    },
}

impl Fetched {
    /// Adds what was refused, and says so in the log once.
    #[must_use]
    pub fn with_rejects(mut self, channel: &Channel, rejects: &Rejects) -> Self {
        let total = rejects.total();
        if total > 0 {
            tracing::warn!(%channel, rejected = total, %rejects, "rows of a batch were refused");
            self.rows_rejected += i64::try_from(total).unwrap_or(i64::MAX);
            self.problem = Some(rejects.to_string());
        }
        self
    }

    /// Adds another part of the same cycle.
    pub fn absorb(&mut self, other: Self) {
        self.rows_read += other.rows_read;
        self.rows_written += other.rows_written;
        self.rows_rejected += other.rows_rejected;
        self.last_datum_at_ms = self.last_datum_at_ms.max(other.last_datum_at_ms);
        self.problem = self.problem.take().or(other.problem);
    }

    /// Adds what one subject of the cycle came to. What the source refuses of one costs the others
    /// nothing: the first refusal is the cycle's problem.
    ///
    /// # Errors
    /// Any other failure: it is of the source, and of all subjects.
    pub(super) fn take(
        &mut self,
        subject: &str,
        part: Result<Self, PollError>,
    ) -> Result<(), PollError> {
        match part {
            Ok(part) => self.absorb(part),
            Err(PollError::Source(error @ SourceError::Refused { .. })) => {
                self.problem.get_or_insert_with(|| format!("{subject}: {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// As the summary of a run, which the recorder reads back.
    fn summary(&self) -> RunSummary {
        let summary = RunSummary::new()
            .detail("rows_read", self.rows_read)
            .detail("rows_written", self.rows_written)
            .detail("rows_rejected", self.rows_rejected)
            .detail("last_datum_at_ms", json!(self.last_datum_at_ms));
        match &self.problem {
            Some(problem) => summary.detail("problem", problem.as_str()),
            None => summary,
        }
    }

    pub(super) fn read(summary: &Value) -> Self {
        let number = |name: &str| summary.get(name).and_then(Value::as_i64);
        Self {
            rows_read: number("rows_read").unwrap_or_default(),
            rows_written: number("rows_written").unwrap_or_default(),
            rows_rejected: number("rows_rejected").unwrap_or_default(),
            last_datum_at_ms: number("last_datum_at_ms"),
            problem: summary.get("problem").and_then(Value::as_str).map(str::to_owned),
        }
    }
}

/// Registers a polled channel: one run per slot over all hosts, at the channel's cadence, with the
/// channel's recorder. A cycle that is late while another runs is skipped and recorded.
///
/// # Errors
/// As [`Scheduler::register`].
///
/// # Panics
/// Never: a streamed channel is registered as a manual job, which is never due.
pub fn register_polled<F, Fut>(
    scheduler: &mut Scheduler,
    channel: &'static Channel,
    poll: F,
) -> Result<(), RegisterError>
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Fetched, PollError>> + Send + 'static,
{
    let cadence = cadence_of(channel)
        .map_err(|source| DefinitionError::Cadence { job: channel.job(), source })?;
    let (timeout, jitter) = match channel.how {
        How::Polled { timeout, at, .. } => (Some(timeout), at.map(|_| JITTER)),
        How::Streamed => (None, None),
    };
    let definition = JobDefinition {
        description: format!("fetches {} from {}", channel.name, channel.source),
        // Also where it has times of its own: a new database has its first data at once.
        start: StartPolicy::Immediate,
        jitter,
        timeout,
        recorder: Arc::new(IngestionRecorder::of(channel)),
        ..JobDefinition::new(channel.job(), cadence)
    };
    scheduler.register(definition, move |context: JobContext| {
        let polled = poll(context);
        async move { Ok(polled.await?.summary()) }
    })?;
    Ok(())
}

/// Registers channels of a venue in this order, each as `name => async fn(&venue, channel, &context)`,
/// and adds the names of their jobs.
macro_rules! register_each {
    ($scheduler:ident, $names:ident, $source:expr, $venue:ident: $($name:literal => $poll:path,)+) => {$(
        if let Some(channel) = $crate::ingestion::find_channel($source, $name) {
            let venue = $venue.clone();
            $crate::workers::ingestion::register_polled($scheduler, channel, move |context| {
                let venue = venue.clone();
                async move { $poll(&venue, channel, &context).await }
            })?;
            $names.push(channel.job());
        }
    )+};
}
pub(super) use register_each;

/// Others live by round times, too.
const JITTER: Duration = Duration::from_secs(20);

fn cadence_of(channel: &Channel) -> Result<Cadence, CadenceError> {
    match channel.how {
        How::Polled { at: Some(cron), .. } => Cadence::cron(cron, "UTC"),
        How::Polled { every, at: None, .. } => Ok(Cadence::every(every)),
        How::Streamed => Ok(Cadence::Manual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingestion::CHANNELS;

    #[test]
    fn times_of_a_channels_own_come_as_often_as_it_says() {
        for channel in &CHANNELS {
            let cadence = cadence_of(channel).unwrap();
            let every_ms = match channel.how {
                How::Polled { every, .. } => i64::try_from(every.as_millis()).ok(),
                How::Streamed => None,
            };
            assert_eq!(cadence.spacing_ms(1_795_435_200_000), every_ms, "{channel}");
        }
    }

    #[test]
    fn what_a_cycle_brought_survives_its_summary() {
        for fetched in [
            Fetched::default(),
            Fetched {
                rows_read: 3,
                rows_written: 2,
                rows_rejected: 1,
                last_datum_at_ms: Some(7),
                problem: Some("1 × not_a_number".into()),
            },
        ] {
            let summary = fetched.summary().to_json();
            assert_eq!(Fetched::read(&summary), fetched, "{summary}");
        }
    }
}
