//! How rows ended, as statements write it: one text for rows that all succeeded, one for all others.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Value};
use serde_json::json;

use super::super::sql::rows_json;
use super::{SqlQueue, id_json};
use crate::run::InstanceId;
use crate::store::{RowGrant, RowId, RowStatus, SettledRow, kept_error};

/// The ends of one batch, made into parameters.
pub(super) enum Ends {
    None,
    /// Of one holder and one token, with nothing to say but that they succeeded.
    Alike {
        grants: Vec<RowGrant>,
        values: [Value; 3],
    },
    /// All of one holder, and nothing to say but a result.
    Succeeded {
        holder: InstanceId,
        values: Value,
    },
    Mixed {
        holder: InstanceId,
        values: Value,
    },
}

impl Ends {
    /// As few values as these ends allow. Where some of them are lost, [`SqlQueue::settle_in`] does not
    /// say which.
    pub(super) fn of(rows: &[SettledRow], backend: DbBackend) -> Self {
        Self::alike(rows, backend).unwrap_or_else(|| Self::each(rows))
    }

    fn alike(rows: &[SettledRow], backend: DbBackend) -> Option<Self> {
        let RowGrant { token, holder, .. } = rows.first()?.grant;
        let mut ids = Vec::with_capacity(rows.len());
        for SettledRow { grant, status, delay_ms, give_attempt_back, error, result } in rows {
            let RowId::Int(id) = grant.id else { return None };
            let is_alike = (grant.token, grant.holder) == (token, holder)
                && *status == RowStatus::Succeeded
                && delay_ms.is_none()
                && !give_attempt_back
                && error.is_none()
                && result.is_none();
            if !is_alike {
                return None;
            }
            ids.push(id);
        }
        let values = [holder.to_string().into(), ids_value(&ids, backend), token.into()];
        let grants = rows.iter().map(|row| row.grant.clone()).collect();
        Some(Self::Alike { grants, values })
    }

    /// With each row's own values, so that the database answers which of them are lost.
    pub(super) fn each(rows: &[SettledRow]) -> Self {
        let Some(holder) = rows.first().map(|row| row.grant.holder) else { return Self::None };
        let is_plain = |row: &SettledRow| {
            row.status == RowStatus::Succeeded
                && row.grant.holder == holder
                && row.delay_ms.is_none()
                && !row.give_attempt_back
        };
        if rows.iter().all(is_plain) {
            return Self::Succeeded { holder, values: succeeded_json(rows).into() };
        }
        let values: Vec<_> = rows
            .iter()
            .map(|row| {
                let error = row.error.as_deref().map(kept_error);
                vec![
                    id_json(&row.grant.id),
                    json!(row.grant.token),
                    json!(row.grant.holder.to_string()),
                    json!(row.status.as_str()),
                    json!(row.delay_ms),
                    json!(row.give_attempt_back),
                    json!(error),
                    json!(row.result),
                ]
            })
            .collect();
        Self::Mixed { holder, values: rows_json(&values) }
    }
}

/// An array of numbers, as a parameter of this database.
fn ids_value(ids: &[i64], backend: DbBackend) -> Value {
    let (open, close) = if backend == DbBackend::Postgres { ('{', '}') } else { ('[', ']') };
    let mut array = String::with_capacity(2 + 8 * ids.len());
    array.push(open);
    for (position, id) in ids.iter().enumerate() {
        if position > 0 {
            array.push(',');
        }
        array.push_str(&id.to_string());
    }
    array.push(close);
    array.into()
}

fn succeeded_json(rows: &[SettledRow]) -> String {
    let elements: Vec<_> = rows
        .iter()
        .map(|row| {
            let id = match &row.grant.id {
                RowId::Int(id) => Id::Int(*id),
                RowId::Text(id) => Id::Text(id),
            };
            (id, row.grant.token, &row.result)
        })
        .collect();
    // Of texts and numbers: nothing can fail.
    serde_json::to_string(&elements).unwrap_or_else(|_| "[]".to_owned())
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Id<'r> {
    Int(i64),
    Text(&'r str),
}

impl SqlQueue {
    /// Writes the ends of what is still held; answers which that was.
    ///
    /// # Errors
    /// [`DbErr::RecordNotUpdated`] where some of [`Ends::Alike`] are lost and some are not: the
    /// transaction is to be undone, and done again with [`Ends::each`]. The database's.
    pub(super) async fn settle_in(
        &self,
        txn: &DatabaseTransaction,
        ends: &Ends,
    ) -> Result<Vec<RowGrant>, DbErr> {
        let (holder, settle) = match ends {
            Ends::None => return Ok(Vec::new()),
            Ends::Alike { grants, values } => {
                let finish = self.bind(&self.sql.finish_alike, values.clone());
                let finished = txn.execute_raw(finish).await?.rows_affected();
                return match finished {
                    0 => Ok(Vec::new()),
                    all if all == grants.len() as u64 => Ok(grants.clone()),
                    _ => Err(DbErr::RecordNotUpdated),
                };
            }
            Ends::Succeeded { holder, values } => {
                let values = [holder.to_string().into(), values.clone()];
                (holder, self.bind(&self.sql.finish, values))
            }
            Ends::Mixed { holder, values } => {
                (holder, self.bind(&self.sql.settle, [values.clone()]))
            }
        };
        let settled = txn.query_all_raw(settle).await?;
        settled.iter().map(|row| self.grant_of(row, *holder)).collect()
    }
}
