//! Six processes migrate one empty database at once: all end well, and each migration is applied once.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROCESSES: usize = 6;
/// A database that several open for the first time may keep each waiting.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn six_processes_migrate_one_sqlite_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for round in 0..3 {
        migrate_at_once(folder.path(), &format!("sqlite://{round}.db"));
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn six_processes_migrate_one_postgres_database() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for _ in 0..3 {
        let Some(url) = crate::postgres::new_database().await else { return };
        migrate_at_once(folder.path(), &url);
    }
}

fn migrate_at_once(folder: &Path, url: &str) {
    let began: Vec<_> = (0..PROCESSES).map(|_| start(folder, url, "migrate")).collect();
    let applied = began.into_iter().flat_map(|child| list(&ended_well(child), "applied"));
    let mut applied: Vec<Value> = applied.collect();
    let migrations = list(&ended_well(start(folder, url, "status")), "migrations");
    assert!(migrations.len() > 1, "{migrations:?}");
    let is_applied = |migration: &Value| migration["state"] == "applied";
    assert!(migrations.iter().all(is_applied), "{migrations:?}");
    // Each by one process only.
    applied.sort_by_key(ToString::to_string);
    let mut expected: Vec<Value> = migrations;
    for migration in &mut expected {
        migration.as_object_mut().expect("an object").remove("state");
    }
    expected.sort_by_key(ToString::to_string);
    assert_eq!(applied, expected);
}

fn start(folder: &Path, url: &str, command: &str) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_arena-under-test"))
        .args(["db", command, "--json"])
        .current_dir(folder)
        .env("DATABASE_URL", url)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the arena starts")
}

/// Waits for the end of a process that says little.
fn ended_well(mut child: std::process::Child) -> Output {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("waited").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("killed");
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    output
}

fn list(output: &Output, name: &str) -> Vec<Value> {
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    document[name].as_array().expect(name).clone()
}
