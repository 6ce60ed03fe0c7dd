//! The table `market_gaps`: spans for which a channel delivered nothing, and whether they were
//! filled since.

use scheduler_core::StoreError;
use sea_orm::ConnectionTrait;
use sea_orm::{DatabaseTransaction, Statement, Value};

use crate::ingestion::Channel;

/// A span without data, from `from_ms` to `to_ms`, epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketGap {
    /// The coin or token.
    pub symbol: String,
    /// The start of it.
    pub from_ms: i64,
    /// The end of it.
    pub to_ms: i64,
}

/// Notes a gap; one that is noted already stays as it is.
///
/// # Errors
/// The driver's error.
pub async fn note(
    txn: &DatabaseTransaction,
    channel: &Channel,
    gap: &MarketGap,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO market_gaps (source, channel, symbol, from_ms, to_ms, found_at_ms)
               VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (source, channel, symbol, from_ms, to_ms) DO NOTHING";
    execute(txn, "note a gap", sql, channel, gap, now_ms).await
}

/// Marks the gaps of a symbol that lie within a span as filled.
///
/// # Errors
/// The driver's error.
pub async fn repair(
    txn: &DatabaseTransaction,
    channel: &Channel,
    span: &MarketGap,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE market_gaps SET repaired_at_ms = $6
               WHERE source = $1 AND channel = $2 AND symbol = $3
                 AND from_ms >= $4 AND to_ms <= $5 AND repaired_at_ms IS NULL";
    execute(txn, "mark gaps as filled", sql, channel, span, now_ms).await
}

async fn execute(
    txn: &DatabaseTransaction,
    operation: &'static str,
    sql: &str,
    channel: &Channel,
    gap: &MarketGap,
    now_ms: i64,
) -> Result<(), StoreError> {
    let values: [Value; 6] = [
        channel.source.as_str().into(),
        channel.name.into(),
        gap.symbol.as_str().into(),
        gap.from_ms.into(),
        gap.to_ms.into(),
        now_ms.into(),
    ];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    done.map(|_| ()).map_err(|source| StoreError::database(operation, source))
}

/// Deletes at most `at_most` gaps that were found before a time. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM market_gaps WHERE id IN
                 (SELECT id FROM market_gaps WHERE found_at_ms < $1 ORDER BY found_at_ms LIMIT $2)";
    super::sql::prune(txn, "prune gaps", sql, before_ms, at_most).await
}
