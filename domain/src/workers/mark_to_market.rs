//! Marks prop accounts: equity, margin, funding by the hour, liquidation, floors. Load, plan, save;
//! per batch a constant number of statements and one fenced transaction. An account that has ended is
//! settled on as long as an hour of funding that it held through is not, for a day at most.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    Cadence, FenceError, Isolated, Isolation, Item, ItemPolicy, Job, JobContext, JobDefinition,
    JobResult, RegisterError, RunSummary, Scheduler, Store, StoreError,
};
use serde_json::json;

use crate::prop::{
    Account, AccountStatus, Breach, Event, Market, Plan, TransactionKind, Unpriced, mark, settle,
};
use crate::services::accounts::load_market;
use crate::store::prop;

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "prop_mark_to_market";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct MarkToMarketOptions {
    /// How often accounts are marked.
    pub interval: Duration,
    /// Accounts of one cycle, those that were not looked at the longest first.
    pub limit: u32,
}

impl Default for MarkToMarketOptions {
    /// Every minute, 100 accounts.
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), limit: 100 }
    }
}

/// Accounts of one transaction.
const BATCH: u32 = 500;

/// After this long an account that has ended is looked at again while a rate is not there
/// (milliseconds): in a crash many end at once, and the marks of those that live come first.
const SETTLED_AGAIN_AFTER_MS: i64 = 15 * 60_000;

/// Registers the worker with a scheduler.
///
/// # Errors
/// As [`Scheduler::register`].
pub fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &MarkToMarketOptions,
) -> Result<(), RegisterError> {
    let definition = JobDefinition {
        description: "values prop accounts at fresh marks".into(),
        ..JobDefinition::new(NAME, Cadence::every(options.interval))
    };
    let worker = MarkToMarket { store: store.clone(), limit: options.limit };
    scheduler.register(definition, worker)?;
    Ok(())
}

struct MarkToMarket {
    store: Store,
    limit: u32,
}

#[async_trait]
impl Job for MarkToMarket {
    async fn run(&self, context: JobContext) -> JobResult {
        let isolation = context.isolation(ItemPolicy::default()).await?;
        let began_ms = context.now_ms();
        let mut cycle =
            Cycle { store: &self.store, context: &context, isolation, done: Done::default() };
        let mut seen: BTreeSet<i64> = BTreeSet::new();
        let mut left = self.limit;
        while left > 0 && !context.cancellation().is_cancelled() {
            let size = left.min(BATCH);
            let found = prop::find_due(self.store.reader(), began_ms, size).await?;
            let batch: Vec<prop::Loaded> =
                found.into_iter().filter(|loaded| seen.insert(id_of(loaded))).collect();
            let Ok(count) = u32::try_from(batch.len()) else { break };
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
            cycle.mark_batch(batch).await?;
        }
        let Cycle { isolation, done, .. } = cycle;
        done.warn_of_stale_marks();
        Ok(isolation.finish(done.summary()).await?)
    }
}

fn id_of(loaded: &prop::Loaded) -> i64 {
    match loaded {
        Ok(account) => account.id,
        Err(error) => error.id,
    }
}

/// What a cycle did.
#[derive(Default)]
struct Done {
    marked: u64,
    settled: u64,
    stale: u64,
    lost: u64,
    failed: u64,
    halted: u64,
    breached: u64,
    liquidated: u64,
    fills: u64,
    funding_payments: u64,
    stale_symbols: BTreeSet<String>,
}

impl Done {
    fn summary(&self) -> RunSummary {
        RunSummary::new()
            .count("marked", self.marked)
            .count("settled", self.settled)
            .count("stale", self.stale)
            .count("lost", self.lost)
            .count("failed", self.failed)
            .count("halted", self.halted)
            .count("breached", self.breached)
            .count("liquidated", self.liquidated)
            .count("fills", self.fills)
            .count("funding_payments", self.funding_payments)
    }

    fn warn_of_stale_marks(&self) {
        if self.stale > 0 {
            let symbols: Vec<&str> =
                self.stale_symbols.iter().take(10).map(String::as_str).collect();
            tracing::warn!(
                accounts = self.stale,
                symbols = symbols.join(", "),
                "accounts were not marked: no fresh mark"
            );
        }
    }

    fn count(&mut self, plan: &Plan, now_ms: i64) {
        let of_funding = plan.ledger.iter().filter(|moved| moved.kind == TransactionKind::Funding);
        self.funding_payments += of_funding.count() as u64;
        if plan.account.marked_at_ms != Some(now_ms) {
            self.settled += 1;
            return;
        }
        self.marked += 1;
        self.fills += plan.fills.len() as u64;
        self.halted += u64::from(plan.events.iter().any(|event| event.kind == "halted"));
        self.breached += u64::from(plan.account.status == AccountStatus::Breached);
        self.liquidated += u64::from(plan.account.breach == Some(Breach::Liquidated));
    }
}

struct Cycle<'a> {
    store: &'a Store,
    context: &'a JobContext,
    isolation: Isolation,
    done: Done,
}

