//! What accounts leave behind and nobody needs for ever. The ledger and the fills stay.

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;

use crate::store::sql::prune;

/// Deletes at most `at_most` snapshots of equity from before a time, the oldest first. Answers how
/// many.
///
/// # Errors
/// The driver's error.
pub async fn prune_snapshots(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM prop_equity_snapshots WHERE (account_id, at_ms) IN (
                   SELECT account_id, at_ms FROM prop_equity_snapshots WHERE at_ms < $1
                   ORDER BY at_ms LIMIT $2)";
    prune(txn, "prune snapshots of equity", sql, before_ms, at_most).await
}

/// Deletes at most `at_most` events of accounts from before a time, the oldest first. Answers how
/// many.
///
/// # Errors
/// The driver's error.
pub async fn prune_events(
    txn: &DatabaseTransaction,
    before_ms: i64,
    at_most: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM prop_account_events WHERE id IN (
                   SELECT id FROM prop_account_events WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)";
    prune(txn, "prune events of accounts", sql, before_ms, at_most).await
}
