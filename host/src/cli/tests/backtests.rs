//! Back-tests from the command line: into the queue, through the worker, onto the terminal.

use domain::strategy::DEFAULT_GRAPH_JSON;
use serde_json::json;

use super::*;

fn submit<'a>(graph: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["backtest", "submit", "--user", "7", "--graph", graph]
        .into_iter()
        .chain(more.iter().copied())
        .collect()
}

const BTC: [&str; 4] = ["--symbol", "BTC", "--interval", "1h"];

async fn submitted(folder: &Folder) -> String {
    let graph = folder.write("graph.json", DEFAULT_GRAPH_JSON);
    folder.arena(&submit(&graph, &BTC)).await.well().trim_end().to_owned()
}

#[tokio::test]
async fn a_submitted_back_test_is_worked_off_and_shown() {
    let folder = Folder::with_bars().await;
    let id = submitted(&folder).await;
    assert_eq!(id.len(), 36, "a bare id: {id}");
    let listed = folder.arena(&["backtest", "list", "--json"]).await.json();
    assert_eq!(listed["backtests"][0]["id"], id);
    assert_eq!(listed["backtests"][0]["status"], "queued");

    let once = folder.arena(&["worker", "backtests", "--once"]).await.well();
    assert_eq!(once, "backtesting succeeded: claimed 1, succeeded 1\n");

    let shown = folder.arena(&["backtest", "show", &id]).await.well();
    for part in ["strategy  sma-cross\n", "status    succeeded\n", "sharpe", "fees_paid"] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let document = folder.arena(&["backtest", "show", &id, "--json"]).await.json();
    assert_eq!(document["result"]["bars"], 100);
    assert_eq!(document["graph"]["name"], "sma-cross");
    let listed = folder.arena(&["backtest", "list", "--user", "7"]).await.well();
    assert!(listed.contains(&id) && listed.contains("succeeded"), "{listed}");
    let listed = folder.arena(&["backtest", "list", "--user", "8"]).await.well();
    assert_eq!(listed, "no back-tests\n");
}

#[tokio::test]
async fn flags_reach_the_row_and_basis_points_become_fractions() {
    let folder = Folder::with_bars().await;
    let graph = folder.write("graph.json", DEFAULT_GRAPH_JSON);
    let flags = ["--from", "-5", "--to=7200000", "--cash", "500", "--slippage-bps", "5", "--json"];
    let line: Vec<&str> = BTC.into_iter().chain(flags).collect();
    let answer = folder.arena(&submit(&graph, &line)).await.json();
    let id = answer["id"].as_str().unwrap();
    let shown = folder.arena(&["backtest", "show", id, "--json"]).await.json();
    for (key, value) in [
        ("user_id", json!(7)),
        ("from_ms", json!(-5)),
        ("to_ms", json!(7_200_000)),
        ("initial_cash", json!(500.0)),
        ("fee_rate", json!(0.000_45)),
        ("slippage_rate", json!(0.000_5)),
        ("result", Value::Null),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
}

#[tokio::test]
async fn a_bad_submission_is_exit_2_says_why_and_leaves_nothing() {
    let folder = Folder::with_bars().await;
    let good = folder.write("graph.json", DEFAULT_GRAPH_JSON);
    let check = async |graph: &str, line: &[&str], parts: &[&str]| {
        folder.arena(&submit(graph, line)).await.refused(2, parts);
    };
    check(
        &good,
        &["--symbol", "DOGE", "--interval", "1h"],
        &["symbol `DOGE` has no 1h candles; import them first"],
    )
    .await;
    check(
        &good,
        &["--symbol", "BTC", "--interval", "1d"],
        &["interval is `1d`, expected `1h`: the timeframe of graph `sma-cross`"],
    )
    .await;
    let with = |more: [&'static str; 4]| BTC.into_iter().chain(more).collect::<Vec<_>>();
    check(&good, &with(["--from", "9", "--to", "9"]), &["from_ms is `9`", "to_ms"]).await;
    check(
        &good,
        &with(["--from", "9000000000000", "--cash", "1"]),
        &["`9000000000000`", "outside the history", "from 0 to 356400000"],
    )
    .await;

    let cycle = DEFAULT_GRAPH_JSON
        .replacen(r#""inputs": ["close"]"#, r#""inputs": ["slow"]"#, 1)
        .replacen(r#""inputs": ["close"]"#, r#""inputs": ["fast"]"#, 1);
    let cycle = folder.write("cycle.json", &cycle);
    check(&cycle, &BTC, &["cycle.json", "node `fast`", "cycle: fast <- slow <- fast"]).await;
    let broken = folder.write("broken.json", "{\"a\":");
    check(&broken, &BTC, &["broken.json", "not valid JSON", "line 1 column 5"]).await;
    let large = folder.write("large.json", &" ".repeat(1024 * 1024 + 1));
    check(&large, &BTC, &["large.json", "is too large"]).await;
    check("/no/such.json", &BTC, &["cannot open `/no/such.json`", "caused by:"]).await;

    assert_eq!(folder.arena(&["backtest", "list"]).await.well(), "no back-tests\n");
}

#[tokio::test]
async fn a_back_test_that_is_not_there_is_exit_1() {
    let folder = Folder::migrated().await;
    for line in [["backtest", "show", "nope"], ["backtest", "cancel", "nope"]] {
        folder.arena(&line).await.refused(1, &["there is no back-test `nope`"]);
    }
}

#[tokio::test]
async fn cancel_says_what_became_of_it() {
    let folder = Folder::with_bars().await;
    let id = submitted(&folder).await;
    let cancel = ["backtest", "cancel", id.as_str()];
    assert_eq!(folder.arena(&cancel).await.well(), "cancelled\n");
    let again = folder.arena(&cancel).await.well();
    assert_eq!(again, "nothing to cancel: it is cancelled already\n");
    let document = folder.arena(&["backtest", "cancel", &id, "--json"]).await.json();
    assert_eq!(document, json!({"outcome": "already_ended", "status": "cancelled"}));

    let running = submitted(&folder).await;
    folder.execute("UPDATE backtest_jobs SET status = 'running' WHERE status = 'queued'").await;
    let asked = folder.arena(&["backtest", "cancel", &running]).await.well();
    assert_eq!(asked, "its worker has been asked to stop\n");
    let shown = folder.arena(&["backtest", "list"]).await.well();
    assert!(shown.contains("running (asked to stop)"), "{shown}");
}

#[tokio::test]
async fn the_demo_is_seeded_into_an_empty_database_only() {
    let folder = Folder::migrated().await;
    let seeded = folder.arena(&["seed", "demo"]).await.well();
    assert!(seeded.contains("5 back-tests of 3 users queued"), "{seeded}");
    folder.arena(&["seed", "demo"]).await.refused(2, &["has instruments (BTC, ETH, SOL)"]);
}
