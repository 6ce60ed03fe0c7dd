//! Lets clones into the arena: passed auditions with an approved profile, as long as slots are free.
//! The worker makes the slots of its season where they are not there yet, and closes the accounts that
//! archived clones left open.

mod departures;

use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    Cadence, ItemPolicy, Job, JobContext, JobDefinition, JobResult, RegisterError, RunSummary,
    Scheduler, Store,
};

use crate::services::arena_entry::{AdmitError, Admitted, Season, admit};

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "lifecycle_arena_entry";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct ArenaEntryOptions {
    /// How often it looks.
    pub interval: Duration,
    /// The season that clones enter.
    pub season: Season,
}

impl Default for ArenaEntryOptions {
    /// Every five minutes, into the default season.
    fn default() -> Self {
        Self { interval: Duration::from_secs(300), season: Season::default() }
    }
}

/// Registers the worker with a scheduler.
///
/// # Errors
/// A name that is taken, or an interval that cannot be.
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &ArenaEntryOptions,
) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: "lets clones into the arena".to_owned(),
        ..JobDefinition::new(NAME, Cadence::every(options.interval))
    };
    let entry = ArenaEntry { store: store.clone(), season: options.season.clone() };
    scheduler.register(definition, entry)?;
    Ok(())
}

struct ArenaEntry {
    store: Store,
    season: Season,
}

#[async_trait]
impl Job for ArenaEntry {
    async fn run(&self, context: JobContext) -> JobResult {
        let isolation = context.isolation(ItemPolicy::default()).await?;
        let closed = departures::close_abandoned(&self.store, &context, &isolation).await?;
        let (lease, season) = (context.lease().clone(), self.season.clone());
        let now_ms = context.now_ms();
        let admitted = self.store.write("let clones into the arena", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                admit(txn, &season, now_ms).await
            })
        });
        let admitted: Result<Admitted, AdmitError> = admitted.await;
        let Admitted { departed, queued, promoted, rejected } = admitted?;
        if promoted > 0 {
            tracing::info!(promoted, season = self.season.season_id, "clones entered the arena");
        }
        let summary = RunSummary::new()
            .count("departed", departed)
            .count("queued", queued)
            .count("promoted", promoted)
            .count("rejected", rejected);
        Ok(isolation.finish(closed.add_to(summary)).await?)
    }
}
