//! The right to run, until a deadline, with a fencing token that grows at each grant.
//!
//! Every write made under a lease is conditional on `(holder, token)` and on its not having
//! expired: a host that was frozen and wakes up writes nothing. A job makes its own effects obey
//! the same rule with [`Lease::fence`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sea_orm::DatabaseTransaction;

use crate::clock::Clock;
use crate::error::StoreError;
use crate::run::InstanceId;
use crate::store::{self, Namespace, SchedulerStore};

/// Which grant of which lease: what every fenced write is conditional on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseKey {
    /// The name: the job (scope Cluster) or `job@instance` (scope Instance).
    pub name: String,
    /// The instance that it was granted to.
    pub holder: InstanceId,
    /// Grows at each grant of this name.
    pub token: i64,
}

/// A lease that this process was granted; cheap to clone.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    key: LeaseKey,
    clock: Arc<dyn Clock>,
    namespace: Namespace,
    expires_at_ms: AtomicI64,
    lost: AtomicBool,
    fenced: AtomicBool,
}

/// Why a fenced write must not be committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// The lease expired or was granted to another. Roll back.
    #[error("lease `{name}` with token {token} is lost: it expired or was granted to another")]
    Lost {
        /// The lease.
        name: String,
        /// The token that is no longer valid.
        token: i64,
    },
    /// The database failed. Roll back.
    #[error("could not check the lease")]
    Store(#[from] StoreError),
}

impl Lease {
    pub(crate) fn new(key: LeaseKey, expires_at_ms: i64, store: &dyn SchedulerStore) -> Self {
        let (clock, namespace) = (Arc::clone(store.clock()), store.namespace().clone());
        let expires_at_ms = AtomicI64::new(expires_at_ms);
        let (lost, fenced) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { key, clock, namespace, expires_at_ms, lost, fenced }) }
    }

    /// Which grant this is.
    #[must_use]
    pub fn key(&self) -> &LeaseKey {
        &self.inner.key
    }

    /// When it expires unless renewed, epoch milliseconds.
    #[must_use]
    pub fn expires_at_ms(&self) -> i64 {
        self.inner.expires_at_ms.load(Ordering::Acquire)
    }

    /// Whether it is held as far as this process knows. Only [`fence`](Self::fence) proves it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.inner.lost.load(Ordering::Acquire) && self.inner.clock.now_ms() < self.expires_at_ms()
    }

    /// Proves inside the caller's own transaction that the lease is held, and keeps it held until
    /// that transaction ends: a write on the lease's row, never a bare SELECT.
    ///
    /// Call it before the commit of effects that must not outlive the lease:
    ///
    /// ```no_run
    /// # use scheduler_core::{FenceError, Lease, Store};
    /// # async fn example(store: Store, lease: Lease) -> Result<(), FenceError> {
    /// store
    ///     .write("book the funding", |txn| {
    ///         Box::pin(async move {
    ///             lease.fence(txn).await?;
    ///             // … the effects, on `txn` …
    ///             Ok::<_, FenceError>(())
    ///         })
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`FenceError::Lost`]: roll back. [`FenceError::Store`]: roll back too.
    pub async fn fence(&self, txn: &DatabaseTransaction) -> Result<(), FenceError> {
        let Inner { key, clock, namespace, .. } = &*self.inner;
        let held = store::fence(txn, key, clock.as_ref(), namespace).await?;
        if held {
            self.inner.fenced.store(true, Ordering::Release);
            return Ok(());
        }
        self.mark_lost();
        Err(FenceError::Lost { name: self.key().name.clone(), token: self.key().token })
    }

    pub(crate) fn renewed_until(&self, expires_at_ms: i64) {
        self.inner.expires_at_ms.store(expires_at_ms, Ordering::Release);
        self.inner.fenced.store(false, Ordering::Release);
    }

    /// Whether a fence has held the lease since its last renewal, and may hold its row still.
    pub(crate) fn fenced_since_renewal(&self) -> bool {
        self.inner.fenced.load(Ordering::Acquire)
    }

    pub(crate) fn mark_lost(&self) {
        self.inner.lost.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("key", self.key())
            .field("expires_at_ms", &self.expires_at_ms())
            .finish_non_exhaustive()
    }
}
