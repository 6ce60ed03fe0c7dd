use scheduler_core::{Store, StoreError};
use sea_orm::ConnectionTrait;
use tempfile::TempDir;

use super::{BacktestStatus, CancelOutcome, find, list};
use crate::backtesting::{BacktestRequest, History, NewBacktest, validate};
use crate::market::Interval;
use crate::strategy::default_graph;

async fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    (folder, store)
}

fn new_backtest(user_id: i64) -> NewBacktest {
    let request = BacktestRequest {
        user_id,
        clone_id: Some(42),
        graph: default_graph(),
        symbol: "BTC".into(),
        interval: Interval::H1,
        from_ms: Some(0),
        to_ms: None,
        initial_cash: 1234.5,
        fee_rate: 0.001,
        slippage_rate: 0.0005,
        priority: 3,
    };
    validate(request, Some(History { first_ms: 0, last_ms: 1 })).unwrap()
}

async fn submit(store: &Store, user_id: i64, now_ms: i64) -> String {
    let new = new_backtest(user_id);
    let submitted: Result<_, StoreError> = store
        .write("submit a back-test", |txn| {
            Box::pin(async move { super::submit(txn, &new, now_ms).await })
        })
        .await;
    submitted.unwrap()
}

async fn request_cancel(store: &Store, id: &str, now_ms: i64) -> CancelOutcome {
    let id = id.to_owned();
    let outcome: Result<_, StoreError> = store
        .write("cancel a back-test", |txn| {
            Box::pin(async move { super::request_cancel(txn, &id, now_ms).await })
        })
        .await;
    outcome.unwrap()
}

async fn execute(store: &Store, sql: &'static str) {
    let done: Result<_, StoreError> = store
        .write("prepare a test", |txn| {
            Box::pin(async move {
                let done = txn.execute_unprepared(sql).await;
                done.map_err(|source| StoreError::database("prepare a test", source))
            })
        })
        .await;
    done.unwrap();
}

#[tokio::test]
async fn what_is_submitted_is_found_as_queued_and_due() {
    let (_folder, store) = open().await;
    let id = submit(&store, 7, 1000).await;

    let job = find(store.reader(), &id).await.unwrap().unwrap();

    let asked = new_backtest(7);
    let asked = asked.request();
    assert_eq!(uuid::Uuid::parse_str(&job.id).unwrap().get_version_num(), 7);
    assert_eq!((job.user_id, job.clone_id), (7, Some(42)));
    assert_eq!(
        (job.graph.as_str(), job.graph_hash.as_str()),
        (asked.graph.canonical_json(), asked.graph.hash())
    );
    assert_eq!((job.symbol.as_str(), job.interval), ("BTC", Interval::H1));
    assert_eq!((job.from_ms, job.to_ms), (Some(0), None));
    assert_eq!((job.initial_cash, job.fee_rate, job.slippage_rate), (1234.5, 0.001, 0.0005));
    assert_eq!((job.status, job.priority), (BacktestStatus::Queued, 3));
    assert_eq!((job.run_at_ms, job.created_at_ms), (1000, 1000));
    assert_eq!((job.attempt_count, job.max_attempts, job.crash_count), (0, 3, 0));
    assert_eq!((job.leased_by, job.lease_token, job.lease_expires_at_ms), (None, 0, None));
    assert_eq!((job.cancel_requested, job.progress_pct, job.checkpoint), (false, 0.0, None));
    assert_eq!((job.result, job.last_error), (None, None));
    assert_eq!((job.started_at_ms, job.completed_at_ms), (None, None));
    assert_eq!(find(store.reader(), "no such id").await.unwrap(), None);
}

