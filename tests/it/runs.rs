//! How a run ends: well, badly, too late, cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{
    Cadence, FenceError, HealthStatus, JobContext, JobDefinition, RecordTxn, Recorder, RunFinished,
    RunOnceError, RunStarted, RunStatus, RunSummary, Shutdown, StartPolicy, StoreError, Trigger,
    WorkerStatus,
};
use sea_orm::ConnectionTrait;
use tokio::sync::{Barrier, Notify};

use crate::harness::{Database, NOON, at_once, wait_for};
use crate::scheduler::{ENDED, MINUTE, RUNNING, RUNS, counting, minutely};

async fn an_error_and_a_panic_are_recorded_and_the_next_slot_runs(database: Database) {
    let mut scheduler = database.scheduler();
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    scheduler
        .register(minutely("shaky"), move |_: JobContext| {
            let run = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => Err(anyhow::anyhow!("connection refused").context("loading marks").into()),
                    1 => panic!("index out of bounds"),
                    _ => Ok(RunSummary::new()),
                }
            }
        })
        .expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(ENDED, 1_i64).await;
    let health = database.store.health().await.expect("health");
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(health.workers[0].last_error.as_deref(), Some("loading marks: connection refused"));
    database.clock.advance(MINUTE);
    database.until(ENDED, 2_i64).await;
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].consecutive_errors, 2);
    assert_eq!(health.workers[0].last_error.as_deref(), Some("panicked: index out of bounds"));
    database.clock.advance(MINUTE);
    database.until(ENDED, 3_i64).await;
    // The driver says that it is alive when it has begun what is due: a run may end before that.
    database.until("SELECT max(seen_at_ms) - 1795435200000 FROM instances", 120_000_i64).await;
    let health = database.store.health().await.expect("health");
    assert_eq!(health.status, HealthStatus::Ok);
    let worker = &health.workers[0];
    assert_eq!((worker.consecutive_errors, worker.total_errors, worker.total_runs), (0, 2, 3));
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines("SELECT status, error FROM job_runs ORDER BY scheduled_for_ms").await,
        [
            "failed|loading marks: connection refused",
            "failed|panicked: index out of bounds",
            "succeeded|-"
        ]
    );
}

async fn a_run_is_cut_off_at_its_deadline(database: Database) {
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { timeout: Some(Duration::from_secs(20)), ..minutely("slow") };
    scheduler
        .register(definition, |context: JobContext| async move {
            context.cancelled().await;
            Err("gave up".into())
        })
        .expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    database.clock.advance(Duration::from_secs(10));
    database.clock.advance(Duration::from_secs(10));
    database.until(ENDED, 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines("SELECT status, error FROM job_runs").await,
        ["timed_out|cut off at its deadline: gave up"]
    );
    let errors: i64 = database.value("SELECT total_errors FROM worker_heartbeats").await;
    assert_eq!(errors, 1);
}

async fn a_host_that_was_frozen_past_its_lease_writes_nothing_and_the_slot_runs_again(
    database: Database,
) {
    database.execute("CREATE TABLE effects (attempt INTEGER NOT NULL)").await;
    let mut scheduler = database.scheduler();
    let store = database.store.clone();
    let thaw = Arc::new(Notify::new());
    let frozen = Arc::clone(&thaw);
    let fenced = Arc::new(AtomicU32::new(0));
    let refused = Arc::clone(&fenced);
    scheduler
        .register(minutely("book"), move |context: JobContext| {
            let (store, frozen, refused) =
                (store.clone(), Arc::clone(&frozen), Arc::clone(&refused));
            async move {
                if context.attempt() == 1 {
                    frozen.notified().await;
                }
                let (lease, attempt) = (context.lease().clone(), context.attempt());
                let booked = store
                    .write("book", |txn| {
                        Box::pin(async move {
                            txn.execute_unprepared(&format!(
                                "INSERT INTO effects VALUES ({attempt})"
                            ))
                            .await
                            .map_err(|source| StoreError::database("book", source))?;
                            lease.fence(txn).await
                        })
                    })
                    .await;
                if let Err(FenceError::Lost { .. }) = booked {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                booked?;
                Ok(RunSummary::new())
            }
        })
        .expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    // One step over the whole lease: nobody could renew it.
    database.clock.advance(Duration::from_secs(31));
    thaw.notify_one();
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 1_i64).await;
    wait_for("the fence to refuse the frozen host", || fenced.load(Ordering::SeqCst) <= 1).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(RUNS).await, ["start|0|1|lease_lost|-", "rerun|0|2|succeeded|-"]);
    assert_eq!(database.lines("SELECT attempt FROM effects").await, ["2"]);
    let tokens: i64 = database.value("SELECT token FROM leases").await;
    assert_eq!(tokens, 2);
    let errors: i64 = database.value("SELECT total_errors FROM worker_heartbeats").await;
    assert_eq!(errors, 1, "a lost lease is an error");
}

