//! A new account with its deposit.

use rust_decimal::Decimal;
use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement, Value};

use super::save;
use crate::prop::{AccountKind, AccountRules, DayStat, HOUR_MS, opening_deposit};

/// What an account is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Whose it is.
    pub clone_id: i64,
    /// What it is for.
    pub kind: AccountKind,
    /// Its rules, which have been checked.
    pub rules: AccountRules,
    /// What it begins with (USD).
    pub initial: Decimal,
    /// Unique for ever: what is asked twice is opened once. `None` opens another each time.
    pub creation_key: Option<String>,
}

/// An account that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its key.
    pub id: i64,
    /// Whether this call opened it.
    pub is_new: bool,
}

/// Opens an account, or finds the one that was opened under the same key.
///
/// # Errors
/// The driver's error.
pub async fn open(
    txn: &DatabaseTransaction,
    new: &NewAccount,
    now_ms: i64,
) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::database("open an account", source);
    let backend = txn.get_database_backend();
    let rules = serde_json::to_string(&new.rules)
        .map_err(|error| failed(DbErr::Custom(format!("the rules cannot be written: {error}"))))?;
    let day = new.rules.day_of(now_ms);
    let sql = "
        INSERT INTO prop_accounts (clone_id, kind, rules, initial, cash, peak_equity, peak_balance,
            day, day_base, funding_until_ms, creation_key, opened_at_ms)
        VALUES ($1, $2, $3, $4, $4, $4, $4, $5, $4, $6, $7, $8)
        ON CONFLICT (creation_key) DO NOTHING RETURNING id";
    let values: [Value; 8] = [
        new.clone_id.into(),
        new.kind.as_str().into(),
        rules.into(),
        new.initial.to_string().into(),
        day.into(),
        (now_ms - now_ms.rem_euclid(HOUR_MS)).into(),
        new.creation_key.clone().into(),
        now_ms.into(),
    ];
    let insert = Statement::from_sql_and_values(backend, sql, values);
    if let Some(row) = txn.query_one_raw(insert).await.map_err(failed)? {
        let id = row.try_get("", "id").map_err(failed)?;
        let deposit = opening_deposit(new.initial, now_ms);
        save::post(txn, &[(id, &deposit)], now_ms).await?;
        let day = DayStat::begin(day, new.initial, new.initial);
        save::record_days(txn, &[(id, &day)]).await?;
        return Ok(Opened { id, is_new: true });
    }
    let sql = "SELECT id FROM prop_accounts WHERE creation_key = $1";
    let find = Statement::from_sql_and_values(backend, sql, [new.creation_key.clone().into()]);
    let row = txn.query_one_raw(find).await.map_err(failed)?;
    let row = row.ok_or_else(|| failed(DbErr::RecordNotInserted))?;
    Ok(Opened { id: row.try_get("", "id").map_err(failed)?, is_new: false })
}
