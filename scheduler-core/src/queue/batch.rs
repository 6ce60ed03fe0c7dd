//! Handlers of many rows at once: one call for what comes within a moment, an answer per row.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use sea_orm::FromQueryResult;
use tokio::sync::oneshot;
use tracing::{Instrument, info_span};

use super::handler::{HandleError, Handled, Handler, QueueContext};
use super::layers::RowRequest;
use crate::executor::panic_message;
use crate::job::JobError;
use crate::stop::wait_for;

/// Runs several rows in one call. Each is under its own lease and fencing token, and ends on its own.
#[async_trait]
pub trait BatchHandler: Send + Sync + 'static {
    /// The row, as of a [`Handler`].
    type Row: FromQueryResult + Send + 'static;

    /// Runs rows and answers one per row, in their order.
    ///
    /// A row whose [`cancelled`](QueueContext::cancelled) returns is asked for, past its deadline or
    /// lost, and the others are not: what it answers does not land if it is lost. When no row waits for
    /// the answer any more, the call is dropped. A panic counts as an error of each of its rows.
    ///
    /// # Errors
    /// An error is that of each row; another number of answers than of rows is one, too.
    async fn handle(
        &self,
        rows: Vec<RowRequest<Self::Row>>,
    ) -> Result<Vec<Result<Handled, HandleError>>, HandleError>;
}

/// How rows become batches.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// Rows of one call at most.
    pub max_batch: usize,
    /// How long the first row of a batch waits for others, by the library's clock.
    pub linger: Duration,
}

impl Default for BatchOptions {
    /// A hundred rows, of at most 10 ms.
    fn default() -> Self {
        Self { max_batch: 100, linger: Duration::from_millis(10) }
    }
}

/// A [`BatchHandler`] as a [`Handler`].
///
/// A call begins when `max_batch` rows are there, or the first has waited for `linger`. Calls run beside
/// each other, as far as the consumer's
/// [`concurrency`](super::ConsumerOptions::concurrency) goes, which counts rows: let it be as large as
/// the rows of all calls that are to run at once. The consumer's timeout is of each row, its wait
/// included.
///
/// ```
/// use scheduler_core::queue::{
///     BatchHandler, BatchOptions, Batched, HandleError, Handled, Handler, JobRow, RowRequest,
/// };
///
/// struct Indexer;
///
/// #[async_trait::async_trait]
/// impl BatchHandler for Indexer {
///     type Row = JobRow;
///
///     async fn handle(
///         &self,
///         rows: Vec<RowRequest<JobRow>>,
///     ) -> Result<Vec<Result<Handled, HandleError>>, HandleError> {
///         println!("{} documents in one request", rows.len());
///         Ok(rows.iter().map(|_| Ok(Handled::Done(None))).collect())
///     }
/// }
///
/// let handler = Batched::new(Indexer, BatchOptions { max_batch: 500, ..BatchOptions::default() });
/// # fn is_handler(_: impl Handler) {} is_handler(handler);
/// ```
pub struct Batched<B: BatchHandler> {
    shared: Arc<Shared<B>>,
}

struct Shared<B: BatchHandler> {
    handler: B,
    options: BatchOptions,
    gathering: Mutex<Gathering<B::Row>>,
}

/// Rows of the next call.
struct Gathering<R> {
    rows: Vec<Waiting<R>>,
    /// Grows with each call.
    batch: u64,
}

struct Waiting<R> {
    request: RowRequest<R>,
    tell: oneshot::Sender<Result<Handled, HandleError>>,
}

/// What a row makes of those that wait.
enum Step<R> {
    Begin(Vec<Waiting<R>>),
    /// It is the first of this batch.
    Linger(u64),
    Join,
}

impl<B: BatchHandler> Batched<B> {
    /// A batch has one row at least, whatever the options say.
    #[must_use]
    pub fn new(handler: B, options: BatchOptions) -> Self {
        let gathering = Mutex::new(Gathering { rows: Vec::new(), batch: 0 });
        Self { shared: Arc::new(Shared { handler, options, gathering }) }
    }
}

