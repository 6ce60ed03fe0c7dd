//! A consumer of `parcels` whose deliveries book a fenced effect each, and note who else is inside.

use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueTable,
};
use scheduler_core::{Clock, FenceError, Scheduler, Store, StoreError, SystemClock};
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::options::Options;
use crate::script::{Script, say};

/// Rows that run at once, over all hosts.
const IN_ALL: u32 = 4;
/// Of them, rows of one user.
const PER_USER: u32 = 1;

pub(crate) async fn register(
    scheduler: &mut Scheduler,
    store: &Store,
    options: &Options,
    script: Script,
) -> anyhow::Result<()> {
    let table = QueueTable::new("parcels")
        .columns(["user_id", "lease_token", "started_at_ms"])
        .crash_limit(options.reruns.saturating_add(2))
        .limit(IN_ALL)
        .limit_per_key("user_id", PER_USER);
    let consumer = ConsumerOptions {
        lease: options.lease,
        poll: options.interval,
        ..ConsumerOptions::new("parcels")
    };
    let courier =
        Courier { store: store.clone(), script, work: options.work, obeys: options.obeys };
    Consumer::new(store, table, consumer, courier).await?.register(scheduler)?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Parcel {
    id: i64,
    user_id: i64,
    lease_token: i64,
    started_at_ms: i64,
}

struct Courier {
    store: Store,
    script: Script,
    work: Duration,
    obeys: bool,
}

#[async_trait]
impl Handler for Courier {
    type Row = Parcel;

    async fn handle(&self, parcel: Parcel, context: QueueContext) -> Result<Handled, HandleError> {
        self.enter(&parcel).await?;
        let Parcel { id, lease_token, .. } = parcel;
        let inside = format!("{id} {} {lease_token}", context.attempt());
        let held = self.script.hold(&inside).await;
        if !held {
            tokio::select! {
                () = tokio::time::sleep(self.work) => {}
                () = context.cancelled(), if self.obeys => {
                    return Err("told to return".into());
                }
            }
        }
        let booked = self.deliver(&parcel, context).await;
        if held {
            say(if booked.is_ok() { "booked" } else { "refused" });
        }
        booked?;
        Ok(Handled::Done(None))
    }
}

impl Courier {
    /// Whoever else is inside under a living lease should not be.
    async fn enter(&self, parcel: &Parcel) -> Result<(), StoreError> {
        let Parcel { id, user_id, lease_token, started_at_ms } = parcel;
        let enter = format!("INSERT INTO inside VALUES ({id}, {lease_token}, {user_id})");
        let start = format!("INSERT INTO starts VALUES ({id}, {lease_token}, {started_at_ms})");
        self.note([enter, start]).await?;
        // Only now: of two that enter at once, neither sees the other before it has committed.
        let inside = format!(
            "FROM inside i JOIN parcels p
             ON p.id = i.id AND p.lease_token = i.lease_token AND p.status = 'running'
             WHERE p.lease_expires_at_ms > {}",
            SystemClock.now_ms()
        );
        let of_user = format!(
            "INSERT INTO exceeded SELECT {id}, count(*) {inside}
             AND (p.user_id = {user_id} OR p.id = {id}) HAVING count(*) > {PER_USER}"
        );
        let of_all = format!(
            "INSERT INTO exceeded SELECT {id}, count(*) {inside} HAVING count(*) > {IN_ALL}"
        );
        self.note([of_user, of_all]).await
    }

    async fn note(&self, statements: [String; 2]) -> Result<(), StoreError> {
        self.store.write("watch", |txn| Box::pin(async move { run(txn, &statements).await })).await
    }

    async fn deliver(&self, parcel: &Parcel, context: QueueContext) -> Result<(), FenceError> {
        let Parcel { id, lease_token, .. } = parcel;
        let leave = format!("DELETE FROM inside WHERE id = {id} AND lease_token = {lease_token}");
        let effect = format!("INSERT INTO effects VALUES ({id}, {lease_token})");
        self.store
            .write("deliver", |txn| {
                Box::pin(async move {
                    run(txn, &[leave, effect]).await?;
                    context.fence(txn).await
                })
            })
            .await
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
