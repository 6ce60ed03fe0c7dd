//! apalis-postgres as its documentation opens it: notifications beside a poll, batches of the worker's
//! concurrency.

use std::any::Any;
use std::time::Duration;

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use probe::{Peer, handled};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

const QUEUE: &str = "bench";
const UNFINISHED: &str = "SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'";

#[derive(Clone)]
pub(crate) struct Apalis(PgPool);

impl Apalis {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(20).connect(database).await?;
        PostgresStorage::setup(&pool).await?;
        Ok(Self(pool))
    }
}

impl Peer for Apalis {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        let tasks = (0..rows).map(|_| TaskBuilder::new(b"1".to_vec()).build()).collect();
        let mut connection = self.0.acquire().await?;
        apalis_postgres::queries::push_tasks(&mut *connection, QUEUE, tasks).await?;
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let config = Config::default().queue(QUEUE).batch_size(concurrency);
        let backend = PostgresStorage::<u32>::new(&self.0)
            .with_config(config)
            .with_pubsub()
            .poll_with_interval(Duration::from_millis(500));
        let worker =
            WorkerBuilder::new("bench").backend(backend).concurrency(concurrency).build(noop);
        Ok(Box::new(tokio::spawn(async move { worker.run().await.map_err(|e| e.to_string()) })))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar(UNFINISHED).fetch_one(&self.0).await?;
        Ok(u64::try_from(count)?)
    }
}

async fn noop(_: u32) -> Result<(), BoxDynError> {
    handled();
    Ok(())
}