async fn a_crashed_run_is_closed_and_its_slot_runs_again_once(database: Database) {
    // What a killed process leaves: a running row whose lease is about to expire, twice.
    let crashed = |attempt: i32| {
        format!(
            "INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, attempt, status, started_at_ms, instance_id, token)
             VALUES ('{}', 'mark', 'schedule', {NOON}, {attempt}, 'running', {NOON}, '{}', {attempt})",
            scheduler_core::RunId::new(),
            scheduler_core::InstanceId::new(),
        )
    };
    database.execute(&crashed(1)).await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { start: StartPolicy::NextSlot, ..minutely("mark") };
    scheduler.register(definition.clone(), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(RUNS).await, ["schedule|0|1|lease_lost|-", "rerun|0|2|succeeded|-"]);

    // The rerun crashes too: the slot is left alone.
    database.execute("DELETE FROM job_runs").await;
    database.execute(&crashed(2)).await;
    let mut scheduler = database.scheduler();
    scheduler.register(definition, counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM job_runs WHERE status = 'lease_lost'", 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(RUNS).await, ["schedule|0|2|lease_lost|-"]);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

async fn a_slot_that_was_cut_off_waits_while_a_newer_run_has_the_lease(database: Database) {
    // A run of this slot was cut off, and a newer run took the lease before anybody saw it.
    let slot = NOON - 60_000;
    database
        .execute(&format!(
            "INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, attempt, status, started_at_ms, instance_id, token)
             VALUES ('{}', 'mark', 'schedule', {slot}, 1, 'running', {slot}, '{}', 1)",
            scheduler_core::RunId::new(),
            scheduler_core::InstanceId::new(),
        ))
        .await;
    let expiry = NOON + 20_000;
    database
        .execute(&format!(
            "INSERT INTO leases VALUES ('mark', 'newer', 2, {NOON}, {expiry}, FALSE)"
        ))
        .await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { start: StartPolicy::NextSlot, ..minutely("mark") };
    scheduler.register(definition, counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT coalesce(max(buffered_for_ms), 0) FROM schedules", slot).await;
    let closed = database.lines(RUNS).await;
    database.clock.advance(Duration::from_secs(20));
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(closed, ["schedule|-60000|1|lease_lost|-"]);
    assert_eq!(
        database.lines(RUNS).await,
        ["schedule|-60000|1|lease_lost|-", "rerun|-60000|2|succeeded|-"]
    );
}

async fn run_once_takes_the_same_path_and_moves_no_schedule(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let report =
        scheduler.run_once("mark", Duration::ZERO, &Shutdown::default()).await.expect("ran");
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(report.summary.map(|summary| summary.to_string()).as_deref(), Some(r#"{"n":1}"#));
    assert_eq!(database.lines(RUNS).await, ["manual|0|1|succeeded|-"]);
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
    let schedules: i64 = database.value("SELECT count(*) FROM schedules").await;
    assert_eq!(schedules, 0);
    let released: String = database.value("SELECT holder FROM leases").await;
    assert_eq!(released, "");
    let unknown = scheduler.run_once("marc", Duration::ZERO, &Shutdown::default()).await;
    let message = unknown.expect_err("no such job").to_string();
    assert_eq!(message, "no job `marc` is registered; there are: mark");
}

async fn run_once_beside_a_run_is_busy_and_names_the_holder(database: Database) {
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let job = move |_: JobContext| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            Ok(RunSummary::new())
        }
    };
    let mut holder = database.scheduler();
    holder.register(minutely("slow"), job.clone()).expect("registered");
    let holder_id = holder.instance_id().to_string();
    let running = holder.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;

    let mut second = scheduler_core::Scheduler::new(database.another_store().await);
    second.register(minutely("slow"), job).expect("registered");
    match second.run_once("slow", Duration::ZERO, &Shutdown::default()).await {
        Err(RunOnceError::Busy { holder, until_ms }) => {
            assert_eq!((holder, until_ms), (holder_id, NOON + 30_000));
        }
        other => panic!("expected busy, got {other:?}"),
    }
    let rows: i64 = database.value("SELECT count(*) FROM job_runs").await;
    assert_eq!(rows, 1, "being refused leaves no trace");

    release.notify_one();
    database.until(RUNNING, 0_i64).await;
    release.notify_one();
    let report = second.run_once("slow", Duration::ZERO, &Shutdown::default()).await.expect("ran");
    assert_eq!(report.status, RunStatus::Succeeded);
    running.stop(&at_once()).await;
}

async fn run_once_waits_as_long_as_it_is_told(database: Database) {
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let job = move |context: JobContext| {
        let held = Arc::clone(&held);
        async move {
            if context.trigger() != Trigger::Manual {
                held.notified().await;
            }
            Ok(RunSummary::new())
        }
    };
    let slow = JobDefinition { lease: Duration::from_secs(3_600), ..minutely("slow") };
    let mut holder = database.scheduler();
    holder.register(slow.clone(), job.clone()).expect("registered");
    let running = holder.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    let mut second = scheduler_core::Scheduler::new(database.another_store().await);
    second.register(slow, job).expect("registered");
    let until_over = async |wait| {
        let shutdown = Shutdown::default();
        let mut run = std::pin::pin!(second.run_once("slow", wait, &shutdown));
        loop {
            let tick = tokio::time::timeout(Duration::from_millis(20), &mut run).await;
            match tick {
                Ok(over) => return over,
                Err(_) => database.clock.advance(Duration::from_millis(500)),
            }
        }
    };
    let busy = until_over(Duration::from_secs(3)).await;
    assert!(matches!(busy, Err(RunOnceError::Busy { .. })), "{busy:?}");
    let over = tokio::join!(until_over(Duration::from_secs(30)), async {
        release.notify_one();
    });
    assert_eq!(over.0.expect("ran").status, RunStatus::Succeeded);
    running.stop(&at_once()).await;
}

async fn a_stop_lets_a_run_end_within_the_grace_period(database: Database) {
    let mut scheduler = database.scheduler();
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    scheduler
        .register(minutely("slow"), move |_: JobContext| {
            let held = Arc::clone(&held);
            async move {
                held.notified().await;
                Ok(RunSummary::new())
            }
        })
        .expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    let stopping = tokio::spawn(async move { running.stop(&Shutdown::default()).await });
    database.until("SELECT count(*) FROM instances WHERE stopping", 1_i64).await;
    release.notify_one();
    stopping.await.expect("stopped");
    assert_eq!(database.lines(RUNS).await, ["start|0|1|succeeded|-"]);
}

async fn what_a_stop_cuts_off_runs_again_after_the_next_start(database: Database) {
    let started = Arc::new(Barrier::new(2));
    let waits = Arc::clone(&started);
    let job = move |context: JobContext| {
        let waits = Arc::clone(&waits);
        async move {
            if context.attempt() == 1 {
                waits.wait().await;
                context.cancelled().await;
                return Err("told to stop".into());
            }
            Ok(RunSummary::new())
        }
    };
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("slow"), job.clone()).expect("registered");
    let running = scheduler.start().await.expect("started");
    started.wait().await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(RUNS).await, ["start|0|1|cancelled|-"]);
    let errors: i64 = database.value("SELECT total_errors FROM worker_heartbeats").await;
    assert_eq!(errors, 0, "a stop is not an error");

    let mut scheduler = database.scheduler();
    scheduler.register(minutely("slow"), job).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 1_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines(RUNS).await, ["start|0|1|cancelled|-", "rerun|0|2|succeeded|-"]);
    let waiting: i64 =
        database.value("SELECT count(*) FROM schedules WHERE buffered_for_ms IS NOT NULL").await;
    assert_eq!(waiting, 0);
}

