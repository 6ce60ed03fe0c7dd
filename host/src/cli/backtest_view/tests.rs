use domain::market::Interval;
use serde_json::json;

use super::*;

fn backtest(result: Option<serde_json::Value>) -> BacktestJob {
    BacktestJob {
        id: "0190".into(),
        user_id: 7,
        clone_id: None,
        graph: domain::strategy::DEFAULT_GRAPH_JSON.into(),
        graph_hash: "abc".into(),
        symbol: "BTC".into(),
        interval: Interval::H1,
        from_ms: Some(0),
        to_ms: None,
        initial_cash: 10_000.0,
        fee_rate: 0.000_45,
        slippage_rate: 0.0,
        status: BacktestStatus::Succeeded,
        priority: 0,
        run_at_ms: 0,
        attempt_count: 1,
        max_attempts: 3,
        crash_count: 0,
        leased_by: None,
        lease_token: 1,
        lease_expires_at_ms: None,
        cancel_requested: false,
        progress_pct: 100.0,
        checkpoint: None,
        last_error: None,
        result: result.map(|result| result.to_string()),
        created_at_ms: 1_763_928_000_000,
        started_at_ms: None,
        completed_at_ms: None,
    }
}

fn trade(pnl: f64, open_at_end: bool) -> serde_json::Value {
    let mut trade = json!({
        "side": "long", "entry_time_ms": 0, "entry_price": 102.2, "exit_time_ms": 86_400_000,
        "exit_price": 0.012345678, "size": 10.0, "pnl": pnl, "fees": 0.9153,
        "exit_reason": "stop_loss",
    });
    if open_at_end {
        trade["open_at_end"] = json!(true);
    }
    trade
}

fn result() -> serde_json::Value {
    json!({
        "bars": 30, "initial_cash": 10000.0, "final_equity": 9993.16265,
        "total_return": -0.000683735, "cagr": -0.0082870922, "volatility": 0.019,
        "sharpe": null, "sortino": -0.5669362813, "max_drawdown": -0.0049792738720928,
        "calmar": null, "win_rate": 0.5, "profit_factor": 0.373599, "exposure": 0.433333,
        "turnover": 0.408202228, "fees_paid": 1.83735,
        "trades": [trade(-10.9153, false), trade(4.07795, false), trade(1.0, true)],
        "equity": [[0, 10000.0], [86_400_000, 9993.16265]],
        "nulls": {"sharpe": "zero_variance"}, "unknown_inputs": {"funding": 3},
    })
}

fn shown(backtest: &BacktestJob, trades: usize) -> String {
    let mut out = Vec::new();
    show(backtest, trades, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Whether a table has a row of exactly these two cells.
fn has_row(shown: &str, name: &str, value: &str) -> bool {
    shown.lines().any(|line| {
        let cells: Vec<&str> = line.split(['│', '┆']).map(str::trim).collect();
        cells == ["", name, value, ""]
    })
}

#[test]
fn metrics_are_shown_with_their_unit_and_a_missing_one_with_its_reason() {
    let shown = shown(&backtest(Some(result())), 20);
    for (name, value) in [
        ("final_equity", "9993.16"),
        ("total_return", "-0.07 %"),
        ("max_drawdown", "-0.50 %"),
        ("win_rate", "50.00 %"),
        ("sortino", "-0.5669"),
        ("sharpe", "n/a (zero_variance)"),
        ("calmar", "n/a"),
        ("trades", "3"),
        ("fees_paid", "1.84"),
    ] {
        assert!(has_row(&shown, name, value), "{name} {value}\n{shown}");
    }
    assert!(shown.contains("equity, 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z"), "{shown}");
    assert!(shown.contains("input `funding` has no history: unknown in 3 readings"), "{shown}");
    for fact in [
        "strategy  sma-cross\n",
        "market    BTC 1h, from 1970-01-01T00:00:00Z to the end\n",
        "account   10000.00 USD, fee 4.50 bps, slippage 0.00 bps\n",
    ] {
        assert!(shown.contains(fact), "{fact}{shown}");
    }
}

#[test]
fn trades_are_bounded_and_the_rest_is_counted() {
    let backtest = backtest(Some(result()));
    let two = shown(&backtest, 2);
    assert_eq!(two.matches("long").count(), 2, "{two}");
    assert!(two.contains("stop loss") && two.contains(" 0.012346 "), "{two}");
    assert!(two.contains("… trades not shown: 1; --trades 3 shows all"), "{two}");
    let all = shown(&backtest, 3);
    assert!(all.contains("open at end"), "{all}");
    assert!(!all.contains("not shown"), "{all}");
    assert!(shown(&backtest, 0).contains("… trades not shown: 3"));
}

#[test]
fn a_back_test_without_a_result_shows_where_it_stands() {
    let mut backtest = backtest(None);
    backtest.status = BacktestStatus::Dead;
    backtest.last_error = Some("bad\u{1b}[2J\ngraph".into());
    let shown = shown(&backtest, 20);
    assert!(shown.contains("status    dead\n"), "{shown}");
    assert!(shown.contains("error     bad\\u{1b}[2J\\ngraph\n"), "{shown}");
    assert!(!shown.contains("metric"), "{shown}");
}

#[test]
fn a_result_that_cannot_be_read_is_an_error_that_names_the_back_test() {
    let failure = show(&backtest(Some(json!({"bars": "many"}))), 20, &mut Vec::new()).unwrap_err();
    assert!(failure.report().contains("result of back-test `0190`"), "{}", failure.report());
    assert_eq!(failure.code(), 1);
}

#[test]
fn the_list_cannot_be_broken_by_what_stands_in_it() {
    let hostile = BacktestListing {
        id: "0190".into(),
        user_id: 7,
        clone_id: None,
        graph_hash: "abc".into(),
        symbol: "B\u{1b}[31mTC".into(),
        interval: Interval::H1,
        status: BacktestStatus::Dead,
        attempt_count: 1,
        cancel_requested: false,
        progress_pct: 0.0,
        last_error: Some(format!("first line\n{}", "x".repeat(500))),
        created_at_ms: 0,
        started_at_ms: None,
        completed_at_ms: None,
    };
    let mut out = Vec::new();
    list(&[hostile], &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    assert_eq!(shown.lines().count(), 5, "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains("first line\\nxxx"), "{shown}");
}

#[test]
fn an_empty_list_says_so() {
    let mut out = Vec::new();
    list(&[], &mut out).unwrap();
    assert_eq!(out, b"no back-tests\n");
}
