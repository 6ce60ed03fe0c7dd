//! The one writer of a SQLite file: contention, panics, cancelled writes, a writer that is held.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use scheduler_core::{Store, StoreError, SystemClock};
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use tokio::sync::oneshot;

use super::Pair;

pub(super) async fn insert(txn: &DatabaseTransaction, value: &str) -> Result<(), StoreError> {
    txn.execute_unprepared(&format!("INSERT INTO notes VALUES ('{value}')"))
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("insert", source))
}

pub(super) async fn note(store: &Store, value: &'static str) -> Result<(), StoreError> {
    store.write("note", |txn| Box::pin(insert(txn, value))).await
}

pub(super) async fn notes() -> Pair {
    let fixture = Pair::sqlite().await;
    fixture.database.execute("CREATE TABLE notes (value TEXT)").await;
    fixture
}

pub(super) async fn noted(fixture: &Pair) -> i64 {
    fixture.database.value("SELECT count(*) FROM notes").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_small_writes_over_several_processes_never_see_a_locked_database() {
    const TASKS: usize = 8;
    const WRITES: usize = 200;
    let fixture = notes().await;
    let stores = [
        fixture.store.clone(),
        fixture.other.clone(),
        fixture.database.another_store().await,
        fixture.database.another_store().await,
    ];
    let began = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = stores[task % stores.len()].clone();
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                for _ in 0..WRITES {
                    let asked = Instant::now();
                    note(&store, "small").await?;
                    longest = longest.max(asked.elapsed());
                }
                Ok::<_, StoreError>(longest)
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for task in tasks {
        longest = longest.max(task.await.expect("no panic").expect("no error"));
    }
    println!("{} writes in {:?}, the longest took {longest:?}", TASKS * WRITES, began.elapsed());
    assert_eq!(noted(&fixture).await, (TASKS * WRITES) as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_create_one_file_at_once_all_open_it() {
    for _ in 0..40 {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("new.db").display());
        let opened = futures_util::future::join_all((0..6).map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Store::sqlite(&url).await })
        }));
        for store in opened.await {
            store.expect("no panic").expect("opened");
        }
    }
}

#[tokio::test]
async fn a_write_that_panics_is_rolled_back_and_frees_the_writer() {
    let fixture = notes().await;
    for _ in 0..3 {
        let write = fixture.store.write("panic", |txn| {
            Box::pin(async move {
                insert(txn, "lost").await?;
                if noted_inside(txn).await > 0 {
                    panic!("in the middle of a write");
                }
                Ok::<_, StoreError>(())
            })
        });
        assert!(std::panic::AssertUnwindSafe(write).catch_unwind().await.is_err());
        note(&fixture.other, "kept").await.expect("another process writes");
        note(&fixture.store, "kept").await.expect("this one too");
    }
    assert_eq!(noted(&fixture).await, 6);
}

async fn noted_inside(txn: &DatabaseTransaction) -> usize {
    let backend = txn.get_database_backend();
    let all = sea_orm::Statement::from_string(backend, "SELECT value FROM notes");
    txn.query_all_raw(all).await.expect("read").len()
}

#[tokio::test]
async fn a_write_that_fails_is_rolled_back_and_its_error_is_the_one_told() {
    let fixture = notes().await;
    let failed = fixture.store.write("fail", |txn| {
        Box::pin(async move {
            insert(txn, "lost").await?;
            txn.execute_unprepared("INSERT INTO nowhere VALUES (1)")
                .await
                .map_err(|source| StoreError::database("insert elsewhere", source))
        })
    });
    let error = failed.await.expect_err("no such table").to_string();
    assert!(error.contains("insert elsewhere"), "{error}");
    note(&fixture.store, "kept").await.expect("the writer is free");
    assert_eq!(noted(&fixture).await, 1);
}

/// Polls a future as often as it wakes up, `times` at most, and drops it; its answer, if it had one.
pub(super) async fn polled<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left > 0
            && let Poll::Ready(answer) = future.as_mut().poll(context)
        {
            return Poll::Ready(Some(answer));
        }
        left = left.saturating_sub(1);
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_dropped_anywhere_is_rolled_back_or_committed_and_frees_the_writer() {
    let fixture = notes().await;
    let mut committed = 0;
    let mut dropped_in_the_middle = 0;
    for times in (0..60).map(|round| round % 12) {
        let before = noted(&fixture).await;
        let two = fixture.store.write("two notes", |txn| {
            Box::pin(async move {
                insert(txn, "one").await?;
                insert(txn, "two").await
            })
        });
        if polled(two, times).await.is_some() {
            committed += 1;
        } else {
            dropped_in_the_middle += 1;
        }
        note(&fixture.other, "kept").await.expect("another process writes");
        note(&fixture.store, "kept").await.expect("this one too");
        let written = noted(&fixture).await - before - 2;
        assert!(written == 0 || written == 2, "half of a write was kept: {written}");
    }
    assert!(committed > 0 && dropped_in_the_middle > 0, "{committed}, {dropped_in_the_middle}");
}

