//! A back-test on a terminal: what it is, its metrics, its equity, its trades.

use std::fmt::Display;
use std::io::{self, Write};

use domain::backtesting::{BacktestResult, ExitReason, Trade, Undefined};
use domain::store::backtest_jobs::{BacktestJob, BacktestListing, BacktestStatus};
use domain::strategy::{Side, ValidGraph};

use super::plot::plot;
use crate::failure::Failure;
use crate::terminal::{escape, number, table, text, utc};

const PLOT_WIDTH: usize = 60;
const PLOT_HEIGHT: usize = 8;

/// Shows one back-test with at most `trades` of its trades.
pub(crate) fn show(
    job: &BacktestJob,
    trades: usize,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    write_facts(job, out)?;
    let Some(result) = &job.result else {
        return Ok(());
    };
    let result: BacktestResult = serde_json::from_str(result).map_err(|error| {
        let message = format!("the result of back-test `{}` cannot be read", job.id);
        Failure::Work(anyhow::Error::from(error).context(message))
    })?;
    write_metrics(&result, out)?;
    write_equity(&result.equity, out)?;
    write_trades(&result.trades, trades, out)?;
    Ok(())
}

/// Lists back-tests, one per row.
pub(crate) fn list(listed: &[BacktestListing], out: &mut (dyn Write + Send)) -> io::Result<()> {
    if listed.is_empty() {
        return writeln!(out, "no back-tests");
    }
    let mut rows = table(&[
        "id", "user", "symbol", "interval", "status", "progress", "attempts", "created", "error",
    ]);
    for job in listed {
        rows.add_row([
            text(&job.id),
            number(job.user_id),
            text(&job.symbol),
            text(job.interval.as_str()),
            text(&status(job.status, job.cancel_requested)),
            number(format!("{:.0} %", job.progress_pct)),
            number(job.attempt_count),
            text(&utc(job.created_at_ms)),
            text(&shorten(job.last_error.as_deref().unwrap_or_default())),
        ]);
    }
    writeln!(out, "{rows}")
}

/// The name that a back-test's graph gives itself; its hash where this version cannot read it.
pub(crate) fn strategy_name(job: &BacktestJob) -> String {
    ValidGraph::parse(&job.graph)
        .map_or_else(|_| job.graph_hash.clone(), |graph| graph.graph().name.clone())
}

fn write_facts(job: &BacktestJob, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let at = |at_ms: Option<i64>| at_ms.map(utc);
    let from = job.from_ms.map_or_else(|| "the beginning".to_owned(), utc);
    let to = job.to_ms.map_or_else(|| "the end".to_owned(), utc);
    let points = |rate: f64| rate * 10_000.0;
    let facts = [
        ("id", Some(job.id.clone())),
        ("user", Some(job.user_id.to_string())),
        ("strategy", Some(strategy_name(job))),
        ("market", Some(format!("{} {}, from {from} to {to}", job.symbol, job.interval))),
        (
            "account",
            Some(format!(
                "{} USD, fee {:.2} bps, slippage {:.2} bps",
                money(job.initial_cash),
                points(job.fee_rate),
                points(job.slippage_rate)
            )),
        ),
        ("status", Some(status(job.status, job.cancel_requested))),
        ("progress", Some(format!("{:.0} %", job.progress_pct))),
        ("attempts", Some(format!("{}/{}", job.attempt_count, job.max_attempts))),
        ("held by", job.leased_by.clone()),
        ("created", Some(utc(job.created_at_ms))),
        ("started", at(job.started_at_ms)),
        ("completed", at(job.completed_at_ms)),
        ("error", job.last_error.clone()),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            writeln!(out, "{name:<10}{}", escape(&fact))?;
        }
    }
    Ok(())
}

fn status(status: BacktestStatus, cancel_requested: bool) -> String {
    let asked = cancel_requested && status == BacktestStatus::Running;
    format!("{}{}", status.as_str(), if asked { " (asked to stop)" } else { "" })
}

fn write_metrics(result: &BacktestResult, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let ratio = |name: &str, value: Option<f64>| {
        let undefined = || match result.nulls.get(name) {
            Some(reason) => format!("n/a ({})", word(*reason)),
            None => "n/a".to_owned(),
        };
        value.map_or_else(undefined, |value| format!("{value:.4}"))
    };
    let share = |name: &str, value: Option<f64>| match value {
        Some(value) => percent(value),
        None => ratio(name, None),
    };
    let named = |name: &'static str, value: Option<f64>| (name, ratio(name, value));
    let shared = |name: &'static str, value: Option<f64>| (name, share(name, value));
    let metrics = [
        ("bars", result.bars.to_string()),
        ("initial_cash", money(result.initial_cash)),
        ("final_equity", money(result.final_equity)),
        ("total_return", percent(result.total_return)),
        shared("cagr", result.cagr),
        shared("volatility", result.volatility),
        named("sharpe", result.sharpe),
        named("sortino", result.sortino),
        ("max_drawdown", percent(result.max_drawdown)),
        named("calmar", result.calmar),
        shared("win_rate", result.win_rate),
        named("profit_factor", result.profit_factor),
        ("exposure", percent(result.exposure)),
        named("turnover", result.turnover),
        ("fees_paid", money(result.fees_paid)),
        ("trades", result.trades.len().to_string()),
    ];
    let mut rows = table(&["metric", "value"]);
    for (name, value) in metrics {
        rows.add_row([text(name), number(value)]);
    }
    writeln!(out, "{rows}")?;
    for (feature, readings) in &result.unknown_inputs {
        let feature = escape(feature);
        writeln!(out, "input `{feature}` has no history: unknown in {readings} readings")?;
    }
    Ok(())
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
    let mut rows = table(&[
        "side",
        "entry",
        "entry price",
        "exit",
        "exit price",
        "size",
        "pnl",
        "fees",
        "left by",
    ]);
    for trade in trades.iter().take(limit) {
        rows.add_row([
            text(match trade.side {
                Side::Long => "long",
                Side::Short => "short",
            }),
            text(&utc(trade.entry_time_ms)),
            number(price(trade.entry_price)),
            text(&utc(trade.exit_time_ms)),
            number(price(trade.exit_price)),
            number(trade.size),
            number(money(trade.pnl)),
            number(money(trade.fees)),
            text(if trade.open_at_end { "open at end" } else { exit(trade.exit_reason) }),
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

fn exit(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Signal => "signal",
        ExitReason::StopLoss => "stop loss",
        ExitReason::TakeProfit => "take profit",
        ExitReason::Liquidation => "liquidation",
        ExitReason::End => "end",
    }
}

/// The reason as it stands in the result's `nulls`.
fn word(reason: Undefined) -> impl Display {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{reason:?}"),
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

fn money(usd: f64) -> String {
    format!("{usd:.2}")
}

/// Two decimals, or as many as a small price needs for five digits.
fn price(usd: f64) -> String {
    if usd >= 100.0 {
        return money(usd);
    }
    let mut decimals = 2;
    let mut scaled = usd;
    while scaled < 100.0 && decimals < 12 {
        scaled *= 10.0;
        decimals += 1;
    }
    format!("{usd:.decimals$}")
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
mod tests;
