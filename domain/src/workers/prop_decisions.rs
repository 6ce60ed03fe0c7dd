//! Decisions of clones for their prop accounts: proposals, ordered risk checks, paper fills; one run
//! per account and slot.
//!
//! A batch is one transaction: what the runs came to and what it did to the accounts are there
//! together or not at all. An account that was marked or traded meanwhile makes the batch roll back
//! and be planned anew; orders have ids that follow from the run, so that a decision which is
//! executed again collides with itself.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use rust_decimal::prelude::ToPrimitive;
use scheduler_core::{
    Cadence, FenceError, ItemPolicy, Job, JobContext, JobDefinition, JobResult, RegisterError,
    Scheduler, Store, StoreError,
};
use serde_json::json;

use super::deciding::{
    Counts, Cycle, Decided, DecidingError, DecidingOptions, Subject, Taken, faulty,
};
use crate::decisions::{AccountView, Intent, PositionView, SkipReason, Status};
use crate::market::Price;
use crate::prop::{Account, Executed, Limits, Plan, Proposal};
use crate::services::accounts::{Decision, Planned, plan_decisions};
use crate::store::decision_runs::{self, ConcludedRun, DecisionTable};
use crate::store::trading_accounts::{self, TradingAccount};
use crate::store::{prices, prop};

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "prop_decisions";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct PropDecisionsOptions {
    /// How decisions are made.
    pub deciding: DecidingOptions,
    /// Accounts of one cycle, those for which nobody was asked the longest first.
    pub limit: u32,
    /// How old the last mark of an account may be that holds something and opens more. Three times
    /// the interval of the marks: one may be late and one may fail. An account beyond it is not
    /// marked, so that nobody stops or liquidates it: it may only reduce.
    pub max_mark_age: Duration,
}

impl Default for PropDecisionsOptions {
    /// Every minute, 100 accounts; marks of three minutes.
    fn default() -> Self {
        let max_mark_age = Duration::from_secs(180);
        Self { deciding: DecidingOptions::default(), limit: 100, max_mark_age }
    }
}

/// Decisions that are executed in one transaction.
const BATCH: usize = 100;

/// How often a batch is planned anew because an account of it was changed meanwhile.
const ATTEMPTS: u32 = 4;

/// Registers the worker with a scheduler.
///
/// # Errors
/// A name that is taken, or an interval that cannot be.
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &PropDecisionsOptions,
) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: "decides for prop accounts and executes on paper".to_owned(),
        ..JobDefinition::new(NAME, Cadence::every(options.deciding.interval))
    };
    let worker = PropDecisions { store: store.clone(), options: options.clone() };
    scheduler.register(definition, worker)?;
    Ok(())
}

struct PropDecisions {
    store: Store,
    options: PropDecisionsOptions,
}

/// Why a batch was not saved.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// Accounts were changed since they were seen.
    #[error("accounts were changed meanwhile")]
    Changed,
    /// These runs are another's by now.
    #[error("{} runs were taken over meanwhile", .0.len())]
    TakenOver(Vec<String>),
}

impl From<SaveError> for DecidingError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Store(error) => Self::Store(error),
            SaveError::Fence(error) => Self::Fence(error),
            SaveError::Changed | SaveError::TakenOver(_) => Self::Contended,
        }
    }
}

#[async_trait]
impl Job for PropDecisions {
    async fn run(&self, context: JobContext) -> JobResult {
        let isolation = context.isolation(ItemPolicy::default()).await?;
        let cycle = Cycle {
            store: &self.store,
            context: &context,
            isolation: &isolation,
            table: DecisionTable::Prop,
            options: &self.options.deciding,
            force: false,
        };
        let mut counts = Counts::default();
        cycle.close_late().await?;
        let found = trading_accounts::find_next(self.store.reader(), self.options.limit).await?;
        if !found.is_empty() {
            self.decide(&cycle, found, &mut counts).await?;
        }
        Ok(isolation.finish(counts.summary()).await?)
    }
}

impl PropDecisions {
    async fn decide(
        &self,
        cycle: &Cycle<'_>,
        found: Vec<TradingAccount>,
        counts: &mut Counts,
    ) -> Result<(), DecidingError> {
        self.note_asked(cycle, &found).await?;
        let taken = cycle.take(found.into_iter().map(subject).collect(), counts).await?;
        let max_mark_age_ms =
            i64::try_from(self.options.max_mark_age.as_millis()).unwrap_or(i64::MAX);
        let with_graph = |taken: &Taken| Some((taken.subject.key, trader(taken, max_mark_age_ms)?));
        let mut traders: BTreeMap<i64, Trader> = taken.iter().filter_map(with_graph).collect();
        self.note_cooldowns(&taken, &mut traders, cycle.context.now_ms()).await?;
        let knowledge = cycle.load(&taken).await?;
        let ids: Vec<i64> = traders.keys().copied().collect();
        let now_ms = cycle.context.now_ms();
        let loaded = prop::find(self.store.reader(), &ids).await?;
        // Also of what is held and not in the strategy any more.
        let held = loaded.iter().flatten().flat_map(|account| account.positions.keys());
        let prices = prices::load(self.store.reader(), held).await?;
        let views = loaded.into_iter().filter_map(|loaded| match loaded {
            Ok(account) => Some((account.id, Ok(view(&account, &prices, now_ms)?))),
            Err(error) => Some((error.id, Err(error.to_string()))),
        });
        let answers = cycle.ask(taken, &knowledge, views.collect(), BATCH).await?;
        let mut answers = std::pin::pin!(answers);
        while let Some(decided) = answers.next().await {
            let asked = decided.len();
            let decided = self.execute(cycle, &traders, decided).await?;
            cycle.settle(asked, &decided, counts);
        }
        Ok(())
    }

