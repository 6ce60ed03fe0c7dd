//! Hosts whose clocks are off: their jobs run at the database's time, or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, HandleError, Handled, Handler, QueueContext, QueueTable,
};
use scheduler_core::testing::SkewedClock;
use scheduler_core::{
    Cadence, ClockSkew, ClockSkewError, JobContext, JobDefinition, PostgresOptions, RunOnceError,
    RunSummary, Scheduler, Scope, Shutdown, StartError, Store,
};
use sea_orm::{ConnectionTrait, FromQueryResult, Statement, TryGetable};
use tokio::sync::Notify;

use crate::postgres;

const PATIENCE: Duration = Duration::from_secs(60);
const FIVE_MINUTES_MS: i64 = 300_000;

const PARCELS: &str = "
CREATE TABLE parcels (
  id BIGINT PRIMARY KEY,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT)";

/// One host with a clock of its own.
struct Host {
    clock: SkewedClock,
    store: Store,
}

impl Host {
    async fn new(url: &str, ahead_ms: i64) -> Self {
        let clock = SkewedClock::ahead_by_ms(ahead_ms);
        let options = PostgresOptions::default();
        let store = Store::postgres_with(url, options, Arc::new(clock.clone())).await;
        Self { clock, store: store.expect("the database opens") }
    }

    /// The first column of the first row.
    async fn value<T: TryGetable>(&self, sql: &str) -> T {
        let reader = self.store.reader();
        let row = reader.query_one_raw(Statement::from_string(reader.get_database_backend(), sql));
        row.await.expect(sql).expect(sql).try_get_by_index(0).expect(sql)
    }

    async fn execute(&self, sql: &str) {
        self.store.reader().execute_unprepared(sql).await.expect(sql);
    }

    /// Waits until the query answers true.
    async fn until(&self, sql: &str) {
        let began = Instant::now();
        while !self.value::<bool>(sql).await {
            assert!(began.elapsed() < PATIENCE, "waited in vain for: {sql}");
        }
    }

    /// A scheduler with one job of the cluster and one of each process, on these intervals.
    fn scheduler(&self, cluster: Duration, own: Duration) -> Scheduler {
        let mut scheduler = Scheduler::new(self.store.clone());
        let definitions = [
            JobDefinition::new("cluster", Cadence::every(cluster)),
            JobDefinition {
                scope: Scope::Instance,
                ..JobDefinition::new("own", Cadence::every(own))
            },
        ];
        for definition in definitions {
            let job = |_: JobContext| async { Ok(RunSummary::new()) };
            scheduler.register(definition, job).expect("registered");
        }
        scheduler
    }
}

/// Whether a measurement is right, within what it says that it may be wrong by.
fn is_near(measured: ClockSkew, ahead_ms: i64) -> bool {
    measured.ahead_ms().abs_diff(ahead_ms) <= measured.uncertain_ms().unsigned_abs()
}

