//! A back-test on a terminal: what it is, its metrics, its equity, its trades.

use std::io::{self, Write};

use super::plot::plot;
use crate::backtest_result::{BacktestResult, Trade};
use crate::failure::Failure;
use crate::terminal::{escape, number, table, text, utc};
use crate::wiring::Backtest;

const PLOT_WIDTH: usize = 60;
const PLOT_HEIGHT: usize = 8;

/// Shows one back-test with at most `trades` of its trades.
pub(crate) fn show(
    backtest: &Backtest,
    trades: usize,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    write_facts(backtest, out)?;
    let Some(result) = &backtest.result else {
        return Ok(());
    };
    let result: BacktestResult = serde_json::from_value(result.clone()).map_err(|error| {
        let message = format!("the result of back-test `{}` cannot be read", backtest.id);
        Failure::Work(anyhow::Error::from(error).context(message))
    })?;
    write_metrics(&result, out)?;
    write_equity(&result.equity, out)?;
    write_trades(&result.trades, trades, out)?;
    Ok(())
}

/// Lists back-tests, one per row.
pub(crate) fn list(backtests: &[Backtest], out: &mut (dyn Write + Send)) -> io::Result<()> {
    if backtests.is_empty() {
        return writeln!(out, "no back-tests");
    }
    let mut rows = table(&[
        "id", "user", "symbol", "interval", "status", "progress", "attempts", "created", "error",
    ]);
    for backtest in backtests {
        rows.add_row([
            text(&backtest.id),
            number(backtest.user_id),
            text(&backtest.symbol),
            text(&backtest.interval),
            text(&backtest.status),
            number(progress(backtest)),
            number(attempts(backtest)),
            text(&utc(backtest.created_at_ms)),
            text(&shorten(backtest.last_error.as_deref().unwrap_or_default())),
        ]);
    }
    writeln!(out, "{rows}")
}

fn write_facts(backtest: &Backtest, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let at = |at_ms: Option<i64>| at_ms.map(utc);
    let facts = [
        ("id", Some(backtest.id.clone())),
        ("user", Some(backtest.user_id.to_string())),
        ("market", Some(format!("{} {}", backtest.symbol, backtest.interval))),
        ("status", Some(backtest.status.clone())),
        ("progress", Some(progress(backtest))),
        ("attempts", Some(attempts(backtest))),
        ("held by", backtest.leased_by.clone()),
        ("created", Some(utc(backtest.created_at_ms))),
        ("started", at(backtest.started_at_ms)),
        ("completed", at(backtest.completed_at_ms)),
        ("error", backtest.last_error.clone()),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            writeln!(out, "{name:<10}{}", escape(&fact))?;
        }
    }
    Ok(())
}

fn write_metrics(result: &BacktestResult, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let mut rows = table(&["metric", "value"]);
    rows.add_row([text("bars"), number(result.bars)]);
    rows.add_row([text("initial_cash"), number(money(result.initial_cash))]);
    rows.add_row([text("final_equity"), number(money(result.final_equity))]);
    for (name, value) in result.metrics() {
        let shown = match value {
            Some(value) if is_share(name) => format!("{:.2} %", value * 100.0),
            Some(value) => format!("{value:.4}"),
            None => match result.nulls.get(name) {
                Some(reason) => format!("n/a ({})", escape(reason)),
                None => "n/a".into(),
            },
        };
        rows.add_row([text(name), number(shown)]);
    }
    rows.add_row([text("fees_paid"), number(money(result.fees_paid))]);
    writeln!(out, "{rows}")
}

fn is_share(metric: &str) -> bool {
    matches!(
        metric,
        "total_return" | "cagr" | "volatility" | "max_drawdown" | "win_rate" | "exposure"
    )
}

fn write_equity(equity: &[(i64, f64)], out: &mut (dyn Write + Send)) -> io::Result<()> {
    let rows = plot(equity, PLOT_WIDTH, PLOT_HEIGHT);
    let (Some((first_ms, _)), Some((last_ms, _)), false) =
        (equity.first(), equity.last(), rows.is_empty())
    else {
        return Ok(());
    };
    writeln!(out, "equity, {} to {}", utc(*first_ms), utc(*last_ms))?;
    for row in rows {
        writeln!(out, "{row}")?;
    }
    Ok(())
}

