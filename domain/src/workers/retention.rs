//! Deletes what piles up: decisions, snapshots of equity, events of accounts, back-tests that have
//! ended. Bounded steps, oldest first, so that nobody waits for long.
//!
//! Never touched: the ledger, fills and the decisions that were executed, positions, days of accounts,
//! auditions with their events and evidence. What an audition that runs is judged by stays as long as it runs.

use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    Cadence, FenceError, Job, JobContext, JobDefinition, JobResult, RegisterError, RunSummary,
    Scheduler, Store, StoreError,
};
use sea_orm::DatabaseTransaction;

use crate::store::decision_runs::{self, DecisionTable};
use crate::store::{backtest_jobs, prop};

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "retention";

/// How often the worker looks, and how long rows are kept.
#[derive(Debug, Clone)]
pub struct RetentionOptions {
    /// How often it looks.
    pub interval: Duration,
    /// Decisions of prop accounts. Those that were executed stay: cooldowns are counted from them, however
    /// long. So do all since the oldest audition that runs began.
    pub prop_decisions: Duration,
    /// Decisions of clones on their own, which nothing rests on.
    pub clone_decisions: Duration,
    /// Snapshots of equity. A verdict keeps the one that it rests on.
    pub equity_snapshots: Duration,
    /// Events of accounts: breaches with their evidence, halts, failures.
    pub account_events: Duration,
    /// Back-tests that have ended, with their results, since their end.
    pub backtests: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for RetentionOptions {
    /// Every hour. Decisions of accounts for 45 days, of clones for 14; snapshots for 30, events for
    /// a year, back-tests for 90 days.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3_600),
            prop_decisions: 45 * DAY,
            clone_decisions: 14 * DAY,
            equity_snapshots: 30 * DAY,
            account_events: 365 * DAY,
            backtests: 90 * DAY,
        }
    }
}

/// Rows of one transaction: other writers wait for it.
const STEP: u32 = 2_000;
/// Steps of one table and cycle; what is left waits for the next.
const MOST_STEPS: usize = 500;

/// Registers the worker with a scheduler.
///
/// # Errors
/// A name that is taken, or an interval that cannot be.
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &RetentionOptions,
) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: "deletes what piles up".to_owned(),
        ..JobDefinition::new(NAME, Cadence::every(options.interval))
    };
    let worker = Retention { store: store.clone(), options: options.clone() };
    scheduler.register(definition, worker)?;
    Ok(())
}

struct Retention {
    store: Store,
    options: RetentionOptions,
}

/// What piles up.
#[derive(Debug, Clone, Copy)]
enum Pile {
    PropDecisions,
    CloneDecisions,
    EquitySnapshots,
    AccountEvents,
    Backtests,
}

impl Pile {
    const ALL: [Self; 5] = [
        Self::PropDecisions,
        Self::CloneDecisions,
        Self::EquitySnapshots,
        Self::AccountEvents,
        Self::Backtests,
    ];

    /// Its table, as the summary calls it.
    fn table(self) -> &'static str {
        match self {
            Self::PropDecisions => "prop_decision_runs",
            Self::CloneDecisions => "clone_decision_runs",
            Self::EquitySnapshots => "prop_equity_snapshots",
            Self::AccountEvents => "prop_account_events",
            Self::Backtests => "backtest_jobs",
        }
    }

    fn kept(self, options: &RetentionOptions) -> Duration {
        match self {
            Self::PropDecisions => options.prop_decisions,
            Self::CloneDecisions => options.clone_decisions,
            Self::EquitySnapshots => options.equity_snapshots,
            Self::AccountEvents => options.account_events,
            Self::Backtests => options.backtests,
        }
    }

    async fn prune(self, txn: &DatabaseTransaction, before_ms: i64) -> Result<u64, StoreError> {
        match self {
            Self::PropDecisions => {
                decision_runs::prune(txn, DecisionTable::Prop, before_ms, STEP).await
            }
            Self::CloneDecisions => {
                decision_runs::prune(txn, DecisionTable::Clones, before_ms, STEP).await
            }
            Self::EquitySnapshots => prop::prune_snapshots(txn, before_ms, STEP).await,
            Self::AccountEvents => prop::prune_events(txn, before_ms, STEP).await,
            Self::Backtests => backtest_jobs::prune(txn, before_ms, STEP).await,
        }
    }
}

#[async_trait]
impl Job for Retention {
    async fn run(&self, context: JobContext) -> JobResult {
        let mut summary = RunSummary::new();
        for pile in Pile::ALL {
            summary = summary.count(pile.table(), self.sweep(&context, pile).await?);
        }
        Ok(summary)
    }
}

impl Retention {
    /// Deletes what is older than it is kept, a step at a time.
    async fn sweep(&self, context: &JobContext, pile: Pile) -> Result<u64, FenceError> {
        let kept_ms = i64::try_from(pile.kept(&self.options).as_millis()).unwrap_or(i64::MAX);
        let before_ms = context.now_ms().saturating_sub(kept_ms);
        let mut deleted = 0;
        for _ in 0..MOST_STEPS {
            if context.cancellation().is_cancelled() {
                break;
            }
            let lease = context.lease().clone();
            let step = self.store.write("prune what piles up", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    Ok::<_, FenceError>(pile.prune(txn, before_ms).await?)
                })
            });
            let step = step.await?;
            deleted += step;
            if step < u64::from(STEP) {
                break;
            }
        }
        Ok(deleted)
    }
}
