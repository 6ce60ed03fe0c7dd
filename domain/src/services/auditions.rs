//! Asking for an audition.

use scheduler_core::{Store, StoreError};
use serde_json::Value;

use crate::lifecycle::{
    Audition, AuditionReason, AuditionRules, AuditionRulesError, AuditionStatus, NotAllowed,
};
use crate::store::auditions;

/// Why an audition was not queued. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A rule makes no sense.
    #[error(transparent)]
    Rules(#[from] AuditionRulesError),
    /// Nobody to audition.
    #[error("there is no active clone {0}")]
    NoClone(i64),
    /// It failed an audition or left the arena a short while ago.
    #[error("clone {clone_id} may ask for an audition again at {until_ms} (epoch milliseconds)")]
    CoolingDown {
        /// Who.
        clone_id: i64,
        /// When it may ask again, epoch milliseconds.
        until_ms: i64,
    },
    /// An audition of the clone waits or runs; or the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules of auditions do not have this arrow.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
}

/// Queues an audition of a clone with the strategy that it has now, and answers its id. The
/// evaluator starts it.
///
/// # Errors
/// Rules that make no sense, a clone that is not active or that cools down, or the database's; a
/// clone auditions once at a time.
pub async fn request(
    store: &Store,
    clone_id: i64,
    rules: AuditionRules,
) -> Result<i64, RequestError> {
    rules.check()?;
    let now_ms = store.clock().now_ms();
    store
        .write("request an audition", move |txn| {
            Box::pin(async move {
                let Some(id) = auditions::insert(txn, clone_id, &rules, now_ms).await? else {
                    let until_ms = auditions::cools_down_until(txn, clone_id).await?;
                    return Err(match until_ms.filter(|until_ms| *until_ms > now_ms) {
                        Some(until_ms) => RequestError::CoolingDown { clone_id, until_ms },
                        None => RequestError::NoClone(clone_id),
                    });
                };
                let draft = Audition { id, status: AuditionStatus::Draft, version: 1 };
                let queued = draft.transition(
                    AuditionStatus::Queued,
                    AuditionReason::Requested,
                    Value::Null,
                )?;
                auditions::apply(txn, &[queued.into()], now_ms).await?;
                Ok(id)
            })
        })
        .await
}