#[tokio::test]
async fn a_submission_of_a_transaction_that_fails_is_not_there() {
    let (_folder, store) = open().await;
    let new = new_backtest(7);
    let outcome: Result<(), StoreError> = store
        .write("submit and fail", |txn| {
            Box::pin(async move {
                super::submit(txn, &new, 1).await?;
                txn.execute_unprepared("INSERT INTO no_such_table VALUES (1)")
                    .await
                    .map(|_| ())
                    .map_err(|source| StoreError::database("fail", source))
            })
        })
        .await;
    assert!(outcome.is_err());
    assert_eq!(list(store.reader(), None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_list_has_the_newest_first_of_one_user_or_of_all() {
    let (_folder, store) = open().await;
    let mut ids = Vec::new();
    for (user, now_ms) in [(1, 10), (2, 20), (1, 30), (1, 30)] {
        ids.push(submit(&store, user, now_ms).await);
    }
    let check = async |user, limit, expected: &[usize]| {
        let found = list(store.reader(), user, limit).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|job| job.id).collect();
        let expected: Vec<_> = expected.iter().map(|&at| ids[at].clone()).collect();
        assert_eq!(found, expected);
    };
    check(None, 10, &[3, 2, 1, 0]).await;
    check(None, 2, &[3, 2]).await;
    check(Some(1), 10, &[3, 2, 0]).await;
    check(Some(2), 10, &[1]).await;
    check(Some(3), 10, &[]).await;
}

#[tokio::test]
async fn a_queued_row_is_cancelled_at_once_and_frees_its_unique_key() {
    let (_folder, store) = open().await;
    let id = submit(&store, 1, 10).await;
    execute(&store, "UPDATE backtest_jobs SET unique_key = 'k'").await;

    assert_eq!(request_cancel(&store, &id, 20).await, CancelOutcome::Cancelled);

    let job = find(store.reader(), &id).await.unwrap().unwrap();
    assert_eq!((job.status, job.completed_at_ms), (BacktestStatus::Cancelled, Some(20)));
    let other = submit(&store, 1, 30).await;
    execute(
        &store,
        "UPDATE backtest_jobs SET unique_key = 'k', unique_until_ms = 99 WHERE status = 'queued'",
    )
    .await;
    assert_eq!(request_cancel(&store, &other, 40).await, CancelOutcome::Cancelled);
    submit(&store, 1, 50).await;
    let again = "UPDATE backtest_jobs SET unique_key = 'k' WHERE status = 'queued'";
    let refused = store.reader().execute_unprepared(again).await;
    assert!(refused.is_err(), "the key of a window outlives its row's end");
}

#[tokio::test]
async fn a_running_row_is_asked_to_stop_and_keeps_running() {
    let (_folder, store) = open().await;
    let id = submit(&store, 1, 10).await;
    execute(&store, "UPDATE backtest_jobs SET status = 'running', unique_key = 'k'").await;

    assert_eq!(request_cancel(&store, &id, 20).await, CancelOutcome::Requested);

    let job = find(store.reader(), &id).await.unwrap().unwrap();
    assert_eq!((job.status, job.cancel_requested), (BacktestStatus::Running, true));
    assert_eq!(job.completed_at_ms, None);
}

#[tokio::test]
async fn an_ended_or_unknown_row_is_left_alone() {
    let (_folder, store) = open().await;
    let id = submit(&store, 1, 10).await;
    assert_eq!(request_cancel(&store, &id, 20).await, CancelOutcome::Cancelled);
    let ended = CancelOutcome::Ended(BacktestStatus::Cancelled);
    assert_eq!(request_cancel(&store, &id, 30).await, ended);
    assert_eq!(find(store.reader(), &id).await.unwrap().unwrap().completed_at_ms, Some(20));
    assert_eq!(request_cancel(&store, "nobody", 30).await, CancelOutcome::NotFound);
}

#[tokio::test]
async fn an_interval_of_a_newer_version_is_an_error_that_names_it() {
    let (_folder, store) = open().await;
    let id = submit(&store, 1, 10).await;
    execute(&store, "UPDATE backtest_jobs SET interval = '3d'").await;
    let StoreError::Database { source, .. } = find(store.reader(), &id).await.unwrap_err() else {
        panic!("expected an error of the database");
    };
    assert!(
        source.to_string().contains("column `interval` of `backtest_jobs` holds `3d`"),
        "{source}"
    );
}
