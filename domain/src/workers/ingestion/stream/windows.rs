//! The windows of a stream's channels: what came since the last one ended.

use std::time::Duration;

use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::ingestion::{Channel, Rejects};
use crate::store::ingestion_runs::{self, EndedRun, RunState};

use super::delivery::Delivery;

/// What one channel's window saw.
#[derive(Debug, Clone, Default)]
struct Tally {
    read: usize,
    written: u64,
    rejects: Rejects,
    newest_ms: Option<i64>,
}

/// The open window of each channel.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    channels: &'static [&'static Channel],
    tallies: Vec<Tally>,
    open: Option<(Vec<String>, i64)>,
    refreshed_ms: i64,
}

/// The newest datum of a channel is noted this often while its window is open.
const REFRESH: Duration = Duration::from_secs(3);

impl Windows {
    pub(super) fn of(channels: &'static [&'static Channel]) -> Self {
        let tallies = vec![Tally::default(); channels.len()];
        Self { channels, tallies, open: None, refreshed_ms: i64::MIN }
    }

    /// Counts what came.
    pub(super) fn count(&mut self, delivery: &Delivery) {
        let Some(tally) = self.tallies.get_mut(delivery.channel) else { return };
        tally.read += delivery.read;
        tally.rejects.absorb(delivery.rejects.clone());
        tally.newest_ms = tally.newest_ms.max(delivery.newest_ms);
    }

    /// Counts what was written, by channel.
    pub(super) fn written(&mut self, written: &[u64]) {
        for (tally, written) in self.tallies.iter_mut().zip(written) {
            tally.written += written;
        }
    }

    /// The channels whose newest datum is to be noted now.
    pub(super) fn due_refresh(&mut self, now_ms: i64) -> Vec<(&'static Channel, i64)> {
        let pause_ms = i64::try_from(REFRESH.as_millis()).unwrap_or(i64::MAX);
        if now_ms.saturating_sub(self.refreshed_ms) < pause_ms {
            return Vec::new();
        }
        self.refreshed_ms = now_ms;
        let newest = self.channels.iter().zip(&self.tallies);
        newest.filter_map(|(channel, tally)| Some((*channel, tally.newest_ms?))).collect()
    }

    /// Ends the open windows in the database; the tallies stay until [`ended`](Self::ended).
    pub(super) async fn end(
        &self,
        txn: &DatabaseTransaction,
        at_ms: i64,
        error: Option<&str>,
    ) -> Result<(), scheduler_core::StoreError> {
        let Some((ids, began_ms)) = &self.open else { return Ok(()) };
        for ((channel, tally), id) in self.channels.iter().zip(&self.tallies).zip(ids) {
            let refused = tally.rejects.total();
            let refused_text = (refused > 0).then(|| tally.rejects.to_string());
            let run = EndedRun {
                id: id.clone(),
                status: if error.is_some() { RunState::Failed } else { RunState::Succeeded },
                started_at_ms: *began_ms,
                completed_at_ms: at_ms,
                rows_read: i64::try_from(tally.read).unwrap_or(i64::MAX),
                rows_written: i64::try_from(tally.written).unwrap_or(i64::MAX),
                rows_rejected: i64::try_from(refused).unwrap_or(i64::MAX),
                last_datum_at_ms: tally.newest_ms,
                error: error.map(str::to_owned).or(refused_text),
            };
            ingestion_runs::end(txn, channel, &run).await?;
        }
        Ok(())
    }

    /// The windows are ended in the database: says what was refused, once, and starts counting anew.
    pub(super) fn ended(&mut self) {
        for (channel, tally) in self.channels.iter().zip(&mut self.tallies) {
            let rejected = tally.rejects.total();
            if rejected > 0 {
                let rejects = &tally.rejects;
                tracing::warn!(%channel, rejected, %rejects, "rows of a window were refused");
            }
            *tally = Tally::default();
        }
        self.open = None;
    }

    /// New windows: their identities, and when they begin.
    pub(super) fn open(&mut self, at_ms: i64) {
        let ids = self.channels.iter().map(|_| Uuid::now_v7().to_string()).collect();
        self.open = Some((ids, at_ms));
    }

    /// Begins the open windows in the database.
    pub(super) async fn begin(
        &self,
        txn: &DatabaseTransaction,
    ) -> Result<(), scheduler_core::StoreError> {
        let Some((ids, began_ms)) = &self.open else { return Ok(()) };
        for (channel, id) in self.channels.iter().zip(ids) {
            ingestion_runs::begin(txn, channel, id, *began_ms).await?;
        }
        Ok(())
    }
}