/// Holds the writer of `store` in an operation of this name until told to let go.
pub(super) async fn hold(
    store: &Store,
    name: &'static str,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (inside, entered) = oneshot::channel();
    let (let_go, told) = oneshot::channel::<()>();
    let store = store.clone();
    let task = tokio::spawn(async move {
        let held = store.write(name, |txn| {
            Box::pin(async move {
                insert(txn, "held").await?;
                let _ = inside.send(());
                let _ = told.await;
                Ok::<_, StoreError>(())
            })
        });
        held.await.expect("written");
    });
    entered.await.expect("inside");
    (let_go, task)
}

#[tokio::test]
async fn a_writer_that_is_held_is_an_error_after_two_seconds_that_names_the_holder() {
    let fixture = notes().await;
    note(&fixture.store, "earlier").await.expect("written");
    let (let_go, task) = hold(&fixture.store, "book the funding").await;
    let asked = Instant::now();
    let error = note(&fixture.store, "late").await.expect_err("the writer is held");
    let StoreError::WriterBusy { operation, holder, waited } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*operation, *holder), ("note", "book the funding"));
    assert!((2..3).contains(&waited.as_secs()), "{waited:?}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(error.is_transient());
    let _ = let_go.send(());
    task.await.expect("ended");
    note(&fixture.store, "late").await.expect("free again");
    assert_eq!(noted(&fixture).await, 3);
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_an_error_after_two_seconds_that_says_so() {
    let fixture = notes().await;
    note(&fixture.other, "earlier").await.expect("written");
    let (let_go, task) = hold(&fixture.store, "book the funding").await;
    let asked = Instant::now();
    let (first, second) = tokio::join!(note(&fixture.other, "late"), note(&fixture.other, "later"));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for error in [first.expect_err("held"), second.expect_err("held")] {
        let StoreError::WriterBusy { holder, waited, .. } = &error else { panic!("{error:?}") };
        assert!(["another process", "note"].contains(holder), "{error}");
        assert!((2..3).contains(&waited.as_secs()), "{waited:?}");
    }
    let _ = let_go.send(());
    task.await.expect("ended");
    note(&fixture.other, "late").await.expect("free again");
}

#[tokio::test]
async fn a_pool_of_the_embedder_without_a_busy_timeout_waits_for_its_turn_too() {
    let fixture = notes().await;
    let url = fixture.database.url();
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(3).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(|sqlite| sqlite.busy_timeout(Duration::ZERO));
    let pool = sea_orm::Database::connect(options).await.expect("a pool");
    let store = Store::from_connection_with(pool, Arc::new(SystemClock));
    let (let_go, task) = hold(&fixture.store, "book the funding").await;
    let waiting = tokio::spawn(async move { note(&store, "patient").await });
    let _ = let_go.send(());
    task.await.expect("ended");
    waiting.await.expect("no panic").expect("its turn came");
    assert_eq!(noted(&fixture).await, 2);
}

#[tokio::test]
async fn a_process_that_keeps_its_place_and_writes_nothing_holds_up_nobody_for_long() {
    let fixture = notes().await;
    note(&fixture.store, "makes the file").await.expect("written");
    let file = fixture.database.url().replacen("sqlite://", "", 1) + "-turn";
    let place = std::fs::File::open(file).expect("the place of a writer");
    place.lock().expect("a frozen process has it");
    for store in [&fixture.store, &fixture.other] {
        let asked = Instant::now();
        note(store, "kept").await.expect("written without it");
        let waited = asked.elapsed();
        assert!(
            waited > Duration::from_millis(200) && waited < Duration::from_secs(2),
            "{waited:?}"
        );
    }
    place.unlock().expect("given back");
    note(&fixture.store, "kept").await.expect("written");
    assert_eq!(noted(&fixture).await, 4);
}
