//! A server that is stopped and started, also as by a power cut, while hosts work: they survive, and
//! nothing that was promised is broken.

#![expect(clippy::print_stdout, reason = "the torment prints its figures")]

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{Clock, Store, SystemClock};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};

use crate::postgres::server::{PrivateServer, Programs, Stop};

const PATIENCE: Duration = Duration::from_secs(60);
const USERS: i64 = 8;
/// Rows that are enqueued before each blow.
const ROWS: i64 = 60;
const TABLES: &str = "
CREATE TABLE slots (slot BIGINT NOT NULL, attempt BIGINT NOT NULL, token BIGINT NOT NULL, UNIQUE (slot, attempt));
CREATE TABLE parcels (
  id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT, concurrency_slot INTEGER, queue_slot INTEGER);
CREATE INDEX parcels_ready ON parcels (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX parcels_suspect ON parcels (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX parcels_leases ON parcels (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_user ON parcels (user_id, concurrency_slot) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_slot ON parcels (queue_slot) WHERE status = 'running';
CREATE TABLE inside (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, user_id BIGINT NOT NULL);
CREATE TABLE starts (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, started_at_ms BIGINT NOT NULL);
CREATE TABLE exceeded (id BIGINT NOT NULL, inside BIGINT NOT NULL);
CREATE TABLE effects (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, UNIQUE (id, lease_token));
";

/// What happens to the server.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Restart(Stop),
    /// One of its sessions dies; it ends them all and recovers by itself.
    KillSession,
    /// It accepts and does not answer, longer than the hosts' leases.
    Freeze,
}

/// A database on the server, asked again until it answers.
struct Observer(DatabaseConnection);

impl Observer {
    async fn new(url: &str) -> Self {
        let mut connect = ConnectOptions::new(url);
        connect.max_connections(1).acquire_timeout(Duration::from_secs(2)).sqlx_logging(false);
        Self(Database::connect(connect).await.expect("the server answers"))
    }

    async fn number(&self, sql: &str) -> i64 {
        let began = Instant::now();
        loop {
            let statement = Statement::from_string(self.0.get_database_backend(), sql);
            match self.0.query_one_raw(statement).await {
                Ok(row) => return row.expect("a row").try_get_by_index(0).expect("a number"),
                Err(error) => assert!(began.elapsed() < PATIENCE, "{sql}: {error}"),
            }
        }
    }

    /// Waits until the number is more than this.
    async fn grown(&self, sql: &str, than: i64) {
        let began = Instant::now();
        while self.number(sql).await <= than {
            assert!(began.elapsed() < PATIENCE, "{sql} does not grow beyond {than}");
            pause(Duration::from_millis(10)).await;
        }
    }

    async fn enqueue(&self, rows: i64) {
        let sql = format!(
            "INSERT INTO parcels (id, user_id) SELECT n, n % {USERS} FROM generate_series(
               (SELECT coalesce(max(id), 0) + 1 FROM parcels),
               (SELECT coalesce(max(id), 0) + {rows} FROM parcels)) AS n"
        );
        self.0.execute_unprepared(&sql).await.expect("enqueued");
    }
}

struct Host {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Host {
    fn start(kind: &str, url: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fault-host"))
            .args([kind, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a host starts");
        let mut stderr = child.stderr.take().expect("stderr");
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            // What was read before a failure is still worth showing.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, log: Some(log) }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_some()
    }

    /// Ends its input, waits for its graceful end, answers what it logged.
    fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        let began = Instant::now();
        while !self.has_ended() {
            assert!(began.elapsed() < PATIENCE, "a host does not stop");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let log = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        assert!(self.child.wait().expect("waited").success(), "{log}");
        log
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time is what this test is about.
async fn pause(span: Duration) {
    let until_ms = SystemClock.now_ms() + i64::try_from(span.as_millis()).expect("short");
    SystemClock.sleep_until(until_ms).await;
}

async fn strike(server: &mut PrivateServer, observer: &Observer, blow: Blow) {
    match blow {
        Blow::Restart(stop) => {
            server.stop(stop);
            pause(Duration::from_millis(500)).await;
            server.start();
        }
        Blow::KillSession => {
            // Of those that wrote something.
            let victim = "SELECT CAST(pid AS bigint) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
            let victim = i32::try_from(observer.number(victim).await).expect("a process");
            server.kill_session(victim);
        }
        Blow::Freeze => {
            server.freeze();
            pause(Duration::from_millis(1_500)).await;
            server.thaw();
        }
    }
}

const SUCCEEDED: &str = "SELECT count(*) FROM job_runs WHERE status = 'succeeded'";
const DELIVERED: &str = "SELECT count(*) FROM parcels WHERE status = 'succeeded'";
const LEFT: &str = "SELECT -count(*) FROM parcels WHERE status IN ('queued', 'running')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_survive_a_server_that_stops_crashes_and_freezes() {
    let Some(programs) = Programs::find() else { return };
    // No `fsync=off`: what a crash takes back must be nothing that was committed.
    let mut server = PrivateServer::new(programs, &["max_connections=200"]);
    server.answers().await;
    let url = server.url("postgres");
    let store = Store::connect(&url).await.expect("the database opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    store.reader().execute_unprepared(TABLES).await.expect("tables");
    // The two kinds of hosts book into tables of one name.
    let jobs = "CREATE SCHEMA jobs; CREATE TABLE jobs.effects (LIKE slots INCLUDING ALL)";
    store.reader().execute_unprepared(jobs).await.expect("tables");
    store.close().await.expect("closed");
    let observer = Observer::new(&url).await;
    observer.enqueue(ROWS).await;
    let job_url = format!("{url}&options=-c%20search_path%3Djobs%2Cpublic");
    let mut hosts: Vec<Host> =
        (0..3).flat_map(|_| [Host::start("job", &job_url), Host::start("queue", &url)]).collect();
    observer.grown(SUCCEEDED, 3).await;
    observer.grown(DELIVERED, 3).await;

    let blows = [
        Blow::Restart(Stop::Fast),
        Blow::Restart(Stop::Immediate),
        Blow::KillSession,
        Blow::Freeze,
        Blow::Restart(Stop::Immediate),
        Blow::Restart(Stop::Fast),
        Blow::KillSession,
    ];
    let mut away = Vec::new();
    for blow in blows {
        observer.enqueue(ROWS).await;
        let before = (observer.number(SUCCEEDED).await, observer.number(DELIVERED).await);
        let began = Instant::now();
        strike(&mut server, &observer, blow).await;
        let after = (observer.number(SUCCEEDED).await, observer.number(DELIVERED).await);
        assert!(after.0 >= before.0 && after.1 >= before.1, "{blow:?} took a commit back");
        observer.grown(SUCCEEDED, after.0 + 3).await;
        observer.grown(DELIVERED, after.1 + 3).await;
        away.push(format!("{blow:?} {} ms", began.elapsed().as_millis()));
        assert!(!hosts.iter_mut().any(Host::has_ended), "{blow:?} ended a host");
    }
    // However long it takes: the work goes on until it is done.
    let mut left = observer.number(LEFT).await;
    while left < 0 {
        observer.grown(LEFT, left).await;
        left = observer.number(LEFT).await;
    }
    for log in hosts.into_iter().map(Host::stop) {
        assert!(!log.contains("panicked"), "{log}");
    }
    check(&observer, &away).await;
}

/// What the hosts left in the database.
async fn check(observer: &Observer, away: &[String]) {
    let runs = async |status: &str| {
        observer.number(&format!("SELECT count(*) FROM job_runs WHERE status = '{status}'")).await
    };
    let rows = async |condition: &str| {
        observer.number(&format!("SELECT count(*) FROM parcels WHERE {condition}")).await
    };
    println!(
        "restart: {} blows, until all went on: {}; {} runs succeeded, {} lease_lost, {} missed; \
         {} rows delivered, {} dead, {} had crashed",
        away.len(),
        away.join(", "),
        runs("succeeded").await,
        runs("lease_lost").await,
        runs("missed").await,
        rows("status = 'succeeded'").await,
        rows("status = 'dead'").await,
        rows("crash_count > 0").await,
    );
    assert_eq!(runs("running").await, 0, "a stop leaves no run running");
    assert_eq!(rows("status IN ('queued', 'running')").await, 0, "nor a row");
    assert_eq!(rows("queue_slot IS NOT NULL OR concurrency_slot IS NOT NULL").await, 0);
    assert_eq!(rows("status = 'dead' AND last_error NOT LIKE 'crashing%'").await, 0);
    assert!(rows("status = 'dead'").await <= 8, "the work gets done");
    let none = [
        ("a limit was exceeded", "SELECT count(*) FROM exceeded"),
        (
            "a delivered row has no effect of its last claim",
            "SELECT count(*) FROM parcels p WHERE p.status = 'succeeded' AND NOT EXISTS (
               SELECT 1 FROM effects e WHERE e.id = p.id AND e.lease_token = p.lease_token)",
        ),
        (
            "a slot succeeded twice",
            "SELECT count(*) FROM (SELECT 1 FROM job_runs WHERE status = 'succeeded'
               GROUP BY scheduled_for_ms HAVING count(*) > 1) AS twice",
        ),
        (
            "an effect has no run",
            "SELECT count(*) FROM jobs.effects e WHERE NOT EXISTS (SELECT 1 FROM job_runs r
               WHERE r.scheduled_for_ms = e.slot AND r.attempt = e.attempt AND r.token = e.token)",
        ),
        (
            "a run that succeeded has no effect",
            "SELECT count(*) FROM job_runs r WHERE r.status = 'succeeded' AND NOT EXISTS (
               SELECT 1 FROM jobs.effects e WHERE r.scheduled_for_ms = e.slot AND r.attempt = e.attempt)",
        ),
        (
            "a slot has no trace",
            "SELECT count(*) FROM schedules s, generate_series(s.anchor_ms, s.last_fired_for_ms, 200) AS slot
             WHERE s.job = 'tick' AND NOT EXISTS (SELECT 1 FROM job_runs r WHERE r.job = 'tick'
               AND (r.scheduled_for_ms = slot OR slot BETWEEN r.scheduled_for_ms AND r.missed_until_ms))",
        ),
    ];
    for (what, sql) in none {
        assert_eq!(observer.number(sql).await, 0, "{what}");
    }
}
