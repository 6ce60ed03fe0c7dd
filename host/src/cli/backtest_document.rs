//! A back-test as one JSON document. Times are epoch milliseconds.

use anyhow::Context;
use domain::store::backtest_jobs::{BacktestJob, BacktestListing};
use serde_json::{Value, json};

use crate::failure::Failure;

/// One back-test with its graph and, once it succeeded, its result.
///
/// # Errors
/// A graph or a result that is no JSON.
pub(crate) fn of_job(job: &BacktestJob) -> Result<Value, Failure> {
    let read = |what: &str, text: &str| {
        serde_json::from_str::<Value>(text)
            .with_context(|| format!("the {what} of back-test `{}` cannot be read", job.id))
    };
    let graph = read("graph", &job.graph)?;
    let result = job.result.as_deref().map(|text| read("result", text)).transpose()?;
    Ok(json!({
        "id": job.id,
        "user_id": job.user_id,
        "clone_id": job.clone_id,
        "symbol": job.symbol,
        "interval": job.interval.as_str(),
        "from_ms": job.from_ms,
        "to_ms": job.to_ms,
        "initial_cash": job.initial_cash,
        "fee_rate": job.fee_rate,
        "slippage_rate": job.slippage_rate,
        "graph_hash": job.graph_hash,
        "graph": graph,
        "status": job.status.as_str(),
        "priority": job.priority,
        "progress_pct": job.progress_pct,
        "attempt_count": job.attempt_count,
        "max_attempts": job.max_attempts,
        "crash_count": job.crash_count,
        "cancel_requested": job.cancel_requested,
        "leased_by": job.leased_by,
        "lease_expires_at_ms": job.lease_expires_at_ms,
        "last_error": job.last_error,
        "created_at_ms": job.created_at_ms,
        "started_at_ms": job.started_at_ms,
        "completed_at_ms": job.completed_at_ms,
        "result": result,
    }))
}

/// A back-test of a list, without its graph and result.
pub(crate) fn of_listing(job: &BacktestListing) -> Value {
    json!({
        "id": job.id,
        "user_id": job.user_id,
        "clone_id": job.clone_id,
        "symbol": job.symbol,
        "interval": job.interval.as_str(),
        "graph_hash": job.graph_hash,
        "status": job.status.as_str(),
        "progress_pct": job.progress_pct,
        "attempt_count": job.attempt_count,
        "cancel_requested": job.cancel_requested,
        "last_error": job.last_error,
        "created_at_ms": job.created_at_ms,
        "started_at_ms": job.started_at_ms,
        "completed_at_ms": job.completed_at_ms,
    })
}
