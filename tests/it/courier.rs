//! A queue over a table of one's own, and a handler whose rows say what is to happen to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueTable, QueueWaker,
};
use scheduler_core::{
    FenceError, RunReport, RunningScheduler, Scheduler, Shutdown, Store, StoreError,
};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use serde_json::json;
use tokio::sync::Notify;

use crate::harness::Database;

const PARCELS: &str = "
CREATE TABLE parcels (
  id INTEGER PRIMARY KEY, user_id BIGINT, label TEXT,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT, concurrency_slot INTEGER, queue_slot INTEGER,
  unique_key TEXT, unique_while TEXT, unique_until_ms BIGINT, duplicate_count INTEGER NOT NULL DEFAULT 0);
CREATE INDEX parcels_ready ON parcels (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX parcels_suspect ON parcels (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX parcels_leases ON parcels (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_unique ON parcels (unique_key) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX parcels_user ON parcels (user_id, concurrency_slot) WHERE status = 'running' AND concurrency_slot IS NOT NULL;
CREATE UNIQUE INDEX parcels_slot ON parcels (queue_slot) WHERE status = 'running' AND queue_slot IS NOT NULL;
";

/// What a test compares.
pub(crate) const ROWS: &str =
    "SELECT label, status, attempt_count, crash_count, last_error FROM parcels ORDER BY id";

pub(crate) fn table() -> QueueTable {
    QueueTable::new("parcels").columns(["user_id", "label"])
}

pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions::new("parcels")
}

#[derive(Debug, FromQueryResult)]
pub(crate) struct Parcel {
    id: i64,
    user_id: Option<i64>,
    label: String,
}

/// What a parcel's label says is what happens to it.
#[derive(Default)]
pub(crate) struct Courier {
    store: Option<Store>,
    pub(crate) gate: Notify,
    order: Mutex<Vec<i64>>,
    pub(crate) inside: Mutex<HashMap<Option<i64>, u32>>,
    pub(crate) most_inside: AtomicU32,
    pub(crate) most_of_a_user: AtomicU32,
    pub(crate) fence_refused: AtomicU32,
}

#[derive(Clone)]
pub(crate) struct Delivery(pub(crate) Arc<Courier>);

#[async_trait]
impl Handler for Delivery {
    type Row = Parcel;

    async fn handle(&self, parcel: Parcel, context: QueueContext) -> Result<Handled, HandleError> {
        let courier = &self.0;
        courier.order.lock().expect("order").push(parcel.id);
        courier.enter(parcel.user_id);
        let handled = self.deliver(&parcel, &context).await;
        courier.leave(parcel.user_id);
        handled
    }
}

impl Delivery {
    async fn deliver(
        &self,
        parcel: &Parcel,
        context: &QueueContext,
    ) -> Result<Handled, HandleError> {
        match parcel.label.as_str() {
            "fails" => Err(anyhow::anyhow!("nobody at home").into()),
            "permanent" => Err(HandleError::permanent("no such street")),
            "panics" => panic!("the van broke down"),
            "snoozes" if context.attempt() == 1 && !self.seen_before(parcel.id) => {
                Ok(Handled::Snooze(Duration::from_secs(30)))
            }
            "hibernates" => Ok(Handled::Snooze(Duration::MAX)),
            "not before never" => Err(HandleError::retry_after("no", Duration::MAX)),
            "waits" => {
                context.progress(40);
                tokio::select! {
                    () = self.0.gate.notified() => Ok(Handled::with_result(json!({"by": context.attempt()}))),
                    () = context.cancelled() => Err("told to return".into()),
                }
            }
            "deaf" => {
                self.0.gate.notified().await;
                Ok(Handled::with_result(json!({"by": context.attempt()})))
            }
            "fenced" => {
                let store = self.0.store.clone().expect("a store");
                if context.attempt() == 1 {
                    self.0.gate.notified().await;
                }
                let (context, attempt) = (context.clone(), context.attempt());
                let booked = store
                    .write("book", |txn| {
                        Box::pin(async move {
                            txn.execute_unprepared(&format!(
                                "INSERT INTO effects VALUES ({attempt})"
                            ))
                            .await
                            .map_err(|source| StoreError::database("book", source))?;
                            context.fence(txn).await
                        })
                    })
                    .await;
                if let Err(FenceError::Lost { .. }) = booked {
                    self.0.fence_refused.fetch_add(1, Ordering::SeqCst);
                }
                booked?;
                Ok(Handled::Done(None))
            }
            _ => {
                tokio::task::yield_now().await;
                Ok(Handled::with_result(json!({"delivered": parcel.id})))
            }
        }
    }

    fn seen_before(&self, id: i64) -> bool {
        self.0.order.lock().expect("order").iter().filter(|seen| **seen == id).count() > 1
    }
}

impl Courier {
    /// One that can run fenced rows.
    pub(crate) fn booking_in(store: &Store) -> Self {
        Self { store: Some(store.clone()), ..Self::default() }
    }

    fn enter(&self, user: Option<i64>) {
        let mut inside = self.inside.lock().expect("inside");
        let of_user = inside.entry(user).or_default();
        *of_user += 1;
        self.most_of_a_user.fetch_max(*of_user, Ordering::SeqCst);
        self.most_inside.fetch_max(inside.values().sum(), Ordering::SeqCst);
    }

    fn leave(&self, user: Option<i64>) {
        *self.inside.lock().expect("inside").entry(user).or_default() -= 1;
    }

    pub(crate) fn order(&self) -> Vec<i64> {
        self.order.lock().expect("order").clone()
    }
}

/// The database with the queue's table.
pub(crate) async fn with_parcels(database: Database) -> Database {
    create_parcels(&database).await;
    database
}

pub(crate) async fn create_parcels(database: &Database) {
    // Integer keys are written differently; everything else is one text.
    let key = match database.backend() {
        DbBackend::Postgres => "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        _ => "INTEGER PRIMARY KEY",
    };
    database.execute(&PARCELS.replace("INTEGER PRIMARY KEY", key)).await;
}

pub(crate) async fn enqueue(database: &Database, label: &str) {
    database.execute(&format!("INSERT INTO parcels (label) VALUES ('{label}')")).await;
}

pub(crate) async fn scheduler(
    store: &Store,
    table: QueueTable,
    options: ConsumerOptions,
    courier: &Arc<Courier>,
) -> (Scheduler, QueueWaker) {
    let mut scheduler = Scheduler::new(store.clone());
    let consumer = Consumer::new(store, table, options, Delivery(Arc::clone(courier))).await;
    let waker = consumer.expect("a consumer").register(&mut scheduler).expect("registered");
    (scheduler, waker)
}

pub(crate) async fn start(database: &Database, courier: &Arc<Courier>) -> RunningScheduler {
    let (scheduler, _) = scheduler(&database.store, table(), options(), courier).await;
    scheduler.start().await.expect("started")
}

pub(crate) async fn drain(database: &Database, courier: &Arc<Courier>) -> RunReport {
    let (scheduler, _) = scheduler(&database.store, table(), options(), courier).await;
    scheduler.run_once("parcels", Duration::ZERO, &Shutdown::default()).await.expect("drained")
}
