//! The table `instrument_versions`: each version of a venue's list of instruments.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, Value};

/// Keeps a version under the hash of its content. Whether it was new.
///
/// # Errors
/// The driver's error.
pub async fn keep(
    txn: &DatabaseTransaction,
    source: &str,
    content_hash: &str,
    document: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO instrument_versions (source, content_hash, document, first_seen_at_ms)
               VALUES ($1, $2, $3, $4) ON CONFLICT (source, content_hash) DO NOTHING";
    let values: [Value; 4] = [source.into(), content_hash.into(), document.into(), now_ms.into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    let done = done.map_err(|source| StoreError::database("keep a version", source))?;
    Ok(done.rows_affected() > 0)
}

/// Deletes at most `at_most` versions that were first seen before a time and were followed by
/// another. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn prune(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM instrument_versions WHERE (source, content_hash) IN
                 (SELECT source, content_hash FROM instrument_versions AS old
                  WHERE first_seen_at_ms < $1 AND EXISTS (SELECT 1 FROM instrument_versions AS new
                    WHERE new.source = old.source AND new.first_seen_at_ms > old.first_seen_at_ms)
                  ORDER BY first_seen_at_ms LIMIT $2)";
    super::sql::prune(txn, "prune versions of instruments", sql, before_ms, at_most).await
}
