//! Closing the accounts of clones that were archived: nobody decides for them any more, so nobody
//! else would.

use scheduler_core::{FenceError, Isolated, Isolation, JobContext, RunSummary, Store, StoreError};

use crate::prop::{Account, AccountStatus, Market, Plan, Unpriced, close, mark};
use crate::services::accounts::load_market;
use crate::store::prop::{self, Loaded};
use crate::store::trading_accounts;

/// Accounts that are planned together.
const BATCH: u32 = 100;

/// What became of the accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Closed {
    closed: u64,
    unpriced: u64,
    changed: u64,
}

impl Closed {
    pub(super) fn add_to(self, summary: RunSummary) -> RunSummary {
        summary
            .count("closed", self.closed)
            .count("waiting_for_marks", self.unpriced)
            .count("changed_meanwhile", self.changed)
    }
}

/// Why an account was not closed.
#[derive(Debug, thiserror::Error)]
enum ClosingError {
    #[error(transparent)]
    Unreadable(#[from] prop::UnreadableAccount),
    #[error(transparent)]
    Fence(#[from] FenceError),
}

/// What became of one account.
enum Outcome {
    Closed,
    /// It has no fresh mark: the next cycle looks again.
    Unpriced,
    /// It was marked meanwhile: the next cycle looks again.
    Changed,
}

/// Closes the accounts, but those of auditions, that archived clones left open: each alone, in a
/// transaction of its own. One that cannot be closed stops no other.
///
/// # Errors
/// The database's.
pub(super) async fn close_abandoned(
    store: &Store,
    context: &JobContext,
    isolation: &Isolation,
) -> Result<Closed, StoreError> {
    let mut done = Closed::default();
    let mut after_id = 0;
    while !context.cancellation().is_cancelled() {
        let ids = trading_accounts::find_abandoned(store.reader(), after_id, BATCH).await?;
        let Some(last) = ids.last() else { break };
        after_id = *last;
        let found = prop::find(store.reader(), &ids).await?;
        let now_ms = context.now_ms();
        let accounts: Vec<Account> = found.iter().flatten().cloned().collect();
        let market = load_market(store.reader(), &accounts, [], now_ms).await?;
        for loaded in found {
            let id = loaded.as_ref().map_or_else(|error| error.id, |account| account.id);
            let closing = close_one(store, context, loaded, &market, now_ms);
            match isolation.isolate(id, closing).await {
                Isolated::Done(Outcome::Closed) => done.closed += 1,
                Isolated::Done(Outcome::Unpriced) => done.unpriced += 1,
                Isolated::Done(Outcome::Changed) => done.changed += 1,
                Isolated::Failed(_) | Isolated::Held(_) => {}
            }
        }
    }
    Ok(done)
}

async fn close_one(
    store: &Store,
    context: &JobContext,
    loaded: Loaded,
    market: &Market,
    now_ms: i64,
) -> Result<Outcome, ClosingError> {
    let Ok(plan) = plan(loaded?, market, now_ms) else { return Ok(Outcome::Unpriced) };
    let (lease, account_id) = (context.lease().clone(), plan.account.id);
    let saved = store.write("close an abandoned account", move |txn| {
        Box::pin(async move {
            lease.fence(txn).await?;
            Ok::<_, FenceError>(prop::save(txn, &[plan], now_ms).await?)
        })
    });
    if !saved.await?.is_empty() {
        return Ok(Outcome::Changed);
    }
    tracing::info!(account_id, "the account of an archived clone is closed");
    Ok(Outcome::Closed)
}

/// Plans the end of an account. It is marked once more: what breaks a rule at the marks that it is
/// closed at has broken it. Funding whose rate comes later is settled later.
fn plan(account: Account, market: &Market, now_ms: i64) -> Result<Plan, Unpriced> {
    let marked = mark(account.clone(), market, now_ms)?;
    match marked.account.status.is_open() {
        true => close(account, AccountStatus::Closed, None, market, now_ms),
        false => Ok(marked),
    }
}
