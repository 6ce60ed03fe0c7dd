//! The tables `clone_decision_runs` and `prop_decision_runs`: one run per clone, account and slot.
//! Both have the same columns, so both have the same statements, each with its table's name.
//!
//! ```text
//!            take                     conclude
//!  (nothing) ────▶ running ──────────────────────▶ executed, skipped, rejected, error
//!                   │  ▲ take again: its lease is gone and its slot is not late
//!                   └──┘ close_late: its lease is gone and its slot is: skipped(late)
//! ```
//!
//! The unique key of clone, account and slot makes a slot decided once. A row says under which lease
//! it is decided; it can be taken over only when nobody holds that lease any more, and concluded only
//! by who took it.

mod statements;

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use scheduler_core::{Clock, LeaseKey, StoreError};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Value};
use serde_json::json;

pub use self::statements::DecisionTable;
use super::sql::{self, Column, execute, lease_now, lease_now_value, read, read_rows};
use crate::decisions::{Conclusion, SkipReason, Usage};

/// A run that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Its id, if nobody has begun it yet: UUID v7.
    pub id: String,
    /// Who decides.
    pub clone_id: i64,
    /// The account that it trades; 0 without one.
    pub account_id: i64,
    /// Who is asked.
    pub provider: String,
    /// The strategy's version; `None` is the default draft.
    pub graph_hash: Option<String>,
}

/// A run that this lease has.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct TakenRun {
    /// Its id; of the first attempt, also in the second.
    pub id: String,
    /// Who decides.
    pub clone_id: i64,
    /// The account that it trades; 0 without one.
    pub account_id: i64,
    /// 1, or more when an earlier attempt was cut off.
    pub attempt: i32,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct ConcludedRun {
    /// Its id.
    pub id: String,
    /// What is recorded.
    pub conclusion: Conclusion,
    /// The time of what it knew, epoch milliseconds.
    pub as_of_ms: i64,
    /// The model that answered.
    pub model: Option<String>,
    /// The hash of what it knew.
    pub snapshot_hash: Option<String>,
    /// What it knew, JSON: kept where something was proposed.
    pub snapshot: Option<String>,
    /// The model's answer as it came, bounded.
    pub raw_response: Option<String>,
    /// What the risk checks said, JSON.
    pub risk_verdicts: Option<String>,
    /// The orders that were filled.
    pub client_order_ids: Vec<String>,
    /// What was used of the clone's budget.
    pub usage: Usage,
    /// How long the provider took.
    pub latency_ms: i64,
    /// A fault of this program.
    pub error: Option<String>,
}

/// What is kept of an error, in bytes.
const LONGEST_ERROR: usize = 2_000;

/// Takes the runs of a slot for a lease that the caller has fenced: those that nobody has begun, and
/// those whose lease is gone. What does not come back is decided already, or being decided.
///
/// # Errors
/// The driver's error.
pub async fn take(
    txn: &DatabaseTransaction,
    table: DecisionTable,
    lease: &LeaseKey,
    slot_ms: i64,
    clock: &dyn Clock,
    runs: &[NewRun],
) -> Result<Vec<TakenRun>, StoreError> {
    let columns = [
        ("id", Column::Text),
        ("clone_id", Column::Int),
        ("account_id", Column::Int),
        ("provider", Column::Text),
        ("graph_hash", Column::Text),
    ];
    let rows = runs.iter().map(|run| {
        let NewRun { id, clone_id, account_id, provider, graph_hash } = run;
        vec![json!(id), json!(clone_id), json!(account_id), json!(provider), json!(graph_hash)]
    });
    let rows = rows.collect();
    let backend = txn.get_database_backend();
    let values: [Value; 6] = [
        slot_ms.into(),
        clock.now_ms().into(),
        lease.name.as_str().into(),
        lease.holder.to_string().into(),
        lease.token.into(),
        lease_now_value(backend, clock),
    ];
    let sql = table.statements().take.replace("{lease_now}", &lease_now(backend, values.len()));
    read_rows(txn, "take decision runs", &sql, &columns, values, &rows).await
}

