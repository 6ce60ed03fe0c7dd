//! Commands that do their work and end.

use serde_json::json;

use super::*;
use crate::wiring::Reject;

#[tokio::test]
async fn an_open_bind_is_refused_before_the_database_is_opened() {
    for command in ["api", "up"] {
        let ran = arena(&[command, "--bind", "0.0.0.0:0"], Fake::default()).await;
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains("INTERNAL_SERVICE_TOKEN and API_BEARER_TOKENS"), "{}", ran.err);
        assert_eq!(ran.asked, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_database_that_is_behind_stops_all_but_the_commands_that_migrate() {
    let behind = || Fake { pending: true, ..Fake::default() };
    for line in [
        &["backtest", "list"][..],
        &["market", "import", "--symbol", "BTC", "--interval", "1h", "x.csv"],
        &["worker", "all", "--once", "--no-migrate"],
        &["api", "--bind", "127.0.0.1:0", "--no-migrate"],
    ] {
        let ran = arena(line, behind()).await;
        assert_eq!(ran.code, 2, "{line:?}: {}", ran.err);
        assert!(
            ran.err.contains("lacks migrations (1 pending); run `arena db migrate`"),
            "{}",
            ran.err
        );
    }
    let ran = arena(&["worker", "all", "--once"], behind()).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.asked[0], "migrate");
    let ran = arena(&["db", "migrate"], behind()).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "applied m1\n"));
    let ran = arena(&["db", "status", "--json"], behind()).await;
    assert_eq!(ran.json(), json!({"migrations": [{"name": "m1", "state": "pending"}]}));
}

#[tokio::test]
async fn an_import_reports_its_counts_and_fails_when_nothing_was_good() {
    let line = ["market", "import", "--symbol", "BTC", "--interval", "1h", "x.csv"];
    let reject = Reject { line: 2, reason: "`high` is \u{1b}[2J".into() };
    let report = ImportReport {
        rows: 10,
        inserted: 7,
        duplicates: 1,
        changed: 0,
        gap_count: 0,
        gaps: Vec::new(),
        reject_count: 2,
        rejects: vec![reject],
    };
    let ran = arena(&line, Fake { import: Some(report.clone()), ..Fake::default() }).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("line 2: `high` is \\u{1b}[2J\n… rejects not shown: 1"),
        "{}",
        ran.out
    );
    assert!(ran.asked[0].contains("interval: H1") && ran.asked[0].contains("x.csv"));

    let with_json: Vec<&str> = line.into_iter().chain(["--json"]).collect();
    let ran = arena(&with_json, Fake { import: Some(report.clone()), ..Fake::default() }).await;
    assert_eq!(ran.json()["inserted"], 7);

    let all_bad = ImportReport { reject_count: 10, inserted: 0, ..report };
    let ran = arena(&line, Fake { import: Some(all_bad), ..Fake::default() }).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("every row of `x.csv` was refused"), "{}", ran.err);
    assert_eq!(arena(&line, Fake::default()).await.code, 2);
}

#[tokio::test]
async fn submit_reads_the_graph_turns_basis_points_into_fractions_and_prints_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("graph.json");
    std::fs::write(&graph, r#"{"nodes":[]}"#).unwrap();
    let submit = |graph: &str, more: &[&str]| {
        let line = ["backtest", "submit", "--user", "7", "--symbol", "BTC", "--interval", "1d"];
        let line = line.into_iter().chain(["--graph", graph]).chain(more.iter().copied());
        line.map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |line: Vec<String>| {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        arena(&line, Fake::default()).await
    };
    let graph = graph.to_str().unwrap();

    let ran = run(submit(graph, &[])).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "0190-abc\n"), "{}", ran.err);
    let asked = &ran.asked[0];
    for part in ["user_id: 7", "initial_cash: 10000.0", "fee_rate: 0.00045", "to_ms: None"] {
        assert!(asked.contains(part), "{asked}");
    }
    let ran =
        run(submit(graph, &["--from", "-5", "--to=9", "--slippage-bps", "5", "--json"])).await;
    assert_eq!(ran.json(), json!({"id": "0190-abc"}));
    assert!(ran.asked[0].contains("from_ms: Some(-5)"), "{}", ran.asked[0]);
    assert!(ran.asked[0].contains("slippage_rate: 0.0005"), "{}", ran.asked[0]);

    let ran = run(submit(graph, &["--from", "9", "--to", "9"])).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--from is 9: expected less than --to, 9"), "{}", ran.err);

    let missing = folder.path().join("missing.json");
    let ran = run(submit(missing.to_str().unwrap(), &[])).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("cannot open") && ran.err.contains("caused by:"), "{}", ran.err);

    let large = folder.path().join("large.json");
    std::fs::write(&large, vec![b' '; 1024 * 1024 + 1]).unwrap();
    let ran = run(submit(large.to_str().unwrap(), &[])).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is too large"), "{}", ran.err);
}

