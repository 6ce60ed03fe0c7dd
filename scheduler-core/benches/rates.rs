//! How fast a queue of the library's table is fed and drained, beside the same work as a few large
//! raw statements through the same driver, in one run.
//!
//! `cargo bench -p scheduler-core --bench rates` measures SQLite with `synchronous=FULL`. With
//! `--features postgres` and `RATES_DATABASE_URL` set it measures that server, too, whose tables `jobs`
//! and `raw_jobs` are made anew. Raw is what a program could do that knew nothing of leases, retries,
//! history and unique keys: claim a hundred rows, mark a hundred rows, and a commit for each; one task on
//! SQLite, eight on a server. A raw single commit is a statement of its own.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use scheduler_core::migration::{List, SchedulerMigrator, up};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobQueue, JobRow, NewJob,
    QueueContext, QueueTable,
};
use scheduler_core::{Scheduler, Shutdown, Store};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};
use tokio::sync::Notify;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(1_000);
const ROWS: usize = 40_000;
const BULK: usize = 1_000;
const BATCH: i64 = 100;

const RAW_TABLE: &str = "
DROP TABLE IF EXISTS raw_jobs;
CREATE TABLE raw_jobs (
  id INTEGER_KEY, status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, leased_by TEXT, kind TEXT NOT NULL, payload TEXT NOT NULL);
CREATE INDEX raw_ready ON raw_jobs (priority, run_at_ms, id) WHERE status = 'queued';
";
const RAW_INSERT: &str = "INSERT INTO raw_jobs (kind, payload) VALUES ('noop', $1)";
const RAW_BULK: (&str, &str) = (
    "INSERT INTO raw_jobs (kind, payload) SELECT 'noop', value FROM json_each($1)",
    "INSERT INTO raw_jobs (kind, payload) SELECT 'noop', unnest(CAST($1 AS text[]))",
);
const RAW_CLAIM: (&str, &str) = (
    "UPDATE raw_jobs SET status = 'running', attempt_count = attempt_count + 1, leased_by = 'raw' WHERE id IN (
       SELECT id FROM raw_jobs WHERE status = 'queued' AND run_at_ms <= $1 ORDER BY priority, run_at_ms, id LIMIT $2)
     RETURNING id, payload",
    "UPDATE raw_jobs SET status = 'running', attempt_count = attempt_count + 1, leased_by = 'raw' WHERE id = ANY (ARRAY(
       SELECT id FROM raw_jobs WHERE status = 'queued' AND run_at_ms <= $1 ORDER BY priority, run_at_ms, id LIMIT $2
       FOR UPDATE SKIP LOCKED))
     RETURNING id, payload",
);
const RAW_FINISH: (&str, &str) = (
    "UPDATE raw_jobs SET status = 'succeeded' WHERE id IN (SELECT value FROM json_each($1)) AND status = 'running'",
    "UPDATE raw_jobs SET status = 'succeeded' WHERE id = ANY (CAST($1 AS bigint[])) AND status = 'running'",
);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!("per second, median of {ROUNDS} interleaved rounds");
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("rates.db").display());
    println!("{:>34} {:>12} {:>12} {:>8}", "SQLite, FULL", "library", "raw", "ratio");
    measure(&Store::sqlite(&url).await?, 1).await?;
    if let Ok(url) = std::env::var("RATES_DATABASE_URL") {
        println!("{:>34} {:>12} {:>12} {:>8}", "PostgreSQL", "library", "raw", "ratio");
        measure(&Store::connect(&url).await?, 8).await?;
    }
    Ok(())
}

async fn measure(store: &Store, raw_tasks: usize) -> Result<(), Failure> {
    up(store.reader(), &[List::of::<SchedulerMigrator>()]).await?;
    let key = match store.reader().get_database_backend() {
        DbBackend::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        _ => "INTEGER PRIMARY KEY",
    };
    store.reader().execute_unprepared(&RAW_TABLE.replace("INTEGER_KEY", key)).await?;
    let mut library: [Vec<f64>; 5] = Default::default();
    let mut raw: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        raw[0].push(raw_enqueue(store.reader()).await?);
        library[0].push(enqueue(store, 1, 1).await?);
        library[1].push(enqueue(store, 16, 1).await?);
        raw[1].push(raw_bulk(store.reader()).await?);
        library[2].push(enqueue(store, 1, BULK).await?);
        raw[2].push(raw_drain(store.reader(), raw_tasks).await?);
        library[3].push(drain(store, 10).await?);
        library[4].push(drain(store, 50).await?);
    }
    let raw = raw.map(median);
    let names = [
        ("enqueue, 1 task", raw[0]),
        ("enqueue, 16 tasks", raw[0]),
        ("enqueue of 1,000 at once", raw[1]),
        ("drain, 10 at once", raw[2]),
        ("drain, 50 at once", raw[2]),
    ];
    for ((name, raw), library) in names.into_iter().zip(library.map(median)) {
        println!("{name:>34} {library:>12.0} {raw:>12.0} {:>8.2}", library / raw);
    }
    Ok(())
}

async fn empty(store: &Store) -> Result<(), Failure> {
    store.reader().execute_unprepared("DELETE FROM jobs; DELETE FROM raw_jobs").await?;
    if store.reader().get_database_backend() == DbBackend::Postgres {
        store.reader().execute_unprepared("VACUUM jobs").await?;
        store.reader().execute_unprepared("VACUUM raw_jobs").await?;
    }
    Ok(())
}

