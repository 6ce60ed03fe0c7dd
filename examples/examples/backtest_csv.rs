//! `cargo run -p examples --example backtest_csv -- [FILE.csv [INTERVAL]]`
//!
//! One back-test, without a database: the strategy of `graphs/sma-cross.json` over a file with the
//! header `open_time_ms,open,high,low,close,volume`, or without one over a generated year. Bars
//! are of an hour unless the interval says otherwise.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;

use anyhow::Context;
use domain::backtesting::{self, BacktestResult, Settings};
use domain::market::{Candle, CandleReader, Interval, RandomWalk};
use domain::strategy::ValidGraph;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next();
    let interval = arguments.next().map_or(Ok(Interval::H1), |name| name.parse())?;
    let candles = match &file {
        Some(file) => read(file, interval).with_context(|| format!("cannot use `{file}`"))?,
        None => RandomWalk::new(7, interval, 0, 60_000.0, 0.005).take(8_760).collect(),
    };
    let graph = ValidGraph::parse(include_str!("../graphs/sma-cross.json"))?;
    let never_cancelled = |_done, _total| ControlFlow::Continue(());
    let result =
        backtesting::run(&candles, interval, &graph, &Settings::default(), never_cancelled)?;
    print(&result);
    Ok(())
}

fn read(file: &str, interval: Interval) -> anyhow::Result<Vec<Candle>> {
    CandleReader::new(BufReader::new(File::open(file)?), interval)?
        .map(|row| {
            let row = row?;
            row.outcome.with_context(|| format!("line {}", row.line))
        })
        .collect()
}

fn print(result: &BacktestResult) {
    println!("bars            {:>12}", result.bars);
    println!("trades          {:>12}", result.trades.len());
    println!("final equity    {:>12.2} USD", result.final_equity);
    println!("fees paid       {:>12.2} USD", result.fees_paid);
    println!("total return    {:>12.2} %", result.total_return * 100.0);
    println!("max. drawdown   {:>12.2} %", result.max_drawdown * 100.0);
    for (name, ratio) in [
        ("sharpe", result.sharpe),
        ("sortino", result.sortino),
        ("calmar", result.calmar),
        ("win_rate", result.win_rate),
        ("profit_factor", result.profit_factor),
    ] {
        match (ratio, result.nulls.get(name)) {
            (Some(ratio), _) => println!("{name:<15} {ratio:>12.3}"),
            (None, reason) => println!("{name:<15} {:>12} ({reason:?})", "n/a"),
        }
    }
}
