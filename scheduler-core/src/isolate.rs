//! A cycle over many items that does not stop for one of them.
//!
//! [`JobContext::isolation`] reads once which items of the job failed before.
//! [`Isolation::isolate`] runs one item: an error or a panic stays inside, is counted per job and
//! item, and holds the item back for a growing while; after [`ItemPolicy::max_attempts`] failures in
//! a row it is *dead* and waits for a person. [`Isolation::finish`] writes it all, in one transaction
//! that the cycle's lease fences: what a frozen host charges does not land. Both are a constant
//! number of statements per cycle, not per item.
//!
//! When at least ten items ran and more than half of them failed alike, it is not the items: the
//! cycle fails with [`IsolationError::Outage`], and no item is charged.
//!
//! ```
//! use scheduler_core::{Isolated, ItemPolicy, JobContext, JobResult, RunSummary};
//!
//! # async fn accounts() -> Vec<i64> { vec![7] }
//! # async fn mark(_account: i64) -> Result<(), std::io::Error> { Ok(()) }
//! async fn mark_all(context: JobContext) -> JobResult {
//!     let isolation = context.isolation(ItemPolicy::default()).await?;
//!     let mut marked = 0;
//!     for account in accounts().await {
//!         match isolation.isolate(account, mark(account)).await {
//!             Isolated::Done(()) => marked += 1,
//!             Isolated::Failed(_) => {} // Counted and logged by `finish`.
//!             Isolated::Held(_) => {}   // Backing off, dead, discarded, or the run is to end.
//!         }
//!     }
//!     // Adds `items_ran`, `items_failed`, `items_skipped` and `items_dead` to the summary.
//!     Ok(isolation.finish(RunSummary::new().count("marked", marked)).await?)
//! }
//! ```
//!
//! **Items at once.** `isolate` takes `&self`: drive several with `buffer_unordered` or `join_all`.
//!
//! **Items in batches.** A cycle that loads, decides and saves many items with one statement asks
//! [`hold_back`](Isolation::hold_back) before and says [`succeeded`](Isolation::succeeded) or
//! [`failed`](Isolation::failed) afterwards.
//!
//! **Effects.** An item that failed may have had effects: make them one transaction, with
//! [`Lease::fence`](crate::Lease::fence), or idempotent.
//!
//! **People.** [`DeadLetterStore`](crate::store::DeadLetterStore) lists what failed, retries it and
//! discards it. An item that succeeds is resolved.
//!
//! **Keys.** A key is stable and unique within its job; one longer than [`Item::LONGEST_KEY`] is
//! shortened to a unique one.

mod alike;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::alike::{Outage, outage};
use crate::chance;
use crate::clock::millis;
use crate::definition::fnv1a;
use crate::error::StoreError;
use crate::executor::{chain, panic_message};
use crate::job::{JobContext, JobError};
use crate::lease::Lease;
use crate::retry::Backoff;
use crate::run::RunSummary;
use crate::store::{ItemFailure, ItemSettlement, LetterStatus, SchedulerStore, Standing};

/// When items that failed are tried again, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemPolicy {
    /// After this many failures in a row an item is dead; at least 1.
    pub max_attempts: u32,
    /// How long it is left alone after each failure. It runs in the first cycle after that.
    pub backoff: Backoff,
}

impl Default for ItemPolicy {
    /// Ten attempts with the default back-off: an item is given up after 36 minutes or more.
    fn default() -> Self {
        Self { max_attempts: 10, backoff: Backoff::default() }
    }
}

/// One item of a cycle. Whatever can be shown is a key and makes one: `17`, `"acct-17"`, a UUID.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    key: String,
    payload: Option<Value>,
}

impl Item {
    /// The longest key that is kept as it is, in bytes.
    pub const LONGEST_KEY: usize = 200;
    /// The longest payload that is kept, in bytes as JSON.
    pub const LONGEST_PAYLOAD: usize = 16_384;

