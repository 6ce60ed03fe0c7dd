//! A server that accepts and does not answer: its processes are frozen. Runs lose their leases in
//! time, nothing hangs, and all goes on when it comes back. And a host that goes silent inside of a
//! transaction: what it locked is free again as soon as the server ends its session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueTable,
};
use scheduler_core::store::{HeartbeatStore, ScheduleStore};
use scheduler_core::{
    Cadence, JobContext, JobDefinition, PostgresOptions, RunSummary, Scheduler, Shutdown, Store,
    StoreError, SystemClock,
};
use sea_orm::{ConnectionTrait, FromQueryResult, TransactionTrait};
use tokio::sync::mpsc;

use crate::postgres::new_database;
use crate::postgres::server::{PrivateServer, Programs};

const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_millis(900);

const PARCELS: &str = "
CREATE TABLE parcels (
  id BIGINT PRIMARY KEY,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT);
INSERT INTO parcels (id) VALUES (1)";

#[derive(FromQueryResult)]
struct Parcel {
    id: i64,
}

/// Carries until it is told to stop.
struct Courier {
    began: mpsc::UnboundedSender<i64>,
    told: mpsc::UnboundedSender<Instant>,
}

#[async_trait]
impl Handler for Courier {
    type Row = Parcel;

    async fn handle(&self, parcel: Parcel, context: QueueContext) -> Result<Handled, HandleError> {
        self.began.send(parcel.id).expect("the test listens");
        context.cancelled().await;
        self.told.send(Instant::now()).expect("the test listens");
        Ok(Handled::Done(None))
    }
}

/// Waits for a message.
async fn next<T>(what: &str, messages: &mut mpsc::UnboundedReceiver<T>) -> T {
    let message = tokio::time::timeout(PATIENCE, messages.recv()).await;
    message.unwrap_or_else(|_| panic!("waited in vain for {what}")).expect("a message")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_silent_costs_leases_and_hangs_nobody() {
    let Some(programs) = Programs::find() else { return };
    let server = PrivateServer::new(programs, &["fsync=off"]);
    server.answers().await;
    let options = PostgresOptions {
        acquire_timeout: Duration::from_secs(4),
        connections: 4,
        ..PostgresOptions::default()
    };
    let url = server.url("postgres");
    let store = Store::postgres_with(&url, options, Arc::new(SystemClock)).await.expect("opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");

    let (began, mut begins) = mpsc::unbounded_channel();
    let (told, mut tells) = mpsc::unbounded_channel();
    let mut scheduler = Scheduler::new(store.clone());
    let definition = JobDefinition {
        lease: LEASE,
        ..JobDefinition::new("long", Cadence::every(Duration::from_millis(200)))
    };
    let job = move |context: JobContext| {
        let (began, told) = (began.clone(), told.clone());
        async move {
            began.send(()).expect("the test listens");
            context.cancelled().await;
            told.send(Instant::now()).expect("the test listens");
            Ok(RunSummary::new())
        }
    };
    scheduler.register(definition, job).expect("registered");
    store.reader().execute_unprepared(PARCELS).await.expect("a table");
    let (began, mut claims) = mpsc::unbounded_channel();
    let (told, mut row_tells) = mpsc::unbounded_channel();
    let options = ConsumerOptions { lease: LEASE, ..ConsumerOptions::new("parcels") };
    let table = QueueTable::new("parcels").columns(["id"]);
    let consumer = Consumer::new(&store, table, options, Courier { began, told }).await;
    consumer.expect("a consumer").register(&mut scheduler).expect("registered");
    let running = scheduler.start().await.expect("started");
    next("a run", &mut begins).await;
    next("a claim", &mut claims).await;

    server.freeze();
    let frozen = Instant::now();
    // What runs is told when its lease ends, not when the socket breaks: nothing breaks it.
    for tells in [&mut tells, &mut row_tells] {
        let told_at = next("the run to be told", tells).await;
        let waited = told_at.duration_since(frozen);
        assert!(waited < PATIENCE / 2, "told after {waited:?}");
    }
    // More callers than connections: each gets its answer.
    let asked = Instant::now();
    let jobs = ["long".to_owned()];
    let questions = (0..12).map(|_| async {
        let error = store.look(&jobs).await.expect_err("it is silent");
        assert!(error.is_transient(), "{error}");
    });
    futures_util::future::join_all(questions).await;
    let write = store.write("book", |_| Box::pin(async { Ok::<_, StoreError>(()) })).await;
    assert!(write.expect_err("it is silent").is_transient());
    assert!(store.health().await.expect_err("it is silent").is_transient());
    assert!(asked.elapsed() < 2 * PATIENCE, "answered after {:?}", asked.elapsed());
    // The driver goes on looking.
    let looked = running.last_signs_of_life_ms().1;
    while running.last_signs_of_life_ms().1 == looked {
        assert!(frozen.elapsed() < 4 * PATIENCE, "the driver hangs");
        tokio::task::yield_now().await;
    }

    server.thaw();
    next("the next run", &mut begins).await;
    next("the next claim", &mut claims).await;
    assert!(store.health().await.is_ok());
    tokio::time::timeout(PATIENCE, running.stop(&Shutdown::new(Duration::ZERO)))
        .await
        .expect("it stops");
}

/// As the runbook advises.
const LIMIT: &str = "DO $$ BEGIN EXECUTE format(
    'ALTER DATABASE %I SET idle_in_transaction_session_timeout = 1000', current_database()); END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_frozen_inside_of_a_transaction_keeps_others_out_as_long_as_the_server_lets_it()
 {
    let Some(url) = new_database().await else { return };
    let store = Store::connect(&url).await.expect("opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    store.reader().execute_unprepared(LIMIT).await.expect("set");
    start(&store).await;

    // Connections that are made from now on have the limit.
    let frozen = Store::connect(&url).await.expect("opens");
    let transaction = frozen.reader().begin().await.expect("begun");
    let row = "UPDATE schedules SET paused = paused";
    transaction.execute_unprepared(row).await.expect("locked");
    start(&store).await;
    transaction.commit().await.expect_err("the server has ended it");
}

/// Starts a host with one job, whose row it locks for that, and stops it.
async fn start(store: &Store) {
    let mut scheduler = Scheduler::new(store.clone());
    let definition = JobDefinition::new("long", Cadence::every(Duration::from_secs(3_600)));
    let job = |_: JobContext| async { Ok(RunSummary::new()) };
    scheduler.register(definition, job).expect("registered");
    let running = scheduler.start().await.expect("started");
    running.stop(&Shutdown::new(Duration::ZERO)).await;
}