async fn what_ignores_its_cancellation_is_aborted_and_gives_its_lease_back(database: Database) {
    let mut scheduler = database.scheduler();
    // Long enough for a clock that runs ahead of the renewals.
    let definition = JobDefinition { lease: Duration::from_secs(86_400), ..minutely("deaf") };
    scheduler.register(definition, |_: JobContext| std::future::pending()).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    let stopping = tokio::spawn(async move { running.stop(&at_once()).await });
    let clock = database.clock.clone();
    wait_for("the stop to abort the job", || {
        clock.advance(Duration::from_secs(1));
        stopping.is_finished()
    })
    .await;
    let running: i64 = database.value(RUNNING).await;
    assert_eq!(running, 0, "nothing is left running");
}

async fn a_short_interval_keeps_failures_only(database: Database) {
    let mut scheduler = database.scheduler();
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    scheduler
        .register(
            JobDefinition::new("tick", Cadence::every(Duration::from_secs(1))),
            move |_: JobContext| {
                let run = counter.fetch_add(1, Ordering::SeqCst);
                async move { if run == 1 { Err("once".into()) } else { Ok(RunSummary::new()) } }
            },
        )
        .expect("registered");
    let running = scheduler.start().await.expect("started");
    for total in 1..=3_i64 {
        database.until("SELECT total_runs FROM worker_heartbeats", total).await;
        database.clock.advance(Duration::from_secs(1));
    }
    database.until("SELECT total_runs FROM worker_heartbeats", 4_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(database.lines("SELECT status FROM job_runs").await, ["failed"]);
}

/// Writes a table of its own inside the run's transactions.
struct OwnTable;

#[async_trait]
impl Recorder for OwnTable {
    async fn registered(&self, _: &RecordTxn<'_>, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn started(&self, txn: &RecordTxn<'_>, run: &RunStarted) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO fetches VALUES ('{}', 'running')", run.run_id);
        execute(txn, &sql).await
    }

    async fn finished(&self, txn: &RecordTxn<'_>, run: &RunFinished) -> Result<(), StoreError> {
        let sql =
            format!("UPDATE fetches SET status = '{}' WHERE id = '{}'", run.status, run.run_id);
        execute(txn, &sql).await
    }
}