impl Cycle<'_> {
    async fn mark_batch(&mut self, batch: Vec<prop::Loaded>) -> Result<(), FenceError> {
        let now_ms = self.context.now_ms();
        let (mut untouched, mut waiting) = (Vec::new(), Vec::new());
        let mut failures = BTreeMap::new();
        let mut accounts = Vec::with_capacity(batch.len());
        for loaded in batch {
            let id = id_of(&loaded);
            match loaded {
                Ok(account) => accounts.push(account),
                Err(_) if self.isolation.hold_back(&Item::new(id)).is_some() => untouched.push(id),
                Err(error) => drop(failures.insert(id, error.to_string())),
            }
        }
        let market = load_market(self.store.reader(), &accounts, [], now_ms).await?;
        let mut plans = Vec::with_capacity(accounts.len());
        for account in accounts {
            let id = account.id;
            // An error is a panic of the arithmetic, and stays inside.
            let planned = async { Ok::<_, Infallible>(plan(account, &market, now_ms)) };
            match self.isolation.isolate(id, planned).await {
                Isolated::Done(Ok(Some(plan))) => plans.push(plan),
                Isolated::Done(Ok(None)) => waiting.push(id),
                Isolated::Done(Err(unpriced)) => {
                    self.done.stale += 1;
                    self.done.stale_symbols.extend(unpriced.symbols);
                    untouched.push(id);
                }
                Isolated::Failed(error) => drop(failures.insert(id, error)),
                Isolated::Held(_) => untouched.push(id),
            }
        }
        self.save_isolated(plans, now_ms, &mut failures).await?;
        self.let_wait(waiting, now_ms).await?;
        self.settle(untouched, failures, now_ms).await
    }

    /// Lets accounts that have ended wait for a rate.
    async fn let_wait(&self, waiting: Vec<i64>, now_ms: i64) -> Result<(), FenceError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let lease = self.context.lease().clone();
        self.store
            .write("let ended accounts wait", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    let again_ms = now_ms.saturating_add(SETTLED_AGAIN_AFTER_MS);
                    Ok(prop::touch(txn, &waiting, again_ms).await?)
                })
            })
            .await
    }

    /// Saves all plans at once; if that fails, one by one, so that the culprit stays alone.
    async fn save_isolated(
        &mut self,
        plans: Vec<Plan>,
        now_ms: i64,
        failures: &mut BTreeMap<i64, String>,
    ) -> Result<(), FenceError> {
        if plans.is_empty() {
            return Ok(());
        }
        let plans = Arc::new(plans);
        match self.save(Arc::clone(&plans), 0..plans.len(), now_ms).await {
            Ok(lost) => {
                self.count(&plans, &lost, now_ms);
                return Ok(());
            }
            Err(FenceError::Store(error)) if !error.is_transient() => {
                tracing::debug!(%error, "a batch of marks is saved one by one");
            }
            Err(error) => return Err(error),
        }
        for at in 0..plans.len() {
            match self.save(Arc::clone(&plans), at..at + 1, now_ms).await {
                Ok(lost) => self.count(&plans[at..=at], &lost, now_ms),
                Err(FenceError::Store(error)) if !error.is_transient() => {
                    let id = plans[at].account.id;
                    failures.insert(id, causes(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn save(
        &self,
        plans: Arc<Vec<Plan>>,
        range: std::ops::Range<usize>,
        now_ms: i64,
    ) -> Result<Vec<i64>, FenceError> {
        let lease = self.context.lease().clone();
        self.store
            .write("save marks", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    Ok(prop::save(txn, &plans[range], now_ms).await?)
                })
            })
            .await
    }

    fn count(&mut self, plans: &[Plan], lost: &[i64], now_ms: i64) {
        self.done.lost += lost.len() as u64;
        for plan in plans.iter().filter(|plan| !lost.contains(&plan.account.id)) {
            self.done.count(plan, now_ms);
        }
    }

    /// Lets the accounts that were not saved pass, and makes a failure visible where an auditor
    /// looks for it.
    async fn settle(
        &mut self,
        mut untouched: Vec<i64>,
        failures: BTreeMap<i64, String>,
        now_ms: i64,
    ) -> Result<(), FenceError> {
        self.done.failed += failures.len() as u64;
        let event = |(id, error): (&i64, &String)| {
            let detail = json!({ "error": error[..error.floor_char_boundary(1_000)] });
            (*id, Event { kind: "mark_failed", at_ms: now_ms, detail })
        };
        let events: Vec<(i64, Event)> = failures.iter().map(event).collect();
        for (id, error) in failures {
            self.isolation.failed(id, error);
            untouched.push(id);
        }
        if untouched.is_empty() {
            return Ok(());
        }
        let lease = self.context.lease().clone();
        self.store
            .write("let accounts pass", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    prop::touch(txn, &untouched, now_ms).await?;
                    let events: Vec<(i64, &Event)> =
                        events.iter().map(|(id, event)| (*id, event)).collect();
                    Ok(prop::note(txn, &events).await?)
                })
            })
            .await
    }
}

/// What a mark, or the end of one that is still owed something, changes; `None` is nothing.
fn plan(account: Account, market: &Market, now_ms: i64) -> Result<Option<Plan>, Unpriced> {
    match account.status.is_open() {
        true => mark(account, market, now_ms).map(Some),
        false => Ok(settle(account, market, now_ms)),
    }
}

/// An error with its causes.
fn causes(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
