//! Where the runs of a channel are written: `ingestion_runs`, in the transaction of the run itself.

use async_trait::async_trait;
use scheduler_core::{RecordTxn, Recorder, RunFinished, RunStarted, RunStatus, StoreError};
use sea_orm::{DatabaseTransaction, DbErr};

use super::polled::Fetched;
use crate::ingestion::Channel;
use crate::store::ingestion_runs::{self, EndedRun, RunState};

/// Records the runs of one channel.
#[derive(Debug, Clone, Copy)]
pub struct IngestionRecorder {
    channel: &'static Channel,
}

impl IngestionRecorder {
    /// For this channel.
    #[must_use]
    pub fn of(channel: &'static Channel) -> Self {
        Self { channel }
    }
}

#[async_trait]
impl Recorder for IngestionRecorder {
    async fn registered(&self, txn: &RecordTxn<'_>, _: &str) -> Result<(), StoreError> {
        ingestion_runs::introduce(sql(txn)?, self.channel).await
    }

    async fn started(&self, txn: &RecordTxn<'_>, run: &RunStarted) -> Result<(), StoreError> {
        let id = run.run_id.to_string();
        ingestion_runs::begin(sql(txn)?, self.channel, &id, run.started_at_ms).await
    }

    async fn finished(&self, txn: &RecordTxn<'_>, run: &RunFinished) -> Result<(), StoreError> {
        ingestion_runs::end(sql(txn)?, self.channel, &ended(run)).await
    }
}

fn ended(run: &RunFinished) -> EndedRun {
    let status = match run.status {
        RunStatus::Succeeded => RunState::Succeeded,
        RunStatus::Cancelled | RunStatus::LeaseLost => RunState::Interrupted,
        _ => RunState::Failed,
    };
    let fetched = run.summary.as_ref().map(Fetched::read).unwrap_or_default();
    EndedRun {
        id: run.run_id.to_string(),
        status,
        started_at_ms: run.started_at_ms,
        completed_at_ms: run.finished_at_ms,
        rows_read: fetched.rows_read,
        rows_written: fetched.rows_written,
        rows_rejected: fetched.rows_rejected,
        last_datum_at_ms: fetched.last_datum_at_ms,
        error: run.error.clone().or(fetched.problem),
    }
}

pub(super) fn sql<'t>(txn: &RecordTxn<'t>) -> Result<&'t DatabaseTransaction, StoreError> {
    txn.sql.ok_or_else(|| {
        let source = DbErr::Custom("the channels are recorded in SQL only".to_owned());
        StoreError::database("record a run of a channel", source)
    })
}