    /// The item with this key.
    #[must_use]
    pub fn new(key: impl fmt::Display) -> Self {
        Self { key: kept_key(key.to_string()), payload: None }
    }

    /// Adds what a person should see beside the error, if it fails. No secrets: it is stored and
    /// shown. A payload longer than [`LONGEST_PAYLOAD`](Self::LONGEST_PAYLOAD) is replaced by its
    /// length.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Value>) -> Self {
        let payload = payload.into();
        let bytes = payload.to_string().len();
        let fits = bytes <= Self::LONGEST_PAYLOAD;
        self.payload = Some(if fits { payload } else { json!({ "payload_bytes": bytes }) });
        self
    }

    /// The key, as it is kept.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl<K: fmt::Display> From<K> for Item {
    fn from(key: K) -> Self {
        Self::new(key)
    }
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolated<T> {
    /// It succeeded.
    Done(T),
    /// It failed or panicked: the whole chain. [`Isolation::finish`] charges and logs it.
    Failed(String),
    /// It did not run.
    Held(Held),
}

/// Why an item does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Held {
    /// It failed a while ago and is tried again then.
    BackingOff {
        /// Not before, epoch milliseconds.
        until_ms: i64,
    },
    /// It failed too often: a person has to retry or discard it.
    Dead,
    /// A person discarded it.
    Discarded,
    /// The run is to end: a stop, its deadline, or a lost lease.
    Cancelled,
}

/// Counts of a cycle's items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemTally {
    /// Items that ran.
    pub ran: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Items that did not run: backing off, dead, discarded, or the run was to end.
    pub skipped: u64,
    /// Items of the job that are dead.
    pub dead: u64,
}

/// Why a cycle over items fails as a whole. No item was charged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// More than half of the items failed alike.
    #[error("{failed} of {ran} items failed alike, none of them is charged: {error}")]
    Outage {
        /// Items that failed like this.
        failed: u64,
        /// Items that ran.
        ran: u64,
        /// How one of them failed.
        error: String,
    },
    /// The cycle's lease expired or was granted to another.
    #[error("the lease of the cycle was lost; what became of its items is not recorded")]
    Lost,
    /// The database.
    #[error("the items of the cycle could not be settled")]
    Store(#[from] StoreError),
}

/// The items of one cycle; see [`JobContext::isolation`].
pub struct Isolation {
    job: Arc<str>,
    store: Arc<dyn SchedulerStore>,
    lease: Lease,
    cancellation: CancellationToken,
    policy: ItemPolicy,
    standings: HashMap<String, Standing>,
    verdicts: Mutex<Verdicts>,
}

#[derive(Default)]
struct Verdicts {
    /// `None` is a success. A failure is not taken back by a later success of the same cycle.
    of_items: BTreeMap<String, Option<Failure>>,
    skipped: u64,
}

#[derive(Debug, Clone)]
struct Failure {
    error: String,
    payload: Option<Value>,
}

impl JobContext {
    /// Begins a cycle over items: reads which of the job's items failed before. One statement.
    ///
    /// # Errors
    /// The database's.
    pub async fn isolation(&self, policy: ItemPolicy) -> Result<Isolation, StoreError> {
        let standings = self.store.standings(&self.job).await?;
        Ok(Isolation {
            job: Arc::clone(&self.job),
            store: Arc::clone(&self.store),
            lease: self.lease.clone(),
            cancellation: self.cancellation.clone(),
            policy,
            standings: standings.into_iter().map(|item| (item.item_key.clone(), item)).collect(),
            verdicts: Mutex::default(),
        })
    }
}

