//! scheduler-core with its defaults: `synchronous=FULL` on SQLite, leases, history and retries on both.

use std::any::Any;

use anyhow::Context as _;
use async_trait::async_trait;
use probe::{Peer, handled};
use scheduler_core::migration::{List, SchedulerMigrator, up};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, JobQueue, JobRow, NewJob,
    QueueContext, QueueTable,
};
use scheduler_core::{Scheduler, Store};
use sea_orm::{ConnectionTrait as _, Statement};

const QUEUE: &str = "bench";
const UNFINISHED: &str = "SELECT count(*) AS n FROM jobs WHERE status <> 'succeeded'";

#[derive(Clone)]
pub(crate) struct Own {
    store: Store,
    queue: JobQueue,
    job: NewJob,
}

impl Own {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        let store = Store::connect(database).await?;
        up(store.reader(), &[List::of::<SchedulerMigrator>()]).await?;
        let queue = JobQueue::new(&store, QUEUE)?;
        Ok(Self { store, queue, job: NewJob::new("noop", &1)? })
    }
}

impl Peer for Own {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        if rows == 1 {
            self.queue.enqueue(std::slice::from_ref(&self.job)).await?;
        } else {
            self.queue.enqueue(&vec![self.job.clone(); rows]).await?;
        }
        Ok(())
    }

    async fn start(&self, concurrency: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let mut scheduler = Scheduler::new(self.store.clone());
        let concurrency = u32::try_from(concurrency)?;
        let options = ConsumerOptions { concurrency, ..ConsumerOptions::new(QUEUE) };
        let table = QueueTable::jobs(QUEUE).kind("noop", 1);
        Consumer::new(&self.store, table, options, Noop).await?.register(&mut scheduler)?;
        Ok(Box::new(scheduler.start().await?))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let reader = self.store.reader();
        let count = Statement::from_string(reader.get_database_backend(), UNFINISHED);
        let row = reader.query_one_raw(count).await?.context("a count")?;
        Ok(u64::try_from(row.try_get::<i64>("", "n")?)?)
    }
}

#[derive(Clone)]
struct Noop;

#[async_trait]
impl Handler for Noop {
    type Row = JobRow;

    async fn handle(&self, _: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
        handled();
        Ok(Handled::Done(None))
    }
}
