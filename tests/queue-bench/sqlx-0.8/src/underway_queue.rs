//! underway with its defaults; its worker listens for notifications and polls once a minute.

use std::any::Any;
use std::sync::Arc;

use probe::{Peer, handled};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};
use underway::{Queue, Task, Worker, task};

const UNFINISHED: &str = "SELECT count(*) FROM underway.task WHERE state::text <> 'succeeded'";

#[derive(Clone)]
pub(crate) struct Underway {
    pool: PgPool,
    queue: Arc<Queue<Noop>>,
}

impl Underway {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(60).connect(database).await?;
        underway::run_migrations(&pool).await?;
        let queue = Queue::builder().name("bench").pool(pool.clone()).build().await?;
        Ok(Self { pool, queue: Arc::new(queue) })
    }
}

impl Peer for Underway {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        if rows == 1 {
            self.queue.enqueue(&self.pool, &Noop, &1).await?;
        } else {
            self.queue.enqueue_multi(&self.pool, &Noop, &vec![1; rows]).await?;
        }
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let mut worker = Worker::new(Arc::clone(&self.queue), Noop);
        worker.set_concurrency_limit(concurrency);
        Ok(Box::new(tokio::spawn(async move { worker.run().await })))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(UNFINISHED).fetch_one(&self.pool).await?;
        Ok(u64::try_from(count)?)
    }
}

#[derive(Clone)]
struct Noop;

impl Task for Noop {
    type Input = u32;
    type Output = ();

    async fn execute(&self, _: Transaction<'_, Postgres>, _: u32) -> task::Result<()> {
        handled();
        Ok(())
    }
}
