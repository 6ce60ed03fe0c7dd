//! apalis-sqlite as its documentation opens it: `setup`, the update hook for wake-ups beside a poll each
//! half second, batches of the worker's concurrency.

use std::any::Any;
use std::time::Duration;

use apalis::prelude::*;
use apalis_sqlite::callback::HookCallbackListener;
use apalis_sqlite::{Config, SqlitePool, SqliteStorage, SqliteTask};
use futures_util::StreamExt as _;
use probe::{Peer, handled};

const QUEUE: &str = "bench";
const UNFINISHED: &str = "SELECT count(*) FROM Jobs WHERE status <> 'Done'";

#[derive(Clone)]
pub(crate) struct Apalis {
    pool: SqlitePool,
    listener: HookCallbackListener,
}

impl Apalis {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        let (pool, listener) = SqliteStorage::connect_with_callback(database)?;
        SqliteStorage::setup(&pool).await?;
        Ok(Self { pool, listener })
    }
}

impl Peer for Apalis {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        let tasks: Vec<SqliteTask> =
            (0..rows).map(|_| TaskBuilder::new(b"1".to_vec()).build()).collect();
        let mut transaction = self.pool.begin().await?;
        apalis_sqlite::queries::push_tasks(&mut *transaction, QUEUE, &tasks).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let config = Config::default().queue(QUEUE).batch_size(concurrency);
        let strategy = Strategy::new()
            .stream(self.listener.clone().ready_chunks(concurrency))
            .interval(Duration::from_millis(500));
        let backend =
            SqliteStorage::<u32>::new(&self.pool).with_config(config).poll_with_strategy(strategy);
        let worker =
            WorkerBuilder::new("bench").backend(backend).concurrency(concurrency).build(noop);
        Ok(Box::new(tokio::spawn(async move { worker.run().await.map_err(|e| e.to_string()) })))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(UNFINISHED).fetch_one(&self.pool).await?;
        Ok(u64::try_from(count)?)
    }
}

async fn noop(_: u32) -> Result<(), BoxDynError> {
    handled();
    Ok(())
}
