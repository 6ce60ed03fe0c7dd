//! Queues of the library's own table, with consumers that claim ahead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobQueue, JobRow, NewJob,
    QueueContext, QueueTable,
};
use scheduler_core::{RunningScheduler, Scheduler, Shutdown, Store, StoreError};
use sea_orm::ConnectionTrait;
use tokio::sync::Semaphore;

use crate::harness::{Database, at_once, wait_for};

on_every_store! {
    many_short_rows_are_each_run_once,
    a_wake_from_an_enqueue_is_enough,
    what_waits_for_a_place_goes_back_untouched_when_the_process_stops,
    what_waits_for_a_place_goes_back_untouched_when_its_queue_is_paused,
    what_waits_for_a_place_and_is_cancelled_never_begins,
    a_row_that_runs_on_is_noted_to_have_begun,
    a_row_that_its_handler_records_is_not_recorded_twice,
    an_attempt_goes_on_where_the_last_one_was,
    a_paused_queue_goes_on_when_it_may,
}

/// Rows of kind `short` end at once, all others wait to be let go.
struct Hands {
    runs: Mutex<HashMap<i64, u32>>,
    inside: AtomicUsize,
    let_go: Semaphore,
    store: Option<Store>,
}

#[derive(Clone)]
struct Worker(Arc<Hands>);

#[async_trait]
impl Handler for Worker {
    type Row = JobRow;

    async fn handle(&self, row: JobRow, context: QueueContext) -> Result<Handled, HandleError> {
        *self.0.runs.lock().expect("runs").entry(row.id).or_default() += 1;
        match row.kind.as_str() {
            "short" => return Ok(Handled::Done(None)),
            "records" => return self.record(context).await,
            "pages" => {
                let page = row.checkpoint::<u32>()?.unwrap_or_default() + 1;
                context.checkpoint(&page).await?;
                if page < 3 {
                    return Err(anyhow::anyhow!("cut off after page {page}").into());
                }
                return Ok(Handled::with_result(page.into()));
            }
            _ => {}
        }
        self.0.inside.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            permit = self.0.let_go.acquire() => {
                permit?.forget();
                Ok(Handled::Done(None))
            }
            () = context.cancelled() => Err("told to return".into()),
        }
    }
}

impl Worker {
    async fn record(&self, context: QueueContext) -> Result<Handled, HandleError> {
        let store = self.0.store.clone().expect("a store");
        let recorded = store.write("deliver", |txn| {
            Box::pin(async move {
                let effect = txn.execute_unprepared("INSERT INTO effects VALUES (1)").await;
                effect.map_err(|source| StoreError::database("deliver", source))?;
                context.succeed_in(txn, Some("sent".into())).await
            })
        });
        Ok(Handled::Recorded(recorded.await?))
    }

    fn new() -> Self {
        Self(Arc::new(Hands {
            runs: Mutex::default(),
            inside: AtomicUsize::new(0),
            let_go: Semaphore::new(0),
            store: None,
        }))
    }

    fn recording_in(store: &Store) -> Self {
        let Self(hands) = Self::new();
        let mut hands = Arc::into_inner(hands).expect("nobody else has it");
        hands.store = Some(store.clone());
        Self(Arc::new(hands))
    }

    fn seen(&self) -> usize {
        self.0.runs.lock().expect("runs").len()
    }

    fn inside(&self) -> usize {
        self.0.inside.load(Ordering::SeqCst)
    }

    async fn scheduler(&self, store: &Store) -> Scheduler {
        let mut scheduler = Scheduler::new(store.clone());
        let table = QueueTable::jobs("mails");
        let consumer =
            Consumer::new(store, table, ConsumerOptions::new("mails"), self.clone()).await;
        consumer.expect("a consumer").register(&mut scheduler).expect("registered");
        scheduler
    }

    async fn start(&self, store: &Store) -> RunningScheduler {
        self.scheduler(store).await.start().await.expect("started")
    }
}

async fn put(database: &Database, kind: &str, rows: usize) {
    let queue = JobQueue::new(&database.store, "mails").expect("a queue");
    let job = NewJob::new(kind, &1).expect("a job");
    queue.enqueue(&vec![job; rows]).await.expect("enqueued");
}

async fn many_short_rows_are_each_run_once(database: Database) {
    const ROWS: usize = 3_000;
    put(&database, "short", ROWS).await;
    let workers = [Worker::new(), Worker::new()];
    let other = database.another_store().await;
    let [first, second] = &workers;
    let (first, second) = (first.scheduler(&database.store).await, second.scheduler(&other).await);
    let (patience, shutdown) = (Duration::ZERO, Shutdown::default());
    let (first, second) = tokio::join!(
        first.run_once("mails", patience, &shutdown),
        second.run_once("mails", patience, &shutdown)
    );
    first.expect("drained");
    second.expect("drained");
    let done = "SELECT count(*) FROM jobs WHERE status = 'succeeded' AND attempt_count = 1 AND leased_by IS NULL AND completed_at_ms IS NOT NULL";
    assert_eq!(database.value::<i64>(done).await, 3_000);
    let runs: u32 = workers
        .iter()
        .map(|worker| worker.0.runs.lock().expect("runs").values().sum::<u32>())
        .sum();
    assert_eq!((runs as usize, workers[0].seen() + workers[1].seen()), (ROWS, ROWS));
}

async fn a_wake_from_an_enqueue_is_enough(database: Database) {
    let worker = Worker::new();
    let running = worker.start(&database.store).await;
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    // The clock stands still: no poll finds them.
    for rows in [1, 3, 700] {
        put(&database, "short", rows).await;
        database.until("SELECT count(*) FROM jobs WHERE status <> 'succeeded'", 0_i64).await;
    }
    assert_eq!(worker.seen(), 704);
    running.stop(&at_once()).await;
}

