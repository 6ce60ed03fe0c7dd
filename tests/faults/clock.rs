//! Clocks that are set, forward and backward.

#![expect(clippy::print_stdout, reason = "the test prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler_core::testing::ManualClock;
use scheduler_core::{
    Cadence, Clock, JobContext, JobDefinition, RunSummary, RunningScheduler, Scheduler, Shutdown,
    SqliteOptions, Store,
};

use crate::database::{
    JOB_TABLES, QUEUE_TABLES, count, execute, lines, pause, prepare, scheme, until,
};
use crate::host::Host;
use crate::slots::Found;
use crate::torment::seed;

/// 2026-11-23 12:00:00 UTC.
const NOON: i64 = 1_795_435_200_000;
const MINUTE_MS: i64 = 60_000;
const STEPS: usize = 60;
/// Longer than a busy machine keeps a process waiting.
const HOLD: [&str; 2] = ["hold=1", "lease=5000"];
/// Longer than the lease, so that it has to be renewed.
const RENEWED: Duration = Duration::from_millis(7_500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Two hosts under one clock that is set at random.
pub(crate) async fn of_all(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = ManualClock::at(NOON);
    let hosts = [start(url, &clock).await, start(url, &clock).await];
    let (mut forward, mut backward, mut fired_ms) = (0, 0, 0);
    for _ in 0..STEPS {
        let by_ms = match random.u8(..4) {
            0 => -random.i64(1..10 * MINUTE_MS),
            1 => random.i64(1..10 * MINUTE_MS),
            _ => MINUTE_MS,
        };
        forward += usize::from(by_ms > MINUTE_MS);
        backward += usize::from(by_ms < 0);
        clock.set(clock.now_ms() + by_ms);
        settled(&store, &hosts, clock.now_ms()).await;
        let last_ms = count(&store, "SELECT last_fired_for_ms AS n FROM schedules").await;
        assert!(last_ms >= fired_ms, "seed {seed}: a slot fired again");
        fired_ms = last_ms;
    }
    for host in hosts {
        host.stop(&Shutdown::new(Duration::ZERO)).await;
    }
    let found = Found::read(&store, MINUTE_MS).await;
    println!(
        "clock on {}: seed {seed}: {forward} steps forward, {backward} backward; {}",
        scheme(url),
        found.figures()
    );
    assert!(forward > 0 && backward > 0, "seed {seed}");
    found.check();
}

/// The clock of one process is set while it is inside of a run: it keeps its lease, and goes on.
pub(crate) async fn of_one(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let mut host = Host::start("job", url, &HOLD);
    let inside = host.wait_for("inside");
    let slot = inside.strip_suffix(" 1 1").expect("the first attempt");
    host.tell("step -5000");
    host.wait_for("stepped");
    pause(RENEWED).await;
    host.tell("book");
    assert_eq!(host.answer(), "booked");
    let succeeded = "SELECT count(*) AS n FROM job_runs WHERE status = 'succeeded'";
    until(&store, succeeded, 5).await;
    // A host that is further off its server's clock begins nothing.
    let ahead_ms = if scheme(url) == "sqlite" { 60_000 } else { 20_000 };
    host.tell(&format!("step {ahead_ms}"));
    host.wait_for("stepped");
    let before = count(&store, succeeded).await;
    until(&store, succeeded, before + 5).await;
    host.stop();
    let runs = format!("FROM job_runs WHERE scheduled_for_ms = {slot}");
    assert_eq!(lines(&store, &["attempt", "status"], &runs).await, ["1|succeeded"]);
    let found = Found::read(&store, 200).await;
    println!("clock on {}: {}", scheme(url), found.figures());
    found.check();
}

/// The same inside of a row.
pub(crate) async fn of_one_with_a_row(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    execute(&store, "INSERT INTO parcels (id, user_id) VALUES (1, 1)").await;
    let mut host = Host::start("queue", url, &HOLD);
    assert_eq!(host.wait_for("inside"), "1 1 1");
    host.tell("step -5000");
    host.wait_for("stepped");
    pause(RENEWED).await;
    host.tell("book");
    assert_eq!(host.answer(), "booked");
    let succeeded = "SELECT count(*) AS n FROM parcels WHERE status = 'succeeded'";
    until(&store, succeeded, 1).await;
    execute(&store, "INSERT INTO parcels (id, user_id) VALUES (2, 1)").await;
    until(&store, succeeded, 2).await;
    host.stop();
    let columns = ["id", "attempt_count", "crash_count"];
    let rows = lines(&store, &columns, "FROM parcels ORDER BY id").await;
    assert_eq!(rows, ["1|1|0", "2|1|0"]);
}

async fn start(url: &str, clock: &ManualClock) -> RunningScheduler {
    let mut scheduler = Scheduler::new(open(url, clock).await);
    let definition = JobDefinition::new("tick", Cadence::every(Duration::from_secs(60)));
    let job = |_: JobContext| async { Ok(RunSummary::new()) };
    scheduler.register(definition, job).expect("registered");
    scheduler.start().await.expect("started")
}

async fn open(url: &str, clock: &ManualClock) -> Store {
    let clock = Arc::new(clock.clone());
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        let options = scheduler_core::PostgresOptions { connections: 5, ..Default::default() };
        return Store::postgres_with(url, options, clock).await.expect("the database opens");
    }
    let opened = Store::sqlite_with(url, SqliteOptions::default(), clock).await;
    opened.expect("the database opens")
}

/// Waits until nothing is due and nothing runs.
async fn settled(store: &Store, hosts: &[RunningScheduler], now_ms: i64) {
    let busy = format!(
        "SELECT (SELECT count(*) FROM job_runs WHERE status = 'running')
          + (SELECT count(*) FROM schedules WHERE next_due_at_ms <= {now_ms} OR last_fired_for_ms IS NULL) AS n"
    );
    let began = Instant::now();
    hosts.iter().for_each(RunningScheduler::poke);
    while count(store, &busy).await > 0 {
        assert!(began.elapsed() < PATIENCE, "something is still due or running at {now_ms}");
        pause(Duration::from_millis(2)).await;
    }
}
