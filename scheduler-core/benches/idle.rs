//! What a process costs that has nothing to do: statements and CPU time, a minute.
//!
//! `cargo bench -p scheduler-core --bench idle` measures SQLite; with `--features postgres` and
//! `IDLE_DATABASE_URL` set that server, too. Three processes in turn: a scheduler without a job, one with a
//! consumer whose queue is empty, and one with two hundred rows that are due in a year. CPU time is that of this
//! process, as Linux tells it, to 10 ms.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::migration::{List, SchedulerMigrator, up};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobQueue, JobRow, NewJob,
    QueueContext, QueueTable,
};
use scheduler_core::{Scheduler, Shutdown, Store};
use sea_orm::{ConnectOptions, ConnectionTrait, Database};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a start writes is over by then.
const SETTLED: Duration = Duration::from_secs(6);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!("{:>44} {:>12} {:>8}", "a minute of", "statements", "CPU ms");
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("idle.db").display());
    measure("SQLite", &url).await?;
    if let Ok(url) = std::env::var("IDLE_DATABASE_URL") {
        measure("PostgreSQL", &url).await?;
    }
    Ok(())
}

async fn measure(database: &str, url: &str) -> Result<(), Failure> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(if database == "SQLite" { 1 } else { 4 }).sqlx_logging(false);
    let mut pool = Database::connect(options).await?;
    up(&pool, &[List::of::<SchedulerMigrator>()]).await?;
    pool.execute_unprepared("DELETE FROM jobs").await?;
    let statements = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&statements);
    pool.set_metric_callback(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
    let store = Store::from_connection(pool);
    let jobs = vec![NewJob::new("noop", &1)?.after(YEAR); 200];
    for (what, consumes, rows) in [
        ("nothing", false, &[] as &[NewJob]),
        ("an empty queue", true, &[]),
        ("a queue of rows due in a year", true, &jobs),
    ] {
        JobQueue::new(&store, "idle")?.enqueue(rows).await?;
        let mut scheduler = Scheduler::new(store.clone());
        if consumes {
            let options = ConsumerOptions::new("idle");
            let consumer = Consumer::new(&store, QueueTable::jobs("idle"), options, Never).await?;
            consumer.register(&mut scheduler)?;
        }
        let running = scheduler.start().await?;
        tokio::time::sleep(SETTLED).await;
        let (began, cpu) = (statements.load(Ordering::Relaxed), cpu_ms()?);
        tokio::time::sleep(MINUTE).await;
        let (statements, cpu) = (statements.load(Ordering::Relaxed) - began, cpu_ms()? - cpu);
        println!("{:>44} {statements:>12} {cpu:>8}", format!("{database}, {what}"));
        running.stop(&Shutdown::default()).await;
    }
    Ok(())
}

struct Never;

#[async_trait]
impl Handler for Never {
    type Row = JobRow;

    async fn handle(&self, _: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
        Err("nothing is due".into())
    }
}

/// User and system time of this process.
fn cpu_ms() -> Result<u64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program stands in brackets, and may have spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
    let ticks = |field: usize| -> Result<u64, Failure> {
        Ok(fields.split_whitespace().nth(field).ok_or("too few fields")?.parse()?)
    };
    Ok(10 * (ticks(11)? + ticks(12)?))
}
