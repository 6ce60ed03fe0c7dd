//! The scheduler on a real database, with a manual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::store::{HeartbeatStore, InstanceStore};
use scheduler_core::{
    Cadence, Clock, FenceError, HealthStatus, JobContext, JobDefinition, Misfire, RecordTxn,
    Recorder, RegisterError, RunFinished, RunOnceError, RunStarted, RunStatus, RunSummary, Scope,
    Shutdown, StartPolicy, StoreError, WorkerStatus,
};
use sea_orm::ConnectionTrait;
use tokio::sync::{Barrier, Notify};

use crate::harness::{Database, NOON, at_once, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

fn minutely(name: &str) -> JobDefinition {
    JobDefinition::new(name, Cadence::every(MINUTE))
}

fn counting(
    counter: &Arc<AtomicU32>,
) -> impl Fn(JobContext) -> std::future::Ready<scheduler_core::JobResult> + use<> {
    let counter = Arc::clone(counter);
    move |_| {
        let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
        std::future::ready(Ok(RunSummary::new().count("n", u64::from(n))))
    }
}

const RUNS: &str = "SELECT trigger, scheduled_for_ms - 1795435200000, attempt, status, missed_count FROM job_runs ORDER BY scheduled_for_ms, attempt";
const ENDED: &str = "SELECT count(*) FROM job_runs WHERE status <> 'running'";
const RUNNING: &str = "SELECT count(*) FROM job_runs WHERE status = 'running'";

#[tokio::test]
async fn a_start_runs_at_once_and_every_slot_follows_on_the_grid() {
    let database = Database::new().await;
    let mut scheduler = database.scheduler();
    let ran = Arc::new(AtomicU32::new(0));
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(ENDED, 1_i64).await;
    database.clock.advance(MINUTE);
    database.until(ENDED, 2_i64).await;
    database.clock.advance(MINUTE);
    database.until(ENDED, 3_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        ["start|0|1|succeeded|-", "schedule|60000|1|succeeded|-", "schedule|120000|1|succeeded|-"]
    );
    assert_eq!(ran.load(Ordering::SeqCst), 3);
    let health = database.store.health().await.expect("health");
    assert_eq!(health.status, HealthStatus::Down, "no instance is alive after the stop");
    let worker = &health.workers[0];
    assert_eq!((worker.worker.as_str(), worker.status), ("mark", WorkerStatus::Succeeded));
    assert_eq!((worker.total_runs, worker.total_errors, worker.consecutive_errors), (3, 0, 0));
    assert_eq!(worker.expected_interval_ms, Some(60_000));
    assert_eq!(worker.summary.as_ref().map(ToString::to_string).as_deref(), Some(r#"{"n":3}"#));
    assert_eq!(worker.next_due_at_ms, Some(NOON + 180_000));
}

#[tokio::test]
async fn slots_that_nobody_ran_are_one_recorded_miss_that_grows() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    for missed in [0_i64, 10, 20] {
        let mut scheduler = database.scheduler();
        let definition = JobDefinition {
            misfire: Misfire::Skip,
            start: StartPolicy::NextSlot,
            ..minutely("mark")
        };
        scheduler.register(definition, counting(&ran)).expect("registered");
        let running = scheduler.start().await.expect("started");
        database.until("SELECT coalesce(sum(missed_count), 0) FROM job_runs", missed).await;
        running.stop(&at_once()).await;
        database.clock.advance(Duration::from_secs(627));
    }
    assert_eq!(database.lines(RUNS).await, ["schedule|60000|1|missed|20"]);
    let until: i64 = database.value("SELECT missed_until_ms FROM job_runs").await;
    assert_eq!(until, NOON + 1_200_000);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_stall_coalesces_into_one_run_and_a_miss() {
    let database = Database::new().await;
    let mut scheduler = database.scheduler();
    let ran = Arc::new(AtomicU32::new(0));
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(ENDED, 1_i64).await;
    database.clock.advance(Duration::from_secs(605));
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 2_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        ["start|0|1|succeeded|-", "schedule|60000|1|missed|9", "schedule|600000|1|succeeded|-"]
    );
}

#[tokio::test]
async fn two_processes_run_each_slot_once() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut processes = Vec::new();
    for _ in 0..2 {
        let mut scheduler = scheduler_core::Scheduler::new(database.another_store().await);
        scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
        processes.push(scheduler.start().await.expect("started"));
    }
    database.until(ENDED, 1_i64).await;
    for slot in 2..8_i64 {
        database.clock.advance(MINUTE);
        database.until(ENDED, slot).await;
    }
    for process in processes {
        process.stop(&at_once()).await;
    }
    assert_eq!(ran.load(Ordering::SeqCst), 7);
    let distinct: i64 = database
        .value("SELECT count(DISTINCT scheduled_for_ms) FROM job_runs WHERE status = 'succeeded'")
        .await;
    assert_eq!(distinct, 7);
}

#[tokio::test]
async fn each_process_runs_a_job_of_its_own_scope() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut processes = Vec::new();
    for _ in 0..2 {
        let mut scheduler = scheduler_core::Scheduler::new(database.another_store().await);
        let definition = JobDefinition { scope: Scope::Instance, ..minutely("poll") };
        scheduler.register(definition, counting(&ran)).expect("registered");
        processes.push(scheduler.start().await.expect("started"));
    }
    database.until(ENDED, 2_i64).await;
    database.clock.advance(MINUTE);
    database.until(ENDED, 4_i64).await;
    for process in processes {
        process.stop(&at_once()).await;
    }
    let scopes: i64 = database.value("SELECT count(DISTINCT scope_key) FROM job_runs").await;
    assert_eq!(scopes, 2);
}