/// Ends runs of slots before a time whose lease is gone: too late to decide. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn close_late(
    txn: &DatabaseTransaction,
    table: DecisionTable,
    before_ms: i64,
    clock: &dyn Clock,
) -> Result<u64, StoreError> {
    let backend = txn.get_database_backend();
    let values: [Value; 4] = [
        clock.now_ms().into(),
        before_ms.into(),
        SkipReason::Late.as_str().into(),
        lease_now_value(backend, clock),
    ];
    let sql = table.statements().close_late;
    let sql = sql.replace("{lease_now}", &lease_now(backend, values.len()));
    execute(txn, "close late runs", &sql, values).await
}

/// Records what runs came to, each if this lease still has it. Answers the ids of those that were
/// recorded: with fewer than asked for, roll back what goes with them.
///
/// # Errors
/// The driver's error.
pub async fn conclude(
    txn: &DatabaseTransaction,
    table: DecisionTable,
    lease: &LeaseKey,
    now_ms: i64,
    runs: &[ConcludedRun],
) -> Result<Vec<String>, StoreError> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let rows = runs.iter().map(concluded_row).collect();
    let values: [Value; 4] = [
        now_ms.into(),
        lease.name.as_str().into(),
        lease.holder.to_string().into(),
        lease.token.into(),
    ];
    let sql = table.statements().conclude;
    let ended: Vec<Id> =
        read_rows(txn, "conclude decision runs", sql, &CONCLUDED, values, &rows).await?;
    Ok(ended.into_iter().map(|row| row.id).collect())
}

#[derive(FromQueryResult)]
struct Id {
    id: String,
}

const CONCLUDED: [(&str, Column); 18] = [
    ("id", Column::Text),
    ("action", Column::Text),
    ("status", Column::Text),
    ("skip_reason", Column::Text),
    ("intents", Column::Text),
    ("note", Column::Text),
    ("as_of_ms", Column::Int),
    ("model", Column::Text),
    ("snapshot_hash", Column::Text),
    ("snapshot", Column::Text),
    ("raw_response", Column::Text),
    ("risk_verdicts", Column::Text),
    ("client_order_ids", Column::Text),
    ("tokens_in", Column::Int),
    ("tokens_out", Column::Int),
    ("cost_usd", Column::Text),
    ("latency_ms", Column::Int),
    ("error", Column::Text),
];

fn concluded_row(run: &ConcludedRun) -> Vec<serde_json::Value> {
    let Conclusion { action, status, reason, intents, note } = &run.conclusion;
    let bounded = |text: &String| text[..text.floor_char_boundary(LONGEST_ERROR)].to_owned();
    let orders =
        (!run.client_order_ids.is_empty()).then(|| json!(run.client_order_ids).to_string());
    let has_intents = !intents.is_empty();
    let tokens = |count: u64| json!(i64::try_from(count).unwrap_or(i64::MAX));
    vec![
        json!(run.id),
        json!(action.as_str()),
        json!(status.as_str()),
        json!(reason.map(SkipReason::as_str)),
        json!(has_intents.then(|| json!(intents).to_string())),
        json!(note.as_ref().map(bounded)),
        json!(run.as_of_ms),
        json!(run.model),
        json!(run.snapshot_hash),
        json!(run.snapshot),
        json!(run.raw_response),
        json!(run.risk_verdicts),
        json!(orders),
        tokens(run.usage.tokens_in),
        tokens(run.usage.tokens_out),
        json!(run.usage.cost_usd.normalize().to_string()),
        json!(run.latency_ms),
        json!(run.error.as_ref().map(bounded)),
    ]
}

/// Sums what clones have used of their budgets since a time, over both tables; a clone that used
/// nothing is left out. A budget is no ledger: the sum of costs may be rounded.
///
/// # Errors
/// The driver's error.
pub async fn sum_usage(
    database: &impl ConnectionTrait,
    clone_ids: &[i64],
    since_ms: i64,
) -> Result<BTreeMap<i64, Usage>, StoreError> {
    let rows = clone_ids.iter().map(|id| vec![json!(id)]).collect();
    let columns = [("clone_id", Column::Int)];
    let sums: Vec<UsageRow> = read_rows(
        database,
        "sum what models cost",
        statements::USAGE,
        &columns,
        [since_ms.into()],
        &rows,
    )
    .await?;
    Ok(sums.into_iter().map(|row| (row.clone_id, row.usage())).collect())
}

