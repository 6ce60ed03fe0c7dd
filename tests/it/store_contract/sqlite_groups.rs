//! Writes that share a commit on SQLite: each fails alone, and none is answered before the commit.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use futures_util::{pin_mut, poll};
use scheduler_core::{Store, StoreError, SystemClock};
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use tokio::sync::oneshot;

use super::Pair;
use super::sqlite_writer::{hold, insert, note, noted, notes, polled};

type Written = Result<(), StoreError>;

/// A round in which the machine was too slow for a group is no failure; so many are.
const ROUNDS: usize = 100;

/// A store that counts the commits of its file.
async fn counting(url: String) -> (Store, Arc<AtomicUsize>) {
    let commits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&commits);
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    options.map_sqlx_sqlite_pool_opts(move |pool| {
        let counter = Arc::clone(&counter);
        pool.after_connect(move |connection, _| {
            let counter = Arc::clone(&counter);
            Box::pin(async move {
                connection.lock_handle().await?.set_commit_hook(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                    true
                });
                Ok(())
            })
        })
    });
    let pool = sea_orm::Database::connect(options).await.expect("a pool");
    (Store::from_connection_with(pool, Arc::new(SystemClock)), commits)
}

/// Lets these writes wait behind one that holds the writer, in this order, then all go.
async fn together(store: &Store, writes: Vec<BoxFuture<'_, Written>>) -> Vec<Written> {
    let (let_go, held) = hold(store, "hold the writer").await;
    let all = join_all(writes);
    pin_mut!(all);
    assert!(poll!(&mut all).is_pending());
    let _ = let_go.send(());
    let answers = all.await;
    held.await.expect("ended");
    answers
}

/// A write that is known to be small, and does this.
fn small<'s, F>(store: &'s Store, body: F) -> BoxFuture<'s, Written>
where
    F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Written> + Send + 's,
{
    store.write("note", body).boxed()
}

async fn execute(txn: &DatabaseTransaction, sql: &str) -> Written {
    let executed = txn.execute_unprepared(sql).await;
    executed.map(|_| ()).map_err(|source| StoreError::database("execute", source))
}

/// Tries until the writes of a round were all in one group, as far as `shared` can tell.
async fn until<F: Future<Output = bool>>(mut round: impl FnMut() -> F) {
    for _ in 0..ROUNDS {
        if round().await {
            return;
        }
    }
    panic!("no round of {ROUNDS} was a group");
}

