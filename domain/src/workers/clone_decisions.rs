//! Decisions of clones on their own: what each would do now, recorded once per clone and slot.
//!
//! No account is traded: intents are recorded as `skipped`, with `no_account`. A worker that is
//! filtered or forced is one of its process alone; that a slot is decided once is said by the table,
//! so it cannot decide again what the cluster's worker has decided.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use futures_util::StreamExt;
use scheduler_core::{
    Cadence, ItemPolicy, Job, JobContext, JobDefinition, JobResult, RegisterError, Scheduler,
    Scope, Store,
};

use super::deciding::{Counts, Cycle, Decided, DecidingError, DecidingOptions, Subject};
use crate::decisions::{SkipReason, Status};
use crate::store::clones::{self, DecisionSubject};
use crate::store::decision_runs::{self, ConcludedRun, DecisionTable};

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "clone_decisions";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct CloneDecisionsOptions {
    /// How decisions are made.
    pub deciding: DecidingOptions,
    /// Only these clones; empty is all that are active.
    pub clone_ids: Vec<i64>,
    /// Whether clones decide that are not due yet, or are left alone for their failures. A slot that
    /// is decided stays decided.
    pub force: bool,
    /// Clones that are decided for together.
    pub batch: u32,
}

impl Default for CloneDecisionsOptions {
    /// All active clones, a hundred together.
    fn default() -> Self {
        Self {
            deciding: DecidingOptions::default(),
            clone_ids: Vec::new(),
            force: false,
            batch: 100,
        }
    }
}

/// Registers the worker with a scheduler.
///
/// # Errors
/// A name that is taken, or an interval that cannot be.
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &CloneDecisionsOptions,
) -> Result<(), RegisterError> {
    let is_partial = options.force || !options.clone_ids.is_empty();
    let definition = JobDefinition {
        description: "decides for clones on their own".to_owned(),
        scope: if is_partial { Scope::Instance } else { Scope::Cluster },
        ..JobDefinition::new(NAME, Cadence::every(options.deciding.interval))
    };
    let worker = CloneDecisions { store: store.clone(), options: options.clone() };
    scheduler.register(definition, worker)?;
    Ok(())
}

struct CloneDecisions {
    store: Store,
    options: CloneDecisionsOptions,
}

#[async_trait]
impl Job for CloneDecisions {
    async fn run(&self, context: JobContext) -> JobResult {
        let isolation = context.isolation(ItemPolicy::default()).await?;
        let cycle = Cycle {
            store: &self.store,
            context: &context,
            isolation: &isolation,
            table: DecisionTable::Clones,
            options: &self.options.deciding,
            force: self.options.force,
        };
        let mut counts = Counts::default();
        cycle.close_late().await?;
        if self.options.clone_ids.is_empty() {
            let mut after_id = 0;
            while !context.cancellation().is_cancelled() {
                let found =
                    clones::list_active(self.store.reader(), after_id, self.options.batch).await?;
                let Some(last) = found.last() else { break };
                after_id = last.clone_id;
                self.decide(&cycle, found, &mut counts).await?;
            }
        } else {
            let due = self.find_due(&cycle).await?;
            self.decide(&cycle, due, &mut counts).await?;
        }
        Ok(isolation.finish(counts.summary()).await?)
    }
}

impl CloneDecisions {
    /// The named clones that have not decided within the last interval; all of them by force.
    async fn find_due(&self, cycle: &Cycle<'_>) -> Result<Vec<DecisionSubject>, DecidingError> {
        let reader = self.store.reader();
        let mut named = clones::find_active(reader, &self.options.clone_ids).await?;
        if !self.options.force {
            let after_ms = cycle.context.now_ms().saturating_sub(cycle.interval_ms());
            let ids = &self.options.clone_ids;
            let begun = decision_runs::find_begun_after(reader, ids, after_ms).await?;
            named.retain(|subject| !begun.contains(&subject.clone_id));
        }
        Ok(named)
    }

    async fn decide(
        &self,
        cycle: &Cycle<'_>,
        found: Vec<DecisionSubject>,
        counts: &mut Counts,
    ) -> Result<(), DecidingError> {
        let taken = cycle.take(found.into_iter().map(subject).collect(), counts).await?;
        let knowledge = cycle.load(&taken).await?;
        let most = self.options.batch as usize;
        let answers = cycle.ask(taken, &knowledge, BTreeMap::new(), most).await?;
        let mut answers = std::pin::pin!(answers);
        while let Some(mut decided) = answers.next().await {
            decided.iter_mut().for_each(leave_unexecuted);
            let asked = decided.len();
            let decided = self.record(cycle, decided).await?;
            cycle.settle(asked, &decided, counts);
        }
        Ok(())
    }

    /// Records a batch; where that cannot be stored, one by one, so that the culprit stays alone.
    async fn record(
        &self,
        cycle: &Cycle<'_>,
        decided: Vec<Decided>,
    ) -> Result<Vec<Decided>, DecidingError> {
        match self.conclude(cycle, decided.clone()).await {
            Err(DecidingError::Store(error)) if !error.is_transient() => {
                tracing::debug!(%error, "a batch of decisions is recorded one by one");
            }
            ended => return ended,
        }
        let mut done = Vec::with_capacity(decided.len());
        for one in decided {
            let recorded = match self.conclude(cycle, vec![one.clone()]).await {
                Err(DecidingError::Store(error)) if !error.is_transient() => {
                    self.conclude(cycle, vec![one.charged(error.to_string())]).await
                }
                ended => ended,
            };
            done.extend(recorded?);
        }
        Ok(done)
    }

    /// Records what the runs came to. Answers those that this cycle still had.
    async fn conclude(
        &self,
        cycle: &Cycle<'_>,
        mut decided: Vec<Decided>,
    ) -> Result<Vec<Decided>, DecidingError> {
        let runs: Vec<ConcludedRun> = decided.iter().map(|decided| decided.run.clone()).collect();
        let (lease, now_ms) = (cycle.context.lease().clone(), cycle.context.now_ms());
        let recorded: HashSet<String> = self
            .store
            .write("conclude decisions", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    let table = DecisionTable::Clones;
                    let ended =
                        decision_runs::conclude(txn, table, lease.key(), now_ms, &runs).await?;
                    Ok::<_, DecidingError>(ended.into_iter().collect())
                })
            })
            .await?;
        decided.retain(|decided| recorded.contains(&decided.run.id));
        Ok(decided)
    }
}

fn subject(clone: DecisionSubject) -> Subject {
    let DecisionSubject { clone_id, provider, graph_hash, graph, budget } = clone;
    Subject {
        key: clone_id,
        clone_id,
        account_id: 0,
        provider,
        graph_hash,
        graph,
        budget,
        skip: None,
    }
}

/// There is no account: what was proposed stays a proposal.
fn leave_unexecuted(decided: &mut Decided) {
    let conclusion = &mut decided.run.conclusion;
    if conclusion.status == Status::Running {
        conclusion.status = Status::Skipped;
        conclusion.reason = Some(SkipReason::NoAccount);
    }
}
