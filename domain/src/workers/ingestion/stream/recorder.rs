//! The job of a stream leaves no heartbeat: its channels' windows say how it is.

use async_trait::async_trait;
use scheduler_core::{RecordTxn, Recorder, RunFinished, RunStarted, StoreError};

use crate::ingestion::Channel;
use crate::store::ingestion_runs;
use crate::workers::ingestion::recorder::sql;

/// Introduces the channels; their rows come from the windows.
#[derive(Debug, Clone, Copy)]
pub(in crate::workers::ingestion) struct StreamRecorder {
    pub(in crate::workers::ingestion) channels: &'static [&'static Channel],
}

#[async_trait]
impl Recorder for StreamRecorder {
    async fn registered(&self, txn: &RecordTxn<'_>, _: &str) -> Result<(), StoreError> {
        for channel in self.channels {
            ingestion_runs::introduce(sql(txn)?, channel).await?;
        }
        Ok(())
    }

    async fn started(&self, _: &RecordTxn<'_>, _: &RunStarted) -> Result<(), StoreError> {
        Ok(())
    }

    async fn finished(&self, _: &RecordTxn<'_>, _: &RunFinished) -> Result<(), StoreError> {
        Ok(())
    }
}
