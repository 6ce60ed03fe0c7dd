//! The tables `audition_runs` and `audition_events`: auditions, and each of their moves.

use std::collections::HashSet;

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, QueryResult};
use serde_json::json;

use super::sql::{Column, execute, execute_rows, read, read_rows};
use crate::lifecycle::{Audition, AuditionRules, AuditionStatus, COOL_DOWN_MS, Transition};

/// An audition that waits or runs, as the evaluator needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueAudition {
    /// Where it stands.
    pub audition: Audition,
    /// Whose it is.
    pub clone_id: i64,
    /// Its account; `None` before its start.
    pub account_id: Option<i64>,
    /// Its rules, JSON.
    pub rules: String,
    /// When it started, epoch milliseconds.
    pub started_at_ms: Option<i64>,
    /// When its window ends, epoch milliseconds; `None` before its start.
    pub ends_at_ms: Option<i64>,
    /// `active`, `paused` or `archived`.
    pub clone_status: String,
    /// Whether the clone trades the strategy still that is auditioned.
    pub has_its_strategy: bool,
}

impl FromQueryResult for DueAudition {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let status: String = row.try_get(prefix, "status")?;
        let status = AuditionStatus::of_word(&status)
            .ok_or_else(|| DbErr::Type(format!("`{status}` is no status of an audition")))?;
        Ok(Self {
            audition: Audition {
                id: row.try_get(prefix, "id")?,
                status,
                version: row.try_get(prefix, "version")?,
            },
            clone_id: row.try_get(prefix, "clone_id")?,
            account_id: row.try_get(prefix, "account_id")?,
            rules: row.try_get(prefix, "rules")?,
            started_at_ms: row.try_get(prefix, "started_at_ms")?,
            ends_at_ms: row.try_get(prefix, "ends_at_ms")?,
            clone_status: row.try_get(prefix, "clone_status")?,
            has_its_strategy: row.try_get::<i64>(prefix, "has_its_strategy")? != 0,
        })
    }
}

/// A transition and what goes into the audition's row with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The transition.
    pub transition: Transition,
    /// The account that was opened for it.
    pub account_id: Option<i64>,
    /// When its window ends, epoch milliseconds.
    pub ends_at_ms: Option<i64>,
    /// How well it went.
    pub score: Option<f64>,
}

impl From<Transition> for Move {
    fn from(transition: Transition) -> Self {
        Self { transition, account_id: None, ends_at_ms: None, score: None }
    }
}

/// Makes a draft of an audition with the strategy that the clone has now, and answers its id; `None`
/// when there is no such clone, when it is not active, or when it failed an audition or left the arena
/// within [`COOL_DOWN_MS`]. An end that is being written is waited for.
///
/// # Errors
/// The driver's error.
pub async fn insert(
    txn: &DatabaseTransaction,
    clone_id: i64,
    rules: &AuditionRules,
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    // Waits for who has the row: the next statement sees what became of it.
    let sql = "UPDATE audition_runs SET version = version
               WHERE clone_id = $1 AND status IN ('queued', 'running')";
    execute(txn, "await the end of an audition", sql, [clone_id.into()]).await?;
    let sql = "INSERT INTO audition_runs (clone_id, graph_hash, rules, created_at_ms)
               SELECT id, graph_hash, $2, $3 FROM clones WHERE id = $1 AND status = 'active'
                   AND NOT EXISTS (
                       SELECT 1 FROM audition_runs f
                       WHERE f.clone_id = $1 AND f.status = 'failed' AND f.decided_at_ms > $4)
                   AND NOT EXISTS (
                       SELECT 1 FROM arena_clone_memberships m
                       WHERE m.clone_id = $1 AND m.left_at_ms > $4)
               RETURNING id";
    let ended_after_ms = now_ms.saturating_sub(COOL_DOWN_MS);
    let values = [clone_id.into(), rules.to_json().into(), now_ms.into(), ended_after_ms.into()];
    let rows: Vec<Id> = read(txn, "draft an audition", sql, values).await?;
    Ok(rows.first().map(|row| row.id))
}

/// Until when a clone waits for its next audition, epoch milliseconds; `None` when it never failed
/// one nor left the arena.
///
/// # Errors
/// The driver's error.
pub async fn cools_down_until(
    database: &impl ConnectionTrait,
    clone_id: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT max(e.ended_at_ms) AS ended_at_ms FROM (
                   SELECT decided_at_ms AS ended_at_ms FROM audition_runs
                   WHERE clone_id = $1 AND status = 'failed'
                   UNION ALL
                   SELECT left_at_ms FROM arena_clone_memberships WHERE clone_id = $1) AS e";
    let rows: Vec<EndedRow> = read(database, "find a cool-down", sql, [clone_id.into()]).await?;
    let ended_at_ms = rows.first().and_then(|row| row.ended_at_ms);
    Ok(ended_at_ms.map(|ended_at_ms| ended_at_ms.saturating_add(COOL_DOWN_MS)))
}