    async fn note_asked(
        &self,
        cycle: &Cycle<'_>,
        found: &[TradingAccount],
    ) -> Result<(), DecidingError> {
        let ids: Vec<i64> = found.iter().map(|account| account.account_id).collect();
        let (lease, now_ms) = (cycle.context.lease().clone(), cycle.context.now_ms());
        self.store
            .write("note who was asked", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    Ok(trading_accounts::note_asked(txn, &ids, now_ms).await?)
                })
            })
            .await
    }

    /// Finds when the actions that cool down last fired.
    async fn note_cooldowns(
        &self,
        taken: &[Taken],
        traders: &mut BTreeMap<i64, Trader>,
        now_ms: i64,
    ) -> Result<(), DecidingError> {
        let waits = taken.iter().filter_map(|taken| {
            let subject = &taken.subject;
            let longest = traders.get(&subject.key)?.cooldowns.values().max()?;
            let since_ms = now_ms.saturating_sub(*longest);
            (*longest > 0).then_some((subject.clone_id, subject.account_id, since_ms))
        });
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return Ok(());
        }
        let table = DecisionTable::Prop;
        for run in decision_runs::find_executed(self.store.reader(), table, &waits).await? {
            let Some(trader) = traders.get_mut(&run.account_id) else { continue };
            let intents = serde_json::from_str::<Vec<Intent>>(&run.intents);
            let fired: Vec<String> = match intents {
                Ok(intents) => intents.into_iter().filter_map(|intent| intent.action_id).collect(),
                // What cannot be read may have been any of them.
                Err(_) => trader.cooldowns.keys().cloned().collect(),
            };
            for action in fired {
                let fired = trader.fired.entry(action).or_default();
                *fired = run.completed_at_ms.max(*fired);
            }
        }
        Ok(())
    }

    /// Executes a batch: all of it in one transaction; where that cannot be stored, one by one, so
    /// that the culprit stays alone. Runs that are another's by now are left out.
    async fn execute(
        &self,
        cycle: &Cycle<'_>,
        traders: &BTreeMap<i64, Trader>,
        decided: Vec<Decided>,
    ) -> Result<Vec<Decided>, DecidingError> {
        match self.execute_together(cycle, traders, decided.clone()).await {
            Err(SaveError::Store(error)) if !error.is_transient() => {
                tracing::debug!(%error, "a batch of decisions is executed one by one");
            }
            Err(SaveError::Changed) => {}
            ended => return Ok(ended?),
        }
        let mut done = Vec::with_capacity(decided.len());
        for one in decided {
            let alone = self.execute_together(cycle, traders, vec![one.clone()]).await;
            match alone {
                Ok(executed) => done.extend(executed),
                Err(error @ (SaveError::Fence(_) | SaveError::Store(_)))
                    if is_everybodys(&error) =>
                {
                    return Err(error.into());
                }
                Err(error) => {
                    let Decided { key, run } = one.charged(error.to_string());
                    match self.save(cycle, vec![Decided { key, run }], Vec::new()).await {
                        Ok(recorded) => done.extend(recorded),
                        Err(SaveError::TakenOver(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(done)
    }

    async fn execute_together(
        &self,
        cycle: &Cycle<'_>,
        traders: &BTreeMap<i64, Trader>,
        mut decided: Vec<Decided>,
    ) -> Result<Vec<Decided>, SaveError> {
        let mut attempt = 1;
        while !decided.is_empty() {
            let (planned, plans) = self.plan(cycle, traders, decided.clone()).await?;
            match self.save(cycle, planned, plans).await {
                Err(SaveError::Changed) if attempt < ATTEMPTS => attempt += 1,
                Err(SaveError::TakenOver(ids)) => {
                    decided.retain(|decided| !ids.contains(&decided.run.id));
                }
                ended => return ended,
            }
        }
        Ok(decided)
    }

    /// Plans what was proposed; what was not is left as it is.
    async fn plan(
        &self,
        cycle: &Cycle<'_>,
        traders: &BTreeMap<i64, Trader>,
        mut decided: Vec<Decided>,
    ) -> Result<(Vec<Decided>, Vec<Plan>), SaveError> {
        let proposing = |decided: &&mut Decided| decided.run.conclusion.status == Status::Running;
        let decisions = decided.iter_mut().filter(proposing).filter_map(|decided| {
            let trader = traders.get(&decided.key)?;
            Some(Decision {
                account_id: decided.key,
                run_id: decided.run.id.clone(),
                proposals: trader.proposals(decided),
                limits: trader.limits.clone(),
            })
        });
        let decisions: Vec<Decision> = decisions.collect();
        let now_ms = cycle.context.now_ms();
        let planned = match decisions.is_empty() {
            true => Vec::new(),
            false => plan_decisions(self.store.reader(), &decisions, now_ms).await?,
        };
        let mut plans = Vec::new();
        let proposing = decided.iter_mut().filter(proposing);
        for (decided, planned) in proposing.zip(planned) {
            record(&mut decided.run, &planned);
            plans.extend(planned.into_plan());
        }
        Ok((decided, plans))
    }

    /// Writes the runs and the accounts: one transaction, all of it or nothing.
    async fn save(
        &self,
        cycle: &Cycle<'_>,
        decided: Vec<Decided>,
        plans: Vec<Plan>,
    ) -> Result<Vec<Decided>, SaveError> {
        let runs: Vec<ConcludedRun> = decided.iter().map(|decided| decided.run.clone()).collect();
        let (lease, now_ms) = (cycle.context.lease().clone(), cycle.context.now_ms());
        let saved = self.store.write("execute decisions", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                let table = DecisionTable::Prop;
                let ended = decision_runs::conclude(txn, table, lease.key(), now_ms, &runs).await?;
                let ended: HashSet<String> = ended.into_iter().collect();
                let mut lost = runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
                lost.retain(|id| !ended.contains(id));
                if !lost.is_empty() {
                    return Err(SaveError::TakenOver(lost));
                }
                let lost = prop::save(txn, &plans, now_ms).await?;
                if lost.is_empty() { Ok(()) } else { Err(SaveError::Changed) }
            })
        });
        saved.await.map(|()| decided)
    }
}

/// Whether a failure is not one account's.
fn is_everybodys(error: &SaveError) -> bool {
    match error {
        SaveError::Fence(_) => true,
        SaveError::Store(error) => error.is_transient(),
        SaveError::Changed | SaveError::TakenOver(_) => false,
    }
}

fn subject(account: TradingAccount) -> Subject {
    let TradingAccount { account_id, clone_id, provider, graph_hash, graph, budget, skip } =
        account;
    Subject { key: account_id, clone_id, account_id, provider, graph_hash, graph, budget, skip }
}

/// What the checks need to know of who decided.
struct Trader {
    limits: Limits,
    /// How long an action cools down (ms), by its id.
    cooldowns: BTreeMap<String, i64>,
    /// When an action last fired, epoch milliseconds, as far as it matters still.
    fired: BTreeMap<String, i64>,
}

fn trader(taken: &Taken, max_mark_age_ms: i64) -> Option<Trader> {
    let graph = taken.graph()?.graph();
    let cooldowns = graph.actions.iter().map(|action| (action.id.clone(), action.cooldown_ms));
    let (limits, cooldowns) = (Limits::of(&graph.risk, max_mark_age_ms), cooldowns.collect());
    Some(Trader { limits, cooldowns, fired: BTreeMap::new() })
}

impl Trader {
    fn proposals(&self, decided: &Decided) -> Vec<Proposal> {
        let proposal = |intent: &Intent| {
            let cooldown = intent.action_id.as_ref().and_then(|action| {
                Some(self.fired.get(action)?.saturating_add(*self.cooldowns.get(action)?))
            });
            Proposal { intent: intent.clone(), cooldown_until_ms: cooldown }
        };
        decided.run.conclusion.intents.iter().map(proposal).collect()
    }
}

/// What an account's snapshot shows; `None` when a position of it has no fresh mark.
fn view(account: &Account, prices: &BTreeMap<String, Price>, now_ms: i64) -> Option<AccountView> {
    let equity = account.value(prices, now_ms).ok()?.equity.to_f64()?;
    let positions = account.positions.iter().filter_map(|(symbol, position)| {
        let (size, entry) = (position.size.to_f64()?, position.entry.to_f64()?);
        Some((symbol.clone(), PositionView { size, entry }))
    });
    let peak_equity = account.peak_equity.to_f64()?;
    Some(AccountView { equity, peak_equity, positions: positions.collect() })
}

/// What the checks and fills made of a run.
fn record(run: &mut ConcludedRun, planned: &Planned) {
    match planned {
        Planned::Executed(executed) => {
            let Executed { verdicts, client_order_ids, refused, .. } = executed.as_ref();
            run.risk_verdicts = Some(json!(verdicts).to_string());
            run.client_order_ids.clone_from(client_order_ids);
            (run.conclusion.status, run.conclusion.reason) = match (client_order_ids.len(), refused)
            {
                (0, true) => (Status::Rejected, None),
                // The account is as it was proposed to be.
                (0, false) => (Status::Skipped, Some(SkipReason::Hold)),
                _ => (Status::Executed, None),
            };
        }
        Planned::AlreadyFilled(orders) => {
            run.client_order_ids.clone_from(orders);
            run.conclusion.status = Status::Executed;
        }
        Planned::Unusable(reason) => *run = faulty(run.id.clone(), run.as_of_ms, reason.clone()),
    }
}
