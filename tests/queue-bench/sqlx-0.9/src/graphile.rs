//! graphile_worker with its local queue and batched completions, as its documentation advises for
//! throughput.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use probe::{Peer, handled};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// A finished job is no more.
const UNFINISHED: &str = "SELECT count(*) FROM graphile_worker._private_jobs";

#[derive(Clone)]
pub(crate) struct Graphile {
    pool: PgPool,
    utils: Arc<WorkerUtils>,
}

impl Graphile {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(20).connect(database).await?;
        let worker = options(&pool, 1).init().await?;
        Ok(Self { utils: Arc::new(worker.create_utils()), pool })
    }
}

fn options(pool: &PgPool, concurrency: usize) -> WorkerOptions {
    WorkerOptions::default()
        .concurrency(concurrency)
        .listen_os_shutdown_signals(false)
        .define_job::<Noop>()
        .pg_pool(pool.clone())
        .local_queue(LocalQueueConfig::default().with_size(500))
        .complete_job_batch_delay(Duration::from_millis(5))
}

impl Peer for Graphile {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        let spec = JobSpec::default();
        if rows == 1 {
            self.utils.add_job(Noop { number: 1 }, spec).await?;
        } else {
            let jobs: Vec<_> = (0..rows).map(|_| (Noop { number: 1 }, &spec)).collect();
            self.utils.add_jobs::<Noop>(&jobs).await?;
        }
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let worker = options(&self.pool, concurrency).init().await?;
        Ok(Box::new(tokio::spawn(async move { worker.run().await.map_err(|e| e.to_string()) })))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(UNFINISHED).fetch_one(&self.pool).await?;
        Ok(u64::try_from(count)?)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Noop {
    number: u32,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        handled();
        Ok::<(), String>(())
    }
}
