//! Prop accounts: opening, closing, and executing what clones decided.
//!
//! A decision worker plans many decisions in a constant number of statements and saves them in one
//! transaction with its own rows:
//!
//! ```no_run
//! # use domain::services::accounts::{Decision, Planned, plan_decisions};
//! # async fn example(
//! #     store: scheduler_core::Store,
//! #     lease: scheduler_core::Lease,
//! #     decisions: Vec<Decision>,
//! # ) -> Result<(), scheduler_core::FenceError> {
//! let now_ms = store.clock().now_ms();
//! let planned = plan_decisions(store.reader(), &decisions, now_ms).await?;
//! let plans: Vec<_> = planned.into_iter().filter_map(Planned::into_plan).collect();
//! let lost = store
//!     .write("execute decisions", move |txn| {
//!         Box::pin(async move {
//!             lease.fence(txn).await?;
//!             // … the runs' own rows …
//!             Ok::<_, scheduler_core::FenceError>(
//!                 domain::store::prop::save(txn, &plans, now_ms).await?,
//!             )
//!         })
//!     })
//!     .await?;
//! // The accounts in `lost` were marked or traded meanwhile: plan those decisions again.
//! # Ok(()) }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use scheduler_core::{Store, StoreError};
use sea_orm::ConnectionTrait;

use crate::prop::{
    Account, AccountStatus, Breach, Executed, InvalidRules, Limits, Market, Plan, Proposal,
    Unpriced, client_order_id, close, execute,
};
use crate::store::prices;
use crate::store::prop::{
    self, NewAccount, Opened, UnreadableAccount, find, find_filled, load_funding,
};

