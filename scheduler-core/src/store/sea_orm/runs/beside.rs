//! Runs of one job beside each other: how many go on, and who finds room.

use std::collections::HashMap;

use sea_orm::DatabaseTransaction;

use crate::definition::Overlap;
use crate::error::StoreError;
use crate::store::Firing;
use crate::store::sea_orm::Store;
use crate::store::sea_orm::leases::{Held, beside as beside_each_other};

/// Which of the firings find room beside the runs of their jobs, and who is in the way of the others,
/// by lease. Firings of jobs without runs beside each other have it.
pub(super) struct Beside<'f> {
    pub(super) room: Vec<&'f Firing>,
    pub(super) full: HashMap<String, Held>,
}

/// Counts in the transaction that grants, whose lock on the schedule row nobody shares.
pub(super) async fn beside<'f>(
    store: &Store,
    txn: &DatabaseTransaction,
    wanted: Vec<&'f Firing>,
) -> Result<Beside<'f>, StoreError> {
    let allows = |firing: &&&Firing| firing.overlap == Overlap::Allow;
    let mut jobs: Vec<&str> =
        wanted.iter().filter(allows).map(|firing| firing.job.as_str()).collect();
    jobs.dedup();
    if jobs.is_empty() {
        return Ok(Beside { room: wanted, full: HashMap::new() });
    }
    let running = beside_each_other(store, txn, jobs.into_iter()).await?;
    let (mut room, mut full) = (Vec::with_capacity(wanted.len()), HashMap::new());
    for firing in wanted {
        let ours = |other: &&&Firing| other.job == firing.job && allows(other);
        let mut theirs = running.iter().filter(|run| run.job == firing.job);
        let count = theirs.clone().count() + room.iter().filter(ours).count();
        if firing.overlap != Overlap::Allow || count < firing.overlap_limit as usize {
            room.push(firing);
            continue;
        }
        let first = theirs.next_back();
        let holder = first.map_or_else(|| firing.instance_id.to_string(), |run| run.holder.clone());
        let expires_at_ms = first.map_or(0, |run| run.expires_at_ms);
        let name = firing.lease_name.clone();
        full.insert(name.clone(), Held { name, holder, expires_at_ms });
    }
    Ok(Beside { room, full })
}
