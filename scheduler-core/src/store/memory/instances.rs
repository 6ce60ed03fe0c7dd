//! Instances, and what dead ones leave behind.

use std::collections::HashSet;

use async_trait::async_trait;

use super::{MemoryStore, Tables};
use crate::error::StoreError;
use crate::executor::is_of_one_run;
use crate::run::InstanceId;
use crate::store::{
    Definitions, Disagreement, Instance, InstanceStore, KEEP_DEAD_INSTANCES_MS, KEEP_RUNS_MS,
    LIVE_FOR_MS, disagreements,
};

#[derive(Debug, Clone)]
pub(super) struct InstanceRow {
    id: InstanceId,
    seen_at_ms: i64,
    stopping: bool,
    definitions: Definitions,
}

impl InstanceRow {
    pub(super) fn is_live_at(&self, now_ms: i64) -> bool {
        !self.stopping && self.seen_at_ms > now_ms - LIVE_FOR_MS
    }
}

impl Tables {
    pub(super) fn live_instances(&self, now_ms: i64) -> i64 {
        let live = self.instances.rows().filter(|row| row.is_live_at(now_ms)).count();
        i64::try_from(live).unwrap_or(i64::MAX)
    }

    fn prune(&mut self, now_ms: i64, at_most: u32) -> u64 {
        let mut old: Vec<(i64, String)> = self
            .runs
            .entries()
            .filter_map(|(id, run)| Some((run.finished_at_ms?, id.clone())))
            .filter(|(finished_at_ms, _)| *finished_at_ms < now_ms - KEEP_RUNS_MS)
            .collect();
        old.sort();
        old.truncate(at_most as usize);
        let old: HashSet<String> = old.into_iter().map(|(_, id)| id).collect();
        let resolved_before_ms = now_ms - KEEP_RUNS_MS;
        let mut resolved: Vec<(i64, (String, String))> = self
            .letters
            .entries()
            .filter(|(_, row)| row.is_resolved_before(resolved_before_ms))
            .map(|(key, row)| (row.updated_at_ms(), key.clone()))
            .collect();
        resolved.sort();
        resolved.truncate(at_most as usize);
        let resolved: HashSet<_> = resolved.into_iter().map(|(_, key)| key).collect();
        let dead_before_ms = now_ms - KEEP_DEAD_INSTANCES_MS;
        let dead: HashSet<String> = self
            .instances
            .entries()
            .filter(|(_, row)| row.seen_at_ms < dead_before_ms)
            .map(|(id, _)| id.clone())
            .collect();
        self.prune_jobs(now_ms, now_ms - KEEP_RUNS_MS, at_most)
            + self.runs.delete(|id, _| old.contains(id))
            + self.letters.delete(|key, _| resolved.contains(key))
            + self.leases.delete(|name, lease| {
                lease.expires_at_ms < dead_before_ms
                    && (is_of_one_run(name)
                        || name.rsplit_once('@').is_some_and(|(_, id)| dead.contains(id)))
            })
            + self.worker_instances.delete(|(_, instance), _| dead.contains(instance))
            + self.instances.delete(|id, _| dead.contains(id))
    }
}

#[async_trait]
impl InstanceStore for MemoryStore {
    async fn announce(&self, instance: &Instance) -> Result<(), StoreError> {
        let mut txn = self.begin_transaction().await;
        let (id, now_ms) = (instance.id.to_string(), txn.now_ms);
        let known = txn.instances.edit(&id, |row| {
            row.seen_at_ms = now_ms;
            row.stopping = false;
            row.definitions.clone_from(&instance.definitions);
        });
        if !known {
            let row = InstanceRow {
                id: instance.id,
                seen_at_ms: now_ms,
                stopping: false,
                definitions: instance.definitions.clone(),
            };
            txn.instances.put(id, row);
        }
        txn.commit();
        Ok(())
    }

    async fn disagreements(&self) -> Result<Vec<Disagreement>, StoreError> {
        let txn = self.begin_transaction().await;
        let live = txn.instances.rows().filter(|row| row.is_live_at(txn.now_ms));
        Ok(disagreements(live.map(|row| (row.id, &row.definitions))))
    }

    async fn seen(&self, id: InstanceId, stopping: bool) -> Result<bool, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let known = txn.instances.edit(&id.to_string(), |row| {
            row.seen_at_ms = now_ms;
            row.stopping |= stopping;
        });
        txn.commit();
        Ok(known)
    }

    async fn prune(&self, at_most: u32) -> Result<u64, StoreError> {
        let mut txn = self.begin_transaction().await;
        let now_ms = txn.now_ms;
        let pruned = txn.prune(now_ms, at_most);
        txn.commit();
        Ok(pruned)
    }
}
