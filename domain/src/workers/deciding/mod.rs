//! What both decision workers do: take the runs of a slot, load what is known, ask. What becomes of
//! the answers is each worker's own.
//!
//! ```text
//! subjects ── hold_back ──▶ take (fenced) ──▶ load ──▶ ask, several at once ──▶ conclude (fenced)
//!             (isolation)   once per slot     five                              a batch at a time
//!                                             statements
//! ```

mod ask;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use scheduler_core::{
    FenceError, Isolation, IsolationError, JobContext, RunSummary, Store, StoreError,
};
use uuid::Uuid;

pub use self::ask::Providers;
pub(super) use self::ask::{Decided, faulty, unasked};
use self::ask::{Graphs, Question, Spent, decide};
use crate::decisions::{
    AccountView, Budget, ProviderKind, SkipReason, Status, is_late, skipped, slot_of,
};
use crate::store::decision_runs::{self, DecisionTable, NewRun};
use crate::store::snapshots::{self, Knowledge};
use crate::strategy::ValidGraph;

/// How decisions are made.
#[derive(Debug, Clone)]
pub struct DecidingOptions {
    /// How often there is a decision: the length of a slot.
    pub interval: Duration,
    /// Subjects that are asked at once.
    pub concurrency: usize,
    /// How long a provider may take.
    pub provider_timeout: Duration,
    /// Who can be asked.
    pub providers: Providers,
}

impl Default for DecidingOptions {
    /// Every minute, eight at once, 20 s for an answer, without a language model.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            concurrency: 8,
            provider_timeout: Duration::from_secs(20),
            providers: Providers::without_model(),
        }
    }
}

/// Why a cycle of decisions failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecidingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    #[error("accounts were changed each time that decisions were to be executed")]
    Contended,
}

/// Somebody who is to decide in a slot.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// The item that is charged for a fault.
    pub(super) key: i64,
    /// Who decides.
    pub(super) clone_id: i64,
    /// The account that is traded; 0 without one.
    pub(super) account_id: i64,
    /// Who is asked, as it stands in the table.
    pub(super) provider: String,
    /// The strategy's version; `None` is the default draft.
    pub(super) graph_hash: Option<String>,
    /// The version's text.
    pub(super) graph: Option<String>,
    /// What may be spent in a day.
    pub(super) budget: Budget,
    /// Why nobody is to be asked, if so.
    pub(super) skip: Option<SkipReason>,
}

/// A subject whose run this cycle has.
pub(super) struct Taken {
    pub(super) subject: Subject,
    run_id: String,
    asked: Result<(ProviderKind, ValidGraph), String>,
}

impl Taken {
    /// The strategy, where it can be read and the subject is to be asked.
    pub(super) fn graph(&self) -> Option<&ValidGraph> {
        let (_, graph) = self.asked.as_ref().ok()?;
        self.subject.skip.is_none().then_some(graph)
    }

    /// Whether data are looked at for it.
    fn reads(&self) -> bool {
        self.subject.skip.is_none()
            && self.asked.as_ref().is_ok_and(|(kind, _)| *kind != ProviderKind::Noop)
    }

    fn spends(&self) -> bool {
        self.asked.as_ref().is_ok_and(|(kind, _)| *kind == ProviderKind::HttpLlm)
    }
}

/// One cycle of a decision worker.
pub(super) struct Cycle<'c> {
    pub(super) store: &'c Store,
    pub(super) context: &'c JobContext,
    pub(super) isolation: &'c Isolation,
    pub(super) table: DecisionTable,
    pub(super) options: &'c DecidingOptions,
    /// Whether subjects are asked that are left alone for their failures.
    pub(super) force: bool,
}

