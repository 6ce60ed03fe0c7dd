//! Runs of the ingestion's channels: recorded healthy or not, without a heartbeat.

mod liveness;
mod nonsense;
mod outages;
mod polls;
mod retention;
mod scene;
mod streams;

use std::time::Duration;

use domain::ingestion::{Source, find_channel};
use domain::store::ingestion_runs::{self, ChannelRow};
use domain::workers::ingestion::{Fetched, PollError, register_polled};
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{RunStatus, Shutdown};

use crate::harness::{Database, NOON};

const JOB: &str = "ingest_hyperliquid_meta";

/// One cycle of `hyperliquid/meta` that comes to this.
async fn cycle(
    database: &Database,
    outcome: impl Fn() -> Result<Fetched, PollError> + Send + Sync + 'static,
) -> RunStatus {
    let channel = find_channel(Source::Hyperliquid, "meta").expect("a channel");
    let mut scheduler = database.scheduler();
    register_polled(&mut scheduler, channel, move |_| {
        let outcome = outcome();
        async move { outcome }
    })
    .expect("registered");
    let report = scheduler.run_once(JOB, Duration::ZERO, &Shutdown::default()).await;
    report.expect("a cycle").status
}

async fn meta(database: &Database) -> ChannelRow {
    let channels = ingestion_runs::list_channels(database.store.reader()).await.expect("channels");
    channels.into_iter().find(|row| row.channel == "meta").expect("meta")
}

async fn a_channel_records_its_runs_healthy_or_not(database: Database) {
    migration::up(database.store.reader()).await.expect("migrations apply");
    let good = || {
        Ok(Fetched {
            rows_read: 3,
            rows_written: 2,
            rows_rejected: 1,
            last_datum_at_ms: Some(NOON - 5),
            problem: Some("1 × not_a_number (px)".into()),
        })
    };
    let bad = || {
        let detail = "not a list".to_owned();
        Err(PollError::Meaningless { asked: "meta", detail })
    };
    // An empty answer is a success that refreshes nothing.
    let empty = || Ok(Fetched::default());
    assert_eq!(cycle(&database, good).await, RunStatus::Succeeded);
    for _ in 0..2 {
        database.clock.advance(Duration::from_secs(1));
        assert_eq!(cycle(&database, bad).await, RunStatus::Failed);
    }
    let failing = meta(&database).await;
    assert_eq!((failing.status.as_str(), failing.consecutive_failures), ("failed", 2));
    assert_eq!(failing.last_success_at_ms, Some(NOON));
    let last_error = failing.last_error.expect("an error");
    assert_eq!(last_error, "the answer to meta has no meaning: not a list");
    database.clock.advance(Duration::from_secs(1));
    assert_eq!(cycle(&database, empty).await, RunStatus::Succeeded);
    let mended = meta(&database).await;
    assert_eq!((mended.status.as_str(), mended.consecutive_failures), ("succeeded", 0));
    assert_eq!(mended.last_success_at_ms, Some(NOON + 3_000));
    assert_eq!(mended.last_datum_at_ms, Some(NOON - 5));

    let runs = database
        .lines("SELECT source, channel, status, rows_read, rows_written, rows_rejected, consecutive_failures FROM ingestion_runs ORDER BY started_at_ms")
        .await;
    assert_eq!(
        runs,
        [
            "hyperliquid|meta|succeeded|3|2|1|0",
            "hyperliquid|meta|failed|0|0|0|1",
            "hyperliquid|meta|failed|0|0|0|2",
            "hyperliquid|meta|succeeded|0|0|0|0",
        ]
    );
    assert!(database.store.health().await.expect("health").workers.is_empty(), "no heartbeat");
    let written = ingestion_runs::sum_written(database.store.reader(), NOON).await.expect("sums");
    assert_eq!((written[0].source.as_str(), written[0].rows_written), ("hyperliquid", 2));
}

async fn old_runs_are_pruned_in_steps(database: Database) {
    migration::up(database.store.reader()).await.expect("migrations apply");
    for _ in 0..5 {
        cycle(&database, || Ok(Fetched::default())).await;
        database.clock.advance(Duration::from_secs(60));
    }
    let prune = async |before_ms| {
        let pruned: Result<u64, scheduler_core::StoreError> = database
            .store
            .write("prune", move |txn| {
                Box::pin(async move { ingestion_runs::prune(txn, before_ms, 2).await })
            })
            .await;
        pruned.expect("pruned")
    };
    let before_ms = NOON + 180_000;
    assert_eq!([prune(before_ms).await, prune(before_ms).await, prune(before_ms).await], [2, 1, 0]);
    let left: i64 = database.value("SELECT count(*) FROM ingestion_runs").await;
    assert_eq!(left, 2);
}

on_every_store! {
    a_channel_records_its_runs_healthy_or_not,
    old_runs_are_pruned_in_steps,
}