/// Why an account was not opened or closed. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The rules cannot be.
    #[error(transparent)]
    Rules(#[from] InvalidRules),
    /// There is no such account.
    #[error("there is no account {0}")]
    NotFound(i64),
    /// Its rows cannot be understood.
    #[error(transparent)]
    Unreadable(#[from] UnreadableAccount),
    /// A position has no fresh mark to close it at.
    #[error(transparent)]
    Unpriced(#[from] Unpriced),
    /// Others kept changing the account.
    #[error("account {0} changed each time that it was to be closed; try again")]
    Contended(i64),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens an account with its deposit, or finds the one that was opened under the same key.
///
/// In a transaction of one's own: [`AccountRules::check`](crate::prop::AccountRules::check), then
/// [`store::prop::open`](prop::open).
///
/// # Errors
/// Rules that cannot be, or the database's.
pub async fn open_account(store: &Store, new: NewAccount) -> Result<Opened, AccountError> {
    new.rules.check(new.initial)?;
    let now_ms = store.clock().now_ms();
    let opened: Result<Opened, StoreError> = store
        .write("open an account", move |txn| {
            Box::pin(async move { prop::open(txn, &new, now_ms).await })
        })
        .await;
    Ok(opened?)
}

/// How often a closing is planned anew because somebody else was first.
const CLOSING_ATTEMPTS: u32 = 5;

/// Closes an account: its positions at their marks with fees, then its status. One that has ended
/// already is left as it is.
///
/// # Errors
/// An account that is not there, a position without a fresh mark, or the database's.
pub async fn close_account(
    store: &Store,
    account_id: i64,
    status: AccountStatus,
    breach: Option<Breach>,
) -> Result<(), AccountError> {
    for _ in 0..CLOSING_ATTEMPTS {
        let now_ms = store.clock().now_ms();
        let planned = plan_closing(store.reader(), account_id, status, breach, now_ms).await?;
        let Some(plan) = planned else { return Ok(()) };
        let lost: Result<Vec<i64>, StoreError> = store
            .write("close an account", move |txn| {
                Box::pin(async move { prop::save(txn, &[plan], now_ms).await })
            })
            .await;
        if lost?.is_empty() {
            return Ok(());
        }
    }
    Err(AccountError::Contended(account_id))
}

/// Plans the closing of an account, to be saved with [`store::prop::save`](prop::save) in the
/// caller's transaction; `None` when it has ended already.
///
/// # Errors
/// As [`close_account`].
pub async fn plan_closing(
    database: &impl ConnectionTrait,
    account_id: i64,
    status: AccountStatus,
    breach: Option<Breach>,
    now_ms: i64,
) -> Result<Option<Plan>, AccountError> {
    let account = find(database, &[account_id]).await?.pop();
    let account = account.ok_or(AccountError::NotFound(account_id))??;
    if !account.status.is_open() {
        return Ok(None);
    }
    let market = load_market(database, std::slice::from_ref(&account), [], now_ms).await?;
    Ok(Some(close(account, status, breach, &market, now_ms)?))
}

/// What a clone decided for an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The account.
    pub account_id: i64,
    /// The run of the decision: its orders' ids follow from it.
    pub run_id: String,
    /// What is proposed, in order.
    pub proposals: Vec<Proposal>,
    /// What the strategy allows itself.
    pub limits: Limits,
}

/// What is to become of a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// Checks and fills, to be saved. A plan without fills needs no saving.
    Executed(Box<Executed>),
    /// These orders of it were filled before: nothing is left to do.
    AlreadyFilled(Vec<String>),
    /// The account cannot be understood, or is not there.
    Unusable(String),
}

impl Planned {
    /// The plan, if it has fills.
    #[must_use]
    pub fn into_plan(self) -> Option<Plan> {
        match self {
            Self::Executed(executed) if !executed.plan.fills.is_empty() => Some(executed.plan),
            _ => None,
        }
    }
}

/// Plans decisions of different accounts, in a constant number of statements; answers in their
/// order.
///
/// # Errors
/// The database's.
pub async fn plan_decisions(
    database: &impl ConnectionTrait,
    decisions: &[Decision],
    now_ms: i64,
) -> Result<Vec<Planned>, StoreError> {
    let order_ids = |decision: &Decision| {
        let run_id = decision.run_id.clone();
        (0..decision.proposals.len()).map(move |at| client_order_id(&run_id, at))
    };
    let asked: Vec<String> = decisions.iter().flat_map(order_ids).collect();
    let filled = find_filled(database, &asked).await?;
    let ids: BTreeSet<i64> = decisions.iter().map(|decision| decision.account_id).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let mut accounts: BTreeMap<i64, Account> = BTreeMap::new();
    let mut unusable: BTreeMap<i64, String> = BTreeMap::new();
    for loaded in find(database, &ids).await? {
        match loaded {
            Ok(account) => drop(accounts.insert(account.id, account)),
            Err(error) => drop(unusable.insert(error.id, error.to_string())),
        }
    }
    let symbols = decisions.iter().flat_map(|decision| &decision.proposals);
    let symbols: BTreeSet<&str> = symbols.map(|proposal| proposal.intent.symbol.as_str()).collect();
    let known: Vec<Account> = accounts.values().cloned().collect();
    let market = load_market(database, &known, symbols, now_ms).await?;
    let plan = |decision: &Decision| {
        let before: Vec<String> = order_ids(decision).filter(|id| filled.contains(id)).collect();
        if !before.is_empty() {
            return Planned::AlreadyFilled(before);
        }
        let Some(account) = accounts.get(&decision.account_id) else {
            let missing = || format!("there is no account {}", decision.account_id);
            return Planned::Unusable(
                unusable.get(&decision.account_id).cloned().unwrap_or_else(missing),
            );
        };
        let Decision { run_id, proposals, limits, .. } = decision;
        let executed = execute(account.clone(), run_id, proposals, limits, &market, now_ms);
        Planned::Executed(Box::new(executed))
    };
    Ok(decisions.iter().map(plan).collect())
}

/// Loads what is known of the markets of accounts, and of more symbols, in two statements.
///
/// # Errors
/// The database's.
pub async fn load_market<'a>(
    database: &impl ConnectionTrait,
    accounts: &'a [Account],
    more: impl IntoIterator<Item = &'a str>,
    now_ms: i64,
) -> Result<Market, StoreError> {
    let held: BTreeSet<&str> = accounts.iter().flat_map(Account::symbols).collect();
    let symbols: BTreeSet<&str> = held.iter().copied().chain(more).collect();
    let prices = prices::load(database, symbols).await?;
    let held: Vec<&str> = held.into_iter().collect();
    let since_ms = accounts.iter().map(|account| account.funding_until_ms).min();
    let funding = load_funding(database, &held, since_ms.unwrap_or(now_ms), now_ms).await?;
    Ok(Market { prices, funding })
}
