//! Databases that are new, behind, ahead, or cannot be written.

use serde_json::json;

use super::*;

#[tokio::test]
async fn migrate_says_what_it_applied_and_status_where_each_stands() {
    let folder = Folder::new();
    let status = folder.arena(&["db", "status", "--json"]).await.json();
    assert_eq!(
        status["migrations"][0],
        json!({"list": "scheduler_migrations", "name": "m20261123_000001_scheduler", "state": "pending"})
    );
    let applied = folder.arena(&["db", "migrate"]).await.well();
    assert!(applied.starts_with("applied m20261123_000001_scheduler\n"), "{applied}");
    let again = folder.arena(&["db", "migrate"]).await.well();
    assert_eq!(again, "nothing to do: the database is up to date\n");
    let none = folder.arena(&["db", "migrate", "--json"]).await.json();
    assert_eq!(none, json!({"applied": []}));
    let status = folder.arena(&["db", "status"]).await.well();
    assert!(status.contains("applied") && !status.contains("pending"), "{status}");
}

#[tokio::test]
async fn a_database_that_is_behind_stops_all_but_the_commands_that_migrate() {
    let folder = Folder::new();
    for line in [
        &["backtest", "list"][..],
        &["market", "import", "--symbol", "BTC", "--interval", "1h", "x.csv"],
        &["seed", "demo"],
        &["worker", "all", "--once", "--no-migrate"],
        &["api", "--bind", "127.0.0.1:0", "--no-migrate"],
        &["up", "--bind", "127.0.0.1:0", "--no-migrate"],
    ] {
        let pending = ["lacks migrations (", " pending): run `arena db migrate`"];
        folder.arena(line).await.refused(2, &pending);
    }
    let once = folder.arena(&["worker", "all", "--once"]).await.well();
    assert!(once.contains("backtesting succeeded: nothing to do\n"), "{once}");
    let document = folder.arena(&["worker", "all", "--once", "--json"]).await.json();
    let cycles = document["cycles"].as_array().unwrap();
    let workers: Vec<_> = cycles.iter().map(|cycle| cycle["worker"].as_str().unwrap()).collect();
    assert_eq!(
        workers,
        [
            "prop_decisions",
            "prop_mark_to_market",
            "backtesting",
            "lifecycle_audition_evaluator",
            "lifecycle_arena_entry"
        ]
    );
    assert!(cycles.iter().all(|cycle| cycle["status"] == "succeeded"), "{document}");
}

#[tokio::test]
async fn a_newer_database_is_refused_by_what_migrates_and_read_by_the_rest() {
    let folder = Folder::migrated().await;
    folder
        .execute("INSERT INTO arena_migrations (version, applied_at) VALUES ('m2099_later', 0)")
        .await;
    for line in [
        &["worker", "all", "--once"][..],
        &["api", "--bind", "127.0.0.1:0"],
        &["up", "--bind", "127.0.0.1:0"],
    ] {
        folder.arena(line).await.refused(2, &["is newer", "m2099_later", "--no-migrate"]);
    }
    folder.arena(&["db", "migrate"]).await.refused(2, &["is newer", "m2099_later"]);
    folder.arena(&["worker", "all", "--once", "--no-migrate"]).await.well();
    assert_eq!(folder.arena(&["backtest", "list"]).await.well(), "no back-tests\n");
    let status = folder.arena(&["db", "status"]).await.well();
    assert!(status.contains("m2099_later") && status.contains("unknown to this program"));
}

#[tokio::test]
async fn a_read_only_database_can_be_looked_at_and_says_why_it_is_not_written() {
    let folder = Folder::with_bars().await;
    let graph = folder.write("graph.json", domain::strategy::DEFAULT_GRAPH_JSON);
    let url = format!("{}?mode=ro", folder.url);
    let read_only = async |line: &[&str]| {
        let line: Vec<&str> =
            ["--database-url", &url].into_iter().chain(line.iter().copied()).collect();
        arena(&line).await
    };
    assert_eq!(read_only(&["backtest", "list"]).await.well(), "no back-tests\n");
    let submit = ["backtest", "submit", "--user", "1", "--symbol", "BTC", "--interval", "1h"];
    let submit: Vec<&str> = submit.into_iter().chain(["--graph", &graph]).collect();
    for line in [&submit[..], &["worker", "all", "--once"]] {
        read_only(line).await.refused(2, &["the database is read-only", "permissions"]);
    }
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.folder.path().join("arena.db"), "some text, and more of it").unwrap();
    let parts = ["(DATABASE_URL)", "arena.db", "file is not a database"];
    folder.arena(&["db", "status"]).await.refused(2, &parts);
}

#[tokio::test]
async fn an_open_bind_is_refused_before_the_database_is_opened() {
    let folder = Folder::new();
    for command in [&["api"][..], &["up"], &["up", "--demo"]] {
        let line: Vec<&str> = command.iter().copied().chain(["--bind", "0.0.0.0:0"]).collect();
        let parts = ["`0.0.0.0:0`", "INTERNAL_SERVICE_TOKEN and API_BEARER_TOKENS"];
        folder.arena(&line).await.refused(2, &parts);
    }
    assert_eq!(std::fs::read_dir(folder.folder.path()).unwrap().count(), 0);
}
