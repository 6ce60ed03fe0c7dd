//! The previous version's host works beside this one's on this version's schema, as in an update of
//! one host after the other: each takes over what the other left.
//!
//! `FAULT_OLD_HOST` is the older `fault-host`, built from the last release. Without it, a copy of
//! this version's host stands in for it.

use std::ffi::OsString;

use scheduler_core::Store;
use tempfile::TempDir;

use crate::database::{JOB_TABLES, QUEUE_TABLES, count, execute, lines, prepare, until};
use crate::host::{self, Host};
use crate::slots::Found;

const HOLDS: [&str; 3] = ["hold=1", "lease=2000", "reruns=3"];
const WORKS: [&str; 2] = ["lease=2000", "reruns=3"];

pub(crate) async fn jobs(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let versions = Versions::find();
    for [dies, takes_over] in versions.pairs() {
        let mut dead = Host::start_program(dies, "job", url, &HOLDS);
        let inside = dead.wait_for("inside");
        let (slot, _) = inside.split_once(' ').expect("a slot");
        let mut next = Host::start_program(takes_over, "job", url, &HOLDS);
        next.wait_for("started");
        read_everything(&dead.kill());
        let again = next.wait_for("inside");
        assert!(again.starts_with(&format!("{slot} 2 ")), "{slot} runs again, not {again}");
        next.tell("book");
        assert_eq!(next.answer(), "booked");
        // Both go on.
        let mut back = Host::start_program(dies, "job", url, &WORKS);
        back.wait_for("started");
        for host in [&back, &next] {
            let instance = host.known_instance();
            let own = format!(
                "SELECT count(*) AS n FROM job_runs WHERE status = 'succeeded' AND instance_id = '{instance}'"
            );
            until(&store, &own, 2).await;
        }
        for host in [back, next] {
            read_everything(&host.stop());
        }
    }
    Found::read(&store, 200).await.check();
}

pub(crate) async fn queues(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    let versions = Versions::find();
    let mut first = 0;
    for [dies, takes_over] in versions.pairs() {
        first += 100;
        execute(&store, &format!("INSERT INTO parcels (id, user_id) VALUES ({first}, 1)")).await;
        let mut dead = Host::start_program(dies, "queue", url, &HOLDS);
        assert_eq!(dead.wait_for("inside"), format!("{first} 1 1"));
        let mut next = Host::start_program(takes_over, "queue", url, &HOLDS);
        next.wait_for("started");
        read_everything(&dead.kill());
        assert_eq!(next.wait_for("inside"), format!("{first} 2 2"));
        next.tell("book");
        assert_eq!(next.answer(), "booked");
        let mut back = Host::start_program(dies, "queue", url, &WORKS);
        back.wait_for("started");
        fill(&store, first + 1).await;
        let left = "SELECT -count(*) AS n FROM parcels WHERE status IN ('queued', 'running')";
        until(&store, left, 0).await;
        for host in [back, next] {
            read_everything(&host.stop());
        }
    }
    let columns = ["status", "attempt_count", "crash_count", "count(*)"];
    let kinds = "FROM parcels GROUP BY status, attempt_count, crash_count ORDER BY attempt_count";
    assert_eq!(lines(&store, &columns, kinds).await, ["succeeded|1|0|80", "succeeded|2|1|2"]);
    assert_eq!(count(&store, "SELECT count(*) AS n FROM effects").await, 82);
    assert_eq!(count(&store, "SELECT count(*) AS n FROM exceeded").await, 0);
}

async fn fill(store: &Store, first: i64) {
    let rows: Vec<String> = (first..first + 40).map(|id| format!("({id}, {})", id % 8)).collect();
    let fill = format!("INSERT INTO parcels (id, user_id) VALUES {}", rows.join(", "));
    execute(store, &fill).await;
}

/// Neither of them meets a row of the other's that it does not understand.
fn read_everything(log: &str) {
    assert!(!log.contains("panicked") && !log.contains("cannot be read"), "{log}");
}

/// The two programs.
struct Versions {
    this: OsString,
    old: OsString,
    /// Where the copy is that stands in for the old one.
    _folder: Option<TempDir>,
}

impl Versions {
    fn find() -> Self {
        let this = host::program();
        if let Some(old) = std::env::var_os("FAULT_OLD_HOST") {
            return Self { this, old, _folder: None };
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let copy = folder.path().join("old-fault-host");
        std::fs::copy(&this, &copy).expect("copied");
        Self { this, old: copy.into_os_string(), _folder: Some(folder) }
    }

    /// Who dies and who takes over.
    fn pairs(&self) -> [[&OsString; 2]; 2] {
        [[&self.old, &self.this], [&self.this, &self.old]]
    }
}
