//! Starts auditions that wait and judges those that run: whatever is due by a breach, by its target
//! or by the end of its window.
//!
//! An audition ends together with its account, in one transaction, and only if the account is still
//! as the verdict saw it: a breach that was booked meanwhile is seen by the next cycle, and beats the
//! target. Before that the account is marked once more; what the mark books is judged, too. What the
//! account still holds is closed at its marks, with fees; without a fresh mark the audition waits for
//! one.

mod step;
mod window;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    Cadence, FenceError, Isolated, Isolation, ItemPolicy, Job, JobContext, JobDefinition,
    JobResult, RegisterError, RunSummary, Scheduler, Store, StoreError,
};
use serde_json::json;

use self::step::{EndedAccount, Step, asked, step};
use crate::lifecycle::{
    AuditionReason, AuditionRules, AuditionRulesError, AuditionStatus, NotAllowed,
};
use crate::prop::{Account, AccountKind, AccountStatus, HOUR_MS, Market, Plan, close, mark};
use crate::services::accounts::load_market;
use crate::store::audition_accounts::{self, Asked};
use crate::store::auditions::{self, DueAudition, Move};
use crate::store::promotions;
use crate::store::prop::{self, NewAccount};

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "lifecycle_audition_evaluator";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct AuditionEvaluatorOptions {
    /// How often it looks.
    pub interval: Duration,
    /// Auditions that are evaluated together.
    pub batch: u32,
}

impl Default for AuditionEvaluatorOptions {
    /// Every five minutes, a hundred at a time.
    fn default() -> Self {
        Self { interval: Duration::from_secs(300), batch: 100 }
    }
}

/// Registers the worker with a scheduler.
///
/// # Errors
/// A name that is taken, or an interval that cannot be.
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &AuditionEvaluatorOptions,
) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: "starts and judges auditions".to_owned(),
        ..JobDefinition::new(NAME, Cadence::every(options.interval))
    };
    scheduler.register(definition, Evaluator { store: store.clone(), batch: options.batch })?;
    Ok(())
}

struct Evaluator {
    store: Store,
    batch: u32,
}

/// Why an audition, or a cycle, could not be evaluated.
#[derive(Debug, thiserror::Error)]
enum EvaluationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error(transparent)]
    Rules(#[from] AuditionRulesError),
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error("account {0} cannot be read")]
    Account(i64),
    #[error("the audition or its account was changed by somebody else meanwhile")]
    Changed,
}

/// How often an audition is judged in a cycle whose account is marked or trades at the same moment.
const ATTEMPTS: u32 = 4;

#[async_trait]
impl Job for Evaluator {
    async fn run(&self, context: JobContext) -> JobResult {
        let begun_ms = context.now_ms();
        let isolation = context.isolation(ItemPolicy::default()).await?;
        let mut counts = Counts::default();
        while !context.cancellation().is_cancelled() {
            let due = auditions::find_due(self.store.reader(), begun_ms, self.batch).await?;
            if due.is_empty() {
                break;
            }
            self.evaluate(&context, &isolation, due, &mut counts).await?;
        }
        Ok(isolation.finish(counts.summary()).await?)
    }
}

impl Evaluator {
    async fn evaluate(
        &self,
        context: &JobContext,
        isolation: &Isolation,
        due: Vec<DueAudition>,
        counts: &mut Counts,
    ) -> Result<(), EvaluationError> {
        // First of all: what fails below does not hold the others back for ever.
        let evaluated = due.iter().map(|audition| audition.audition.id).collect();
        self.note_evaluated(context, evaluated, counts).await?;
        counts.evaluated += due.len() as u64;
        let mut open = due;
        for _ in 0..ATTEMPTS {
            let changed = self.judge(context, isolation, &open, counts).await?;
            open.retain(|audition| changed.contains(&audition.audition.id));
            if open.is_empty() {
                return Ok(());
            }
        }
        // Nobody's fault: the next cycle judges them anew.
        counts.changed += open.len() as u64;
        Ok(())
    }