impl Isolation {
    /// Runs an item, unless it is held back, and keeps its error or panic inside.
    ///
    /// An item that ends with an error after the run was told to end is not charged.
    pub async fn isolate<T, E>(
        &self,
        item: impl Into<Item>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Isolated<T>
    where
        E: Into<JobError>,
    {
        let item = item.into();
        if let Some(held) = self.hold_back(&item) {
            return Isolated::Held(held);
        }
        let error = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(done)) => {
                self.succeeded(item);
                return Isolated::Done(done);
            }
            Ok(Err(error)) => chain(error.into().as_ref()),
            Err(panic) => panic_message(panic.as_ref()),
        };
        if self.cancellation.is_cancelled() {
            self.verdicts().skipped += 1;
            return Isolated::Held(Held::Cancelled);
        }
        self.charge(item, error.clone());
        Isolated::Failed(error)
    }

    /// Why an item is not to run in this cycle, if so; it is counted as skipped then. Asked by
    /// [`isolate`](Self::isolate) itself.
    pub fn hold_back(&self, item: &Item) -> Option<Held> {
        let held = self.held(item);
        self.verdicts().skipped += u64::from(held.is_some());
        held
    }

    /// Notes that an item came right, which [`isolate`](Self::isolate) does by itself.
    pub fn succeeded(&self, item: impl Into<Item>) {
        self.verdicts().of_items.entry(item.into().key).or_default();
    }

    /// Notes that an item failed, which [`isolate`](Self::isolate) does by itself. Of several
    /// verdicts about one item the failure stands.
    pub fn failed(&self, item: impl Into<Item>, error: impl Into<JobError>) {
        self.charge(item.into(), chain(error.into().as_ref()));
    }

    /// The counts so far; `dead` is what stood at the begin of the cycle.
    #[must_use]
    pub fn tally(&self) -> ItemTally {
        let verdicts = self.verdicts();
        let dead = self.standings.values().filter(|item| item.status == LetterStatus::Dead);
        ItemTally {
            ran: verdicts.of_items.len() as u64,
            failed: verdicts.of_items.values().flatten().count() as u64,
            skipped: verdicts.skipped,
            dead: dead.count() as u64,
        }
    }

    /// Ends the cycle: charges the items that failed, resolves those that came right, and adds the
    /// counts to the summary as `items_ran`, `items_failed`, `items_skipped` and `items_dead`.
    ///
    /// # Errors
    /// [`IsolationError::Outage`] when the items are not to blame, [`IsolationError::Lost`] when the
    /// lease is gone, or the database's. No item is charged then.
    pub async fn finish(self, summary: RunSummary) -> Result<RunSummary, IsolationError> {
        let ItemTally { ran, failed, skipped, dead } = self.tally();
        let of_items = std::mem::take(&mut self.verdicts().of_items);
        let failures = of_items.iter().filter_map(|(key, failure)| Some((key, failure.as_ref()?)));
        let outage = outage(ran, failures.clone().map(|(key, failure)| (key, &failure.error)));
        let charges: Vec<Charge> = match outage {
            Some(_) => Vec::new(),
            None => failures.map(|(key, failure)| self.charge_of(key, failure)).collect(),
        };
        let came_right = of_items.iter().filter(|(key, failure)| {
            failure.is_none() && self.standings.contains_key(key.as_str())
        });
        self.settle(&charges, came_right.map(|(key, _)| key.clone()).collect()).await?;
        if let Some(Outage { failed, error }) = outage {
            return Err(IsolationError::Outage { failed, ran, error: error.to_owned() });
        }
        charges.iter().for_each(Charge::log);
        let died = charges.iter().filter(|charge| charge.is_last).count() as u64;
        Ok(summary
            .count("items_ran", ran)
            .count("items_failed", failed)
            .count("items_skipped", skipped)
            .count("items_dead", dead + died))
    }

    async fn settle(
        &self,
        charges: &[Charge],
        resolved: Vec<String>,
    ) -> Result<(), IsolationError> {
        if charges.is_empty() && resolved.is_empty() {
            return Ok(());
        }
        let settlement = ItemSettlement {
            key: self.lease.key().clone(),
            job: self.job.to_string(),
            max_attempts: i32::try_from(self.policy.max_attempts).unwrap_or(i32::MAX),
            failures: charges.iter().map(|charge| charge.failure.clone()).collect(),
            resolved,
        };
        if self.store.settle_items(&settlement).await? {
            return Ok(());
        }
        self.lease.mark_lost();
        Err(IsolationError::Lost)
    }

    fn held(&self, item: &Item) -> Option<Held> {
        if self.cancellation.is_cancelled() {
            return Some(Held::Cancelled);
        }
        let standing = self.standings.get(&item.key)?;
        match standing.status {
            LetterStatus::Dead => Some(Held::Dead),
            LetterStatus::Discarded => Some(Held::Discarded),
            LetterStatus::BackingOff | LetterStatus::Retrying | LetterStatus::Resolved => {
                let until_ms = standing.next_attempt_at_ms.filter(|_| !standing.due)?;
                Some(Held::BackingOff { until_ms })
            }
        }
    }

    fn charge(&self, item: Item, error: String) {
        let failure = Failure { error, payload: item.payload };
        self.verdicts().of_items.insert(item.key, Some(failure));
    }

    fn charge_of(&self, key: &str, failure: &Failure) -> Charge {
        let before = self.standings.get(key).map_or(0, |standing| standing.attempts);
        let attempts = u32::try_from(before).unwrap_or(0).saturating_add(1);
        let delay = self.policy.backoff.delay(attempts, chance::fraction());
        Charge {
            attempts,
            is_last: attempts >= self.policy.max_attempts,
            failure: ItemFailure {
                item_key: key.to_owned(),
                delay_ms: millis(delay),
                error: failure.error.clone(),
                payload: failure.payload.clone(),
            },
        }
    }

    fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolation")
            .field("job", &self.job)
            .field("tally", &self.tally())
            .finish_non_exhaustive()
    }
}

