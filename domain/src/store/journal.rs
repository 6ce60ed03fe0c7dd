//! What happened lately, for people who watch: fills, auditions, entries into the arena, equity.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, FromQueryResult};

use super::sql::read;

/// A paper fill. Decimals are text, as in the table.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct FillEntry {
    /// Its number; later ones are greater.
    pub id: i64,
    /// The clone's name.
    pub clone_name: String,
    /// The account.
    pub account_id: i64,
    /// What was traded.
    pub symbol: String,
    /// How much, in the base currency; negative is sold.
    pub size: String,
    /// At which price (USD).
    pub price: String,
    /// What it realized (USD).
    pub realized: String,
    /// Why: `decision`, `stop`, `take`, `liquidation` or `close`.
    pub reason: String,
}

/// A move of an audition.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AuditionEntry {
    /// Its number; later ones are greater.
    pub id: i64,
    /// The audition.
    pub audition_id: i64,
    /// The clone's name.
    pub clone_name: String,
    /// Where it stood.
    pub from_status: String,
    /// Where it stands.
    pub to_status: String,
    /// Why.
    pub reason: String,
}

/// A clone that entered the arena.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ArenaEntry {
    /// Its number; later ones are greater.
    pub id: i64,
    /// The clone's name.
    pub clone_name: String,
    /// The season.
    pub season_id: i64,
    /// The slot.
    pub slot_no: i32,
    /// The account that it competes with.
    pub account_id: i64,
}

/// What an open account is worth.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct EquityEntry {
    /// The account.
    pub account_id: i64,
    /// The clone's name.
    pub clone_name: String,
    /// What it is for.
    pub kind: String,
    /// Its equity at its latest mark (USD), text.
    pub equity: String,
    /// When that was, epoch milliseconds.
    pub at_ms: i64,
}

/// Lists at most `limit` fills after a number, in order.
///
/// # Errors
/// The driver's error.
pub async fn list_fills(
    database: &impl ConnectionTrait,
    after_id: i64,
    limit: u32,
) -> Result<Vec<FillEntry>, StoreError> {
    let sql = "
        SELECT f.id, c.name AS clone_name, f.account_id, f.symbol, f.size, f.price, f.realized,
               f.reason
        FROM prop_fills f
        JOIN prop_accounts a ON a.id = f.account_id
        JOIN clones c ON c.id = a.clone_id
        WHERE f.id > $1 ORDER BY f.id LIMIT $2";
    read(database, "list fills", sql, [after_id.into(), i64::from(limit).into()]).await
}

/// Lists at most `limit` moves of auditions after a number, in order.
///
/// # Errors
/// The driver's error.
pub async fn list_audition_events(
    database: &impl ConnectionTrait,
    after_id: i64,
    limit: u32,
) -> Result<Vec<AuditionEntry>, StoreError> {
    let sql = "
        SELECT e.id, e.audition_id, c.name AS clone_name, e.from_status, e.to_status, e.reason
        FROM audition_events e
        JOIN audition_runs a ON a.id = e.audition_id
        JOIN clones c ON c.id = a.clone_id
        WHERE e.id > $1 ORDER BY e.id LIMIT $2";
    read(database, "list moves of auditions", sql, [after_id.into(), i64::from(limit).into()]).await
}

/// Lists at most `limit` entries into the arena after a number, in order.
///
/// # Errors
/// The driver's error.
pub async fn list_arena_entries(
    database: &impl ConnectionTrait,
    after_id: i64,
    limit: u32,
) -> Result<Vec<ArenaEntry>, StoreError> {
    let sql = "
        SELECT m.id, c.name AS clone_name, m.season_id, m.slot_no, m.account_id
        FROM arena_clone_memberships m JOIN clones c ON c.id = m.clone_id
        WHERE m.id > $1 ORDER BY m.id LIMIT $2";
    read(database, "list entries into the arena", sql, [after_id.into(), i64::from(limit).into()])
        .await
}

/// Lists what at most `limit` open accounts are worth that were marked, by account.
///
/// # Errors
/// The driver's error.
pub async fn list_equity(
    database: &impl ConnectionTrait,
    limit: u32,
) -> Result<Vec<EquityEntry>, StoreError> {
    let sql = "
        SELECT a.id AS account_id, c.name AS clone_name, a.kind, s.equity, s.at_ms
        FROM prop_accounts a
        JOIN clones c ON c.id = a.clone_id
        JOIN prop_equity_snapshots s ON s.account_id = a.id AND s.at_ms = (
            SELECT max(l.at_ms) FROM prop_equity_snapshots l WHERE l.account_id = a.id)
        WHERE a.status IN ('active', 'halted_until_roll')
        ORDER BY a.id LIMIT $1";
    read(database, "list what accounts are worth", sql, [i64::from(limit).into()]).await
}
