//! What the accounts of auditions did since their windows ended: tables `prop_ledger_postings`,
//! `prop_ledger_transactions`, `prop_fills` and `prop_positions`, read only.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde_json::json;

use super::{AccountStanding, Asked};
use crate::store::sql::{Column, Rows, read_rows};

/// What an account did since the window of its audition ended, and what undoes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Afterwards {
    /// When the window ended, epoch milliseconds.
    pub ended_at_ms: i64,
    /// What the cash was moved by since (USD).
    pub cash: Decimal,
    /// What is held now, by symbol: base currency, negative is short.
    pub held: BTreeMap<String, Decimal>,
    /// Fills since, and those of the day before the end; oldest first.
    pub fills: Vec<Traded>,
}

/// A fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traded {
    /// What was traded.
    pub symbol: String,
    /// Base currency; negative was sold.
    pub size: Decimal,
    /// Whether it closed something.
    pub closed: bool,
    /// When, epoch milliseconds.
    pub filled_at_ms: i64,
}

/// Adds to the standings of accounts whose windows have ended what they did since. An account with
/// an amount that is none is taken out.
pub(super) async fn add(
    database: &impl ConnectionTrait,
    asked: &[Asked],
    standings: &mut BTreeMap<i64, AccountStanding>,
) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for asked in asked {
        let Some(ended_at_ms) = asked.ended_at_ms else { continue };
        if let Some(standing) = standings.get_mut(&asked.account_id) {
            standing.afterwards = Some(Afterwards { ended_at_ms, ..Afterwards::default() });
            rows.push(vec![json!(asked.account_id), json!(ended_at_ms)]);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let columns = [("account_id", Column::Int), ("ended_at_ms", Column::Int)];
    let moved: Vec<MovedRow> =
        read_rows(database, "load what was booked afterwards", MOVED, &columns, [], &rows).await?;
    for row in moved {
        let amount = row.amount.parse::<Decimal>().ok();
        change(standings, row.account_id, |afterwards| {
            afterwards.cash = afterwards.cash.checked_add(amount?)?;
            Some(())
        });
    }
    let held: Vec<HeldRow> =
        read_rows(database, "load what auditions hold", HELD, &columns, [], &rows).await?;
    for row in held {
        change(standings, row.account_id, |afterwards| {
            afterwards.held.insert(row.symbol, row.size.parse().ok()?);
            Some(())
        });
    }
    let fills: Vec<FillRow> =
        read_rows(database, "load fills of auditions", FILLS, &columns, [], &rows).await?;
    for row in fills {
        change(standings, row.account_id, |afterwards| {
            let realized: Decimal = row.realized.parse().ok()?;
            afterwards.fills.push(Traded {
                symbol: row.symbol,
                size: row.size.parse().ok()?,
                closed: !realized.is_zero(),
                filled_at_ms: row.filled_at_ms,
            });
            Some(())
        });
    }
    Ok(())
}

/// Changes what an account did afterwards, or takes it out if that cannot be.
fn change(
    standings: &mut BTreeMap<i64, AccountStanding>,
    account_id: i64,
    by: impl FnOnce(&mut Afterwards) -> Option<()>,
) {
    let afterwards =
        standings.get_mut(&account_id).and_then(|standing| standing.afterwards.as_mut());
    let Some(afterwards) = afterwards else { return };
    if by(afterwards).is_none() {
        standings.remove(&account_id);
    }
}

const MOVED: &str = "
    SELECT t.account_id, p.amount FROM {rows}
    JOIN prop_ledger_transactions t
      ON t.account_id = v.account_id AND t.occurred_at_ms > v.ended_at_ms
    JOIN prop_ledger_postings p ON p.transaction_id = t.id AND p.ledger_account = 'cash'";

const HELD: &str = "
    SELECT p.account_id, p.symbol, p.size
    FROM {rows} JOIN prop_positions p ON p.account_id = v.account_id";

const FILLS: &str = "
    SELECT f.account_id, f.symbol, f.size, f.realized, f.filled_at_ms
    FROM {rows} JOIN prop_fills f
      ON f.account_id = v.account_id AND f.filled_at_ms > v.ended_at_ms - 86400000
    ORDER BY f.account_id, f.filled_at_ms, f.id";

#[derive(FromQueryResult)]
struct MovedRow {
    account_id: i64,
    amount: String,
}

#[derive(FromQueryResult)]
struct HeldRow {
    account_id: i64,
    symbol: String,
    size: String,
}

#[derive(FromQueryResult)]
struct FillRow {
    account_id: i64,
    symbol: String,
    size: String,
    realized: String,
    filled_at_ms: i64,
}