#[tokio::test]
async fn a_slot_that_comes_while_the_last_run_goes_on_is_skipped_and_recorded() {
    let database = Database::new().await;
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
    for slots in 1..=3_i64 {
        // The lease of 30 s is renewed on the way.
        for _ in 0..6 {
            let before: i64 = database.value("SELECT expires_at_ms FROM leases").await;
            database.clock.advance(Duration::from_secs(10));
            database.until("SELECT expires_at_ms FROM leases", before + 10_000).await;
        }
        database.until("SELECT coalesce(max(missed_count), 0) FROM job_runs WHERE status = 'skipped_overlap'", slots).await;
    }
    release.notify_one();
    database.until(RUNNING, 0_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        ["start|0|1|succeeded|-", "schedule|60000|1|skipped_overlap|3"]
    );
}

#[tokio::test]
async fn an_error_and_a_panic_are_recorded_and_the_next_slot_runs() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_run_is_cut_off_at_its_deadline() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_host_that_was_frozen_past_its_lease_writes_nothing_and_the_slot_runs_again() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_crashed_run_is_closed_and_its_slot_runs_again_once() {
    let database = Database::new().await;
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

#[tokio::test]
async fn run_once_takes_the_same_path_and_moves_no_schedule() {
    let database = Database::new().await;
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

#[tokio::test]
async fn run_once_beside_a_run_is_busy_and_names_the_holder() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_stop_lets_a_run_end_within_the_grace_period() {
    let database = Database::new().await;
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

#[tokio::test]
async fn what_a_stop_cuts_off_runs_again_after_the_next_start() {
    let database = Database::new().await;
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

#[tokio::test]
async fn what_ignores_its_cancellation_is_aborted_and_gives_its_lease_back() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_paused_job_does_not_fire() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(ENDED, 1_i64).await;
    database.execute("UPDATE schedules SET paused = TRUE").await;
    database.clock.advance(MINUTE);
    // A run by hand ignores the pause, and shows that the loop lives.
    running.run_now("mark").await.expect("begun");
    database.until(ENDED, 2_i64).await;
    assert_eq!(
        database.lines("SELECT trigger FROM job_runs ORDER BY scheduled_for_ms").await,
        ["start", "manual"]
    );
    running.stop(&at_once()).await;
}

#[tokio::test]
async fn a_changed_cadence_starts_a_new_grid_and_a_restart_does_not_run_again() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    for (interval, generation) in [(60, 1_i64), (60, 1), (600, 2)] {
        let mut scheduler = database.scheduler();
        let definition = JobDefinition::new("mark", Cadence::every(Duration::from_secs(interval)));
        scheduler.register(definition, counting(&ran)).expect("registered");
        let running = scheduler.start().await.expect("started");
        database.until("SELECT generation FROM schedules", generation).await;
        database.until(ENDED, 1_i64).await;
        running.stop(&at_once()).await;
        database.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(ran.load(Ordering::SeqCst), 1, "its last fire is less than an interval old");
    let next: i64 = database.value("SELECT next_due_at_ms FROM schedules").await;
    assert_eq!(next, NOON + 20_000 + 600_000);
}

#[tokio::test]
async fn a_short_interval_keeps_failures_only() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_recorder_of_ones_own_replaces_the_heartbeat() {
    let database = Database::new().await;
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

#[tokio::test]
async fn a_name_is_registered_once() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let error = scheduler.register(minutely("mark"), counting(&ran)).err().expect("refused");
    assert!(matches!(error, RegisterError::Duplicate(name) if name == "mark"));
}

#[tokio::test]
async fn old_history_and_what_dead_processes_left_are_pruned() {
    let database = Database::new().await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { scope: Scope::Instance, ..minutely("poll") };
    scheduler.register(definition, counting(&ran)).expect("registered");
    scheduler.run_once("poll", Duration::ZERO, &Shutdown::default()).await.expect("ran");
    assert_eq!(database.store.prune(1_000).await.expect("pruned"), 0, "all of it is young");
    database.clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(database.store.prune(1_000).await.expect("pruned"), 4);
    for table in ["job_runs", "leases", "instances", "worker_instances"] {
        let rows: i64 = database.value(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    let totals: i64 = database.value("SELECT total_runs FROM worker_heartbeats").await;
    assert_eq!(totals, 1, "totals outlive the instances");
}

#[tokio::test]
async fn the_pulse_beats_and_the_driver_looks() {
    let database = Database::new().await;
    let running = database.scheduler().start().await.expect("started");
    let signs = running.signs_of_life();
    database.clock.advance(MINUTE);
    let now_ms = database.clock.now_ms();
    wait_for("a beat of the pulse", || signs.oldest_ms() == now_ms).await;
    running.stop(&at_once()).await;
}

#[tokio::test]
async fn a_one_shot_run_closes_what_a_crashed_one_left() {
    let database = Database::new().await;
    database
        .execute(&format!(
            "INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, status, started_at_ms, instance_id, token)
             VALUES ('{}', 'mark', 'manual', {NOON}, 'running', {NOON}, '{}', 1)",
            scheduler_core::RunId::new(),
            scheduler_core::InstanceId::new(),
        ))
        .await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    scheduler.run_once("mark", Duration::ZERO, &Shutdown::default()).await.expect("ran");
    let lines = database.lines("SELECT trigger, status FROM job_runs ORDER BY status").await;
    assert_eq!(lines, ["manual|lease_lost", "manual|succeeded"]);
}

#[tokio::test]
async fn a_process_that_others_took_for_dead_announces_itself_again() {
    let database = Database::new().await;
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&Arc::default())).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(ENDED, 1_i64).await;
    // Frozen for two days, while another process pruned.
    database.execute("DELETE FROM instances").await;
    database.clock.advance(Duration::from_secs(2 * 86_400));
    let id = running.instance_id();
    let live = format!("SELECT count(*) FROM instances WHERE instance_id = '{id}' AND host <> ''");
    database.until(&live, 1_i64).await;
    running.stop(&at_once()).await;
}

#[tokio::test]
async fn retention_keeps_up_with_more_history_than_one_sweep_takes() {
    let database = Database::new().await;
    database
        .execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500)
             INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, status, finished_at_ms, instance_id)
             SELECT 'old' || n, 'gone', 'schedule', n, 'succeeded', n, 'x' FROM n",
        )
        .await;
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { start: StartPolicy::NextSlot, ..minutely("mark") };
    scheduler.register(definition, counting(&Arc::default())).expect("registered");
    let running = scheduler.start().await.expect("started");
    // Each look, as the pulse brings them, sweeps on.
    let left = "SELECT count(*) FROM job_runs WHERE id LIKE 'old%'";
    let began = std::time::Instant::now();
    while database.value::<i64>(left).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "history is left");
        running.poke();
        tokio::task::yield_now().await;
    }
    running.stop(&at_once()).await;
}
