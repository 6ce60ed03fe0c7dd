//! Accounts with their positions, day and recent fills.

use std::collections::{BTreeMap, BTreeSet};

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

use super::{decimal, unreadable};
use crate::prop::{Account, AccountKind, AccountStatus, Breach, DayStat, Position, RecentFill};
use crate::store::sql::{Column, Rows, read, read_rows};

/// An account, or why it cannot be understood: that stops nobody else's.
pub type Loaded = Result<Account, UnreadableAccount>;

/// An account whose rows cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("account {id} cannot be read: {reason}")]
pub struct UnreadableAccount {
    /// The account.
    pub id: i64,
    /// What is wrong.
    pub reason: String,
}

/// Loads at most `limit` accounts whose mark was not tried after `until_ms`, the longest ago first,
/// in four statements: those that are open, and those that ended before the funding of an hour that
/// they lived through was settled.
///
/// # Errors
/// The driver's error.
pub async fn find_due(
    database: &impl ConnectionTrait,
    until_ms: i64,
    limit: u32,
) -> Result<Vec<Loaded>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM prop_accounts
         WHERE (status IN ('active', 'halted_until_roll')
                OR funding_until_ms < closed_at_ms - closed_at_ms % 3600000)
           AND looked_at_ms <= $1
         ORDER BY looked_at_ms, id LIMIT $2"
    );
    let values = [until_ms.into(), i64::from(limit).into()];
    let accounts = read::<AccountRow>(database, "find accounts to mark", &sql, values).await?;
    complete(database, accounts).await
}

/// Loads these accounts, whatever their status, in four statements. One that is not there is left
/// out.
///
/// # Errors
/// The driver's error.
pub async fn find(database: &impl ConnectionTrait, ids: &[i64]) -> Result<Vec<Loaded>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM {{rows}} JOIN prop_accounts ON prop_accounts.id = v.account_id
         ORDER BY id"
    );
    let ids: Rows = ids.iter().map(|id| vec![(*id).into()]).collect();
    let accounts = read_rows::<AccountRow>(database, "find accounts", &sql, &ID, [], &ids).await?;
    complete(database, accounts).await
}

/// Finds which of these orders were filled.
///
/// # Errors
/// The driver's error.
pub async fn find_filled(
    database: &impl ConnectionTrait,
    client_order_ids: &[String],
) -> Result<BTreeSet<String>, StoreError> {
    if client_order_ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = "SELECT f.client_order_id FROM {rows}
               JOIN prop_fills AS f ON f.client_order_id = v.client_order_id AND f.seq = 0";
    let columns = [("client_order_id", Column::Text)];
    let asked: Rows = client_order_ids.iter().map(|id| vec![id.as_str().into()]).collect();
    let found: Vec<OrderRow> =
        read_rows(database, "find filled orders", sql, &columns, [], &asked).await?;
    Ok(found.into_iter().map(|row| row.client_order_id).collect())
}

#[derive(FromQueryResult)]
struct OrderRow {
    client_order_id: String,
}

const COLUMNS: &str = "id, clone_id, kind, status, rules, initial, cash, peak_equity, peak_balance,
    day, day_base, funding_until_ms, marked_at_ms, last_entry_at_ms, last_loss_at_ms, breach,
    opened_at_ms, closed_at_ms, version";

const ID: [(&str, Column); 1] = [("account_id", Column::Int)];

/// Adds what belongs to the accounts.
async fn complete(
    database: &impl ConnectionTrait,
    accounts: Vec<AccountRow>,
) -> Result<Vec<Loaded>, StoreError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = |of: fn(&AccountRow) -> i64| -> Rows {
        accounts.iter().map(|account| vec![account.id.into(), of(account).into()]).collect()
    };
    let sql = "SELECT p.account_id, p.symbol, p.size, p.entry, p.leverage, p.stop_price,
                      p.take_price, p.opened_at_ms
               FROM {rows} JOIN prop_positions AS p ON p.account_id = v.account_id";
    let columns = [("account_id", Column::Int), ("version", Column::Int)];
    let rows = wanted(|account| account.version);
    let positions: Vec<PositionRow> =
        read_rows(database, "load positions", sql, &columns, [], &rows).await?;
    let sql = "SELECT d.account_id, d.day, d.opening_balance, d.closing_balance, d.high_equity,
                      d.low_equity, d.realized, d.fees, d.funding, d.orders, d.opened_position
               FROM {rows} JOIN prop_day_stats AS d ON d.account_id = v.account_id AND d.day = v.day";
    let columns = [("account_id", Column::Int), ("day", Column::Int)];
    let rows = wanted(|account| account.day);
    let days: Vec<DayRow> =
        read_rows(database, "load days of accounts", sql, &columns, [], &rows).await?;
    let sql = "SELECT f.account_id, f.symbol, f.size, f.filled_at_ms
               FROM {rows} JOIN prop_fills AS f
               ON f.account_id = v.account_id AND f.filled_at_ms > v.since_ms
               ORDER BY f.account_id, f.filled_at_ms, f.id";
    let columns = [("account_id", Column::Int), ("since_ms", Column::Int)];
    let rows = wanted(|account| account.funding_until_ms);
    let fills: Vec<FillRow> =
        read_rows(database, "load recent fills", sql, &columns, [], &rows).await?;
    let mut parts: BTreeMap<i64, Parts> = BTreeMap::new();
    for row in positions {
        parts.entry(row.account_id).or_default().positions.push(row);
    }
    for row in days {
        let of_account = parts.entry(row.account_id).or_default();
        of_account.day = Some(row);
    }
    for row in fills {
        parts.entry(row.account_id).or_default().fills.push(row);
    }
    let together = accounts.into_iter().map(|row| {
        let id = row.id;
        let read = read_account(row, parts.remove(&id).unwrap_or_default());
        read.map_err(|error| UnreadableAccount { id, reason: error.to_string() })
    });
    Ok(together.collect())
}

