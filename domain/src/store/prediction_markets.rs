//! The tables `pm_markets` and `pm_tokens`: questions, their outcomes, and how they were answered.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement, Value};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::{PredictionMarket, Resolution};

/// Keeps markets, none of which stands twice, with their tokens. Answers how many markets changed.
///
/// # Errors
/// The driver's error.
pub async fn upsert(
    txn: &DatabaseTransaction,
    markets: &[PredictionMarket],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let sql =
        "INSERT INTO pm_markets (condition_id, question, slug, end_at_ms, tradable, volume_24h,
            first_seen_at_ms, updated_at_ms)
        SELECT condition_id, question, slug, end_at_ms, tradable <> 0, volume_24h, seen_at_ms,
            seen_at_ms
        FROM {rows} WHERE TRUE
        ON CONFLICT (condition_id) DO UPDATE SET
            question = excluded.question, slug = excluded.slug, end_at_ms = excluded.end_at_ms,
            tradable = excluded.tradable, volume_24h = excluded.volume_24h,
            updated_at_ms = excluded.updated_at_ms";
    let columns = [
        ("condition_id", Column::Text),
        ("question", Column::Text),
        ("slug", Column::Text),
        ("end_at_ms", Column::Int),
        ("tradable", Column::Int),
        ("volume_24h", Column::Real),
        ("seen_at_ms", Column::Int),
    ];
    let row = |market: &PredictionMarket| {
        let PredictionMarket { condition_id, question, slug, end_at_ms, tradable, .. } = market;
        let tradable = i32::from(*tradable);
        json!([condition_id, question, slug, end_at_ms, tradable, market.volume_24h, now_ms])
    };
    let rows: Vec<_> = markets.iter().map(row).collect();
    let changed = put_rows(txn, "keep markets", sql, &columns, &rows).await?;
    // A token belongs to its outcome for good.
    let sql = "INSERT INTO pm_tokens (token_id, condition_id, outcome)
        SELECT token_id, condition_id, outcome FROM {rows} WHERE TRUE ON CONFLICT DO NOTHING";
    let columns =
        [("token_id", Column::Text), ("condition_id", Column::Text), ("outcome", Column::Text)];
    let tokens = markets.iter().flat_map(|market| {
        let id = &market.condition_id;
        market.tokens.iter().map(move |(token, outcome)| json!([token, id, outcome]))
    });
    let tokens: Vec<_> = tokens.collect();
    put_rows(txn, "keep tokens", sql, &columns, &tokens).await?;
    Ok(changed)
}

/// Makes the `at_most` tradable markets with the highest volume, that were seen since a time, the
/// watched ones. A market stays watched until it is answered, so that its resolution is learnt.
///
/// # Errors
/// The driver's error.
pub async fn watch(
    txn: &DatabaseTransaction,
    at_most: u32,
    seen_since_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE pm_markets SET watched = condition_id IN (
            SELECT condition_id FROM pm_markets
            WHERE tradable AND winning_outcome IS NULL AND updated_at_ms >= $2
              AND condition_id IN (SELECT condition_id FROM pm_tokens)
            ORDER BY coalesce(volume_24h, 0) DESC, condition_id LIMIT $1)
        WHERE watched OR tradable";
    let values: [Value; 2] = [i64::from(at_most).into(), seen_since_ms.into()];
    execute(txn, "choose the watched markets", sql, values).await.map(|_| ())
}

/// A token that is watched.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct WatchedToken {
    /// The token.
    pub token_id: String,
    /// Its market.
    pub condition_id: String,
}

/// Lists the tokens of watched markets.
///
/// # Errors
/// The driver's error.
pub async fn list_watched(
    database: &impl ConnectionTrait,
) -> Result<Vec<WatchedToken>, StoreError> {
    let sql = "SELECT token_id, t.condition_id AS condition_id
               FROM pm_tokens AS t JOIN pm_markets AS m ON m.condition_id = t.condition_id
               WHERE m.watched AND m.winning_outcome IS NULL ORDER BY t.condition_id, token_id";
    WatchedToken::find_by_statement(Statement::from_string(database.get_database_backend(), sql))
        .all(database)
        .await
        .map_err(|source| StoreError::database("list the watched tokens", source))
}

/// Lists the markets that are to be asked for their answer: past their end, or watched; those past
/// their end first. At most `at_most`.
///
/// # Errors
/// The driver's error.
pub async fn list_unresolved(
    database: &impl ConnectionTrait,
    now_ms: i64,
    at_most: u32,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT condition_id FROM pm_markets
               WHERE winning_outcome IS NULL AND (end_at_ms <= $1 OR watched)
               ORDER BY end_at_ms, condition_id LIMIT $2";
    let failed = |source| StoreError::database("list the unanswered markets", source);
    let values: [Value; 2] = [now_ms.into(), i64::from(at_most).into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let rows = database.query_all_raw(statement).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get("", "condition_id")).collect::<Result<_, _>>().map_err(failed)
}

/// Keeps an answer. The first is final: whether it was the first.
///
/// # Errors
/// The driver's error.
pub async fn resolve(
    txn: &DatabaseTransaction,
    resolution: &Resolution,
) -> Result<bool, StoreError> {
    let sql = "UPDATE pm_markets
               SET winning_outcome = $2, resolved_at_ms = $3, tradable = FALSE, watched = FALSE
               WHERE condition_id = $1 AND winning_outcome IS NULL";
    let values: [Value; 3] = [
        resolution.condition_id.as_str().into(),
        resolution.winning_outcome.as_str().into(),
        resolution.resolved_at_ms.into(),
    ];
    Ok(execute(txn, "keep the answer of a market", sql, values).await? > 0)
}

/// Deletes at most `at_most` markets that discovery has not seen since a time and that are not
/// watched, with their tokens and quotes. Answers how many markets.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let failed = |source| StoreError::database("prune markets", source);
    let sql = "DELETE FROM pm_markets WHERE NOT watched AND updated_at_ms < $1 AND condition_id IN
                 (SELECT condition_id FROM pm_markets
                  WHERE updated_at_ms < $1 AND NOT watched ORDER BY updated_at_ms LIMIT $2)
               RETURNING condition_id";
    let values: [Value; 2] = [before_ms.into(), i64::from(at_most).into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let gone = txn.query_all_raw(statement).await.map_err(failed)?;
    let ids = gone.iter().map(|row| Ok(json!([row.try_get::<String>("", "condition_id")?])));
    let ids = ids.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let columns = [("condition_id", Column::Text)];
    for sql in [
        "DELETE FROM pm_quotes WHERE token_id IN
           (SELECT token_id FROM pm_tokens
            WHERE condition_id IN (SELECT v.condition_id FROM {rows}))",
        "DELETE FROM pm_tokens WHERE condition_id IN (SELECT v.condition_id FROM {rows})",
    ] {
        put_rows(txn, "prune tokens", sql, &columns, &ids).await?;
    }
    Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
}

async fn execute(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, StoreError> {
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    Ok(done.map_err(|source| StoreError::database(operation, source))?.rows_affected())
}