fn job() -> Result<NewJob, Failure> {
    Ok(NewJob::new("noop", &1)?)
}

async fn enqueue(store: &Store, tasks: usize, rows: usize) -> Result<f64, Failure> {
    empty(store).await?;
    let queue = JobQueue::new(store, "rates")?;
    let jobs = vec![job()?; rows];
    let began = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (queue, jobs) = (queue.clone(), jobs.clone());
            tokio::spawn(async move {
                let mut enqueued = 0;
                while began.elapsed() < ROUND {
                    enqueued += queue.enqueue(&jobs).await?.len();
                }
                Ok::<_, Failure>(enqueued)
            })
        })
        .collect();
    let mut enqueued = 0;
    for task in tasks {
        enqueued += task.await??;
    }
    Ok(rate(enqueued, began))
}

struct Noop {
    handled: AtomicUsize,
    all: Notify,
}

#[derive(Clone)]
struct Counting(Arc<Noop>);

#[async_trait]
impl Handler for Counting {
    type Row = JobRow;

    async fn handle(&self, row: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
        let _payload: u32 = row.payload()?;
        if self.0.handled.fetch_add(1, Ordering::AcqRel) + 1 == ROWS {
            self.0.all.notify_one();
        }
        Ok(Handled::Done(None))
    }
}

async fn drain(store: &Store, concurrency: u32) -> Result<f64, Failure> {
    empty(store).await?;
    let queue = JobQueue::new(store, "rates")?;
    let bulk = vec![job()?; BULK];
    for _ in 0..ROWS / BULK {
        queue.enqueue(&bulk).await?;
    }
    let noop = Arc::new(Noop { handled: AtomicUsize::new(0), all: Notify::new() });
    let mut scheduler = Scheduler::new(store.clone());
    let options = ConsumerOptions { concurrency, ..ConsumerOptions::new("rates") };
    let table = QueueTable::jobs("rates").kind("noop", 1);
    let handler = Counting(Arc::clone(&noop));
    Consumer::new(store, table, options, handler).await?.register(&mut scheduler)?;
    let began = Instant::now();
    let running = scheduler.start().await?;
    noop.all.notified().await;
    let rate = rate(ROWS, began);
    running.stop(&Shutdown::default()).await;
    let count = "SELECT count(*) AS n FROM jobs WHERE status = 'succeeded' AND attempt_count = 1";
    let count = Statement::from_string(store.reader().get_database_backend(), count);
    let row = store.reader().query_one_raw(count).await?.ok_or("a count")?;
    let done: i64 = row.try_get("", "n")?;
    if usize::try_from(done)? != ROWS {
        return Err(format!("{done} of {ROWS} rows succeeded at their first attempt").into());
    }
    Ok(rate)
}

fn bind(
    database: &DatabaseConnection,
    texts: (&'static str, &'static str),
    values: Vec<Value>,
) -> Statement {
    let backend = database.get_database_backend();
    let sql = if backend == DbBackend::Postgres { texts.1 } else { texts.0 };
    Statement::from_sql_and_values(backend, sql, values)
}

/// An array, as a parameter of this database.
fn array(database: &DatabaseConnection, elements: &[i64]) -> Value {
    let text: Vec<String> = elements.iter().map(i64::to_string).collect();
    match database.get_database_backend() {
        DbBackend::Postgres => format!("{{{}}}", text.join(",")).into(),
        _ => format!("[{}]", text.join(",")).into(),
    }
}

async fn raw_enqueue(database: &DatabaseConnection) -> Result<f64, Failure> {
    let (began, mut enqueued) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        database.execute_raw(bind(database, (RAW_INSERT, RAW_INSERT), vec!["1".into()])).await?;
        enqueued += 1;
    }
    Ok(rate(enqueued, began))
}

async fn raw_bulk(database: &DatabaseConnection) -> Result<f64, Failure> {
    let payloads = array(database, &[1; BULK]);
    let (began, mut enqueued) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        database.execute_raw(bind(database, RAW_BULK, vec![payloads.clone()])).await?;
        enqueued += BULK;
    }
    Ok(rate(enqueued, began))
}

async fn raw_drain(database: &DatabaseConnection, tasks: usize) -> Result<f64, Failure> {
    database.execute_unprepared("DELETE FROM raw_jobs").await?;
    let payloads = array(database, &[1; BULK]);
    for _ in 0..ROWS / BULK {
        database.execute_raw(bind(database, RAW_BULK, vec![payloads.clone()])).await?;
    }
    let began = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    let claim = vec![1_i64.into(), BATCH.into()];
                    let claimed = database.query_all_raw(bind(&database, RAW_CLAIM, claim)).await?;
                    if claimed.is_empty() {
                        return Ok::<_, Failure>(done);
                    }
                    let ids: Vec<i64> = claimed
                        .iter()
                        .map(|row| row.try_get_by_index(0))
                        .collect::<Result<_, _>>()?;
                    let finish = vec![array(&database, &ids)];
                    database.execute_raw(bind(&database, RAW_FINISH, finish)).await?;
                    done += ids.len();
                }
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    Ok(rate(done, began))
}

fn rate(rows: usize, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 rows")]
    let rows = rows as f64;
    rows / began.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