async fn migrated() -> Option<postgres::TestDatabase> {
    let url = postgres::new_database().await?;
    let store = Store::connect(&url).await.expect("the database opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    store.close().await.expect("closed");
    Some(url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_are_29_seconds_off_run_at_the_time_of_the_database() {
    let Some(url) = migrated().await else { return };
    let hour = Duration::from_secs(3_600);
    for ahead_ms in [29_000, -29_000] {
        let host = Host::new(&url, ahead_ms).await;
        host.execute("DELETE FROM schedules; DELETE FROM job_runs").await;
        let before_ms: i64 = host.value(NOW).await;
        let running = host.scheduler(hour, hour).start().await.expect("tolerable");
        let id = running.instance_id();
        let measured = running.clock_skew();
        assert!(is_near(measured, ahead_ms), "{measured:?}");
        let noted: i64 =
            host.value(&format!("SELECT skew_ms FROM instances WHERE instance_id = '{id}'")).await;
        assert_eq!(noted, measured.ahead_ms());
        // Both run at once: neither waits until this host's clock, or the database's, says so.
        for job in ["cluster", "own"] {
            let done = format!(
                "SELECT count(*) = 1 FROM job_runs WHERE job = '{job}' AND status = 'succeeded'"
            );
            host.until(&done).await;
        }
        running.run_now("own").await.expect("begun");
        host.until("SELECT count(*) = 3 FROM job_runs WHERE status = 'succeeded'").await;
        let after_ms: i64 = host.value(NOW).await;
        assert!(after_ms - before_ms < 25_000, "nothing waited for a clock");
        let outside = format!(
            "SELECT count(*) FROM job_runs WHERE scheduled_for_ms NOT BETWEEN {before_ms} AND {after_ms}
               OR started_at_ms NOT BETWEEN {before_ms} AND {after_ms}
               OR finished_at_ms NOT BETWEEN {before_ms} AND {after_ms}"
        );
        assert_eq!(host.value::<i64>(&outside).await, 0, "between {before_ms} and {after_ms}");
        running.stop(&Shutdown::new(Duration::ZERO)).await;
    }
}

/// The database's now, epoch milliseconds.
const NOW: &str = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_five_minutes_off_refuses_to_start_and_says_so() {
    let Some(url) = migrated().await else { return };
    let second = Duration::from_secs(1);
    for (ahead_ms, word) in [
        (FIVE_MINUTES_MS, "s ahead of the database's"),
        (-FIVE_MINUTES_MS, "s behind the database's"),
    ] {
        let host = Host::new(&url, ahead_ms).await;
        let refused = host.scheduler(second, second).start().await.err().expect("refused");
        let StartError::ClockSkew(ClockSkewError(skew)) = refused else { panic!("{refused}") };
        assert!(is_near(skew, ahead_ms), "{skew:?}");
        assert!(refused.to_string().contains(word), "{refused}");

        let scheduler = host.scheduler(second, second);
        let once = scheduler.run_once("cluster", Duration::ZERO, &Shutdown::default()).await;
        let refused = once.expect_err("refused");
        assert!(matches!(refused, RunOnceError::ClockSkew(_)), "{refused}");
    }
    let host = Host::new(&url, 0).await;
    assert_eq!(host.value::<i64>("SELECT count(*) FROM job_runs").await, 0);
    let noted =
        "SELECT count(*) FROM instances WHERE stopping AND abs(skew_ms) BETWEEN 299000 AND 301000";
    assert_eq!(host.value::<i64>(noted).await, 4, "each is there to be looked at");
    let running = host.scheduler(second, second).start().await.expect("this one is right");
    running.stop(&Shutdown::new(Duration::ZERO)).await;
}

#[derive(FromQueryResult)]
struct Parcel {
    id: i64,
}

struct Courier;

#[async_trait]
impl Handler for Courier {
    type Row = Parcel;

    async fn handle(&self, parcel: Parcel, _: QueueContext) -> Result<Handled, HandleError> {
        assert!(parcel.id > 0);
        Ok(Handled::Done(None))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_clock_steps_away_begins_nothing_until_it_is_back() {
    let Some(url) = migrated().await else { return };
    let host = Host::new(&url, 0).await;
    host.execute(PARCELS).await;
    let tenth = Duration::from_millis(100);
    let mut scheduler = host.scheduler(tenth, tenth);
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let long = JobDefinition {
        // Longer than a busy machine keeps a process waiting.
        lease: Duration::from_secs(3),
        ..JobDefinition::new("long", Cadence::every(Duration::from_secs(3_600)))
    };
    let wait = move |_: JobContext| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            Ok(RunSummary::new())
        }
    };
    scheduler.register(long, wait).expect("registered");
    let options = ConsumerOptions { poll: tenth, ..ConsumerOptions::new("parcels") };
    let consumer =
        Consumer::new(&host.store, QueueTable::new("parcels").columns(["id"]), options, Courier);
    let waker = consumer.await.expect("a consumer").register(&mut scheduler).expect("registered");
    let running = scheduler.start().await.expect("started");
    for job in ["cluster", "own"] {
        let runs = format!("SELECT total_runs >= 3 FROM worker_heartbeats WHERE worker = '{job}'");
        host.until(&runs).await;
    }
    let held = "SELECT count(*) = 1 FROM leases WHERE name = 'long' AND holder <> ''";
    host.until(held).await;

    host.clock.set_ahead_by_ms(FIVE_MINUTES_MS);
    host.until("SELECT skew_ms BETWEEN 299000 AND 301000 FROM instances").await;
    assert!(!running.clock_skew().is_tolerable());
    // What was under way when the clock stepped ends.
    host.until("SELECT count(*) = 1 FROM worker_heartbeats WHERE status = 'running'").await;
    let began = "SELECT sum(total_runs) FROM worker_heartbeats";
    let runs: String = host.value(&format!("SELECT CAST(({began}) AS text)")).await;
    host.execute("INSERT INTO parcels (id) VALUES (1)").await;
    waker.wake();
    let refused = running.run_now("cluster").await.expect_err("refused");
    assert!(matches!(refused, RunOnceError::ClockSkew(_)), "{refused}");
    // Renewed three times: the lease of what runs is kept, while the driver looks and looks.
    for _ in 0..3 {
        let until_ms: i64 =
            host.value("SELECT expires_at_ms FROM leases WHERE name = 'long'").await;
        let looked = running.last_signs_of_life_ms().1;
        running.poke();
        host.until(&format!("SELECT expires_at_ms > {until_ms} FROM leases WHERE name = 'long'"))
            .await;
        let began = Instant::now();
        while running.last_signs_of_life_ms().1 == looked {
            assert!(began.elapsed() < PATIENCE, "the driver looks");
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(host.value::<String>(&format!("SELECT CAST(({began}) AS text)")).await, runs);
    assert!(host.value::<bool>("SELECT status = 'queued' FROM parcels").await);

    host.clock.set_ahead_by_ms(0);
    running.poke();
    host.until("SELECT status = 'succeeded' FROM parcels").await;
    host.until(&format!("SELECT ({began}) > {runs}")).await;
    host.until("SELECT abs(skew_ms) < 1000 FROM instances").await;
    go_on.notify_one();
    host.until("SELECT status = 'succeeded' FROM worker_heartbeats WHERE worker = 'long'").await;
    running.stop(&Shutdown::new(Duration::ZERO)).await;
}
