//! Child processes that can be killed and frozen, and what they leave.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{Clock, Store, SystemClock};
use sea_orm::{ConnectionTrait, Statement};

/// The leases of the hosts' jobs and rows are a little shorter.
const LEASE: Duration = Duration::from_secs(1);

/// Opens the database with the library's tables and those of the test.
pub(crate) async fn prepare(url: &str, tables: &str) -> Store {
    let store = Store::connect(url).await.expect("the database opens");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    store.reader().execute_unprepared(tables).await.expect("tables");
    store
}

/// Kills and freezes hosts until `enough`, at most for `longest`; then stops them all.
/// Answers the seed and the numbers of kills and freezes.
pub(crate) async fn torment(
    kind: &'static str,
    url: &str,
    hosts: usize,
    longest: Duration,
    mut enough: impl AsyncFnMut() -> bool,
) -> String {
    let seed = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut kills, mut freezes) = (0, 0);
    let mut running: Vec<Host> = (0..hosts).map(|_| Host::start(kind, url)).collect();
    let began = Instant::now();
    while began.elapsed() < longest && !enough().await {
        pause(Duration::from_millis(random.u64(100..500))).await;
        let victim = random.usize(..hosts);
        if random.u8(..4) == 0 {
            // Frozen past its lease, and woken.
            running[victim].signal("STOP");
            pause(Duration::from_millis(1_100)).await;
            running[victim].signal("CONT");
            freezes += 1;
        } else {
            running[victim].kill();
            running[victim] = Host::start(kind, url);
            kills += 1;
        }
    }
    // The last victim's lease expires, and somebody finds what it left.
    pause(3 * LEASE).await;
    for log in running.into_iter().map(Host::stop) {
        assert!(!log.contains("database is locked"), "seed {seed}: {log}");
        assert!(!log.contains("panicked"), "seed {seed}: {log}");
    }
    format!("seed {seed}: {kills} kills, {freezes} freezes in {:?}", began.elapsed())
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
    fn start(kind: &str, url: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_fault-host"))
            .args([kind, url])
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

pub(crate) async fn rows(store: &Store, sql: &str) -> Vec<sea_orm::QueryResult> {
    let backend = store.reader().get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, []);
    store.reader().query_all_raw(statement).await.expect(sql)
}

pub(crate) async fn count(store: &Store, sql: &str) -> i64 {
    rows(store, sql).await[0].try_get("", "n").expect("a count")
}