#[tokio::test]
async fn writes_that_wait_for_each_other_share_a_commit() {
    let fixture = notes().await;
    let (store, commits) = counting(fixture.database.url()).await;
    until(async || {
        note(&store, "small").await.expect("written");
        let before = (noted(&fixture).await, commits.load(Ordering::SeqCst));
        let answers = together(&store, (0..8).map(|_| note(&store, "x").boxed()).collect()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        // The one that held the writer is a ninth.
        assert_eq!(noted(&fixture).await, before.0 + 9);
        commits.load(Ordering::SeqCst) == before.1 + 2
    })
    .await;
}

#[tokio::test]
async fn a_write_that_nobody_waits_behind_has_its_own_commit() {
    let fixture = notes().await;
    let (store, commits) = counting(fixture.database.url()).await;
    for expected in 1..=5 {
        note(&store, "alone").await.expect("written");
        assert_eq!(commits.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_bad_row_in_a_group_fails_its_own_caller_only() {
    let fixture = notes().await;
    let (store, commits) = counting(fixture.database.url()).await;
    until(async || {
        note(&store, "small").await.expect("written");
        let before = (noted(&fixture).await, commits.load(Ordering::SeqCst));
        let bad = small(&store, |txn| {
            Box::pin(async move {
                insert(txn, "lost").await?;
                execute(txn, "INSERT INTO nowhere VALUES (1)").await
            })
        });
        let good = || note(&store, "kept").boxed();
        let answers = together(&store, vec![good(), good(), bad, good()]).await;
        let is_ok: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(is_ok, [true, true, false, true], "{answers:?}");
        assert_eq!(noted(&fixture).await, before.0 + 4);
        commits.load(Ordering::SeqCst) == before.1 + 2
    })
    .await;
}

/// A write that inserts, says so, and then waits for something that never comes.
fn stuck(store: &Store) -> (BoxFuture<'_, Written>, oneshot::Receiver<()>) {
    let (inside, entered) = oneshot::channel();
    let write = small(store, |txn| {
        Box::pin(async move {
            insert(txn, "lost").await?;
            let _ = inside.send(());
            std::future::pending().await
        })
    });
    (write, entered)
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit_and_who_is_dropped_fails_alone() {
    let fixture = notes().await;
    let (store, commits) = counting(fixture.database.url()).await;
    until(async || {
        note(&store, "small").await.expect("written");
        let before = (noted(&fixture).await, commits.load(Ordering::SeqCst));
        let (stuck, entered) = stuck(&store);
        let (give_up, given_up) = oneshot::channel::<()>();
        let dropped = async {
            tokio::select! {
                answer = stuck => answer,
                _ = given_up => Ok(()),
            }
        };
        let answered = AtomicUsize::new(0);
        let good = || note(&store, "kept").inspect(|_| _ = answered.fetch_add(1, Ordering::SeqCst));
        let writes = vec![good().boxed(), good().boxed(), dropped.boxed(), good().boxed()];
        let watch = async {
            entered.await.expect("inside");
            let was_group = commits.load(Ordering::SeqCst) == before.1 + 1;
            if was_group {
                assert_eq!(answered.load(Ordering::SeqCst), 0, "answered before the commit");
                assert_eq!(noted(&fixture).await, before.0 + 1, "only the holder's");
            }
            let _ = give_up.send(());
            was_group
        };
        let (answers, was_group) = tokio::join!(together(&store, writes), watch);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(noted(&fixture).await, before.0 + 4);
        was_group
    })
    .await;
}

/// Lets a member of a group be stuck; answers what it is told when it is given up.
async fn given_up(fixture: &Pair, store: &Store) -> StoreError {
    for _ in 0..ROUNDS {
        note(store, "small").await.expect("written");
        let before = noted(fixture).await;
        let (stuck, _entered) = stuck(store);
        let good = || note(store, "kept").boxed();
        let bounded = async {
            // Where the round was no group, nothing bounds the one that is stuck.
            let stuck = tokio::time::timeout(Duration::from_secs(4), stuck).await;
            stuck.unwrap_or(Ok(()))
        };
        let mut answers = together(store, vec![good(), good(), bounded.boxed(), good()]).await;
        if let Err(error) = answers.swap_remove(2) {
            assert_eq!(noted(fixture).await - before, 4);
            return error;
        }
    }
    panic!("no round of {ROUNDS} was a group");
}

#[tokio::test]
async fn a_body_that_is_waited_for_too_long_fails_alone_and_may_take_its_time_alone() {
    let fixture = notes().await;
    let (store, _) = counting(fixture.database.url()).await;
    let error = given_up(&fixture, &store).await;
    let StoreError::TooSlow { operation: "note", .. } = error else { panic!("{error:?}") };
    assert!(error.is_transient());
    // A name that is not known to be small: it stays for longer than one that is given up meanwhile.
    let elsewhere = notes().await;
    let (enter, entered) = oneshot::channel();
    let (leave, left) = oneshot::channel();
    let slow = store.write("take long", |txn| {
        Box::pin(async move {
            insert(txn, "kept").await?;
            let _ = enter.send(());
            left.await.expect("another was given up");
            Ok::<_, StoreError>(())
        })
    });
    let watch = async {
        entered.await.expect("inside");
        given_up(&elsewhere, &elsewhere.store).await;
        leave.send(()).expect("it is inside still");
    };
    let writes = together(&store, vec![note(&store, "kept").boxed(), slow.boxed()]);
    let (answers, ()) = tokio::join!(writes, watch);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn an_error_of_the_commit_reaches_everybody_in_the_group() {
    let fixture = notes().await;
    for table in [
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE children (parent BIGINT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
    ] {
        fixture.database.execute(table).await;
    }
    until(async || {
        note(&fixture.store, "small").await.expect("written");
        let before = noted(&fixture).await;
        let orphan =
            small(&fixture.store, |txn| Box::pin(execute(txn, "INSERT INTO children VALUES (7)")));
        let good = || note(&fixture.store, "kept").boxed();
        let answers = together(&fixture.store, vec![good(), orphan, good()]).await;
        note(&fixture.other, "kept").await.expect("the file is free");
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(noted(&fixture).await, before + 2 + kept as i64, "{answers:?}");
        assert_eq!(fixture.database.value::<i64>("SELECT count(*) FROM children").await, 0);
        answers.iter().all(Result::is_err)
    })
    .await;
}

/// What ends the transaction from inside, and whether its caller tells.
async fn ended_from_inside(end: &'static str, is_swallowed: bool) {
    let fixture = notes().await;
    fixture.database.execute("CREATE TABLE once (id INTEGER PRIMARY KEY, bytes BLOB)").await;
    fixture.database.execute("INSERT INTO once VALUES (1, NULL)").await;
    until(async || {
        note(&fixture.store, "small").await.expect("written");
        let before = noted(&fixture).await;
        let culprit = small(&fixture.store, |txn| {
            Box::pin(async move {
                insert(txn, "lost").await?;
                let ended = execute(txn, end).await;
                if is_swallowed { Ok(()) } else { ended }
            })
        });
        let good = || note(&fixture.store, "kept").boxed();
        let writes = vec![good(), good(), culprit, good(), good()];
        let answers = together(&fixture.store, writes).await;
        note(&fixture.other, "kept").await.expect("the file is free");
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(noted(&fixture).await, before + 2 + kept as i64, "{answers:?}");
        assert!(answers[2].is_err(), "{answers:?}");
        let undone =
            |answer: &Written| matches!(answer, Err(StoreError::Undone { culprit: "note", .. }));
        answers[..2].iter().all(undone) && answers[3..].iter().all(Result::is_ok)
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_is_kept_by_nobody_and_those_after_it_go_on() {
    ended_from_inside("INSERT OR ROLLBACK INTO once VALUES (1, NULL)", false).await;
}

#[tokio::test]
async fn a_caller_who_swallows_that_its_transaction_was_ended_is_not_believed() {
    ended_from_inside("INSERT OR ROLLBACK INTO once VALUES (1, NULL)", true).await;
}

#[tokio::test]
async fn a_full_disk_in_a_group_leads_to_no_answer_that_is_not_kept() {
    let fixture = notes().await;
    fixture.database.execute("CREATE TABLE filler (bytes BLOB)").await;
    for is_swallowed in [false, true].repeat(10) {
        note(&fixture.store, "small").await.expect("written");
        let before = noted(&fixture).await;
        let full = small(&fixture.store, |txn| {
            Box::pin(async move {
                insert(txn, "lost").await?;
                execute(txn, "PRAGMA max_page_count = 1").await?;
                let full = execute(txn, "INSERT INTO filler VALUES (zeroblob(1000000))").await;
                if is_swallowed { Ok(()) } else { full }
            })
        });
        let good = || note(&fixture.store, "kept").boxed();
        let answers = together(&fixture.store, vec![good(), full, good(), good()]).await;
        assert!(is_swallowed || matches!(answers[1], Err(StoreError::Full { .. })), "{answers:?}");
        let restored = small(&fixture.store, |txn| {
            Box::pin(execute(txn, "PRAGMA max_page_count = 4294967294"))
        });
        restored.await.expect("room again");
        note(&fixture.other, "kept").await.expect("the file is free");
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(noted(&fixture).await, before + 2 + kept as i64, "{answers:?}");
    }
}

/// How a write of the storm goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fair,
    Fails,
    EndsTheTransaction,
    SwallowsItsEnd,
    Panics,
    IsDropped { polls: u32 },
}

impl Weather {
    fn of(random: u32) -> Self {
        match random % 16 {
            0 => Self::Fails,
            1 => Self::EndsTheTransaction,
            2 => Self::SwallowsItsEnd,
            3 => Self::Panics,
            4 | 5 => Self::IsDropped { polls: random / 16 % 10 },
            _ => Self::Fair,
        }
    }

    /// Writes two rows with this number, and meets its fate.
    async fn meet(self, txn: &DatabaseTransaction, number: usize) -> Written {
        let end = "INSERT OR ROLLBACK INTO once VALUES (1)";
        insert(txn, &number.to_string()).await?;
        insert(txn, &number.to_string()).await?;
        match self {
            Self::Fair | Self::IsDropped { .. } => Ok(()),
            Self::Fails => execute(txn, "INSERT INTO nowhere VALUES (1)").await,
            Self::EndsTheTransaction => execute(txn, end).await,
            Self::SwallowsItsEnd => execute(txn, end).await.or(Ok(())),
            Self::Panics => panic!("a write of the storm"),
        }
    }
}

/// Whatever happens around a write: an answer `Ok` means that it is there as a whole, an error that
/// nothing of it is, and a write that was dropped is one or the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_storm_each_answer_is_true() {
    const TASKS: usize = 12;
    const WRITES: usize = 40;
    let fixture = notes().await;
    fixture.database.execute("CREATE TABLE once (id INTEGER PRIMARY KEY)").await;
    fixture.database.execute("INSERT INTO once VALUES (1)").await;
    let tasks = (0..TASKS).map(|task| {
        let store = [&fixture.store, &fixture.other][task % 2].clone();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(task as u64);
            let mut answers = Vec::new();
            for write in 0..WRITES {
                let (number, weather) = (task * WRITES + write, Weather::of(random.u32(..)));
                let written = store.write("storm", move |txn| {
                    Box::pin(async move { weather.meet(txn, number).await })
                });
                let caught = std::panic::AssertUnwindSafe(written).catch_unwind();
                let polls =
                    if let Weather::IsDropped { polls } = weather { polls } else { u32::MAX };
                answers.push((number, weather, polled(caught, polls).await));
            }
            answers
        })
    });
    let mut counts = [0; 4];
    for answers in join_all(tasks).await {
        for (number, weather, answer) in answers.expect("no panic of the test") {
            let rows = format!("SELECT count(*) FROM notes WHERE value = '{number}'");
            let rows: i64 = fixture.database.value(&rows).await;
            let (kind, is_true) = match &answer {
                Some(Ok(Ok(()))) => (0, rows == 2 && !matches!(weather, Weather::SwallowsItsEnd)),
                Some(Ok(Err(_))) => (1, rows == 0),
                Some(Err(_)) => (2, rows == 0 && weather == Weather::Panics),
                None => (3, rows == 0 || rows == 2),
            };
            assert!(is_true, "{number} {weather:?}: {answer:?}, {rows} rows");
            counts[kind] += 1;
        }
    }
    println!("kept, refused, panicked, dropped: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    note(&fixture.store, "after").await.expect("written");
    note(&fixture.other, "after").await.expect("written");
}