#[tokio::test]
async fn a_back_test_that_is_not_there_is_exit_1() {
    for line in [["backtest", "show", "nope"], ["backtest", "cancel", "nope"]] {
        let ran = arena(&line, Fake::default()).await;
        assert_eq!(ran.code, 1, "{line:?}");
        assert!(ran.err.contains("there is no back-test `nope`"), "{}", ran.err);
        assert_eq!(ran.asked.last().unwrap(), "close");
    }
}

#[tokio::test]
async fn cancel_says_what_became_of_it() {
    let check = async |cancellation: Cancellation, words: &str, document: Value| {
        let fake = || Fake { cancellation: Some(cancellation.clone()), ..Fake::default() };
        assert_eq!(arena(&["backtest", "cancel", "x"], fake()).await.out, words);
        assert_eq!(arena(&["backtest", "cancel", "x", "--json"], fake()).await.json(), document);
    };
    check(Cancellation::Cancelled, "cancelled\n", json!({"outcome": "cancelled"})).await;
    check(
        Cancellation::Requested,
        "its worker has been asked to stop\n",
        json!({"outcome": "requested"}),
    )
    .await;
    check(
        Cancellation::AlreadyEnded("dead".into()),
        "nothing to cancel: it is dead already\n",
        json!({"outcome": "already_ended", "status": "dead"}),
    )
    .await;
}

#[tokio::test]
async fn a_single_cycle_ends_with_the_code_of_its_worst_worker() {
    let cycle = |outcome| Cycle { worker: "backtesting".into(), outcome };
    let good = || cycle(CycleOutcome::Succeeded { summary: json!({"played": 2}) });
    let bad = || cycle(CycleOutcome::Failed { error: "no candles".into() });
    let busy = || cycle(CycleOutcome::Busy { holder: "0190".into(), until_ms: 0 });
    let check = async |cycles: Vec<Cycle>, code: u8, words: &str| {
        let line = ["worker", "backtests", "--once", "--wait", "2s"];
        let ran = arena(&line, Fake { cycles, ..Fake::default() }).await;
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.err.contains(words), "{}", ran.err);
    };
    check(vec![good()], 0, "").await;
    check(vec![good(), bad(), busy()], 1, "the cycle of backtesting failed: no candles").await;
    check(vec![busy()], 3, "backtesting is busy, held by 0190 until 1970-01-01T00:00:00Z").await;

    let fake = Fake { cycles: vec![good()], ..Fake::default() };
    let ran = arena(&["worker", "all", "--once", "--json"], fake).await;
    assert_eq!(
        ran.json(),
        json!({"cycles": [
            {"worker": "backtesting", "outcome": "succeeded", "summary": {"played": 2}}
        ]})
    );
}

#[tokio::test]
async fn the_flags_of_the_worker_reach_it() {
    let line = [
        "worker",
        "backtests",
        "--once",
        "--max-concurrent",
        "5",
        "--max-per-user",
        "3",
        "--lease",
        "90s",
        "--backtests-interval",
        "2s",
    ];
    let ran = arena(&line, Fake::default()).await;
    let asked = &ran.asked[1];
    for part in ["interval: 2s", "max_concurrent: 5", "max_per_user: 3", "lease: 90s"] {
        assert!(asked.contains(part), "{asked}");
    }
    let ran = arena(&["worker", "all", "--once"], Fake::default()).await;
    assert!(ran.asked[1].contains(&format!("{:?}", WorkersConfig::default())), "{:?}", ran.asked);
}