    /// Starts what waits and ends what is over. Answers the auditions that changed meanwhile.
    async fn judge(
        &self,
        context: &JobContext,
        isolation: &Isolation,
        due: &[DueAudition],
        counts: &mut Counts,
    ) -> Result<HashSet<i64>, EvaluationError> {
        let now_ms = context.now_ms();
        let accounts: Vec<Asked> =
            due.iter().filter_map(|audition| asked(audition, now_ms)).collect();
        let standings = audition_accounts::load(self.store.reader(), &accounts).await?;
        let mut ends = Vec::new();
        let mut starts = Vec::new();
        let mut changed = HashSet::new();
        for audition in due {
            let work = async { step(audition, &standings, now_ms) };
            match isolation.isolate(audition.audition.id, work).await {
                Isolated::Done(Step::Start(rules)) => starts.push((audition, rules)),
                Isolated::Done(Step::End(moved, account)) => ends.push((*moved, account)),
                Isolated::Done(Step::Wait) | Isolated::Failed(_) | Isolated::Held(_) => {}
            }
        }
        for ended in self.plan_ends(ends, now_ms).await? {
            let id = ended.moved.transition.audition.id;
            let end = match ended.closing {
                Closing::Nothing => None,
                Closing::Planned(plan) => Some(*plan),
                Closing::Unpriced => {
                    counts.unpriced += 1;
                    continue;
                }
                Closing::Marked(plan) => {
                    let booked = isolation.isolate(id, self.book(context, *plan)).await;
                    if let Isolated::Done(()) = booked {
                        changed.insert(id);
                    }
                    continue;
                }
                Closing::Changed => {
                    changed.insert(id);
                    continue;
                }
            };
            let moved = ended.moved.clone();
            let saved = isolation.isolate(id, self.end(context, moved, end)).await;
            match saved {
                Isolated::Done(Some(queued)) => {
                    counts.queued += queued;
                    counts.ended(&ended.moved);
                }
                Isolated::Done(None) => {
                    changed.insert(id);
                }
                Isolated::Failed(_) | Isolated::Held(_) => {}
            }
        }
        for (audition, rules) in starts {
            let work = self.start(context, audition, &rules);
            if let Isolated::Done(started) = isolation.isolate(audition.audition.id, work).await {
                counts.started += u64::from(started);
            }
        }
        Ok(changed)
    }

