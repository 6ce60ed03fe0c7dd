//! How fast a queue is drained while a million rows wait behind, and while a million ended rows are kept,
//! beside the same rows alone.
//!
//! `cargo bench -p scheduler-core --bench depth` measures SQLite with `synchronous=FULL`. With
//! `--features postgres` and `DEPTH_DATABASE_URL` set it measures that server, too, whose table `jobs` is
//! emptied. Measured from the first row that is handled to the last of those that are counted. `DEPTH_ROWS`
//! is how many rows wait or are kept.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use scheduler_core::migration::{List, SchedulerMigrator, up};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobRow, QueueContext, QueueTable,
};
use scheduler_core::{Scheduler, Shutdown, Store};
use sea_orm::{ConnectionTrait, DbBackend};
use tokio::sync::Notify;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 3;
/// Rows whose drain is measured.
const COUNTED: usize = 20_000;
const DEEP: usize = 1_000_000;

const FILL: &str = "
INSERT INTO jobs (queue, kind, payload, payload_version, status, priority, run_at_ms, max_attempts, created_at_ms, completed_at_ms)
  SELECT 'depth', 'noop', '1', 1, 'STATUS', 0, 1, 3, 1, COMPLETED FROM SERIES";
const SERIES: (&str, &str) = (
    "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS) SELECT i FROM n) AS n",
    "generate_series(1, ROWS) AS n (i)",
);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let deep = std::env::var("DEPTH_ROWS").map_or(Ok(DEEP), |rows| rows.parse())?;
    println!("drain of {COUNTED} rows, 10 at once, per second, median of {ROUNDS} rounds");
    println!(
        "{:>12} {:>10} {:>14} {:>7} {:>14} {:>7}",
        "", "alone", "before waiting", "ratio", "beside ended", "ratio"
    );
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("depth.db").display());
    measure("SQLite, FULL", &Store::sqlite(&url).await?, deep).await?;
    if let Ok(url) = std::env::var("DEPTH_DATABASE_URL") {
        measure("PostgreSQL", &Store::connect(&url).await?, deep).await?;
    }
    Ok(())
}

async fn measure(what: &str, store: &Store, deep: usize) -> Result<(), Failure> {
    up(store.reader(), &[List::of::<SchedulerMigrator>()]).await?;
    let (mut alone, mut before, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    // Each fill serves all its rounds: a round takes away a fiftieth.
    empty(store).await?;
    for _ in 0..ROUNDS {
        fill(store, COUNTED, "queued").await?;
        alone.push(drain(store).await?);
    }
    fill(store, deep, "succeeded").await?;
    for _ in 0..ROUNDS {
        fill(store, COUNTED, "queued").await?;
        beside.push(drain(store).await?);
    }
    empty(store).await?;
    fill(store, deep.max(ROUNDS * COUNTED), "queued").await?;
    for _ in 0..ROUNDS {
        before.push(drain(store).await?);
    }
    let (alone, before, beside) = (median(alone), median(before), median(beside));
    let (deep, kept) = (before / alone, beside / alone);
    println!("{what:>12} {alone:>10.0} {before:>14.0} {deep:>7.2} {beside:>14.0} {kept:>7.2}");
    Ok(())
}

async fn empty(store: &Store) -> Result<(), Failure> {
    let empty = match store.reader().get_database_backend() {
        DbBackend::Postgres => "TRUNCATE jobs",
        _ => "DELETE FROM jobs",
    };
    store.reader().execute_unprepared(empty).await?;
    Ok(())
}

async fn fill(store: &Store, rows: usize, status: &str) -> Result<(), Failure> {
    let is_server = store.reader().get_database_backend() == DbBackend::Postgres;
    let series = if is_server { SERIES.1 } else { SERIES.0 };
    let completed = if status == "queued" { "CAST(NULL AS BIGINT)" } else { "i" };
    let sql = FILL
        .replace("STATUS", status)
        .replace("COMPLETED", completed)
        .replace("SERIES", series)
        .replace("ROWS", &rows.to_string());
    store.reader().execute_unprepared(&sql).await?;
    if is_server {
        store.reader().execute_unprepared("ANALYZE jobs").await?;
    }
    Ok(())
}

#[derive(Default)]
struct Counted {
    handled: AtomicUsize,
    began: OnceLock<Instant>,
    ended: OnceLock<Instant>,
    all: Notify,
}

#[derive(Clone, Default)]
struct Counting(Arc<Counted>);

#[async_trait]
impl Handler for Counting {
    type Row = JobRow;

    async fn handle(&self, row: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
        let _payload: u32 = row.payload()?;
        self.0.began.get_or_init(Instant::now);
        if self.0.handled.fetch_add(1, Ordering::AcqRel) + 1 == COUNTED {
            self.0.ended.get_or_init(Instant::now);
            self.0.all.notify_one();
        }
        Ok(Handled::Done(None))
    }
}

async fn drain(store: &Store) -> Result<f64, Failure> {
    let counting = Counting::default();
    let counted = Arc::clone(&counting.0);
    let mut scheduler = Scheduler::new(store.clone());
    let table = QueueTable::jobs("depth").kind("noop", 1);
    let options = ConsumerOptions::new("depth");
    Consumer::new(store, table, options, counting).await?.register(&mut scheduler)?;
    let running = scheduler.start().await?;
    counted.all.notified().await;
    running.stop(&Shutdown::default()).await;
    let (began, ended) = (counted.began.get(), counted.ended.get());
    let took = *ended.ok_or("an end")? - *began.ok_or("a beginning")?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 rows")]
    let rows = COUNTED as f64;
    Ok(rows / took.as_secs_f64())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