#[derive(Default)]
struct Parts {
    positions: Vec<PositionRow>,
    day: Option<DayRow>,
    fills: Vec<FillRow>,
}

#[derive(FromQueryResult)]
struct AccountRow {
    id: i64,
    clone_id: i64,
    kind: String,
    status: String,
    rules: String,
    initial: String,
    cash: String,
    peak_equity: String,
    peak_balance: String,
    day: i64,
    day_base: String,
    funding_until_ms: i64,
    marked_at_ms: Option<i64>,
    last_entry_at_ms: Option<i64>,
    last_loss_at_ms: Option<i64>,
    breach: Option<String>,
    opened_at_ms: i64,
    closed_at_ms: Option<i64>,
    version: i64,
}

#[derive(FromQueryResult)]
struct PositionRow {
    account_id: i64,
    symbol: String,
    size: String,
    entry: String,
    leverage: String,
    stop_price: Option<String>,
    take_price: Option<String>,
    opened_at_ms: i64,
}

#[derive(FromQueryResult)]
struct DayRow {
    account_id: i64,
    day: i64,
    opening_balance: String,
    closing_balance: Option<String>,
    high_equity: String,
    low_equity: String,
    realized: String,
    fees: String,
    funding: String,
    orders: i32,
    opened_position: bool,
}

#[derive(FromQueryResult)]
struct FillRow {
    account_id: i64,
    symbol: String,
    size: String,
    filled_at_ms: i64,
}

fn read_account(row: AccountRow, parts: Parts) -> Result<Account, DbErr> {
    let cash = decimal("cash", &row.cash)?;
    let rules = serde_json::from_str(&row.rules)
        .map_err(|error| DbErr::Custom(format!("column `rules`: {error}")))?;
    let today = match parts.day {
        Some(day) => read_day(day)?,
        None => DayStat::begin(row.day, cash, cash),
    };
    let mut positions = BTreeMap::new();
    for position in parts.positions {
        let optional =
            |column, text: Option<String>| text.map(|text| decimal(column, &text)).transpose();
        let read = Position {
            size: decimal("size", &position.size)?,
            entry: decimal("entry", &position.entry)?,
            leverage: decimal("leverage", &position.leverage)?,
            stop: optional("stop_price", position.stop_price)?,
            take: optional("take_price", position.take_price)?,
            opened_at_ms: position.opened_at_ms,
        };
        positions.insert(position.symbol, read);
    }
    let mut recent_fills = Vec::with_capacity(parts.fills.len());
    for fill in parts.fills {
        let size = decimal("size", &fill.size)?;
        recent_fills.push(RecentFill {
            symbol: fill.symbol,
            size,
            filled_at_ms: fill.filled_at_ms,
        });
    }
    let breach = row.breach.as_deref();
    let breach = breach.map(|word| Breach::of_word(word).ok_or_else(|| unreadable("breach", word)));
    Ok(Account {
        id: row.id,
        clone_id: row.clone_id,
        kind: AccountKind::of_word(&row.kind).ok_or_else(|| unreadable("kind", &row.kind))?,
        status: AccountStatus::of_word(&row.status)
            .ok_or_else(|| unreadable("status", &row.status))?,
        rules,
        initial: decimal("initial", &row.initial)?,
        cash,
        peak_equity: decimal("peak_equity", &row.peak_equity)?,
        peak_balance: decimal("peak_balance", &row.peak_balance)?,
        day_base: decimal("day_base", &row.day_base)?,
        funding_until_ms: row.funding_until_ms,
        marked_at_ms: row.marked_at_ms,
        last_entry_at_ms: row.last_entry_at_ms,
        last_loss_at_ms: row.last_loss_at_ms,
        breach: breach.transpose()?,
        opened_at_ms: row.opened_at_ms,
        closed_at_ms: row.closed_at_ms,
        version: row.version,
        positions,
        today,
        recent_fills,
    })
}

fn read_day(row: DayRow) -> Result<DayStat, DbErr> {
    let closing = row.closing_balance.as_deref();
    Ok(DayStat {
        day: row.day,
        opening_balance: decimal("opening_balance", &row.opening_balance)?,
        closing_balance: closing.map(|text| decimal("closing_balance", text)).transpose()?,
        high_equity: decimal("high_equity", &row.high_equity)?,
        low_equity: decimal("low_equity", &row.low_equity)?,
        realized: decimal("realized", &row.realized)?,
        fees: decimal("fees", &row.fees)?,
        funding: decimal("funding", &row.funding)?,
        orders: u32::try_from(row.orders).unwrap_or_default(),
        opened_position: row.opened_position,
    })
}