    /// Notes that auditions were looked at, and queues what has passed before.
    async fn note_evaluated(
        &self,
        context: &JobContext,
        evaluated: Vec<i64>,
        counts: &mut Counts,
    ) -> Result<(), EvaluationError> {
        let (lease, now_ms) = (context.lease().clone(), context.now_ms());
        let queued = self.store.write("note evaluations", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                auditions::note_evaluated(txn, &evaluated, now_ms).await?;
                Ok::<_, EvaluationError>(promotions::enqueue_passed(txn, now_ms).await?)
            })
        });
        counts.queued += queued.await?;
        Ok(())
    }

    /// Plans the end of the accounts, in a constant number of statements.
    async fn plan_ends(
        &self,
        ends: Vec<(Move, Option<EndedAccount>)>,
        now_ms: i64,
    ) -> Result<Vec<End>, EvaluationError> {
        let ids: Vec<i64> =
            ends.iter().filter_map(|(_, account)| Some(account.as_ref()?.account_id)).collect();
        let reader = self.store.reader();
        let accounts: Vec<_> = prop::find(reader, &ids).await?.into_iter().flatten().collect();
        let market = load_market(reader, &accounts, [], now_ms).await?;
        let mut accounts: BTreeMap<_, _> =
            accounts.into_iter().map(|account| (account.id, account)).collect();
        let plans = ends.into_iter().map(|(moved, ended)| {
            let Some(ended) = ended else { return End { moved, closing: Closing::Nothing } };
            let account = accounts.remove(&ended.account_id);
            let closing = match account.filter(|account| account.version == ended.version) {
                Some(account) => closing(account, ended.status, &market, now_ms),
                None => Closing::Changed,
            };
            End { moved, closing }
        });
        Ok(plans.collect())
    }

    /// Books the mark of an account. Whoever was faster has it.
    async fn book(&self, context: &JobContext, plan: Plan) -> Result<(), EvaluationError> {
        let (lease, now_ms) = (context.lease().clone(), context.now_ms());
        self.store
            .write("mark an account that ends", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    prop::save(txn, &[plan], now_ms).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Ends an audition with its account, and queues it if it passed: one transaction. Answers how
    /// many were queued; `None`, and nothing is written, when somebody was faster.
    async fn end(
        &self,
        context: &JobContext,
        moved: Move,
        plan: Option<Plan>,
    ) -> Result<Option<u64>, EvaluationError> {
        let (lease, now_ms) = (context.lease().clone(), context.now_ms());
        let ended = self
            .store
            .write("end an audition", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    let moved = auditions::apply(txn, &[moved], now_ms).await?;
                    let plan: Vec<Plan> = plan.into_iter().collect();
                    let lost = prop::save(txn, &plan, now_ms).await?;
                    if moved.is_empty() || !lost.is_empty() {
                        return Err(EvaluationError::Changed);
                    }
                    Ok(promotions::enqueue_passed(txn, now_ms).await?)
                })
            })
            .await;
        match ended {
            Ok(queued) => Ok(Some(queued)),
            Err(EvaluationError::Changed) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the account of an audition and starts it: one transaction. `false` when somebody was
    /// faster.
    async fn start(
        &self,
        context: &JobContext,
        audition: &DueAudition,
        rules: &AuditionRules,
    ) -> Result<bool, EvaluationError> {
        let now_ms = context.now_ms();
        let ends_at_ms = now_ms.saturating_add(rules.window_ms);
        let evidence = json!({ "rules": rules, "ends_at_ms": ends_at_ms });
        let (running, opened) = (AuditionStatus::Running, AuditionReason::AccountOpened);
        let transition = audition.audition.transition(running, opened, evidence)?;
        let lease = context.lease().clone();
        let (id, clone_id) = (audition.audition.id, audition.clone_id);
        let rules = rules.clone();
        let started = self
            .store
            .write("start an audition", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    let new = NewAccount {
                        clone_id,
                        kind: AccountKind::Audition,
                        rules: rules.account,
                        initial: rules.initial,
                        creation_key: Some(format!("audition:{id}")),
                    };
                    let account_id = Some(prop::open(txn, &new, now_ms).await?.id);
                    let ends_at_ms = Some(ends_at_ms);
                    let moved = Move { account_id, ends_at_ms, ..transition.into() };
                    if auditions::apply(txn, &[moved], now_ms).await?.is_empty() {
                        // Nobody would close the account.
                        return Err(EvaluationError::Changed);
                    }
                    Ok(())
                })
            })
            .await;
        match started {
            Ok(()) => Ok(true),
            Err(EvaluationError::Changed) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The end of an audition.
struct End {
    moved: Move,
    closing: Closing,
}

/// How the account of an audition ends.
enum Closing {
    /// There is none that is open.
    Nothing,
    /// At its marks.
    Planned(Box<Plan>),
    /// It cannot be closed now.
    Unpriced,
    /// Its mark of now moves money or breaks its rules: it is booked, and judged by.
    Marked(Box<Plan>),
    /// It was marked or traded since the verdict.
    Changed,
}

/// Plans the end of an account. The verdict knows its last mark only: it is marked once more, since
/// what breaks a rule at the marks that it is closed at has broken it, and what is booked then (the
/// funding of an hour whose rate came late) may take the target away. An hour of funding that it held
/// through and that is not settled yet is waited for.
fn closing(account: Account, status: AccountStatus, market: &Market, now_ms: i64) -> Closing {
    match mark(account.clone(), market, now_ms) {
        Err(_) => Closing::Unpriced,
        Ok(marked) if !marked.account.status.is_open() => Closing::Marked(Box::new(marked)),
        Ok(marked) if marked.account.funding_until_ms < now_ms - now_ms.rem_euclid(HOUR_MS) => {
            Closing::Unpriced
        }
        Ok(marked) if !marked.ledger.is_empty() => Closing::Marked(Box::new(marked)),
        Ok(_) => close(account, status, None, market, now_ms)
            .map_or(Closing::Unpriced, |plan| Closing::Planned(Box::new(plan))),
    }
}

#[derive(Default)]
struct Counts {
    evaluated: u64,
    started: u64,
    queued: u64,
    unpriced: u64,
    changed: u64,
    by_status: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn ended(&mut self, moved: &Move) {
        let transition = &moved.transition;
        *self.by_status.entry(transition.to.as_str()).or_default() += 1;
        tracing::info!(
            audition_id = transition.audition.id,
            status = transition.to.as_str(),
            reason = transition.reason.as_str(),
            "audition ended"
        );
    }

    fn summary(self) -> RunSummary {
        let summary = RunSummary::new()
            .count("evaluated", self.evaluated)
            .count("started", self.started)
            .count("queued_for_promotion", self.queued)
            .count("waiting_for_marks", self.unpriced)
            .count("changed_meanwhile", self.changed);
        self.by_status
            .into_iter()
            .fold(summary, |summary, (status, count)| summary.count(status, count))
    }
}