impl Cycle<'_> {
    /// The length of a slot (ms).
    pub(super) fn interval_ms(&self) -> i64 {
        i64::try_from(self.options.interval.as_millis()).unwrap_or(i64::MAX)
    }

    /// The slot of this cycle, epoch milliseconds.
    pub(super) fn slot_ms(&self) -> i64 {
        slot_of(self.context.scheduled_for_ms(), self.interval_ms())
    }

    /// Ends runs that a crash cut off and that are too old to be decided again.
    pub(super) async fn close_late(&self) -> Result<u64, DecidingError> {
        let now_ms = self.context.now_ms();
        let before_ms = now_ms.saturating_sub(self.interval_ms().saturating_mul(2)) + 1;
        let (lease, table) = (self.context.lease().clone(), self.table);
        let clock = Arc::clone(self.context.clock());
        self.store
            .write("close late decisions", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    Ok(decision_runs::close_late(txn, table, before_ms, &*clock).await?)
                })
            })
            .await
    }

    /// Takes the runs of this slot for subjects that are not held back. What is decided already, or
    /// being decided, is left out.
    pub(super) async fn take(
        &self,
        subjects: Vec<Subject>,
        counts: &mut Counts,
    ) -> Result<Vec<Taken>, DecidingError> {
        counts.subjects += subjects.len() as u64;
        let free = subjects.into_iter().filter(|subject| {
            self.force || self.isolation.hold_back(&subject.key.into()).is_none()
        });
        let subjects: Vec<Subject> = free.collect();
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let runs = subjects.iter().map(|subject| NewRun {
            id: Uuid::now_v7().to_string(),
            clone_id: subject.clone_id,
            account_id: subject.account_id,
            provider: subject.provider.clone(),
            graph_hash: subject.graph_hash.clone(),
        });
        let runs: Vec<NewRun> = runs.collect();
        let (lease, table) = (self.context.lease().clone(), self.table);
        let (slot_ms, now_ms) = (self.slot_ms(), self.context.now_ms());
        let clock = Arc::clone(self.context.clock());
        let taken = self.store.write("take decisions", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                let taken =
                    decision_runs::take(txn, table, lease.key(), slot_ms, &*clock, &runs).await?;
                Ok::<_, DecidingError>(taken)
            })
        });
        let mut ids: BTreeMap<(i64, i64), String> =
            taken.await?.into_iter().map(|run| ((run.clone_id, run.account_id), run.id)).collect();
        let late = is_late(slot_ms, now_ms, self.interval_ms());
        let mut graphs = Graphs::default();
        let taken = subjects.into_iter().filter_map(|mut subject| {
            let Some(run_id) = ids.remove(&(subject.clone_id, subject.account_id)) else {
                counts.duplicates += 1;
                return None;
            };
            subject.skip = subject.skip.or(late.then_some(SkipReason::Late));
            let asked = prepare(&mut graphs, &subject);
            Some(Taken { subject, run_id, asked })
        });
        Ok(taken.collect())
    }

    /// Loads what the subjects need to know.
    pub(super) async fn load(&self, taken: &[Taken]) -> Result<Knowledge, DecidingError> {
        let graphs = taken.iter().filter(|taken| taken.reads()).filter_map(Taken::graph);
        let graphs = graphs.map(ValidGraph::graph);
        Ok(snapshots::load(self.store.reader(), graphs, self.context.now_ms()).await?)
    }

    /// Asks for all of them, several at once, and answers in the order in which they answer: whatever
    /// came while the last ones were written is one batch, of at most `most`. When the cycle is to end,
    /// those that did not answer are left to the next. `accounts` are what the traded accounts show, or
    /// why they cannot be read; one that is not there has no fresh marks.
    pub(super) async fn ask<'a>(
        &'a self,
        taken: Vec<Taken>,
        knowledge: &'a Knowledge,
        mut accounts: BTreeMap<i64, Result<AccountView, String>>,
        most: usize,
    ) -> Result<impl Stream<Item = Vec<Decided>> + 'a, DecidingError> {
        let spenders = taken.iter().filter(|taken| taken.spends());
        let spenders: Vec<i64> = spenders.map(|taken| taken.subject.clone_id).collect();
        let mut used = BTreeMap::new();
        if !spenders.is_empty() {
            let since_ms = day_begin_ms(self.context.now_ms());
            used = decision_runs::sum_usage(self.store.reader(), &spenders, since_ms).await?;
        }
        let spent = Arc::new(Spent::new(used));
        let asked = taken.into_iter().map(move |taken| {
            let Taken { subject, run_id, asked } = taken;
            let Subject { key, clone_id, account_id, budget, skip, .. } = subject;
            let as_of_ms = knowledge.as_of_ms();
            match (skip, asked) {
                (Some(reason), _) => {
                    let run = unasked(run_id, as_of_ms, skipped(reason, None));
                    Err(Box::new(Decided { key, run }))
                }
                (None, Err(error)) => {
                    Err(Box::new(Decided { key, run: faulty(run_id, as_of_ms, error) }))
                }
                (None, Ok((kind, graph))) => {
                    let reads = account_id != 0 && kind != ProviderKind::Noop;
                    let account = match accounts.remove(&account_id) {
                        // What it holds is worth nobody knows what.
                        None if reads => {
                            let run =
                                unasked(run_id, as_of_ms, skipped(SkipReason::StaleData, None));
                            return Err(Box::new(Decided { key, run }));
                        }
                        Some(Err(error)) => {
                            let run = faulty(run_id, as_of_ms, error);
                            return Err(Box::new(Decided { key, run }));
                        }
                        account => account.and_then(Result::ok),
                    };
                    let snapshot = knowledge.snapshot(graph.graph(), account);
                    Ok(Question { key, run_id, clone_id, kind, graph, snapshot, budget })
                }
            }
        });
        let (options, context) = (self.options, self.context);
        let answers = stream::iter(asked)
            .map(move |asked| {
                let spent = Arc::clone(&spent);
                async move {
                    let question = match asked {
                        Ok(question) => question,
                        Err(decided) => return Some(*decided),
                    };
                    let (limit, clock) = (options.provider_timeout, context.clock().as_ref());
                    tokio::select! {
                        decided = decide(&options.providers, question, &spent, limit, clock) => {
                            Some(decided)
                        }
                        () = context.cancelled() => None,
                    }
                }
            })
            .buffer_unordered(options.concurrency.max(1))
            .filter_map(std::future::ready);
        Ok(answers.ready_chunks(most.max(1)))
    }

    /// Charges the items whose runs failed by a fault of this program, and counts. Of `asked` runs
    /// those that are not among the decided are another's by now: nothing of them was written.
    pub(super) fn settle(&self, asked: usize, decided: &[Decided], counts: &mut Counts) {
        let lost = (asked - decided.len()) as u64;
        if lost > 0 {
            tracing::warn!(runs = lost, "decisions were taken over before they were recorded");
        }
        counts.lost += lost;
        for Decided { key, run } in decided {
            match &run.error {
                Some(error) => self.isolation.failed(*key, error.clone()),
                None => self.isolation.succeeded(*key),
            }
            *counts.by_status.entry(run.conclusion.status.as_str()).or_default() += 1;
            if let (Status::Skipped, Some(reason)) = (run.conclusion.status, run.conclusion.reason)
            {
                *counts.by_reason.entry(reason.as_str()).or_default() += 1;
            }
        }
    }
}

