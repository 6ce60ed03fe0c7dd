//! A stream as a job: whoever takes its lease has the connection.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Cadence, JobContext, JobDefinition, RegisterError, Scheduler, Store};

use super::feed::Feed;
use super::recorder::StreamRecorder;
use crate::ingestion::Channel;

/// What is true of a stream besides what its feed does.
#[derive(Debug)]
pub(in crate::workers::ingestion) struct StreamJob {
    /// The name of its job.
    pub(in crate::workers::ingestion) name: &'static str,
    /// What it does, for people.
    pub(in crate::workers::ingestion) description: &'static str,
    /// The channels that it brings, as its feed counts them.
    pub(in crate::workers::ingestion) channels: &'static [&'static Channel],
}

/// A host that finds no stream running looks again this often.
const EVERY: Duration = Duration::from_secs(15);

/// Registers a stream; each run has a feed of its own.
///
/// # Errors
/// As [`Scheduler::register`].
pub(in crate::workers::ingestion) fn register<F: Feed + 'static>(
    scheduler: &mut Scheduler,
    store: &Store,
    job: &'static StreamJob,
    feed: impl Fn() -> F + Send + Sync + 'static,
) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: job.description.to_owned(),
        recorder: Arc::new(StreamRecorder { channels: job.channels }),
        ..JobDefinition::new(job.name, Cadence::every(EVERY))
    };
    let store = store.clone();
    scheduler.register(definition, move |context: JobContext| {
        let (store, feed) = (store.clone(), feed());
        async move { super::run(context, store, job.channels, feed).await }
    })?;
    Ok(())
}
