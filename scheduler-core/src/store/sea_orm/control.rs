//! Statements on the operator's part of `schedules`.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};

use super::Store;
use super::runs::unrun::{self, Unrun};
use super::schedules::{lock, read_row, requested_run};
use super::write::write_own;
use crate::cadence::Cadence;
use crate::error::StoreError;
use crate::run::RunId;
use crate::store::{Granted, ScheduleControl, Topic, WakeStore, Wish};

const OPERATION: &str = "change a schedule";

const CHANGE: &str = "\
UPDATE schedules SET paused = $1, cadence_override = $2, anchor_ms = $3, next_due_at_ms = $4, generation = $5
WHERE job = $6";

/// A request that nobody took up yet is the same request.
const REQUEST: &str = "\
UPDATE schedules SET run_requested = coalesce(run_requested, $1) WHERE job = $2 RETURNING run_requested";

#[async_trait]
impl ScheduleControl for Store {
    async fn set_paused(&self, job: &str, paused: bool) -> Result<bool, StoreError> {
        let wish = Wish::Paused(paused);
        let changed = write_own!(self, OPERATION, txn => change(self, txn, job, &wish).await)?;
        self.wake(&Topic::Schedules);
        Ok(changed)
    }

    async fn set_cadence(&self, job: &str, cadence: Option<&Cadence>) -> Result<bool, StoreError> {
        let wish = Wish::Cadence(cadence.cloned());
        let changed = write_own!(self, OPERATION, txn => change(self, txn, job, &wish).await)?;
        self.wake(&Topic::Schedules);
        Ok(changed)
    }

    async fn request_run(&self, job: &str) -> Result<Option<RunId>, StoreError> {
        const OPERATION: &str = "ask for a run";
        let failed = |source| StoreError::database(OPERATION, source);
        let asked = RunId::new().to_string();
        let stands: Option<String> = write_own!(self, OPERATION, txn => {
            let values = [asked.clone().into(), job.into()];
            let statement = self.statement_without_now(REQUEST, values);
            let row = txn.query_one_raw(statement).await.map_err(failed)?;
            row.map(|row| row.try_get("", "run_requested")).transpose().map_err(failed)
        })?;
        self.wake(&Topic::Schedules);
        stands.map(|id| requested_run(&id)).transpose()
    }
}

async fn change(
    store: &Store,
    txn: &DatabaseTransaction,
    job: &str,
    wish: &Wish,
) -> Result<bool, StoreError> {
    if store.backend() == DbBackend::Postgres {
        lock(store, txn, std::iter::once(job)).await?;
    }
    let now_ms = store.now_ms(txn).await?;
    let Some(row) = read_row(store, txn, job).await? else { return Ok(false) };
    let Granted { row, given_up } = wish.grant(row, now_ms)?;
    if let Some(missed) = given_up {
        unrun::record(store, txn, &[Unrun::given_up(job, missed)]).await?;
    }
    let values = [
        row.paused.into(),
        row.cadence_override.into(),
        row.anchor_ms.into(),
        row.next_due_at_ms.into(),
        row.generation.into(),
        row.job.into(),
    ];
    let statement = store.statement_without_now(CHANGE, values);
    let changed = txn.execute_raw(statement).await;
    changed
        .map(|changed| changed.rows_affected() == 1)
        .map_err(|source| StoreError::database(OPERATION, source))
}
