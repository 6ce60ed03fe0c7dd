//! A consumer: a job of scope Instance whose cycles claim, and whose handlers run between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::engine::Engine;
use super::events::QueueEvents;
use super::handler::Handler;
use super::table::{QueueTable, TableError};
use crate::cadence::Cadence;
use crate::definition::{History, JobDefinition, Scope};
use crate::error::StoreError;
use crate::executor::{Executor, chain};
use crate::job::{Job, JobContext, JobResult};
use crate::retry::Backoff;
use crate::run::RunSummary;
use crate::scheduler::{RegisterError, Scheduler, Service};
use crate::store::Store;
use crate::store::wake::QueueWaker;

/// How a consumer works.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The name of its job, heartbeat and log lines.
    pub name: String,
    /// Rows that run at once in this process.
    pub concurrency: u32,
    /// Rows that are claimed at most before there is a place for them, so that none waits for the
    /// database. How many it is, handlers decide: of short ones as many as begin within 200 ms, and
    /// 16 for each place; of those that take longer, none; none of a queue with limits, and none of a
    /// table of yours without the column `lost_count`.
    pub prefetch: u32,
    /// How long a row's lease lives without a renewal; it is renewed at a third of this, at the
    /// latest every 5 s.
    pub lease: Duration,
    /// How long a handler may run before it is cancelled and counted as failed.
    pub timeout: Option<Duration>,
    /// The wait before a failed row is tried again.
    pub backoff: Backoff,
    /// How often the table is looked at although nobody said that there is work.
    pub poll: Duration,
}

impl ConsumerOptions {
    /// Ten rows at once, up to 500 claimed ahead, leases of a minute, a safety poll every 15 s, no deadline.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            concurrency: 10,
            prefetch: 500,
            lease: Duration::from_secs(60),
            timeout: None,
            backoff: Backoff::default(),
            poll: Duration::from_secs(15),
        }
    }
}

/// Why a consumer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The table is no queue.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The database.
    #[error("the queue's table could not be read")]
    Store(#[from] StoreError),
    /// An option that cannot work.
    #[error("option `{option}` is {value}; expected {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// A table, a handler and how they work together; [`register`](Self::register) makes it run.
pub struct Consumer<H> {
    engine: Arc<Engine<H>>,
    definition: JobDefinition,
}

/// A lease shorter than this cannot be renewed in time by a busy host.
const SHORTEST_LEASE: Duration = Duration::from_millis(300);

impl<H: Handler> Consumer<H> {
    /// Checks the table and the options.
    ///
    /// # Errors
    /// A table that cannot be a queue, an option that cannot work, or the database.
    pub async fn new(
        store: &Store,
        table: QueueTable,
        options: ConsumerOptions,
        handler: H,
    ) -> Result<Self, QueueError> {
        check(&options)?;
        let waker = QueueWaker::of(store.clone(), table.topic());
        let rows = store.open_queue(table).await?;
        let definition = JobDefinition {
            description: format!("works off the queue `{}`", options.name),
            scope: Scope::Instance,
            history: History::FailuresAndMisses,
            ..JobDefinition::new(options.name.clone(), Cadence::every(options.poll))
        };
        let clock = Arc::clone(store.clock());
        let engine = Arc::new(Engine::new(rows, handler, options, clock, waker));
        Ok(Self { engine, definition })
    }

    /// What to call after the commit of an enqueue.
    #[must_use]
    pub fn waker(&self) -> QueueWaker {
        self.engine.waker.clone()
    }

    /// What this consumer does with its rows from now on. Ask before it is registered; each answer is a
    /// listener of its own.
    ///
    /// Events are of this process, are told after what they tell is committed, and who listens too
    /// slowly loses the oldest. What must not be lost stands in the rows.
    #[must_use]
    pub fn events(&self) -> QueueEvents {
        self.engine.teller.listen()
    }

    /// Registers the consumer's job with a scheduler.
    ///
    /// # Errors
    /// As [`Scheduler::register`].
    pub fn register(self, scheduler: &mut Scheduler) -> Result<QueueWaker, RegisterError> {
        let waker = self.waker();
        let cycle = Cycle { engine: self.engine };
        scheduler.register_shared(self.definition, Arc::new(cycle.clone()))?;
        scheduler.serve(Arc::new(cycle));
        Ok(waker)
    }
}

fn check(options: &ConsumerOptions) -> Result<(), QueueError> {
    let refuse =
        |option, value: String, expected| Err(QueueError::Option { option, value, expected });
    if options.concurrency == 0 {
        return refuse("concurrency", "0".into(), "at least 1");
    }
    if options.lease < SHORTEST_LEASE {
        let expected = "at least 300ms, as it is renewed at a third of its length";
        return refuse("lease", format!("{:?}", options.lease), expected);
    }
    if options.timeout.is_some_and(|timeout| timeout.is_zero()) {
        return refuse("timeout", "0".into(), "at least 1ms, or none");
    }
    Ok(())
}

/// The consumer as a job, and as what goes on between its cycles.
struct Cycle<H> {
    engine: Arc<Engine<H>>,
}

impl<H> Clone for Cycle<H> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<H: Handler> Service for Cycle<H> {
    fn start(&self, executor: &Executor) {
        self.engine.start(executor);
    }

    fn job(&self) -> &str {
        &self.engine.options.name
    }
}

#[async_trait]
impl<H: Handler> Job for Cycle<H> {
    /// Claims and reports; it does not wait for the handlers, except in a one-shot run, which
    /// drains until nothing is claimable.
    async fn run(&self, context: JobContext) -> JobResult {
        let engine = &self.engine;
        let Some(host) = engine.host() else {
            return Err("the consumer was not started with its scheduler".into());
        };
        loop {
            let ended = engine.ended.notified();
            tokio::pin!(ended);
            // Register interest before claiming: a row may end before the next line.
            ended.as_mut().enable();
            let drained = engine.pass(&host).await?;
            if drained || !context.drain() {
                break;
            }
            tokio::select! {
                () = ended => {}
                () = context.cancelled() => break,
            }
        }
        self.prune().await;
        Ok(self.summary())
    }
}

/// Finished rows that one statement deletes at most, and how many statements a cycle makes of it.
const PRUNED_AT_ONCE: u32 = 1_000;
const MOST_PRUNES: u32 = 10;

impl<H: Handler> Cycle<H> {
    /// What should have gone is tried again with the next cycle, and stops no work.
    async fn prune(&self) {
        for _ in 0..MOST_PRUNES {
            match self.engine.rows.prune(PRUNED_AT_ONCE).await {
                Ok(pruned) if pruned == u64::from(PRUNED_AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    let queue = &self.engine.options.name;
                    tracing::warn!(queue, error = chain(&error), "finished rows were not pruned");
                    return;
                }
            }
        }
    }

    /// What happened since the last report.
    fn summary(&self) -> RunSummary {
        let counts = &self.engine.counts;
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        RunSummary::new()
            .count("claimed", take(&counts.claimed))
            .count("succeeded", take(&counts.succeeded))
            .count("queued_again", take(&counts.queued_again))
            .count("dead", take(&counts.dead) + take(&counts.quarantined))
            .count("cancelled", take(&counts.cancelled))
            .count("reclaimed", take(&counts.reclaimed))
            .count("lost", take(&counts.lost))
            .count("running", self.engine.running() as u64)
    }
}
