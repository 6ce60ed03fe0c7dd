//! Leases: grant, renew, release. Rows stay, so that tokens only grow.

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::definition::Overlap;
use crate::error::StoreError;
use crate::executor::is_of_one_run;
use crate::lease::LeaseKey;
use crate::store::{Firing, Holder, LeaseStore, Renewal};

#[derive(Debug, Clone)]
pub(super) struct LeaseRow {
    pub(super) holder: String,
    pub(super) token: i64,
    pub(super) expires_at_ms: i64,
    pub(super) cancel_requested: bool,
}

impl LeaseRow {
    pub(super) fn is_held_at(&self, now_ms: i64) -> bool {
        self.expires_at_ms > now_ms
    }

    pub(super) fn is_granted(&self, holder: &str, token: i64, now_ms: i64) -> bool {
        self.holder == holder && self.token == token && self.is_held_at(now_ms)
    }
}

impl Tables {
    /// Grants the lease of a firing, if it is free; answers the token and the deadline.
    pub(super) fn grant(&mut self, firing: &Firing, now_ms: i64) -> Option<(i64, i64)> {
        let before = self.leases.get(&firing.lease_name);
        let free_since_ms = firing.as_of_ms.unwrap_or(now_ms).min(now_ms);
        if before.is_some_and(|lease| lease.is_held_at(free_since_ms)) {
            return None;
        }
        let lease = LeaseRow {
            holder: firing.instance_id.to_string(),
            token: before.map_or(0, |lease| lease.token) + 1,
            expires_at_ms: now_ms.saturating_add(firing.lease_ms),
            cancel_requested: false,
        };
        let granted = (lease.token, lease.expires_at_ms);
        self.leases.put(firing.lease_name.clone(), lease);
        Some(granted)
    }

    /// Who is in the way of a firing that may go on beside others, when as many go on as may.
    pub(super) fn full(&self, firing: &Firing, now_ms: i64) -> Option<Holder> {
        let run_of_job = |name: &str| {
            name.strip_prefix(firing.job.as_str()).is_some_and(|rest| rest.starts_with('#'))
        };
        let mut beside: Vec<&LeaseRow> = self
            .leases
            .entries()
            .filter(|(name, lease)| run_of_job(name) && lease.is_held_at(now_ms))
            .map(|(_, lease)| lease)
            .collect();
        if firing.overlap != Overlap::Allow || beside.len() < firing.overlap_limit as usize {
            return None;
        }
        beside.sort_by_key(|lease| lease.expires_at_ms);
        let first = beside.first()?;
        Some(Holder { instance: first.holder.clone(), until_ms: first.expires_at_ms })
    }

    /// Who holds a lease now.
    pub(super) fn holder(&self, name: &str, now_ms: i64) -> Option<Holder> {
        let lease = self.leases.get(name).filter(|lease| lease.is_held_at(now_ms))?;
        Some(Holder { instance: lease.holder.clone(), until_ms: lease.expires_at_ms })
    }

    /// Asks whoever holds a lease to end.
    pub(super) fn request_cancel(&mut self, name: &str, now_ms: i64) {
        self.leases.edit(name, |lease| lease.cancel_requested |= lease.is_held_at(now_ms));
    }

    /// Gives a lease back, fenced: answers whether it was still held.
    pub(super) fn release(&mut self, key: &LeaseKey, now_ms: i64) -> bool {
        if is_of_one_run(&key.name) {
            let held = self.is_held(key, now_ms);
            return self.leases.delete(|name, _| held && *name == key.name) == 1;
        }
        self.is_held(key, now_ms)
            && self.leases.edit(&key.name, |lease| {
                lease.holder.clear();
                lease.expires_at_ms = 0;
            })
    }

    pub(super) fn is_held(&self, key: &LeaseKey, now_ms: i64) -> bool {
        let holder = key.holder.to_string();
        self.leases.get(&key.name).is_some_and(|lease| lease.is_granted(&holder, key.token, now_ms))
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn renew(&self, key: &LeaseKey, length_ms: i64) -> Result<Renewal, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        if !txn.is_held(key, now_ms) {
            return Ok(Renewal::Lost);
        }
        let expires_at_ms = now_ms.saturating_add(length_ms);
        let mut cancel_requested = false;
        txn.leases.edit(&key.name, |lease| {
            lease.expires_at_ms = expires_at_ms;
            cancel_requested = lease.cancel_requested;
        });
        txn.commit();
        Ok(Renewal::Kept { expires_at_ms, cancel_requested })
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        let txn = self.begin_transaction().await;
        Ok(txn.holder(name, txn.now_ms))
    }
}
