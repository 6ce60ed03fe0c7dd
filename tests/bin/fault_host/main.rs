//! A host to be killed: works on the database that it is given until its standard input ends, and
//! books a fenced effect for each run.
//!
//! `fault-host job URL` drives one fast job, `fault-host queue URL` works off the table `parcels`.

use std::io::Read;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueTable,
};
use scheduler_core::{
    Cadence, Clock, FenceError, History, JobContext, JobDefinition, RunSummary, Scheduler,
    Shutdown, Store, StoreError, SystemClock,
};
use sea_orm::{ConnectionTrait, FromQueryResult};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, url] = arguments.as_slice() else {
        anyhow::bail!("usage: fault-host job|queue URL")
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn").init();
    let store = Store::connect(url).await?;
    let mut scheduler = Scheduler::new(store.clone());
    match kind.as_str() {
        "job" => register_job(&mut scheduler, store)?,
        "queue" => register_queue(&mut scheduler, store).await?,
        kind => anyhow::bail!("`{kind}` is neither job nor queue"),
    }
    let running = scheduler.start().await?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    running.stop(&Shutdown::default()).await;
    Ok(())
}

fn register_job(scheduler: &mut Scheduler, store: Store) -> anyhow::Result<()> {
    let definition = JobDefinition {
        lease: Duration::from_millis(900),
        history: History::All,
        ..JobDefinition::new("tick", Cadence::every(Duration::from_millis(200)))
    };
    scheduler.register(definition, move |context: JobContext| {
        let store = store.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            book(&store, &context).await?;
            Ok(RunSummary::new())
        }
    })?;
    Ok(())
}

async fn book(store: &Store, context: &JobContext) -> Result<(), FenceError> {
    let (lease, slot, attempt) =
        (context.lease().clone(), context.scheduled_for_ms(), context.attempt());
    store
        .write("book an effect", |txn| {
            Box::pin(async move {
                let token = lease.key().token;
                let sql = format!("INSERT INTO effects VALUES ({slot}, {attempt}, {token})");
                txn.execute_unprepared(&sql)
                    .await
                    .map_err(|source| StoreError::database("book an effect", source))?;
                lease.fence(txn).await
            })
        })
        .await
}

async fn register_queue(scheduler: &mut Scheduler, store: Store) -> anyhow::Result<()> {
    let table = QueueTable::new("parcels")
        .columns(["user_id", "lease_token"])
        .limit(4)
        .limit_per_key("user_id", 1);
    let options = ConsumerOptions {
        lease: Duration::from_millis(900),
        poll: Duration::from_millis(200),
        ..ConsumerOptions::new("parcels")
    };
    Consumer::new(&store.clone(), table, options, Courier { store }).await?.register(scheduler)?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Parcel {
    id: i64,
    user_id: i64,
    lease_token: i64,
}

struct Courier {
    store: Store,
}

#[async_trait]
impl Handler for Courier {
    type Row = Parcel;

    async fn handle(&self, parcel: Parcel, context: QueueContext) -> Result<Handled, HandleError> {
        let Parcel { id, user_id, lease_token } = parcel;
        let enter = format!("INSERT INTO inside VALUES ({id}, {lease_token}, {user_id})");
        // Whoever else is inside under a living lease should not be.
        let witness = format!(
            "INSERT INTO exceeded SELECT {id}, count(*) FROM inside i JOIN parcels p
             ON p.id = i.id AND p.lease_token = i.lease_token AND p.status = 'running'
             WHERE p.lease_expires_at_ms > {} AND (p.user_id = {user_id} OR p.id = {id})
             HAVING count(*) > 1",
            SystemClock.now_ms()
        );
        self.execute(vec![enter, witness]).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let leave = format!("DELETE FROM inside WHERE id = {id} AND lease_token = {lease_token}");
        let effect = format!("INSERT INTO effects VALUES ({id}, {lease_token})");
        self.store
            .write("deliver", |txn| {
                Box::pin(async move {
                    run(txn, &[leave, effect]).await?;
                    context.fence(txn).await
                })
            })
            .await?;
        Ok(Handled::Done(None))
    }
}

impl Courier {
    async fn execute(&self, statements: Vec<String>) -> Result<(), StoreError> {
        self.store.write("watch", |txn| Box::pin(async move { run(txn, &statements).await })).await
    }
}

async fn run(txn: &impl ConnectionTrait, statements: &[String]) -> Result<(), StoreError> {
    for sql in statements {
        txn.execute_unprepared(sql)
            .await
            .map_err(|source| StoreError::database("book an effect", source))?;
    }
    Ok(())
}
