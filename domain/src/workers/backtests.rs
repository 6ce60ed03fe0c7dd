//! Works off queued back-tests: loads the bars, runs the engine on a blocking thread, keeps the
//! result in the row. The queue's statements are the scheduler's.

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueError, QueueWaker,
};
use scheduler_core::{RegisterError, Scheduler, Store};

use crate::backtesting::{self, BacktestError, BacktestResult, Settings};
use crate::market::{Candle, Interval};
use crate::store::backtest_jobs::{self, ClaimedBacktest};
use crate::store::{candles, instruments};
use crate::strategy::ValidGraph;

/// The name of the worker's job and heartbeat.
pub const NAME: &str = "backtesting";

/// How the worker works.
#[derive(Debug, Clone)]
pub struct BacktestsOptions {
    /// How often the table is looked at although nobody said that there is work.
    pub interval: Duration,
    /// Back-tests that run at once, over all hosts.
    pub max_concurrent: u32,
    /// Back-tests of one user that run at once, over all hosts.
    pub max_per_user: u32,
    /// How long a back-test's lease lives without a renewal.
    pub lease: Duration,
}

impl Default for BacktestsOptions {
    /// Every 15 s, two at once, one per user, leases of five minutes.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            max_concurrent: 2,
            max_per_user: 1,
            lease: Duration::from_secs(300),
        }
    }
}

/// Why the worker could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterWorkerError {
    /// The table is no queue, or an option cannot work.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The scheduler refuses the job.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// Registers the worker with a scheduler; answers what to call after a submission in this process.
///
/// # Errors
/// A database without the table, an option that cannot work, or a name that is taken.
pub async fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &BacktestsOptions,
) -> Result<QueueWaker, RegisterWorkerError> {
    let table = backtest_jobs::queue_table(options.max_concurrent, options.max_per_user);
    let consumer = ConsumerOptions {
        concurrency: options.max_concurrent,
        lease: options.lease,
        poll: options.interval,
        ..ConsumerOptions::new(NAME)
    };
    let worker = BacktestWorker { store: store.clone() };
    Ok(Consumer::new(store, table, consumer, worker).await?.register(scheduler)?)
}

struct BacktestWorker {
    store: Store,
}

#[async_trait]
impl Handler for BacktestWorker {
    type Row = ClaimedBacktest;

    async fn handle(
        &self,
        job: ClaimedBacktest,
        context: QueueContext,
    ) -> Result<Handled, HandleError> {
        // The row was checked when it was submitted: what is wrong now does not mend itself.
        let interval: Interval = job.interval.parse().map_err(HandleError::permanent)?;
        let graph = ValidGraph::parse(&job.graph).map_err(HandleError::permanent)?;
        let reader = self.store.reader();
        let instrument = instruments::find(reader, &job.symbol).await?;
        let settings = Settings {
            initial_cash: job.initial_cash,
            fee_rate: job.fee_rate,
            slippage_rate: job.slippage_rate,
            size_step: instrument
                .map_or(Settings::default().size_step, |instrument| instrument.size_step),
        };
        let bars = candles::load(reader, &job.symbol, interval, job.from_ms, job.to_ms).await?;
        let told = context.clone();
        let played = context.compute(move |cancelled| {
            play(&bars, interval, &graph, &settings, |percent| {
                told.progress(percent);
                !cancelled.is_cancelled()
            })
        });
        let result = match played.await {
            Ok(result) => result,
            // Not the row's fault: what becomes of it depends on who asked.
            Err(error @ BacktestError::Cancelled { .. }) => return Err(error.into()),
            Err(error) => return Err(HandleError::permanent(error)),
        };
        tracing::info!(
            user_id = job.user_id,
            symbol = job.symbol,
            bars = result.bars,
            trades = result.trades.len(),
            total_return = result.total_return,
            "back-test done"
        );
        Ok(Handled::with_result(serde_json::to_value(result)?))
    }
}

/// Runs the engine, telling how many per cent are done; the answer says whether to go on.
fn play(
    bars: &[Candle],
    interval: Interval,
    graph: &ValidGraph,
    settings: &Settings,
    goes_on: impl Fn(u8) -> bool,
) -> Result<BacktestResult, BacktestError> {
    backtesting::run(bars, interval, graph, settings, |done, total| {
        let percent = done.saturating_mul(100) / total.max(1);
        match goes_on(u8::try_from(percent).unwrap_or(100)) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })
}