#[derive(FromQueryResult)]
struct EndedRow {
    ended_at_ms: Option<i64>,
}

#[derive(FromQueryResult)]
struct Id {
    id: i64,
}

/// Finds at most `limit` auditions that wait or run and were not evaluated since a time, those that
/// waited longest first.
///
/// # Errors
/// The driver's error, or a status that is none.
pub async fn find_due(
    database: &impl ConnectionTrait,
    before_ms: i64,
    limit: u32,
) -> Result<Vec<DueAudition>, StoreError> {
    let sql = "
        SELECT a.id, a.status, a.version, a.clone_id, a.account_id, a.rules, a.started_at_ms,
               a.ends_at_ms, c.status AS clone_status,
               CAST(CASE WHEN coalesce(c.graph_hash, '') = coalesce(a.graph_hash, '')
                         THEN 1 ELSE 0 END AS BIGINT) AS has_its_strategy
        FROM audition_runs a JOIN clones c ON c.id = a.clone_id
        WHERE a.status IN ('queued', 'running') AND a.evaluated_at_ms < $1
        ORDER BY a.evaluated_at_ms, a.id LIMIT $2";
    read(database, "find due auditions", sql, [before_ms.into(), i64::from(limit).into()]).await
}

/// Notes that auditions were looked at, whatever came of it.
///
/// # Errors
/// The driver's error.
pub async fn note_evaluated(
    txn: &DatabaseTransaction,
    audition_ids: &[i64],
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE audition_runs SET evaluated_at_ms = $1
               WHERE id IN (SELECT v.id FROM {rows})";
    let rows = audition_ids.iter().map(|id| vec![json!(id)]).collect();
    let columns = [("id", Column::Int)];
    execute_rows(txn, "note an evaluation", sql, &columns, [now_ms.into()], &rows).await?;
    Ok(())
}

/// Moves auditions, each if it still stands where the transition starts from, and writes the events.
/// Answers the ids of those that were moved.
///
/// # Errors
/// The driver's error.
pub async fn apply(
    txn: &DatabaseTransaction,
    moves: &[Move],
    now_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let update = "
        UPDATE audition_runs SET
            status = v.to_status, reason = v.reason, evidence = v.evidence,
            version = audition_runs.version + 1,
            account_id = coalesce(v.account_id, audition_runs.account_id),
            ends_at_ms = coalesce(v.ends_at_ms, audition_runs.ends_at_ms),
            score = v.score,
            started_at_ms = CASE WHEN v.to_status = 'running' THEN $1
                                 ELSE audition_runs.started_at_ms END,
            decided_at_ms = CASE WHEN v.to_status IN ('queued', 'running') THEN NULL
                                 ELSE CAST($1 AS BIGINT) END
        FROM {rows}
        WHERE audition_runs.id = v.id AND audition_runs.version = v.version
          AND audition_runs.status = v.from_status
        RETURNING audition_runs.id AS id";
    let columns = [
        ("id", Column::Int),
        ("version", Column::Int),
        ("from_status", Column::Text),
        ("to_status", Column::Text),
        ("reason", Column::Text),
        ("evidence", Column::Text),
        ("account_id", Column::Int),
        ("ends_at_ms", Column::Int),
        ("score", Column::Real),
    ];
    if moves.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = moves.iter().map(row).collect();
    let moved: Vec<Id> =
        read_rows(txn, "move auditions", update, &columns, [now_ms.into()], &rows).await?;
    let moved: HashSet<i64> = moved.into_iter().map(|row| row.id).collect();
    rows.retain(|row| row[0].as_i64().is_some_and(|id| moved.contains(&id)));
    let insert = "
        INSERT INTO audition_events
            (audition_id, version, from_status, to_status, reason, evidence, at_ms)
        SELECT v.id, v.version + 1, v.from_status, v.to_status, v.reason, v.evidence,
               CAST($1 AS BIGINT)
        FROM {rows}";
    execute_rows(txn, "write events of auditions", insert, &columns, [now_ms.into()], &rows)
        .await?;
    let mut moved: Vec<i64> = moved.into_iter().collect();
    moved.sort_unstable();
    Ok(moved)
}

fn row(moved: &Move) -> Vec<serde_json::Value> {
    let Transition { audition, to, reason, evidence } = &moved.transition;
    vec![
        json!(audition.id),
        json!(audition.version),
        json!(audition.status.as_str()),
        json!(to.as_str()),
        json!(reason.as_str()),
        json!(evidence.to_string()),
        json!(moved.account_id),
        json!(moved.ends_at_ms),
        json!(moved.score),
    ]
}
