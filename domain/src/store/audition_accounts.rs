//! What the accounts of auditions tell: tables `prop_accounts`, `prop_positions`, `prop_fills`,
//! `prop_day_stats`, `prop_equity_snapshots` and `prop_decision_runs`, read only.

mod afterwards;

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;
use serde_json::json;

use super::sql::{Column, read_rows};
use crate::lifecycle::{AuditionDay, DecisionCounts};

pub use self::afterwards::{Afterwards, Traded};

/// Whose account tells, and up to when what it did counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The account.
    pub account_id: i64,
    /// When the window of its audition ended, epoch milliseconds; `None` while it runs.
    pub ended_at_ms: Option<i64>,
}

/// What an audition's account tells. Money is USD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStanding {
    /// Counts its changes: who ends it says which version he saw.
    pub version: i64,
    /// `active`, `halted_until_roll`, `breached`, `passed` or `closed`.
    pub status: String,
    /// When it was last marked, epoch milliseconds.
    pub marked_at_ms: Option<i64>,
    /// The last snapshot of its equity within the window; of a breach, that of the breach.
    pub snapshot: Option<Snapshot>,
    /// The rule that was broken.
    pub breach: Option<String>,
    /// Cash that it opened with.
    pub initial: Decimal,
    /// Cash now.
    pub cash: Decimal,
    /// Positions that are open.
    pub open_positions: u32,
    /// Fills that closed something.
    pub closed_trades: u32,
    /// Its days, oldest first.
    pub days: Vec<AuditionDay>,
    /// Its decisions within the window.
    pub decisions: DecisionCounts,
    /// What it did since its window ended, which is in the figures above; `None` while it runs.
    pub afterwards: Option<Afterwards>,
}

/// What an account was worth, and what it was tested against: evidence, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromQueryResult)]
pub struct Snapshot {
    #[serde(skip)]
    account_id: i64,
    /// When, epoch milliseconds.
    pub at_ms: i64,
    /// What it was worth (USD).
    pub equity: String,
    /// What of that is not realized (USD).
    pub unrealized_pnl: String,
    /// The equity below which it is liquidated (USD).
    pub maintenance_margin: String,
    /// The floor of its day (USD).
    pub daily_floor: String,
    /// The floor of the account (USD).
    pub max_floor: String,
    /// The marks that it was made with, JSON.
    pub marks: String,
}

/// Loads what accounts tell, by account; four statements however many there are, and three more for
/// those whose windows have ended. An account with an amount that is none is left out.
///
/// # Errors
/// The driver's error.
pub async fn load(
    database: &impl ConnectionTrait,
    asked: &[Asked],
) -> Result<BTreeMap<i64, AccountStanding>, StoreError> {
    let columns = [("account_id", Column::Int), ("until_ms", Column::Int)];
    let row =
        |asked: &Asked| vec![json!(asked.account_id), json!(asked.ended_at_ms.unwrap_or(i64::MAX))];
    let rows = asked.iter().map(row).collect();
    let mut standings: BTreeMap<i64, AccountStanding> = BTreeMap::new();
    let accounts: Vec<AccountRow> =
        read_rows(database, "load accounts of auditions", ACCOUNTS, &columns, [], &rows).await?;
    for account in accounts {
        if let Some(standing) = account.read() {
            standings.insert(account.id, standing);
        }
    }
    let days: Vec<DayRow> =
        read_rows(database, "load days of auditions", DAYS, &columns, [], &rows).await?;
    for day in days {
        let Some(standing) = standings.get_mut(&day.account_id) else { continue };
        match day.read(standing.cash) {
            Some(day) => standing.days.push(day),
            None => drop(standings.remove(&day.account_id)),
        }
    }
    let snapshots: Vec<Snapshot> =
        read_rows(database, "load equity of auditions", SNAPSHOTS, &columns, [], &rows).await?;
    for snapshot in snapshots {
        if let Some(standing) = standings.get_mut(&snapshot.account_id) {
            standing.snapshot = Some(snapshot);
        }
    }
    let decisions: Vec<CountRow> =
        read_rows(database, "count decisions of auditions", DECISIONS, &columns, [], &rows).await?;
    for count in decisions {
        if let Some(standing) = standings.get_mut(&count.account_id) {
            standing.decisions = count.into_counts();
        }
    }
    afterwards::add(database, asked, &mut standings).await?;
    Ok(standings)
}

