//! Letting clones into the arena: from the queue for promotion to the free slots of a season.
//!
//! One transaction does all of it (the entry leaves the queue, the account is opened, the slot is
//! given, the clone is a member) or nothing of it. That nobody enters twice and no slot is given
//! twice is said by unique indexes and conditional updates; who is late by a moment rolls back and
//! finds the queue as the other left it.

use std::collections::VecDeque;

use rust_decimal::Decimal;
use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;

use crate::lifecycle::{Rejection, check_eligible};
use crate::prop::{AccountKind, AccountRules};
use crate::store::arena::{self, FreeSlot, Seat};
use crate::store::promotions::{self, QueuedPromotion};
use crate::store::prop::{self, NewAccount};

/// The season that clones enter, and what they compete with.
#[derive(Debug, Clone)]
pub struct Season {
    /// Its number.
    pub season_id: i64,
    /// How many clones compete in it. Slots that are not there are made; more than this are left.
    pub slots: u32,
    /// Cash that each account opens with (USD).
    pub initial: Decimal,
    /// The rules of each account.
    pub rules: AccountRules,
}

impl Default for Season {
    /// Season 1 with ten slots, 10,000 dollars each.
    fn default() -> Self {
        Self {
            season_id: 1,
            slots: 10,
            initial: Decimal::from(10_000),
            rules: AccountRules::default(),
        }
    }
}

/// What became of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Admitted {
    /// Members whose account has ended or who were archived: their slots are free.
    pub departed: u64,
    /// Passed auditions that were queued.
    pub queued: u64,
    /// Clones that entered.
    pub promoted: u64,
    /// Clones that may not.
    pub rejected: u64,
}

/// Why nobody was let in. Roll back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// Another was faster by a moment.
    #[error("the queue or the slots have changed meanwhile")]
    Contended,
    /// The lease of who lets in.
    #[error(transparent)]
    Fence(#[from] scheduler_core::FenceError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Frees the slots of those who left, queues the auditions that passed, and fills the free slots by
/// priority, score, and who was first. Without a free slot everybody stays queued.
///
/// # Errors
/// [`AdmitError::Contended`] or the database's: roll back.
pub async fn admit(
    txn: &DatabaseTransaction,
    season: &Season,
    now_ms: i64,
) -> Result<Admitted, AdmitError> {
    let season_id = season.season_id;
    let mut admitted = Admitted {
        departed: arena::release_departed(txn, season_id, now_ms).await?,
        ..Admitted::default()
    };
    if arena::count_slots(txn, season_id).await? < u64::from(season.slots) {
        arena::ensure_slots(txn, season_id, season.slots).await?;
    }
    admitted.queued = promotions::enqueue_passed(txn, now_ms).await?;
    let mut free: VecDeque<FreeSlot> = arena::list_free_slots(txn, season_id).await?.into();
    while !free.is_empty() {
        let wanted = u32::try_from(free.len()).unwrap_or(u32::MAX);
        let next = promotions::find_next(txn, season_id, wanted).await?;
        if next.is_empty() {
            break;
        }
        let (fit, rejected) = sort_out(next);
        admitted.rejected += reject(txn, &rejected, now_ms).await?;
        admitted.promoted += seat(txn, season, fit, &mut free, now_ms).await?;
    }
    Ok(admitted)
}

fn sort_out(next: Vec<QueuedPromotion>) -> (Vec<QueuedPromotion>, Vec<(i64, Rejection)>) {
    let mut fit = Vec::new();
    let mut rejected = Vec::new();
    for entry in next {
        match check_eligible(&entry.candidate) {
            Ok(()) => fit.push(entry),
            Err(why) => rejected.push((entry.id, why)),
        }
    }
    (fit, rejected)
}

async fn reject(
    txn: &DatabaseTransaction,
    rejected: &[(i64, Rejection)],
    now_ms: i64,
) -> Result<u64, AdmitError> {
    if rejected.is_empty() {
        return Ok(0);
    }
    for (promotion_id, why) in rejected {
        tracing::info!(promotion_id, reason = why.as_str(), "a promotion is rejected");
    }
    all(promotions::reject(txn, rejected, now_ms).await?, rejected.len())
}

async fn seat(
    txn: &DatabaseTransaction,
    season: &Season,
    fit: Vec<QueuedPromotion>,
    free: &mut VecDeque<FreeSlot>,
    now_ms: i64,
) -> Result<u64, AdmitError> {
    if fit.is_empty() {
        return Ok(0);
    }
    let entries: Vec<i64> = fit.iter().map(|entry| entry.id).collect();
    all(promotions::promote(txn, &entries, now_ms).await?, entries.len())?;
    let mut seats = Vec::with_capacity(fit.len());
    for entry in fit {
        let Some(slot) = free.pop_front() else { break };
        let account_id = open_account(txn, season, &entry, now_ms).await?;
        let (clone_id, promotion_id) = (entry.clone_id, entry.id);
        seats.push(Seat { slot, clone_id, account_id, promotion_id });
    }
    all(arena::seat(txn, season.season_id, &seats, now_ms).await?, seats.len())
}

/// Everything that was seen was there still, or nothing happened.
fn all(done: u64, expected: usize) -> Result<u64, AdmitError> {
    if done == expected as u64 { Ok(done) } else { Err(AdmitError::Contended) }
}

async fn open_account(
    txn: &DatabaseTransaction,
    season: &Season,
    entry: &QueuedPromotion,
    now_ms: i64,
) -> Result<i64, AdmitError> {
    let new = NewAccount {
        clone_id: entry.clone_id,
        kind: AccountKind::Arena,
        rules: season.rules.clone(),
        initial: season.initial,
        creation_key: Some(format!("promo:{}", entry.id)),
    };
    Ok(prop::open(txn, &new, now_ms).await?.id)
}