/// A failure that is charged to its item.
struct Charge {
    failure: ItemFailure,
    attempts: u32,
    is_last: bool,
}

impl Charge {
    /// A failure is logged once, here, with its whole chain.
    fn log(&self) {
        let Self { failure: ItemFailure { item_key, error, .. }, attempts, is_last } = self;
        if *is_last {
            tracing::error!(item_key, attempts, error, "an item is dead: a person has to look");
        } else {
            tracing::warn!(item_key, attempts, error, "an item failed; it is tried again");
        }
    }
}

/// A key without what a server's text cannot hold, shortened so that it stays unique.
fn kept_key(key: String) -> String {
    if key.len() <= Item::LONGEST_KEY && !key.contains('\0') {
        return key;
    }
    let fingerprint = format!("~{:016x}", fnv1a(key.as_bytes()));
    let end = key.floor_char_boundary(Item::LONGEST_KEY - fingerprint.len());
    key[..end].replace('\0', "?") + &fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_shortened_and_stays_unique() {
        assert_eq!(Item::new(17).key(), "17");
        let longest = "ü".repeat(100);
        assert_eq!(Item::new(&longest).key(), longest);
        let (one, other) = (Item::new(longest.clone() + "1"), Item::new(longest.clone() + "2"));
        assert_ne!(one.key(), other.key());
        for item in [&one, &other, &Item::new("a\0b")] {
            assert!(
                item.key().len() <= Item::LONGEST_KEY && !item.key().contains('\0'),
                "{item:?}"
            );
        }
        assert_eq!(Item::new(longest + "1"), one, "the same key in the next cycle");
    }

    #[test]
    fn a_long_payload_is_replaced_by_its_length() {
        let item = Item::new(1).payload(json!({ "account": 1 }));
        assert_eq!(item.payload, Some(json!({ "account": 1 })));
        let item = Item::new(1).payload("x".repeat(Item::LONGEST_PAYLOAD));
        assert_eq!(item.payload, Some(json!({ "payload_bytes": 16_386 })));
    }
}
