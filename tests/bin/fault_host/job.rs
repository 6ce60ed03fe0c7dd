//! One fast job whose runs book a fenced effect each.

use std::time::Duration;

use scheduler_core::{
    Cadence, FenceError, History, JobContext, JobDefinition, JobResult, OnInterrupt, RunSummary,
    Scheduler, Store, StoreError,
};
use sea_orm::ConnectionTrait;

use crate::options::Options;
use crate::script::{Script, say};

pub(crate) fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &Options,
    script: Script,
) -> anyhow::Result<()> {
    let definition = JobDefinition {
        lease: options.lease,
        history: History::All,
        on_interrupt: OnInterrupt::Rerun { max: options.reruns },
        ..JobDefinition::new("tick", Cadence::every(options.interval))
    };
    let (store, work, obeys) = (store.clone(), options.work, options.obeys);
    scheduler.register(definition, move |context: JobContext| {
        let (store, script) = (store.clone(), script.clone());
        async move { run(&store, &script, &context, work, obeys).await }
    })?;
    Ok(())
}

async fn run(
    store: &Store,
    script: &Script,
    context: &JobContext,
    work: Duration,
    obeys: bool,
) -> JobResult {
    let (slot, attempt) = (context.scheduled_for_ms(), context.attempt());
    let token = context.lease().key().token;
    let held = script.hold(&format!("{slot} {attempt} {token}")).await;
    if !held {
        tokio::select! {
            () = tokio::time::sleep(work) => {}
            () = context.cancelled(), if obeys => return Err("told to return".into()),
        }
    }
    let booked = book(store, context).await;
    if held {
        say(if booked.is_ok() { "booked" } else { "refused" });
    }
    booked?;
    Ok(RunSummary::new())
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
