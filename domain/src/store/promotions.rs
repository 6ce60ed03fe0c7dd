//! The table `promotion_queue_entries`: who waits for a slot of the arena.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, QueryResult};
use serde_json::json;

use super::sql::{Column, execute, execute_rows, read};
use crate::lifecycle::{AuditionStatus, Candidate, Rejection};

/// An entry whose turn it is, with what is known of its clone now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedPromotion {
    /// The entry.
    pub id: i64,
    /// Whose.
    pub clone_id: i64,
    /// The audition that it passed.
    pub audition_id: i64,
    /// What decides whether it may enter.
    pub candidate: Candidate,
}

impl FromQueryResult for QueuedPromotion {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let status: String = row.try_get(prefix, "audition_status")?;
        let clone_status: String = row.try_get(prefix, "clone_status")?;
        let profile: String = row.try_get(prefix, "profile_status")?;
        Ok(Self {
            id: row.try_get(prefix, "id")?,
            clone_id: row.try_get(prefix, "clone_id")?,
            audition_id: row.try_get(prefix, "audition_id")?,
            candidate: Candidate {
                audition_status: AuditionStatus::of_word(&status).ok_or_else(|| {
                    DbErr::Type(format!("`{status}` is no status of an audition"))
                })?,
                auditioned_graph: row.try_get(prefix, "auditioned_graph")?,
                graph: row.try_get(prefix, "graph")?,
                is_active: clone_status == "active",
                is_approved: profile == "approved",
                is_member: row.try_get::<i64>(prefix, "memberships")? > 0,
            },
        })
    }
}

/// Queues every passed audition whose clone is active and has an approved profile, once per audition
/// and with one entry waiting per clone, in the order in which they passed. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn enqueue_passed(txn: &DatabaseTransaction, now_ms: i64) -> Result<u64, StoreError> {
    let sql = "
        INSERT INTO promotion_queue_entries (clone_id, audition_id, score, enqueued_at_ms)
        SELECT a.clone_id, a.id, coalesce(a.score, 0), CAST($1 AS BIGINT)
        FROM audition_runs a JOIN clones c ON c.id = a.clone_id
        WHERE a.status = 'passed' AND c.status = 'active' AND c.profile_status = 'approved'
          AND NOT EXISTS (SELECT 1 FROM promotion_queue_entries e WHERE e.audition_id = a.id)
          AND NOT EXISTS (SELECT 1 FROM promotion_queue_entries e
                          WHERE e.clone_id = a.clone_id AND e.status = 'queued')
        ORDER BY a.decided_at_ms, a.id
        ON CONFLICT DO NOTHING";
    execute(txn, "queue passed auditions", sql, [now_ms.into()]).await
}

/// Finds whose turn it is: at most `limit` entries by priority, score, and who was first.
///
/// # Errors
/// The driver's error, or a status that is none.
pub async fn find_next(
    database: &impl ConnectionTrait,
    season_id: i64,
    limit: u32,
) -> Result<Vec<QueuedPromotion>, StoreError> {
    let sql = "
        SELECT e.id, e.clone_id, e.audition_id, a.status AS audition_status,
               a.graph_hash AS auditioned_graph, c.graph_hash AS graph,
               c.status AS clone_status, c.profile_status,
               (SELECT count(*) FROM arena_clone_memberships m WHERE m.season_id = $1
                   AND m.clone_id = e.clone_id AND m.left_at_ms IS NULL) AS memberships
        FROM promotion_queue_entries e
        JOIN audition_runs a ON a.id = e.audition_id
        JOIN clones c ON c.id = e.clone_id
        WHERE e.status = 'queued'
        ORDER BY e.priority DESC, e.score DESC, e.enqueued_at_ms, e.id LIMIT $2";
    let values = [season_id.into(), i64::from(limit).into()];
    read(database, "find the next promotions", sql, values).await
}

/// Takes entries out of the queue because their clones may not enter. Answers how many still waited.
///
/// # Errors
/// The driver's error.
pub async fn reject(
    txn: &DatabaseTransaction,
    rejected: &[(i64, Rejection)],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let sql = "
        UPDATE promotion_queue_entries SET status = 'rejected', reason = v.reason, decided_at_ms = $1
        FROM {rows} WHERE promotion_queue_entries.id = v.id AND status = 'queued'";
    let columns = [("id", Column::Int), ("reason", Column::Text)];
    let rows = rejected.iter().map(|(id, why)| vec![json!(id), json!(why.as_str())]).collect();
    execute_rows(txn, "reject promotions", sql, &columns, [now_ms.into()], &rows).await
}

/// Takes entries out of the queue because their clones enter. Answers how many still waited.
///
/// # Errors
/// The driver's error.
pub async fn promote(
    txn: &DatabaseTransaction,
    entry_ids: &[i64],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let sql = "
        UPDATE promotion_queue_entries SET status = 'promoted', decided_at_ms = $1
        FROM {rows} WHERE promotion_queue_entries.id = v.id AND status = 'queued'";
    let rows = entry_ids.iter().map(|id| vec![json!(id)]).collect();
    let columns = [("id", Column::Int)];
    execute_rows(txn, "promote clones", sql, &columns, [now_ms.into()], &rows).await
}
