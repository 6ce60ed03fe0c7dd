//! Writes what a session delivers: one transaction per short window, under the lease.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Clock, Lease, Store};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::batch::Batch;
use super::delivery::Message;
use super::windows::Windows;
use crate::ingestion::{Channel, ContextSampler};
use crate::store::ingestion_runs;
use crate::workers::ingestion::PollError;

/// What comes within this span goes into one commit.
const WINDOW: Duration = Duration::from_millis(75);
/// A batch this large does not wait for its window.
const LARGEST: usize = 4_000;
/// Between two tries while the database is busy or away.
const RETRY: Duration = Duration::from_millis(250);
/// A batch that cannot be written for this long ends the stream: it is connected again, and the
/// gap is noted.
const PATIENCE: Duration = Duration::from_secs(30);

/// The one task that writes a stream's rows.
pub(super) struct Writer {
    store: Store,
    clock: Arc<dyn Clock>,
    lease: Lease,
    channels: &'static [&'static Channel],
    inbox: mpsc::Receiver<Message>,
    windows: Windows,
    sampler: ContextSampler,
    written: u64,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        lease: Lease,
        channels: &'static [&'static Channel],
        inbox: mpsc::Receiver<Message>,
    ) -> Self {
        let clock = Arc::clone(store.clock());
        let (windows, sampler) = (Windows::of(channels), ContextSampler::default());
        Self { store, clock, lease, channels, inbox, windows, sampler, written: 0 }
    }

    /// Writes until nobody delivers any more and everything is written. Answers how many rows
    /// changed something.
    ///
    /// # Errors
    /// The lease is lost, or the database failed for long.
    pub(super) async fn run(mut self) -> Result<u64, PollError> {
        while let Some(first) = self.inbox.recv().await {
            let mut batch = Batch::default();
            let mut mark = self.take(first, &mut batch);
            // The window is of the wall: it groups commits, and means nothing.
            let ends = Instant::now() + WINDOW;
            while mark.is_none() && batch.size() < LARGEST {
                match timeout_at(ends, self.inbox.recv()).await {
                    Ok(Some(message)) => mark = self.take(message, &mut batch),
                    Ok(None) | Err(_) => break,
                }
            }
            if batch.size() > 0 {
                self.save(batch).await?;
            }
            if let Some(mark) = mark {
                self.mark(mark).await?;
            }
        }
        Ok(self.written)
    }

    /// Takes rows in; answers what is none: the mark of a window.
    fn take(&mut self, message: Message, batch: &mut Batch) -> Option<Message> {
        let Message::Rows(delivery) = message else { return Some(message) };
        self.windows.count(&delivery);
        for row in delivery.rows {
            batch.add(delivery.channel, row, &mut self.sampler);
        }
        None
    }

    async fn save(&mut self, batch: Batch) -> Result<(), PollError> {
        let batch = Arc::new(batch);
        let refresh = self.windows.due_refresh(self.clock.now_ms());
        let mut patience = Patience::begin();
        let written = loop {
            let (batch, refresh) = (Arc::clone(&batch), refresh.clone());
            let (lease, channels) = (self.lease.clone(), self.channels);
            let now_ms = self.clock.now_ms();
            let saved = self.store.write("keep what a stream brought", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    let written = batch.write(txn, channels, now_ms).await?;
                    ingestion_runs::refresh(txn, &refresh).await?;
                    Ok::<_, PollError>(written)
                })
            });
            match saved.await {
                Ok(written) => break written,
                Err(error) => patience.spend(error, &self.lease).await?,
            }
        };
        self.windows.written(&written);
        self.written += written.iter().sum::<u64>();
        Ok(())
    }

    /// Ends windows and begins others, in one transaction.
    async fn mark(&mut self, mark: Message) -> Result<(), PollError> {
        let (ends_ms, begins_ms, error) = match mark {
            Message::Begin { at_ms } => (None, Some(at_ms), None),
            Message::Roll { at_ms } => (Some(at_ms), Some(at_ms), None),
            Message::End { at_ms, error } => (Some(at_ms), None, error),
            Message::Rows(_) => return Ok(()),
        };
        let old = self.windows.clone();
        if ends_ms.is_some() {
            self.windows.ended();
        }
        if let Some(at_ms) = begins_ms {
            self.windows.open(at_ms);
        }
        let mut patience = Patience::begin();
        loop {
            let (old, new, lease) = (old.clone(), self.windows.clone(), self.lease.clone());
            let error = error.clone();
            let saved = self.store.write("mark a window of a stream", move |txn| {
                Box::pin(async move {
                    lease.fence(txn).await?;
                    if let Some(at_ms) = ends_ms {
                        old.end(txn, at_ms, error.as_deref()).await?;
                    }
                    if begins_ms.is_some() {
                        new.begin(txn).await?;
                    }
                    Ok::<_, PollError>(())
                })
            });
            match saved.await {
                Ok(()) => return Ok(()),
                Err(error) => patience.spend(error, &self.lease).await?,
            }
        }
    }
}

/// How long a write is tried again.
struct Patience {
    began: Instant,
}

impl Patience {
    fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// Waits a little after a failure that may pass.
    async fn spend(&mut self, error: PollError, lease: &Lease) -> Result<(), PollError> {
        let may_pass = matches!(error, PollError::Store(_)) && lease.is_held();
        if !may_pass || self.began.elapsed() >= PATIENCE {
            return Err(error);
        }
        tracing::warn!(%error, "a batch of a stream is not written yet");
        tokio::time::sleep(RETRY).await;
        Ok(())
    }
}
