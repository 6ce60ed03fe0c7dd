//! Submitting back-tests and cancelling them.

use scheduler_core::{Store, StoreError};

use crate::backtesting::{BacktestRequest, History, SubmissionError, validate};
use crate::store::backtest_jobs::{self, CancelOutcome};
use crate::store::candles;
use crate::store::strategy_graphs::{self, StrategyGraph};

/// Why a back-test was not queued. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The request is wrong.
    #[error(transparent)]
    Refused(#[from] SubmissionError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Queues a back-test and answers its id. Its strategy's version and its row are one transaction:
/// there is both, or nothing.
///
/// The workers are woken, in whichever process they are.
///
/// # Errors
/// [`SubmitError::Refused`] with the first thing that is wrong with the request, or the database's.
///
/// # Cancellation
/// Dropping the future before it is ready queues nothing, or has queued it already: no half.
pub async fn submit(store: &Store, request: BacktestRequest) -> Result<String, SubmitError> {
    let bounds = candles::find_bounds(store.reader(), &request.symbol, request.interval).await?;
    let history = bounds.map(|span| History { first_ms: span.first_ms, last_ms: span.last_ms });
    let new = validate(request, history)?;
    let now_ms = store.clock().now_ms();
    let graph = &new.request().graph;
    let version = StrategyGraph {
        graph_hash: graph.hash().to_owned(),
        name: graph.graph().name.clone(),
        graph: graph.canonical_json().to_owned(),
        created_at_ms: now_ms,
    };
    let id: Result<String, StoreError> = store
        .write("submit a back-test", move |txn| {
            Box::pin(async move {
                strategy_graphs::record(txn, &version).await?;
                backtest_jobs::submit(txn, &new, now_ms).await
            })
        })
        .await;
    let id = id?;
    backtest_jobs::waker(store).wake();
    Ok(id)
}

/// Cancels a queued back-test, or asks the worker that runs it to stop.
///
/// # Errors
/// The database's.
pub async fn cancel(store: &Store, id: &str) -> Result<CancelOutcome, StoreError> {
    let id = id.to_owned();
    let now_ms = store.clock().now_ms();
    store
        .write("cancel a back-test", move |txn| {
            Box::pin(async move { backtest_jobs::request_cancel(txn, &id, now_ms).await })
        })
        .await
}

#[cfg(test)]
mod tests {
    use scheduler_core::{Store, StoreError};

    use super::{CancelOutcome, SubmitError, cancel, submit};
    use crate::backtesting::BacktestRequest;
    use crate::market::{Candle, Interval, RandomWalk};
    use crate::store::{backtest_jobs, candles, strategy_graphs};
    use crate::strategy::default_graph;

    fn request(symbol: &str) -> BacktestRequest {
        BacktestRequest {
            user_id: 7,
            clone_id: None,
            graph: default_graph(),
            symbol: symbol.into(),
            interval: Interval::H1,
            from_ms: None,
            to_ms: None,
            initial_cash: BacktestRequest::DEFAULT_CASH,
            fee_rate: BacktestRequest::DEFAULT_FEE_RATE,
            slippage_rate: BacktestRequest::DEFAULT_SLIPPAGE_RATE,
            priority: 0,
        }
    }

    async fn with_bars(symbol: &'static str) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        migration::up(store.reader()).await.unwrap();
        let bars: Vec<Candle> = RandomWalk::new(1, Interval::H1, 0, 100.0, 0.01).take(3).collect();
        let stored: Result<_, StoreError> = store
            .write("store bars", |txn| {
                Box::pin(async move { candles::upsert(txn, symbol, Interval::H1, &bars).await })
            })
            .await;
        stored.unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn a_submission_records_its_strategy_once_and_each_row() {
        let (_folder, store) = with_bars("BTC").await;
        let first = submit(&store, request("BTC")).await.unwrap();
        let second = submit(&store, request("BTC")).await.unwrap();
        assert_ne!(first, second);
        let job = backtest_jobs::find(store.reader(), &first).await.unwrap().unwrap();
        let version = strategy_graphs::find(store.reader(), &job.graph_hash).await.unwrap();
        let version = version.unwrap();
        assert_eq!((version.name.as_str(), version.graph), ("sma-cross", job.graph));
        assert_eq!(cancel(&store, &first).await.unwrap(), CancelOutcome::Cancelled);
        assert_eq!(cancel(&store, "nobody").await.unwrap(), CancelOutcome::NotFound);
    }

    #[tokio::test]
    async fn a_refused_submission_leaves_nothing() {
        let (_folder, store) = with_bars("BTC").await;
        let error = submit(&store, request("DOGE")).await.unwrap_err();
        assert!(matches!(error, SubmitError::Refused(_)), "{error}");
        assert_eq!(error.to_string(), "symbol `DOGE` has no 1h candles; import them first");
        assert_eq!(backtest_jobs::list(store.reader(), None, 10).await.unwrap(), []);
        let hash = default_graph().hash().to_owned();
        assert_eq!(strategy_graphs::find(store.reader(), &hash).await.unwrap(), None);
    }
}
