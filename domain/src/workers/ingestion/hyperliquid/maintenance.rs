//! Retention: what piles up goes, in bounded steps.

use std::time::Duration;

use scheduler_core::{JobContext, StoreError};
use sea_orm::DatabaseTransaction;

use super::Venue;
use crate::ingestion::Channel;
use crate::store::{
    ingestion_runs, instruments, market_gaps, marks, prediction_odds, prediction_trades, trades,
};
use crate::workers::ingestion::{Fetched, PollError};

/// Rows of one transaction: other writers wait for it.
const STEP: u32 = 2_000;
/// Steps of one table and cycle.
const MOST_STEPS: usize = 500;

/// What piles up.
#[derive(Debug, Clone)]
enum Pile {
    Trades(String),
    Contexts,
    Odds,
    TokenTrades,
    Runs,
    Gaps,
}

impl Pile {
    async fn prune(&self, txn: &DatabaseTransaction, before_ms: i64) -> Result<u64, StoreError> {
        match self {
            Self::Trades(symbol) => trades::prune(txn, symbol, before_ms, STEP).await,
            Self::Contexts => marks::prune(txn, before_ms, STEP).await,
            Self::Odds => prediction_odds::prune(txn, before_ms, STEP).await,
            Self::TokenTrades => prediction_trades::prune(txn, before_ms, STEP).await,
            Self::Runs => ingestion_runs::prune(txn, before_ms, STEP).await,
            Self::Gaps => market_gaps::prune(txn, before_ms, STEP).await,
        }
    }
}

pub(super) async fn poll(
    venue: &Venue,
    _: &'static Channel,
    context: &JobContext,
) -> Result<Fetched, PollError> {
    let kept = venue.options.retention;
    let mut piles = vec![
        (Pile::Contexts, kept.states),
        (Pile::Odds, kept.states),
        (Pile::TokenTrades, kept.trades),
        (Pile::Runs, kept.runs),
        (Pile::Gaps, kept.runs),
    ];
    let symbols = instruments::list(venue.store.reader()).await?;
    let trades = symbols.into_iter().map(|found| (Pile::Trades(found.symbol), kept.trades));
    piles.extend(trades);
    let mut deleted = 0;
    for (pile, kept) in piles {
        deleted += sweep(venue, context, &pile, kept).await?;
    }
    Ok(Fetched {
        rows_written: i64::try_from(deleted).unwrap_or(i64::MAX),
        last_datum_at_ms: Some(context.now_ms()),
        ..Fetched::default()
    })
}

/// Deletes what is older than it is kept, a step at a time.
async fn sweep(
    venue: &Venue,
    context: &JobContext,
    pile: &Pile,
    kept: Duration,
) -> Result<u64, PollError> {
    let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    let before_ms = context.now_ms().saturating_sub(kept_ms);
    let mut deleted = 0;
    for _ in 0..MOST_STEPS {
        let (lease, pile) = (context.lease().clone(), pile.clone());
        let step = venue.store.write("prune market data", move |txn| {
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