const ACCOUNTS: &str = "
    SELECT a.id, a.version, a.status, a.marked_at_ms, a.breach, a.initial, a.cash,
           (SELECT count(*) FROM prop_positions p WHERE p.account_id = a.id
               AND CAST(p.size AS NUMERIC) <> 0) AS open_positions,
           (SELECT count(*) FROM prop_fills f WHERE f.account_id = a.id
               AND CAST(f.realized AS NUMERIC) <> 0) AS closed_trades
    FROM prop_accounts a WHERE a.id IN (SELECT v.account_id FROM {rows})";

const DAYS: &str = "
    SELECT account_id, day, opening_balance, closing_balance, opened_position
    FROM prop_day_stats WHERE account_id IN (SELECT v.account_id FROM {rows})
    ORDER BY account_id, day";

const SNAPSHOTS: &str = "
    SELECT s.account_id, s.at_ms, s.equity, s.unrealized_pnl, s.maintenance_margin, s.daily_floor,
           s.max_floor, s.marks
    FROM {rows} JOIN prop_accounts AS a ON a.id = v.account_id
    JOIN prop_equity_snapshots AS s ON s.account_id = v.account_id AND s.at_ms =
        (SELECT max(l.at_ms) FROM prop_equity_snapshots AS l
         WHERE l.account_id = v.account_id AND (a.status = 'breached' OR l.at_ms <= v.until_ms))";

const DECISIONS: &str = "
    SELECT r.account_id, count(*) AS made,
           count(CASE WHEN r.skip_reason IN ('provider_timeout', 'provider_error',
               'provider_malformed', 'rate_limited', 'budget_exceeded') THEN 1 END) AS provider_skips,
           count(CASE WHEN r.skip_reason IN ('stale_data', 'missing_feature') THEN 1 END) AS data_skips
    FROM {rows} JOIN prop_accounts a ON a.id = v.account_id
    JOIN prop_decision_runs r ON r.clone_id = a.clone_id AND r.account_id = a.id
    WHERE r.scheduled_for_ms <= v.until_ms AND r.status NOT IN ('pending', 'running')
    GROUP BY r.account_id";

#[derive(FromQueryResult)]
struct AccountRow {
    id: i64,
    version: i64,
    status: String,
    marked_at_ms: Option<i64>,
    breach: Option<String>,
    initial: String,
    cash: String,
    open_positions: i64,
    closed_trades: i64,
}

impl AccountRow {
    fn read(&self) -> Option<AccountStanding> {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Some(AccountStanding {
            version: self.version,
            status: self.status.clone(),
            marked_at_ms: self.marked_at_ms,
            snapshot: None,
            breach: self.breach.clone(),
            initial: self.initial.parse().ok()?,
            cash: self.cash.parse().ok()?,
            open_positions: count(self.open_positions),
            closed_trades: count(self.closed_trades),
            days: Vec::new(),
            decisions: DecisionCounts::default(),
            afterwards: None,
        })
    }
}

#[derive(FromQueryResult)]
struct DayRow {
    account_id: i64,
    day: i64,
    opening_balance: String,
    closing_balance: Option<String>,
    opened_position: bool,
}

impl DayRow {
    /// A day that is under way has the cash of now.
    fn read(&self, cash: Decimal) -> Option<AuditionDay> {
        let closing_balance = match &self.closing_balance {
            Some(text) => text.parse().ok()?,
            None => cash,
        };
        Some(AuditionDay {
            day: self.day,
            opening_balance: self.opening_balance.parse().ok()?,
            closing_balance,
            opened_position: self.opened_position,
        })
    }
}

#[derive(FromQueryResult)]
struct CountRow {
    account_id: i64,
    made: i64,
    provider_skips: i64,
    data_skips: i64,
}

impl CountRow {
    fn into_counts(self) -> DecisionCounts {
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        DecisionCounts {
            all: count(self.made),
            provider_skips: count(self.provider_skips),
            data_skips: count(self.data_skips),
        }
    }
}
