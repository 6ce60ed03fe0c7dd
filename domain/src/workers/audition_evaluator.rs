//! Starts auditions that wait and judges those that run: whatever is due by a breach, by its target
//! or by the end of its window.
//!
//! An audition ends together with its account, in one transaction, and only if the account is still
//! as the verdict saw it: a breach that was booked meanwhile is seen by the next cycle, and beats the
//! target. What the account still holds is closed at its marks, with fees; without a fresh mark the
//! audition waits for one.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    Cadence, FenceError, Isolated, Isolation, ItemPolicy, Job, JobContext, JobDefinition,
    JobResult, RegisterError, RunSummary, Scheduler, Store, StoreError,
};
use serde_json::{Value, json};

use crate::lifecycle::{
    AuditionReason, AuditionRules, AuditionRulesError, AuditionStatus, Breach, NotAllowed,
    Progress, Verdict, judge, score,
};
use crate::prop::{AccountKind, AccountStatus, Plan, close};
use crate::services::accounts::load_market;
use crate::store::audition_accounts::{self, AccountStanding};
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

/// An account that ends with its audition.
struct EndedAccount {
    account_id: i64,
    /// The version that the verdict was made from.
    version: i64,
    status: AccountStatus,
}

/// What an audition comes to in a cycle.
enum Step {
    /// It goes on, or waits.
    Wait,
    /// It starts.
    Start(Box<AuditionRules>),
    /// It ends, and its account with it.
    End(Box<Move>, Option<EndedAccount>),
}

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
        let accounts: Vec<i64> = due.iter().filter_map(|audition| audition.account_id).collect();
        let standings = audition_accounts::load(self.store.reader(), &accounts).await?;
        let now_ms = context.now_ms();
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
                Some(account) => close(account, ended.status, None, &market, now_ms)
                    .map_or(Closing::Unpriced, |plan| Closing::Planned(Box::new(plan))),
                None => Closing::Changed,
            };
            End { moved, closing }
        });
        Ok(plans.collect())
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
        self.store
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
                    Ok(!auditions::apply(txn, &[moved], now_ms).await?.is_empty())
                })
            })
            .await
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
    /// It was marked or traded since the verdict.
    Changed,
}

/// What becomes of an audition now.
fn step(
    audition: &DueAudition,
    standings: &BTreeMap<i64, AccountStanding>,
    now_ms: i64,
) -> Result<Step, EvaluationError> {
    let rules = AuditionRules::parse(&audition.rules)?;
    let is_archived = audition.clone_status == "archived";
    if audition.audition.status == AuditionStatus::Queued {
        return match (is_archived || !audition.has_its_strategy, audition.clone_status.as_str()) {
            (true, _) => call_off(audition, None),
            (false, "active") => Ok(Step::Start(Box::new(rules))),
            // A pause is not the end: it waits.
            (false, _) => Ok(Step::Wait),
        };
    }
    let standing = match audition.account_id {
        Some(id) => Some(standings.get(&id).ok_or(EvaluationError::Account(id))?),
        None => None,
    };
    let is_open = |standing: &AccountStanding| {
        matches!(standing.status.as_str(), "active" | "halted_until_roll")
    };
    let closed_by_hand = standing.is_some_and(|standing| standing.status == "closed");
    if is_archived || !audition.has_its_strategy || closed_by_hand {
        return call_off(audition, standing.filter(|standing| is_open(standing)));
    }
    let progress = progress_of(&rules, standing);
    let ends_at_ms = audition.ends_at_ms.or_else(|| {
        audition.started_at_ms.map(|started_at_ms| started_at_ms.saturating_add(rules.window_ms))
    });
    let verdict =
        judge(&rules, &progress, ends_at_ms.is_none_or(|ends_at_ms| ends_at_ms <= now_ms));
    let Verdict::Ended { status, reason, missing } = verdict else { return Ok(Step::Wait) };
    let evidence = json!({
        "rules": rules,
        "account_id": audition.account_id,
        "account_version": standing.map(|standing| standing.version),
        "marked_at_ms": standing.and_then(|standing| standing.marked_at_ms),
        "ends_at_ms": ends_at_ms,
        "missing": missing,
        "progress": describe(&progress),
    });
    let transition = audition.audition.transition(status, reason, evidence)?;
    let passed = status == AuditionStatus::Passed;
    let score = passed.then(|| score(&progress));
    let account = standing.filter(|standing| is_open(standing));
    let account = account.and_then(|standing| {
        let status = if passed { AccountStatus::Passed } else { AccountStatus::Closed };
        Some(EndedAccount { account_id: audition.account_id?, version: standing.version, status })
    });
    Ok(Step::End(Box::new(Move { score, ..transition.into() }), account))
}

/// A clone that is gone or trades something else is not auditioned any more.
fn call_off(
    audition: &DueAudition,
    open: Option<&AccountStanding>,
) -> Result<Step, EvaluationError> {
    let evidence = json!({
        "clone_status": audition.clone_status,
        "has_its_strategy": audition.has_its_strategy,
    });
    let (to, reason) = (AuditionStatus::Cancelled, AuditionReason::NotEligible);
    let transition = audition.audition.transition(to, reason, evidence)?;
    let account = open.and_then(|standing| {
        let (account_id, version) = (audition.account_id?, standing.version);
        Some(EndedAccount { account_id, version, status: AccountStatus::Closed })
    });
    Ok(Step::End(Box::new(transition.into()), account))
}

fn progress_of(rules: &AuditionRules, standing: Option<&AccountStanding>) -> Progress {
    let Some(standing) = standing else {
        return Progress {
            breach: None,
            initial: rules.initial,
            balance: rules.initial,
            open_positions: 0,
            closed_trades: 0,
            days: Vec::new(),
            decisions: Default::default(),
        };
    };
    let breach = match standing.breach.as_deref() {
        _ if standing.status != "breached" => None,
        Some("max_daily_loss") => Some(Breach::DailyLoss),
        Some("max_total_loss") => Some(Breach::TotalLoss),
        Some("liquidated") => Some(Breach::Liquidated),
        _ => Some(Breach::Other),
    };
    Progress {
        breach,
        initial: standing.initial,
        balance: standing.cash,
        open_positions: standing.open_positions,
        closed_trades: standing.closed_trades,
        days: standing.days.clone(),
        decisions: standing.decisions,
    }
}

fn describe(progress: &Progress) -> Value {
    let days = progress
        .days
        .iter()
        .map(|day| json!([day.day, day.opening_balance, day.closing_balance, day.opened_position]));
    json!({
        "initial": progress.initial,
        "balance": progress.balance,
        "open_positions": progress.open_positions,
        "closed_trades": progress.closed_trades,
        "trading_days": progress.trading_days(),
        "best_day_share": progress.best_day_share(false),
        "days": days.collect::<Vec<_>>(),
        "decisions": progress.decisions.all,
        "provider_skips": progress.decisions.provider_skips,
        "data_skips": progress.decisions.data_skips,
    })
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
