//! How rows ended, as statements write it: one text for rows that all succeeded, one for all others.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Value};
use serde_json::json;

use super::super::sql::rows_json;
use super::{SqlQueue, id_json};
use crate::run::InstanceId;
use crate::store::{RowGrant, RowId, RowStatus, SettledRow, kept_error};

/// The ends of one batch, made into parameters.
pub(super) enum Ends {
    None,
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
    pub(super) fn of(rows: &[SettledRow]) -> Self {
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
    pub(super) async fn settle_in(
        &self,
        txn: &DatabaseTransaction,
        ends: &Ends,
    ) -> Result<Vec<RowGrant>, DbErr> {
        let (holder, settle) = match ends {
            Ends::None => return Ok(Vec::new()),
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