fn write_trades(trades: &[Trade], limit: usize, out: &mut (dyn Write + Send)) -> io::Result<()> {
    if trades.is_empty() {
        return writeln!(out, "no trades");
    }
    let mut rows = table(&["side", "entry", "price", "exit", "price", "size", "pnl", "fees", ""]);
    for trade in trades.iter().take(limit) {
        rows.add_row([
            text(&trade.side),
            text(&utc(trade.entry_time_ms)),
            number(trade.entry_price),
            text(&utc(trade.exit_time_ms)),
            number(trade.exit_price),
            number(trade.size),
            number(money(trade.pnl)),
            number(money(trade.fees)),
            text(if trade.open_at_end { "open at end" } else { "" }),
        ]);
    }
    if limit > 0 {
        writeln!(out, "{rows}")?;
    }
    match trades.len().saturating_sub(limit) {
        0 => Ok(()),
        rest => {
            writeln!(out, "… trades not shown: {rest}; --trades {} shows all", trades.len())
        }
    }
}

fn progress(backtest: &Backtest) -> String {
    format!("{:.0} %", backtest.progress_pct)
}

fn attempts(backtest: &Backtest) -> String {
    format!("{}/{}", backtest.attempt_count, backtest.max_attempts)
}

fn money(usd: f64) -> String {
    format!("{usd:.2}")
}

/// Keeps a table narrow; `show` has the whole text.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 48;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn backtest(result: Option<serde_json::Value>) -> Backtest {
        Backtest {
            id: "0190".into(),
            user_id: 7,
            symbol: "BTC".into(),
            interval: "1h".into(),
            status: "succeeded".into(),
            progress_pct: 100.0,
            attempt_count: 1,
            max_attempts: 3,
            leased_by: None,
            last_error: None,
            created_at_ms: 1_763_928_000_000,
            started_at_ms: None,
            completed_at_ms: None,
            result,
        }
    }

    fn trade(pnl: f64, open_at_end: bool) -> serde_json::Value {
        let mut trade = json!({
            "side": "long", "entry_time_ms": 0, "entry_price": 102.2, "exit_time_ms": 86_400_000,
            "exit_price": 101.2, "size": 10.0, "pnl": pnl, "fees": 0.9153,
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

    fn shown(backtest: &Backtest, trades: usize) -> String {
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
            ("fees_paid", "1.84"),
        ] {
            assert!(has_row(&shown, name, value), "{name} {value}\n{shown}");
        }
        assert!(shown.contains("equity, 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z"), "{shown}");
    }

    #[test]
    fn trades_are_bounded_and_the_rest_is_counted() {
        let backtest = backtest(Some(result()));
        let two = shown(&backtest, 2);
        assert_eq!(two.matches("long").count(), 2, "{two}");
        assert!(two.contains("… trades not shown: 1; --trades 3 shows all"), "{two}");
        let all = shown(&backtest, 3);
        assert!(all.contains("open at end"), "{all}");
        assert!(!all.contains("not shown"), "{all}");
        assert!(shown(&backtest, 0).contains("… trades not shown: 3"));
    }

    #[test]
    fn a_back_test_without_a_result_shows_where_it_stands() {
        let mut backtest = backtest(None);
        backtest.status = "dead".into();
        backtest.last_error = Some("bad\u{1b}[2J\ngraph".into());
        let shown = shown(&backtest, 20);
        assert!(shown.contains("status    dead\n"), "{shown}");
        assert!(shown.contains("error     bad\\u{1b}[2J\\ngraph\n"), "{shown}");
        assert!(!shown.contains("metric"), "{shown}");
    }

    #[test]
    fn a_result_that_cannot_be_read_is_an_error_that_names_the_back_test() {
        let failure =
            show(&backtest(Some(json!({"bars": "many"}))), 20, &mut Vec::new()).unwrap_err();
        assert!(failure.report().contains("result of back-test `0190`"), "{}", failure.report());
        assert_eq!(failure.code(), 1);
    }

    #[test]
    fn the_list_cannot_be_broken_by_what_stands_in_it() {
        let mut hostile = backtest(None);
        hostile.symbol = "B\u{1b}[31mTC".into();
        hostile.last_error = Some(format!("first line\n{}", "x".repeat(500)));
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
}