/// Ten places that are taken, and rows that wait for them.
async fn with_rows_that_wait(database: &Database) -> (Worker, RunningScheduler) {
    let worker = Worker::new();
    put(database, "short", 40).await;
    let running = worker.start(&database.store).await;
    wait_for("short rows", || worker.seen() == 40).await;
    put(database, "long", 40).await;
    wait_for("the places to be taken", || worker.inside() == 10).await;
    database.until("SELECT count(*) > 10 FROM jobs WHERE status = 'running'", true).await;
    (worker, running)
}

async fn what_waits_for_a_place_goes_back_untouched_when_the_process_stops(database: Database) {
    let (worker, running) = with_rows_that_wait(&database).await;
    running.stop(&at_once()).await;
    assert_eq!((worker.inside(), worker.seen()), (10, 50));
    let back = "SELECT count(*) FROM jobs WHERE kind = 'long' AND status = 'queued' AND attempt_count = 0 AND crash_count = 0 AND lost_count = 0 AND leased_by IS NULL";
    assert_eq!(database.value::<i64>(back).await, 40);
}

async fn what_waits_for_a_place_goes_back_untouched_when_its_queue_is_paused(database: Database) {
    let (worker, running) = with_rows_that_wait(&database).await;
    let queue = JobQueue::new(&database.store, "mails").expect("a queue");
    assert!(queue.control().set_paused(true).await.expect("paused"));
    // The next claim says so; until it is answered, one row may have begun in the place that is free.
    worker.0.let_go.add_permits(1);
    let back = "SELECT count(*) >= 29 FROM jobs WHERE kind = 'long' AND status = 'queued' AND attempt_count = 0 AND lost_count = 0 AND leased_by IS NULL";
    database.until(back, true).await;
    assert!(worker.inside() <= 11, "{}", worker.inside());
    assert!(queue.control().set_paused(false).await.expect("resumed"));
    worker.0.let_go.add_permits(80);
    database.until("SELECT count(*) FROM jobs WHERE status = 'succeeded'", 80_i64).await;
    running.stop(&at_once()).await;
}

async fn what_waits_for_a_place_and_is_cancelled_never_begins(database: Database) {
    let (worker, running) = with_rows_that_wait(&database).await;
    database.until("SELECT count(*) FROM jobs WHERE started", 10_i64).await;
    database
        .execute("UPDATE jobs SET cancel_requested = TRUE WHERE status = 'running' AND NOT started AND kind = 'long'")
        .await;
    let asked: i64 = database.value("SELECT count(*) FROM jobs WHERE cancel_requested").await;
    assert!(asked > 0);
    // A renewal brings the news; when the next one is seen, it has been heard.
    let expires = "SELECT min(lease_expires_at_ms) FROM jobs WHERE status = 'running'";
    for _ in 0..2 {
        let before: i64 = database.value(expires).await;
        database.clock.advance(Duration::from_secs(5));
        database.until(expires, before + 5_000).await;
    }
    worker.0.let_go.add_permits(80);
    database.until("SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')", 0_i64).await;
    let cancelled: i64 =
        database.value("SELECT count(*) FROM jobs WHERE status = 'cancelled'").await;
    assert_eq!(cancelled, asked);
    assert_eq!(worker.seen(), 80 - usize::try_from(cancelled).expect("few"));
    running.stop(&at_once()).await;
}

async fn a_row_that_runs_on_is_noted_to_have_begun(database: Database) {
    let (worker, running) = with_rows_that_wait(&database).await;
    database.until("SELECT count(*) FROM jobs WHERE started", 10_i64).await;
    worker.0.let_go.add_permits(40);
    database.until("SELECT count(*) FROM jobs WHERE status = 'succeeded'", 80_i64).await;
    running.stop(&at_once()).await;
}

async fn drain(database: &Database, worker: &Worker) {
    let scheduler = worker.scheduler(&database.store).await;
    scheduler.run_once("mails", Duration::ZERO, &Shutdown::default()).await.expect("drained");
}

async fn a_row_that_its_handler_records_is_not_recorded_twice(database: Database) {
    database.execute("CREATE TABLE effects (n INTEGER NOT NULL)").await;
    put(&database, "records", 30).await;
    let worker = Worker::recording_in(&database.store);
    drain(&database, &worker).await;
    let done = "SELECT count(*) FROM jobs WHERE status = 'succeeded' AND attempt_count = 1 AND result = '\"sent\"'";
    assert_eq!(database.value::<i64>(done).await, 30);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM effects").await, 30);
}

async fn an_attempt_goes_on_where_the_last_one_was(database: Database) {
    put(&database, "pages", 1).await;
    let worker = Worker::new();
    for _ in 0..3 {
        drain(&database, &worker).await;
        database.clock.advance(Duration::from_secs(60));
    }
    let lines = database.lines("SELECT status, attempt_count, checkpoint, result FROM jobs").await;
    assert_eq!(lines, ["succeeded|3|3|3"]);
}

async fn a_paused_queue_goes_on_when_it_may(database: Database) {
    let queue = JobQueue::new(&database.store, "mails").expect("a queue");
    assert!(queue.control().set_paused(true).await.expect("paused"));
    put(&database, "short", 3).await;
    let worker = Worker::new();
    let running = worker.start(&database.store).await;
    database.until("SELECT total_runs FROM worker_heartbeats", 1_i64).await;
    assert_eq!(worker.seen(), 0);
    assert!(queue.control().set_paused(false).await.expect("resumed"));
    database.until("SELECT count(*) FROM jobs WHERE status = 'succeeded'", 3_i64).await;
    running.stop(&at_once()).await;
}
