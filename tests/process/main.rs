//! The arena as processes: started, looked at over HTTP, stopped by signals.

mod arena;
mod ingest;
mod migrate;
#[cfg(feature = "postgres")]
#[path = "../it/postgres.rs"]
mod postgres;

use std::time::Duration;

use arena::{Arena, Ended};

#[test]
fn up_is_ready_beats_and_ends_well_on_sigterm() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arena = Arena::start(folder.path(), &["up", "--no-ingest"]);
    arena.wait_until("/readyz", 200);
    assert_eq!(arena.get("/livez", None).status, 200);
    assert_eq!(arena.get("/api/v1/internal/health/workers", None).status, 401);
    assert_eq!(arena.get("/api/v1/internal/health/workers", Some("wrong")).status, 401);
    let health = arena.wait_for_worker("backtesting", "succeeded");
    assert_eq!(health["status"], "ok", "{health}");
    let Ended { code, stderr } = arena.terminate();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains(arena::SERVICE_TOKEN), "a token was logged: {stderr}");
}

#[test]
fn every_worker_in_one_process_beats_and_ends_well() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let api = Arena::start(folder.path(), &["api"]);
    let workers =
        Arena::start_quietly(folder.path(), &["worker", "all", "--with", "clone-decisions"]);
    for worker in [
        "backtesting",
        "clone_decisions",
        "lifecycle_arena_entry",
        "lifecycle_audition_evaluator",
        "prop_decisions",
        "prop_mark_to_market",
    ] {
        api.wait_for_worker(worker, "succeeded");
    }
    assert_eq!(workers.terminate().code, Some(0));
    assert_eq!(api.terminate().code, Some(0));
}

#[test]
fn ingestion_of_simulated_venues_writes_and_ends_well() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ingest = Arena::start_quietly(folder.path(), &["ingest", "--local"]);
    let api = Arena::start(folder.path(), &["api"]);
    api.wait_until_rows_of("hyperliquid");
    assert_eq!(ingest.terminate().code, Some(0));
    assert_eq!(api.terminate().code, Some(0));
}

#[test]
fn a_worker_and_an_api_are_two_processes_of_one_arena() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let api = Arena::start(folder.path(), &["api"]);
    api.wait_until("/readyz", 200);
    let health = api.health();
    assert_eq!(health["status"], "down", "nobody works yet: {health}");
    let worker = Arena::start_quietly(folder.path(), &["worker", "backtests"]);
    let health = api.wait_for_worker("backtesting", "succeeded");
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(worker.terminate().code, Some(0));
    assert_eq!(api.terminate().code, Some(0));
}

#[test]
fn a_killed_worker_leaves_a_database_that_the_next_one_goes_on_with() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = Arena::start(folder.path(), &["up", "--no-ingest"]);
    first.wait_for_worker("backtesting", "succeeded");
    first.kill();
    let second = Arena::start(folder.path(), &["up", "--no-ingest"]);
    second.wait_until("/readyz", 200);
    second.wait_for_worker("backtesting", "succeeded");
    assert_eq!(second.terminate().code, Some(0));
}

#[test]
fn the_demo_shows_a_back_test_and_ends_well() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let demo = Arena::start(folder.path(), &["up", "--demo"]);
    demo.wait_until("/readyz", 200);
    demo.wait_for_worker("backtesting", "succeeded");
    demo.wait_for_line(Duration::from_secs(120), |line| line.contains("trades"));
    demo.wait_for_line(Duration::from_secs(120), |line| line.starts_with("fill "));
    demo.wait_for_line(Duration::from_secs(120), |line| line.contains("enters season"));
    assert_eq!(demo.terminate().code, Some(0));
}
