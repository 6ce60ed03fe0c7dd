//! The tables `arena_slots` and `arena_clone_memberships`: a season's slots, and who sits there.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use serde_json::json;

use super::sql::{Column, execute, execute_rows, read};

/// A slot that nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromQueryResult)]
pub struct FreeSlot {
    /// Its number, from 1.
    pub slot_no: i32,
    /// Counts who had it.
    pub version: i64,
}

/// A clone on its way into a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The slot as it was seen.
    pub slot: FreeSlot,
    /// Who gets it.
    pub clone_id: i64,
    /// The account that it competes with.
    pub account_id: i64,
    /// The entry of the queue that it had.
    pub promotion_id: i64,
}

/// Makes a season's slots, 1 to `count`, where they are not there yet.
///
/// # Errors
/// The driver's error.
pub async fn ensure_slots(
    txn: &DatabaseTransaction,
    season_id: i64,
    count: u32,
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO arena_slots (season_id, slot_no) SELECT CAST($1 AS BIGINT), v.slot_no
               FROM {rows} WHERE TRUE ON CONFLICT (season_id, slot_no) DO NOTHING";
    let rows = (1..=count).map(|slot_no| vec![json!(slot_no)]).collect();
    let columns = [("slot_no", Column::Int)];
    execute_rows(txn, "make the slots of a season", sql, &columns, [season_id.into()], &rows).await
}

/// Counts a season's slots.
///
/// # Errors
/// The driver's error.
pub async fn count_slots(
    database: &impl ConnectionTrait,
    season_id: i64,
) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) AS slots FROM arena_slots WHERE season_id = $1";
    let rows: Vec<Count> = read(database, "count slots", sql, [season_id.into()]).await?;
    Ok(rows.first().and_then(|row| u64::try_from(row.slots).ok()).unwrap_or_default())
}

#[derive(FromQueryResult)]
struct Count {
    slots: i64,
}

/// Lists a season's free slots by number.
///
/// # Errors
/// The driver's error.
pub async fn list_free_slots(
    database: &impl ConnectionTrait,
    season_id: i64,
) -> Result<Vec<FreeSlot>, StoreError> {
    let sql = "SELECT slot_no, version FROM arena_slots
               WHERE season_id = $1 AND clone_id IS NULL ORDER BY slot_no";
    read(database, "list free slots", sql, [season_id.into()]).await
}

/// Gives slots to clones, each slot if nobody had it since it was seen, and makes the clones members.
/// Answers how many slots were given: with fewer than asked for, roll back.
///
/// # Errors
/// The driver's error; a clone that sits in the season already.
pub async fn seat(
    txn: &DatabaseTransaction,
    season_id: i64,
    seats: &[Seat],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let columns = [
        ("slot_no", Column::Int),
        ("version", Column::Int),
        ("clone_id", Column::Int),
        ("account_id", Column::Int),
        ("promotion_id", Column::Int),
    ];
    let rows = seats.iter().map(|seat| {
        let Seat { slot, clone_id, account_id, promotion_id } = seat;
        let numbers = [slot.slot_no.into(), slot.version, *clone_id, *account_id, *promotion_id];
        numbers.into_iter().map(|number: i64| json!(number)).collect()
    });
    let rows = rows.collect();
    let update = "
        UPDATE arena_slots SET clone_id = v.clone_id, account_id = v.account_id,
            occupied_since_ms = $2, version = arena_slots.version + 1
        FROM {rows}
        WHERE season_id = $1 AND arena_slots.slot_no = v.slot_no
          AND arena_slots.version = v.version AND arena_slots.clone_id IS NULL";
    let values = || [season_id.into(), now_ms.into()];
    let taken = execute_rows(txn, "give slots", update, &columns, values(), &rows).await?;
    let insert = "
        INSERT INTO arena_clone_memberships
            (season_id, clone_id, account_id, slot_no, promotion_id, joined_at_ms)
        SELECT CAST($1 AS BIGINT), v.clone_id, v.account_id, v.slot_no, v.promotion_id,
               CAST($2 AS BIGINT)
        FROM {rows}";
    execute_rows(txn, "make clones members", insert, &columns, values(), &rows).await?;
    Ok(taken)
}

/// Ends the membership of clones whose account has ended or that were archived, and frees their
/// slots. Answers how many.
///
/// # Errors
/// The driver's error.
pub async fn release_departed(
    txn: &DatabaseTransaction,
    season_id: i64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let leave = "
        UPDATE arena_clone_memberships SET left_at_ms = $2, left_reason =
            (SELECT CASE WHEN c.status = 'archived' THEN 'archived' ELSE a.status END
             FROM clones c, prop_accounts a
             WHERE c.id = arena_clone_memberships.clone_id
               AND a.id = arena_clone_memberships.account_id)
        WHERE season_id = $1 AND left_at_ms IS NULL AND (
            EXISTS (SELECT 1 FROM prop_accounts a WHERE a.id = arena_clone_memberships.account_id
                    AND a.status IN ('breached', 'passed', 'closed'))
            OR EXISTS (SELECT 1 FROM clones c WHERE c.id = arena_clone_memberships.clone_id
                       AND c.status = 'archived'))";
    let values = [season_id.into(), now_ms.into()];
    let left = execute(txn, "end memberships", leave, values).await?;
    if left > 0 {
        let free = "
            UPDATE arena_slots SET clone_id = NULL, account_id = NULL, occupied_since_ms = NULL,
                version = version + 1
            WHERE season_id = $1 AND clone_id IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM arena_clone_memberships m WHERE m.season_id = arena_slots.season_id
                    AND m.clone_id = arena_slots.clone_id AND m.left_at_ms IS NULL)";
        execute(txn, "free slots", free, [season_id.into()]).await?;
    }
    Ok(left)
}
