//! fang with its defaults: finished tasks are removed, and a worker that finds none sleeps for five
//! seconds and more.

use std::any::Any;

use fang::asynk::async_queue::{AsyncQueue, AsyncQueueable as _};
use fang::asynk::async_worker_pool::AsyncWorkerPool;
use fang::{AsyncRunnable, FangError};
use probe::{Peer, handled};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// As fang's migrations make it.
const TABLE: &str = r#"
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE TYPE fang_task_state AS ENUM ('new', 'in_progress', 'failed', 'finished', 'retried');
CREATE TABLE fang_tasks (
  id uuid PRIMARY KEY DEFAULT uuid_generate_v4(), metadata jsonb NOT NULL, error_message TEXT,
  state fang_task_state DEFAULT 'new' NOT NULL, task_type TEXT DEFAULT 'common' NOT NULL, uniq_hash TEXT,
  retries INTEGER DEFAULT 0 NOT NULL, scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
  created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
  updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW());
CREATE INDEX fang_tasks_state_index ON fang_tasks(state);
CREATE INDEX fang_tasks_type_index ON fang_tasks(task_type);
CREATE INDEX fang_tasks_scheduled_at_index ON fang_tasks(scheduled_at);
CREATE INDEX fang_tasks_uniq_hash ON fang_tasks(uniq_hash);
"#;
const UNFINISHED: &str = "SELECT count(*) FROM fang_tasks";

#[derive(Clone)]
pub(crate) struct Fang {
    queue: AsyncQueue,
    pool: PgPool,
}

impl Fang {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        let pool = PgPool::connect(database).await?;
        sqlx::raw_sql(TABLE).execute(&pool).await?;
        let mut queue = AsyncQueue::builder().uri(database).max_pool_size(20_u32).build();
        queue.connect().await?;
        Ok(Self { queue, pool })
    }
}

impl Peer for Fang {
    const HAS_BULK: bool = false;

    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        anyhow::ensure!(rows == 1, "fang enqueues one task a call");
        self.queue.insert_task(&Noop { number: 1 }).await?;
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let mut workers = AsyncWorkerPool::<AsyncQueue>::builder()
            .number_of_workers(u32::try_from(concurrency)?)
            .queue(self.queue.clone())
            .build();
        workers.start().await;
        Ok(Box::new(workers))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(UNFINISHED).fetch_one(&self.pool).await?;
        Ok(u64::try_from(count)?)
    }
}

#[derive(Serialize, Deserialize)]
struct Noop {
    number: u32,
}

#[typetag::serde]
#[fang::async_trait]
impl AsyncRunnable for Noop {
    async fn run(&self, _: &dyn fang::asynk::async_queue::AsyncQueueable) -> Result<(), FangError> {
        handled();
        Ok(())
    }
}