async fn execute(txn: &RecordTxn<'_>, sql: &str) -> Result<(), StoreError> {
    let txn = txn.sql.expect("a SQL store");
    txn.execute_unprepared(sql)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("record", source))
}

async fn a_recorder_of_ones_own_replaces_the_heartbeat(database: Database) {
    database.execute("CREATE TABLE fetches (id TEXT, status TEXT)").await;
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { recorder: Arc::new(OwnTable), ..minutely("fetch") };
    scheduler
        .register(definition, |_: JobContext| async { Ok(RunSummary::new()) })
        .expect("registered");
    scheduler.run_once("fetch", Duration::ZERO, &Shutdown::default()).await.expect("ran");
    assert_eq!(database.lines("SELECT status FROM fetches").await, ["succeeded"]);
    let heartbeats: i64 = database.value("SELECT count(*) FROM worker_heartbeats").await;
    assert_eq!(heartbeats, 0);
}

on_every_store! {
    an_error_and_a_panic_are_recorded_and_the_next_slot_runs,
    a_run_is_cut_off_at_its_deadline,
    a_host_that_was_frozen_past_its_lease_writes_nothing_and_the_slot_runs_again,
    a_crashed_run_is_closed_and_its_slot_runs_again_once,
    a_slot_that_was_cut_off_waits_while_a_newer_run_has_the_lease,
    run_once_takes_the_same_path_and_moves_no_schedule,
    run_once_beside_a_run_is_busy_and_names_the_holder,
    run_once_waits_as_long_as_it_is_told,
    a_stop_lets_a_run_end_within_the_grace_period,
    what_a_stop_cuts_off_runs_again_after_the_next_start,
    what_ignores_its_cancellation_is_aborted_and_gives_its_lease_back,
    a_short_interval_keeps_failures_only,
    a_recorder_of_ones_own_replaces_the_heartbeat,
}
