//! Six hosts share one job while hosts are killed and frozen at random: what the protocol promises
//! must hold in what they leave. Prints its seed and its figures.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{Clock, Store, SystemClock};
use sea_orm::{ConnectionTrait, Statement};

#[cfg(feature = "postgres")]
#[path = "../it/postgres.rs"]
mod postgres;

const HOSTS: usize = 6;
const DURATION: Duration = Duration::from_secs(20);
const INTERVAL_MS: i64 = 200;

#[tokio::test]
async fn each_slot_runs_once_or_is_recorded_while_hosts_die_on_sqlite() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}", folder.path().join("faults.db").display());
    torment(&url).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn each_slot_runs_once_or_is_recorded_while_hosts_die_on_postgres() {
    torment(&postgres::new_database().await).await;
}

async fn torment(url: &str) {
    let store = Store::connect(url).await.expect("the database opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    let effects = "CREATE TABLE effects (slot BIGINT NOT NULL, attempt BIGINT NOT NULL, token BIGINT NOT NULL, UNIQUE (slot, attempt))";
    store.reader().execute_unprepared(effects).await.expect("a table");

    let seed = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut kills, mut freezes) = (0, 0);
    let mut hosts: Vec<Host> = (0..HOSTS).map(|_| Host::start(url)).collect();
    let began = Instant::now();
    while began.elapsed() < DURATION {
        pause(Duration::from_millis(random.u64(100..500))).await;
        let victim = random.usize(..HOSTS);
        if random.u8(..4) == 0 {
            // Frozen past its lease, and woken.
            hosts[victim].signal("STOP");
            pause(Duration::from_millis(1_100)).await;
            hosts[victim].signal("CONT");
            freezes += 1;
        } else {
            hosts[victim].kill();
            hosts[victim] = Host::start(url);
            kills += 1;
        }
    }
    let logs: Vec<String> = hosts.into_iter().map(Host::stop).collect();

    let found = Found::read(&store).await;
    println!("seed {seed}: {kills} kills, {freezes} freezes; {}", found.figures());
    found.check();
    for log in logs {
        assert!(!log.contains("database is locked"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Lets the hosts go on for a while: time is what this test is about.
async fn pause(span: Duration) {
    let until_ms = SystemClock.now_ms() + i64::try_from(span.as_millis()).expect("short");
    SystemClock.sleep_until(until_ms).await;
}

struct Host {
    child: Child,
}

impl Host {
    fn start(url: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_fault-host"))
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a host starts");
        Self { child }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
    }

    /// Ends its input, waits for its graceful end, answers what it logged.
    fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("stderr");
        stderr.read_to_string(&mut log).expect("text");
        let status = self.child.wait().expect("waited");
        assert!(status.success(), "a stopped host ends well: {log}");
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

struct Run {
    slot_ms: i64,
    status: String,
    missed: Option<(i64, i64)>,
}

/// What the hosts left in the database.
struct Found {
    runs: Vec<Run>,
    last_fired_ms: i64,
    anchor_ms: i64,
    effects: i64,
    effects_without_run: i64,
}

impl Found {
    async fn read(store: &Store) -> Self {
        let rows = rows(store, "SELECT scheduled_for_ms, status, missed_until_ms, missed_count FROM job_runs ORDER BY scheduled_for_ms, attempt").await;
        let runs = rows.iter().map(|row| {
            let until: Option<i64> = row.try_get("", "missed_until_ms").expect("a column");
            let count: Option<i64> = row.try_get("", "missed_count").expect("a column");
            Run {
                slot_ms: row.try_get("", "scheduled_for_ms").expect("a column"),
                status: row.try_get("", "status").expect("a column"),
                missed: until.zip(count),
            }
        });
        let schedule = "SELECT last_fired_for_ms, anchor_ms FROM schedules";
        let schedule = self::rows(store, schedule).await;
        Self {
            runs: runs.collect(),
            last_fired_ms: schedule[0].try_get("", "last_fired_for_ms").expect("a column"),
            anchor_ms: schedule[0].try_get("", "anchor_ms").expect("a column"),
            effects: count(store, "SELECT count(*) AS n FROM effects").await,
            effects_without_run: count(
                store,
                "SELECT count(*) AS n FROM effects e WHERE NOT EXISTS (SELECT 1 FROM job_runs r
                 WHERE r.scheduled_for_ms = e.slot AND r.attempt = e.attempt AND r.token = e.token)",
            )
            .await,
        }
    }

    fn of(&self, status: &str) -> usize {
        self.runs.iter().filter(|run| run.status == status).count()
    }

    fn figures(&self) -> String {
        format!(
            "{} rows: {} succeeded, {} lease_lost, {} missed, {} skipped; {} effects",
            self.runs.len(),
            self.of("succeeded"),
            self.of("lease_lost"),
            self.of("missed"),
            self.of("skipped_overlap"),
            self.effects
        )
    }

    fn check(&self) {
        assert_eq!(self.of("running"), 0, "nothing is left running");
        assert_eq!(self.effects_without_run, 0);
        assert!(self.of("succeeded") >= 30, "the job goes on: {}", self.figures());
        // No slot succeeded twice.
        let mut succeeded = BTreeSet::new();
        for run in self.runs.iter().filter(|run| run.status == "succeeded") {
            assert!(succeeded.insert(run.slot_ms), "slot {} succeeded twice", run.slot_ms);
        }
        // No slot is lost: it has a run, or is inside a recorded miss or skip.
        let mut covered: BTreeSet<i64> = BTreeSet::new();
        for run in &self.runs {
            covered.insert(run.slot_ms);
            if let Some((until_ms, _)) = run.missed {
                covered.extend((run.slot_ms..=until_ms).filter(|slot| self.on_grid(*slot)));
            }
        }
        let expected = (self.anchor_ms..=self.last_fired_ms).filter(|slot| self.on_grid(*slot));
        let lost: Vec<i64> = expected.filter(|slot| !covered.contains(slot)).collect();
        assert!(lost.is_empty(), "slots without a trace: {lost:?}");
    }

    fn on_grid(&self, slot_ms: i64) -> bool {
        (slot_ms - self.anchor_ms) % INTERVAL_MS == 0
    }
}

async fn rows(store: &Store, sql: &str) -> Vec<sea_orm::QueryResult> {
    let backend = store.reader().get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, []);
    store.reader().query_all_raw(statement).await.expect(sql)
}

async fn count(store: &Store, sql: &str) -> i64 {
    rows(store, sql).await[0].try_get("", "n").expect("a count")
}