/// Who is asked, and by which strategy; else what is wrong with the rows.
fn prepare(graphs: &mut Graphs, subject: &Subject) -> Result<(ProviderKind, ValidGraph), String> {
    let kind: ProviderKind = match subject.provider.parse() {
        Ok(kind) => kind,
        Err(error) => return Err(format!("{error}")),
    };
    let graph = graphs.of(subject.graph_hash.as_deref(), subject.graph.as_deref());
    Ok((kind, graph.map_err(|error| error.to_string())?))
}

/// Midnight UTC before an instant, epoch milliseconds: budgets are by the day.
fn day_begin_ms(now_ms: i64) -> i64 {
    now_ms - now_ms.rem_euclid(86_400_000)
}

/// What a cycle came to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) subjects: u64,
    duplicates: u64,
    lost: u64,
    by_status: BTreeMap<&'static str, u64>,
    by_reason: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(super) fn summary(self) -> RunSummary {
        let summary = RunSummary::new()
            .count("subjects", self.subjects)
            .count("duplicates", self.duplicates)
            .count("lost", self.lost)
            .detail("skip_reasons", serde_json::json!(self.by_reason));
        let counts = self.by_status.into_iter();
        counts.fold(summary, |summary, (status, count)| summary.count(status, count))
    }
}