#[derive(FromQueryResult)]
struct UsageRow {
    clone_id: i64,
    tokens_in: i64,
    tokens_out: i64,
    cost_usd: String,
}

impl UsageRow {
    fn usage(&self) -> Usage {
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        let cost = self.cost_usd.parse().or_else(|_| Decimal::from_scientific(&self.cost_usd));
        Usage {
            tokens_in: count(self.tokens_in),
            tokens_out: count(self.tokens_out),
            // What cannot be read is no reason to spend more.
            cost_usd: cost.unwrap_or(Decimal::MAX),
        }
    }
}

/// Finds the clones, of those given, that began a run of their own after a time: they are not due
/// yet.
///
/// # Errors
/// The driver's error.
pub async fn find_begun_after(
    database: &impl ConnectionTrait,
    clone_ids: &[i64],
    after_ms: i64,
) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT DISTINCT r.clone_id FROM {rows} JOIN clone_decision_runs r
               ON r.clone_id = v.clone_id AND r.account_id = 0
               WHERE r.started_at_ms > $1 ORDER BY r.clone_id";
    let rows = clone_ids.iter().map(|id| vec![json!(id)]).collect();
    let columns = [("clone_id", Column::Int)];
    let begun: Vec<CloneId> =
        read_rows(database, "find who has decided", sql, &columns, [after_ms.into()], &rows)
            .await?;
    Ok(begun.into_iter().map(|row| row.clone_id).collect())
}

#[derive(FromQueryResult)]
struct CloneId {
    clone_id: i64,
}

/// A run that traded.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ExecutedRun {
    /// The account.
    pub account_id: i64,
    /// When, epoch milliseconds.
    pub completed_at_ms: i64,
    /// What was proposed, JSON.
    pub intents: String,
}

/// Finds the runs that traded, of clone and account, after a time each.
///
/// # Errors
/// The driver's error.
pub async fn find_executed(
    database: &impl ConnectionTrait,
    table: DecisionTable,
    since: &[(i64, i64, i64)],
) -> Result<Vec<ExecutedRun>, StoreError> {
    let rows = since.iter().map(|(clone_id, account_id, after_ms)| {
        vec![json!(clone_id), json!(account_id), json!(after_ms)]
    });
    let rows = rows.collect();
    let columns =
        [("clone_id", Column::Int), ("account_id", Column::Int), ("after_ms", Column::Int)];
    let sql = table.statements().executed;
    read_rows(database, "find runs that traded", sql, &columns, [], &rows).await
}

/// A run, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// Who decided.
    pub clone_id: i64,
    /// The account that it traded; 0 without one.
    pub account_id: i64,
    /// Its slot, epoch milliseconds.
    pub scheduled_for_ms: i64,
    /// Who was asked.
    pub provider: String,
    /// What was decided.
    pub action: String,
    /// What became of it.
    pub status: String,
    /// Why nothing was executed.
    pub skip_reason: Option<String>,
    /// What to tell people. Untrusted text.
    pub note: Option<String>,
    /// 1, or more when an earlier attempt was cut off.
    pub attempt: i32,
}

/// Lists at most `limit` runs, the newest slots first.
///
/// # Errors
/// The driver's error.
pub async fn list(
    database: &impl ConnectionTrait,
    table: DecisionTable,
    limit: u32,
) -> Result<Vec<RunRow>, StoreError> {
    let sql = table.statements().list;
    read(database, "list decision runs", sql, [i64::from(limit).into()]).await
}

/// Deletes at most `at_most` runs that have ended of slots before a time, the oldest first, but those
/// that were executed and, of prop accounts, those since the oldest audition under way began. Answers
/// how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    table: DecisionTable,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let statement = table.statements().prune;
    sql::prune(txn, "prune decision runs", statement, before_ms, at_most).await
}
