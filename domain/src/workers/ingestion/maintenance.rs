//! Retention: what piles up goes, in bounded steps. Each source sweeps its own; runs and gaps are of
//! all sources, and go with whoever sweeps.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{JobContext, RegisterError, Scheduler, Store, StoreError};
use sea_orm::DatabaseTransaction;

use super::options::{IngestionOptions, Retention};
use super::polled::{Fetched, PollError, register_polled};
use crate::ingestion::{Source, find_channel};
use crate::store::{
    candle_revisions, features, ingestion_runs, instrument_versions, instruments, market_gaps,
    marks, prediction_markets, prediction_odds, prediction_trades, trades,
};

/// Rows of one transaction: other writers wait for it.
const STEP: u32 = 2_000;
/// Steps of one table and cycle.
const MOST_STEPS: usize = 500;

/// What piles up.
#[derive(Debug, Clone)]
enum Pile {
    Trades(String),
    Contexts,
    BarRevisions,
    Listings,
    Statistics,
    Days,
    Odds,
    TokenTrades,
    Markets,
    Runs,
    Gaps,
}

impl Pile {
    async fn prune(&self, txn: &DatabaseTransaction, before_ms: i64) -> Result<u64, StoreError> {
        match self {
            Self::Trades(symbol) => trades::prune(txn, symbol, before_ms, STEP).await,
            Self::Contexts => marks::prune(txn, before_ms, STEP).await,
            Self::BarRevisions => candle_revisions::prune(txn, before_ms, STEP).await,
            Self::Listings => instrument_versions::prune(txn, before_ms, STEP).await,
            Self::Statistics => features::thin(txn, before_ms, STEP).await,
            Self::Days => features::prune_days(txn, before_ms, STEP).await,
            Self::Odds => prediction_odds::prune(txn, before_ms, STEP).await,
            Self::TokenTrades => prediction_trades::prune(txn, before_ms, STEP).await,
            Self::Markets => prediction_markets::prune(txn, before_ms, STEP).await,
            Self::Runs => ingestion_runs::prune(txn, before_ms, STEP).await,
            Self::Gaps => market_gaps::prune(txn, before_ms, STEP).await,
        }
    }
}

/// Registers a source's sweep; answers the name of its job.
///
/// # Errors
/// A name that is taken.
pub(super) fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &Arc<IngestionOptions>,
    source: Source,
) -> Result<Option<String>, RegisterError> {
    let Some(channel) = find_channel(source, "maintenance") else { return Ok(None) };
    let (store, kept) = (store.clone(), options.retention);
    register_polled(scheduler, channel, move |context| {
        let store = store.clone();
        async move { sweep(&store, source, &kept, &context).await }
    })?;
    Ok(Some(channel.job()))
}

/// What a source piles up, and how long it is kept.
async fn piles(
    store: &Store,
    source: Source,
    kept: &Retention,
) -> Result<Vec<(Pile, Duration)>, StoreError> {
    let mut piles = vec![(Pile::Runs, kept.runs), (Pile::Gaps, kept.runs)];
    match source {
        Source::Hyperliquid => {
            piles.push((Pile::Contexts, kept.states));
            piles.push((Pile::BarRevisions, kept.revisions));
            piles.push((Pile::Listings, kept.revisions));
            let symbols = instruments::list(store.reader()).await?;
            let trades = symbols.into_iter().map(|found| Pile::Trades(found.symbol));
            piles.extend(trades.map(|pile| (pile, kept.trades)));
        }
        Source::Defillama => {
            piles.push((Pile::Statistics, kept.statistics));
            piles.push((Pile::Days, kept.days));
        }
        Source::Polymarket => {
            piles.push((Pile::Odds, kept.states));
            piles.push((Pile::TokenTrades, kept.trades));
            piles.push((Pile::Markets, kept.markets));
        }
    }
    Ok(piles)
}

async fn sweep(
    store: &Store,
    source: Source,
    kept: &Retention,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let mut deleted = 0;
    for (pile, kept) in piles(store, source, kept).await? {
        deleted += shrink(store, context, &pile, kept).await?;
        if context.cancellation().is_cancelled() {
            break;
        }
    }
    Ok(Fetched {
        rows_written: i64::try_from(deleted).unwrap_or(i64::MAX),
        last_datum_at_ms: Some(context.now_ms()),
        ..Fetched::default()
    })
}

/// Deletes what is older than it is kept, a step at a time.
async fn shrink(
    store: &Store,
    context: &JobContext,
    pile: &Pile,
    kept: Duration,
) -> Result<u64, PollError> {
    let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    let before_ms = context.now_ms().saturating_sub(kept_ms);
    let mut deleted = 0;
    for _ in 0..MOST_STEPS {
        let (lease, pile) = (context.lease().clone(), pile.clone());
        let step = store.write("prune market data", move |txn| {
            Box::pin(async move {
                lease.fence(txn).await?;
                Ok::<_, PollError>(pile.prune(txn, before_ms).await?)
            })
        });
        let step = step.await?;
        deleted += step;
        if step < u64::from(STEP) || context.cancellation().is_cancelled() {
            break;
        }
    }
    Ok(deleted)
}
