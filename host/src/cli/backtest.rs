//! `arena backtest`: into the queue, and what came of it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use domain::backtesting::BacktestRequest;
use domain::market::Interval;
use domain::services::backtests;
use domain::store::backtest_jobs::{self, CancelOutcome};
use domain::strategy::ValidGraph;
use scheduler_core::Store;
use serde_json::json;

use super::market::symbol;
use super::{backtest_document, backtest_view};
use crate::failure::Failure;
use crate::terminal::write_json;

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
    #[arg(long, value_parser = symbol)]
    symbol: String,
    /// The length of a bar, which is the graph's timeframe: 1m, 5m, 15m, 1h, 4h or 1d.
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
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        BacktestCommand::Submit(args) => submit(args, store, out).await,
        BacktestCommand::Show(args) => show(args, store, out).await,
        BacktestCommand::List(args) => list(args, store, out).await,
        BacktestCommand::Cancel(args) => cancel(args, store, out).await,
    }
}

async fn submit(
    args: SubmitArgs,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let graph = read_graph(&args.graph).map_err(Failure::Usage)?;
    let request = BacktestRequest {
        user_id: args.user,
        clone_id: None,
        graph,
        symbol: args.symbol,
        interval: args.interval,
        from_ms: args.from,
        to_ms: args.to,
        initial_cash: args.cash,
        fee_rate: args.fee_bps / BASIS_POINTS,
        slippage_rate: args.slippage_bps / BASIS_POINTS,
        priority: 0,
    };
    let id = backtests::submit(store, request).await?;
    if args.json {
        write_json(out, &json!({ "id": id }))?;
    } else {
        writeln!(out, "{id}")?;
    }
    Ok(())
}

async fn show(args: ShowArgs, store: &Store, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let job = backtest_jobs::find(store.reader(), &args.id).await?;
    let job = job.ok_or_else(|| unknown(&args.id))?;
    if args.json {
        write_json(out, &backtest_document::of_job(&job)?)?;
    } else {
        backtest_view::show(&job, args.trades, out)?;
    }
    Ok(())
}

async fn list(args: ListArgs, store: &Store, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let listed = backtest_jobs::list(store.reader(), args.user, args.limit).await?;
    if args.json {
        let listed: Vec<_> = listed.iter().map(backtest_document::of_listing).collect();
        write_json(out, &json!({ "backtests": listed }))?;
    } else {
        backtest_view::list(&listed, out)?;
    }
    Ok(())
}

async fn cancel(
    args: CancelArgs,
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (document, sentence) = match backtests::cancel(store, &args.id).await? {
        CancelOutcome::Cancelled => (json!({ "outcome": "cancelled" }), "cancelled".to_owned()),
        CancelOutcome::Requested => {
            let sentence = "its worker has been asked to stop".to_owned();
            (json!({ "outcome": "requested" }), sentence)
        }
        CancelOutcome::Ended(status) => {
            let status = status.as_str();
            let sentence = format!("nothing to cancel: it is {status} already");
            (json!({ "outcome": "already_ended", "status": status }), sentence)
        }
        CancelOutcome::NotFound => return Err(unknown(&args.id)),
    };
    if args.json {
        write_json(out, &document)?;
    } else {
        writeln!(out, "{sentence}")?;
    }
    Ok(())
}

fn unknown(id: &str) -> Failure {
    Failure::work(format!("there is no back-test `{id}`; `arena backtest list` shows them"))
}

/// Far more than the largest graph has; what is longer is not read into memory.
const LONGEST_FILE: u64 = 1024 * 1024;

fn read_graph(path: &Path) -> anyhow::Result<ValidGraph> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open `{shown}`"))?;
    let mut text = String::new();
    file.take(LONGEST_FILE + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read `{shown}`"))?;
    anyhow::ensure!(
        text.len() as u64 <= LONGEST_FILE,
        "`{shown}` is too large for a graph: more than {LONGEST_FILE} bytes"
    );
    ValidGraph::parse(&text).with_context(|| format!("`{shown}` is no valid strategy graph"))
}

const BASIS_POINTS: f64 = 10_000.0;
/// Beyond it the engine's numbers no longer hold cents well.
const MOST_CASH: f64 = 1e12;
/// 10 %: a higher fee is a mistake in the unit.
const MOST_BASIS_POINTS: f64 = 1_000.0;

fn cash(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if usd > 0.0 && usd <= MOST_CASH => Ok(usd),
        _ => Err("expected an amount of USD above 0, at most 1e12, as in 10000".into()),
    }
}

fn basis_points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if (0.0..=MOST_BASIS_POINTS).contains(&points) => Ok(points),
        _ => Err("expected a number from 0 to 1000, as in 4.5".into()),
    }
}