#[async_trait]
impl<B: BatchHandler> Handler for Batched<B> {
    type Row = B::Row;

    async fn handle(&self, row: B::Row, context: QueueContext) -> Result<Handled, HandleError> {
        let clock = Arc::clone(context.clock());
        let (tell, told) = oneshot::channel();
        let request = RowRequest { row, context };
        let shared = Arc::clone(&self.shared);
        // On tasks of their own: a row that is given up must not take the others with it.
        match shared.gather(Waiting { request, tell }) {
            Step::Begin(rows) => _ = tokio::spawn(shared.run(rows)),
            Step::Linger(batch) => {
                _ = tokio::spawn(async move {
                    wait_for(&clock, shared.options.linger).await;
                    let rows = shared.take(batch);
                    shared.run(rows).await;
                });
            }
            Step::Join => {}
        }
        told.await.unwrap_or_else(|_| Err("its batch ended without an answer".into()))
    }
}

impl<B: BatchHandler> Shared<B> {
    fn gathering(&self) -> MutexGuard<'_, Gathering<B::Row>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gather(&self, row: Waiting<B::Row>) -> Step<B::Row> {
        let mut gathering = self.gathering();
        gathering.rows.push(row);
        if gathering.rows.len() >= self.options.max_batch {
            gathering.batch += 1;
            return Step::Begin(std::mem::take(&mut gathering.rows));
        }
        if gathering.rows.len() == 1 { Step::Linger(gathering.batch) } else { Step::Join }
    }

    /// The rows of this batch, unless it was full before its time.
    fn take(&self, batch: u64) -> Vec<Waiting<B::Row>> {
        let mut gathering = self.gathering();
        if gathering.batch != batch {
            return Vec::new();
        }
        gathering.batch += 1;
        std::mem::take(&mut gathering.rows)
    }

    async fn run(self: Arc<Self>, rows: Vec<Waiting<B::Row>>) {
        let (mut requests, mut tells) = (Vec::new(), Vec::new());
        for Waiting { request, tell } in rows {
            if request.context.cancellation().is_cancelled() {
                // Who was aborted meanwhile does not hear it.
                let _ = tell.send(Err("told to return before its batch began".into()));
            } else {
                requests.push(request);
                tells.push(tell);
            }
        }
        if requests.is_empty() {
            return;
        }
        let asked = requests.len();
        let span = info_span!(parent: None, "batch", rows = asked);
        let handle = AssertUnwindSafe(self.handler.handle(requests)).catch_unwind();
        let abandoned = join_all(tells.iter_mut().map(oneshot::Sender::closed));
        let handled = tokio::select! {
            handled = handle.instrument(span) => handled,
            _ = abandoned => return,
        };
        let answers: Vec<Result<Handled, HandleError>> = match handled {
            Ok(Ok(answers)) if answers.len() == asked => answers,
            Ok(Ok(answers)) => {
                let message = format!("the batch answered {} of {asked} rows", answers.len());
                tells.iter().map(|_| Err(message.clone().into())).collect()
            }
            Ok(Err(HandleError { source, permanent, retry_after })) => {
                let shared = Arc::new(source);
                let source = || Box::new(OfTheBatch(Arc::clone(&shared)));
                let error = || HandleError { source: source(), permanent, retry_after };
                tells.iter().map(|_| Err(error())).collect()
            }
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                tells.iter().map(|_| Err(message.clone().into())).collect()
            }
        };
        for (tell, answer) in tells.into_iter().zip(answers) {
            let _ = tell.send(answer);
        }
    }
}

impl<B: BatchHandler> std::fmt::Debug for Batched<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batched").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// An error that several rows have in common.
#[derive(Debug)]
struct OfTheBatch(Arc<JobError>);

impl std::fmt::Display for OfTheBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for OfTheBatch {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
