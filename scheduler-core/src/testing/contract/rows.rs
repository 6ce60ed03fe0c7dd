//! What the rules of a queue have in common.

use std::sync::Arc;

use super::{NewRow, QUEUE, QueueFixture};
use crate::queue::QueueTable;
use crate::run::InstanceId;
use crate::store::{
    ClaimRequest, Claimed, QueueRows, RowGrant, RowId, RowProgress, RowStatus, SettledRow,
};
use crate::testing::QueueRow;

use super::steps::LEASE_MS;

pub(super) type Queue = Arc<dyn QueueRows>;

pub(super) fn parcels() -> QueueTable {
    QueueTable::new(QUEUE)
}

pub(super) async fn queue(fixture: &dyn QueueFixture, table: QueueTable) -> (Queue, Queue) {
    fixture.open(table.columns(["label"])).await
}

/// Enqueues rows: `(user, priority, run_at_ms)`.
pub(super) async fn enqueue(fixture: &dyn QueueFixture, rows: &[(i64, i32, i64)]) {
    let rows: Vec<NewRow> = rows
        .iter()
        .map(|(user_id, priority, run_at_ms)| NewRow {
            label: "x".into(),
            user_id: Some(*user_id),
            priority: *priority,
            run_at_ms: *run_at_ms,
        })
        .collect();
    fixture.enqueue(&rows).await;
}

pub(super) fn request(limit: u32) -> ClaimRequest {
    ClaimRequest { holder: InstanceId::new(), limit, lease_ms: LEASE_MS, idle: true }
}

pub(super) async fn claim(queue: &Queue, limit: u32) -> Vec<RowGrant> {
    grants(queue.claim(&request(limit)).await.expect("claimed"))
}

pub(super) fn grants(claimed: Claimed) -> Vec<RowGrant> {
    claimed.rows.into_iter().map(|row| row.grant).collect()
}

pub(super) fn ids(grants: &[RowGrant]) -> Vec<i64> {
    let id = |grant: &RowGrant| match &grant.id {
        RowId::Int(id) => *id,
        RowId::Text(id) => panic!("{id} is text"),
    };
    grants.iter().map(id).collect()
}

pub(super) fn succeeded(grant: RowGrant) -> SettledRow {
    SettledRow {
        grant,
        status: RowStatus::Succeeded,
        delay_ms: None,
        give_attempt_back: false,
        error: None,
        result: None,
    }
}

pub(super) fn progress(grant: RowGrant, percent: i64) -> RowProgress {
    RowProgress { grant, progress_pct: Some(percent) }
}

/// The row with this key.
pub(super) async fn row(fixture: &dyn QueueFixture, id: i64) -> QueueRow {
    let rows = fixture.queue_rows().await;
    rows.into_iter().find(|row| row.id == RowId::Int(id)).expect("a row")
}
