//! The scheduler on a real database, with a manual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::store::{HeartbeatStore, InstanceStore};
use scheduler_core::{
    Cadence, Clock, HealthStatus, JobContext, JobDefinition, Misfire, RegisterError, RunSummary,
    Scope, Shutdown, StartPolicy, WorkerStatus,
};
use tokio::sync::Notify;

use crate::harness::{Database, NOON, at_once, wait_for};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn minutely(name: &str) -> JobDefinition {
    JobDefinition::new(name, Cadence::every(MINUTE))
}

pub(crate) fn counting(
    counter: &Arc<AtomicU32>,
) -> impl Fn(JobContext) -> std::future::Ready<scheduler_core::JobResult> + use<> {
    let counter = Arc::clone(counter);
    move |_| {
        let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
        std::future::ready(Ok(RunSummary::new().count("n", u64::from(n))))
    }
}

pub(crate) const RUNS: &str = "SELECT trigger, scheduled_for_ms - 1795435200000, attempt, status, missed_count FROM job_runs ORDER BY scheduled_for_ms, attempt";
pub(crate) const ENDED: &str = "SELECT count(*) FROM job_runs WHERE status <> 'running'";
pub(crate) const RUNNING: &str = "SELECT count(*) FROM job_runs WHERE status = 'running'";

async fn a_start_runs_at_once_and_every_slot_follows_on_the_grid(database: Database) {
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

async fn slots_that_nobody_ran_are_one_recorded_miss_that_grows(database: Database) {
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
        database
            .until("SELECT CAST(coalesce(sum(missed_count), 0) AS BIGINT) FROM job_runs", missed)
            .await;
        running.stop(&at_once()).await;
        database.clock.advance(Duration::from_secs(627));
    }
    assert_eq!(database.lines(RUNS).await, ["schedule|60000|1|missed|20"]);
    let until: i64 = database.value("SELECT missed_until_ms FROM job_runs").await;
    assert_eq!(until, NOON + 1_200_000);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

async fn a_stall_coalesces_into_one_run_and_a_miss(database: Database) {
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

async fn two_processes_run_each_slot_once(database: Database) {
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

async fn each_process_runs_a_job_of_its_own_scope(database: Database) {
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

async fn a_slot_that_comes_while_the_last_run_goes_on_is_skipped_and_recorded(database: Database) {
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

async fn a_paused_job_does_not_fire(database: Database) {
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

async fn a_changed_cadence_starts_a_new_grid_and_a_restart_does_not_run_again(database: Database) {
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

async fn a_name_is_registered_once(database: Database) {
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    scheduler.register(minutely("mark"), counting(&ran)).expect("registered");
    let error = scheduler.register(minutely("mark"), counting(&ran)).err().expect("refused");
    assert!(matches!(error, RegisterError::Duplicate(name) if name == "mark"));
}

async fn old_history_and_what_dead_processes_left_are_pruned(database: Database) {
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

async fn the_pulse_beats_and_the_driver_looks(database: Database) {
    let running = database.scheduler().start().await.expect("started");
    let signs = running.signs_of_life();
    database.clock.advance(MINUTE);
    let now_ms = database.clock.now_ms();
    wait_for("a beat of the pulse", || signs.oldest_ms() == now_ms).await;
    running.stop(&at_once()).await;
}

async fn a_one_shot_run_closes_what_a_crashed_one_left(database: Database) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_open_one_new_file_at_once_all_succeed() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("new.db").display());
        let opens = (0..6).map(|_| {
            let url = url.clone();
            tokio::spawn(async move { scheduler_core::Store::sqlite(&url).await })
        });
        for open in opens.collect::<Vec<_>>() {
            open.await.expect("no panic").expect("opened");
        }
    }
}

async fn a_process_that_others_took_for_dead_announces_itself_again(database: Database) {
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

async fn retention_keeps_up_with_more_history_than_one_sweep_takes(database: Database) {
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

on_every_store! {
    a_process_that_others_took_for_dead_announces_itself_again,
    retention_keeps_up_with_more_history_than_one_sweep_takes,
    a_start_runs_at_once_and_every_slot_follows_on_the_grid,
    slots_that_nobody_ran_are_one_recorded_miss_that_grows,
    a_stall_coalesces_into_one_run_and_a_miss,
    two_processes_run_each_slot_once,
    each_process_runs_a_job_of_its_own_scope,
    a_slot_that_comes_while_the_last_run_goes_on_is_skipped_and_recorded,
    a_paused_job_does_not_fire,
    a_changed_cadence_starts_a_new_grid_and_a_restart_does_not_run_again,
    a_name_is_registered_once,
    old_history_and_what_dead_processes_left_are_pruned,
    the_pulse_beats_and_the_driver_looks,
    a_one_shot_run_closes_what_a_crashed_one_left,
}
