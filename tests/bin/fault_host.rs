//! A host to be killed: drives one fast job on the database that it is given until its standard
//! input ends, and books a fenced effect for each run.

use std::io::Read;
use std::time::Duration;

use scheduler_core::{
    Cadence, FenceError, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown, Store,
    StoreError,
};
use sea_orm::ConnectionTrait;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("usage: fault-host URL"))?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn").init();
    let store = Store::connect(&url).await?;
    let mut scheduler = Scheduler::new(store.clone());
    let definition = JobDefinition {
        lease: Duration::from_millis(900),
        history: scheduler_core::History::All,
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
    let running = scheduler.start().await?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    running.stop(&Shutdown::default()).await;
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
