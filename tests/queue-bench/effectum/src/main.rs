//! effectum on a file that is in WAL mode before it is opened: what effectum runs to have it so is no
//! pragma of SQLite's, and its journal would be one of rollback. It commits with `synchronous=NORMAL`.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use effectum::{Job, JobRunner, Queue, RunningJob, Worker};
use probe::{Figure, Peer, Request, answer, handled, measure};
use rusqlite::Connection;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    answer(figure(&Request::parse()).await)
}

async fn figure(request: &Request) -> anyhow::Result<Figure> {
    measure(&Effectum::open(&request.database).await?, request).await
}

#[derive(Clone)]
struct Effectum {
    file: PathBuf,
    queue: Arc<Queue>,
}

impl Effectum {
    async fn open(database: &str) -> anyhow::Result<Self> {
        let file = database.strip_prefix("sqlite://").context("an address of SQLite")?;
        let file = PathBuf::from(file.split('?').next().unwrap_or(file));
        let wal = Connection::open(&file)?;
        wal.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        drop(wal);
        let queue = Queue::new(&file).await.map_err(failed)?;
        Ok(Self { file, queue: Arc::new(queue) })
    }
}

fn failed(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow::anyhow!("effectum: {error:?}")
}

fn job() -> Job {
    Job::builder("noop").payload(b"1".to_vec()).build()
}

impl Peer for Effectum {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        if rows == 1 {
            self.queue.add_job(job()).await.map_err(failed)?;
        } else {
            self.queue.add_jobs((0..rows).map(|_| job()).collect()).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let noop = JobRunner::builder("noop", noop).build();
        let worker = Worker::builder(&self.queue, ())
            .max_concurrency(u16::try_from(concurrency)?)
            .jobs([noop])
            .build()
            .await
            .map_err(failed)?;
        Ok(Box::new(worker))
    }

    /// A finished job is no longer active.
    async fn unfinished(&self) -> anyhow::Result<u64> {
        let connection = Connection::open(&self.file)?;
        let count: i64 =
            connection.query_row("SELECT count(*) FROM active_jobs", [], |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }
}

async fn noop(_: RunningJob, (): ()) -> Result<(), String> {
    handled();
    Ok(())
}
