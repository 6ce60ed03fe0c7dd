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
/// Rules that make no sense, a clone that is not active, or the database's; a clone auditions once
/// at a time.
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
                let drafted = auditions::insert(txn, clone_id, &rules, now_ms).await?;
                let id = drafted.ok_or(RequestError::NoClone(clone_id))?;
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
