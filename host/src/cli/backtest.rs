//! `arena backtest`: into the queue, and what came of it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use domain::market::Interval;
use serde_json::json;

use super::backtest_view;
use crate::failure::Failure;
use crate::terminal::{escape, write_json};
use crate::wiring::{Arena, Cancellation, NewBacktest};

#[derive(Debug, Subcommand)]
pub(crate) enum BacktestCommand {
    /// Put a back-test into the queue and print its id.
    Submit(SubmitArgs),
    /// Show a back-test with its metrics, its equity and its trades.
    Show(ShowArgs),
    /// List the newest back-tests.
    List(ListArgs),
    /// Cancel a back-test that is queued, or ask its worker to stop it.
    Cancel(CancelArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Who asks: the id of a user.
    #[arg(long, value_name = "ID", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    user: i64,
    /// The strategy graph: a JSON file.
    #[arg(long, value_name = "FILE")]
    graph: PathBuf,
    /// The instrument, as in BTC.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    symbol: String,
    /// The length of a bar: 1m, 5m, 15m, 1h, 4h or 1d.
    #[arg(long)]
    interval: Interval,
    /// Open time of the first bar, epoch milliseconds [default: the first there is].
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    from: Option<i64>,
    /// Open time of the first bar that is not played, epoch milliseconds [default: play all].
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    to: Option<i64>,
    /// Cash at the beginning, USD.
    #[arg(long, value_name = "USD", allow_negative_numbers = true, default_value = "10000", value_parser = cash)]
    cash: f64,
    /// Fee per side, in hundredths of a percent of the notional.
    #[arg(long, value_name = "BPS", allow_negative_numbers = true, default_value = "4.5", value_parser = basis_points)]
    fee_bps: f64,
    /// Slippage per fill, in hundredths of a percent of the price.
    #[arg(long, value_name = "BPS", allow_negative_numbers = true, default_value = "0", value_parser = basis_points)]
    slippage_bps: f64,
    /// Print one JSON document instead of the bare id.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The id that `submit` printed.
    id: String,
    /// How many trades to show.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 20)]
    trades: usize,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this user.
    #[arg(long, value_name = "ID")]
    user: Option<i64>,
    /// How many to show.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The id that `submit` printed.
    id: String,
    /// Print one JSON document instead of a sentence.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(
    command: BacktestCommand,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        BacktestCommand::Submit(args) => submit(args, arena, out).await,
        BacktestCommand::Show(args) => show(args, arena, out).await,
        BacktestCommand::List(args) => list(args, arena, out).await,
        BacktestCommand::Cancel(args) => cancel(args, arena, out).await,
    }
}

async fn submit(
    args: SubmitArgs,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(Failure::usage(format!("--from is {from}: expected less than --to, {to}")));
    }
    let graph = read_graph(&args.graph).map_err(Failure::Usage)?;
    let backtest = NewBacktest {
        user_id: args.user,
        graph,
        symbol: args.symbol,
        interval: args.interval,
        from_ms: args.from,
        to_ms: args.to,
        initial_cash: args.cash,
        fee_rate: args.fee_bps / BASIS_POINTS,
        slippage_rate: args.slippage_bps / BASIS_POINTS,
    };
    let id = arena.submit_backtest(backtest).await?;
    if args.json {
        write_json(out, &json!({ "id": id }))?;
    } else {
        writeln!(out, "{}", escape(&id))?;
    }
    Ok(())
}

async fn show(
    args: ShowArgs,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let backtest = arena.backtest(&args.id).await?.ok_or_else(|| unknown(&args.id))?;
    if args.json {
        write_json(out, &backtest)?;
    } else {
        backtest_view::show(&backtest, args.trades, out)?;
    }
    Ok(())
}

async fn list(
    args: ListArgs,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let backtests = arena.backtests(args.user, args.limit).await?;
    if args.json {
        write_json(out, &json!({ "backtests": backtests }))?;
    } else {
        backtest_view::list(&backtests, out)?;
    }
    Ok(())
}

async fn cancel(
    args: CancelArgs,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let outcome = arena.cancel_backtest(&args.id).await?.ok_or_else(|| unknown(&args.id))?;
    if args.json {
        write_json(out, &outcome)?;
        return Ok(());
    }
    match outcome {
        Cancellation::Cancelled => writeln!(out, "cancelled")?,
        Cancellation::Requested => writeln!(out, "its worker has been asked to stop")?,
        Cancellation::AlreadyEnded(status) => {
            writeln!(out, "nothing to cancel: it is {} already", escape(&status))?;
        }
    }
    Ok(())
}

fn unknown(id: &str) -> Failure {
    Failure::work(format!("there is no back-test `{id}`; `arena backtest list` shows them"))
}

/// A queue payload may have this size; a graph has a few kilobytes.
const LARGEST_GRAPH: u64 = 1024 * 1024;

/// Reads the file as text. What stands in it is the domain's question.
fn read_graph(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open `{shown}`"))?;
    let mut graph = String::new();
    file.take(LARGEST_GRAPH + 1)
        .read_to_string(&mut graph)
        .with_context(|| format!("cannot read `{shown}`"))?;
    anyhow::ensure!(
        graph.len() as u64 <= LARGEST_GRAPH,
        "`{shown}` is too large: a graph may have {LARGEST_GRAPH} bytes"
    );
    Ok(graph)
}

const BASIS_POINTS: f64 = 10_000.0;

fn cash(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd > 0.0 => Ok(usd),
        _ => Err("expected an amount of USD above 0, as in 10000".into()),
    }
}

fn basis_points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if (0.0..BASIS_POINTS).contains(&points) => Ok(points),
        _ => Err("expected a number from 0 to below 10000, as in 4.5".into()),
    }
}
