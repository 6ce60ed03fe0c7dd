//! Bars per second and memory of a back-test of the SMA-cross graph over a million bars.
//!
//! `cargo bench -p domain --bench backtest`
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::ops::ControlFlow;
use std::time::Instant;

use domain::backtesting::{self, BacktestResult, Settings};
use domain::market::{Candle, Interval, RandomWalk};
use domain::strategy::default_graph;

const BARS: usize = 1_000_000;
const RUNS: usize = 9;

fn main() {
    let candles: Vec<Candle> =
        RandomWalk::new(42, Interval::H1, 0, 60_000.0, 0.005).take(BARS).collect();

    let before = peak_memory_bytes();
    let result = run(&candles);
    let after = peak_memory_bytes();

    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(run(&candles));
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);

    let per_second = |seconds: f64| BARS as f64 / seconds / 1e6;
    println!("bars            {BARS}, {} trades, {RUNS} runs", result.trades.len());
    println!("median          {:.2} million bars/s", per_second(seconds[RUNS / 2]));
    println!(
        "best and worst  {:.2}, {:.2} million bars/s",
        per_second(seconds[0]),
        per_second(seconds[RUNS - 1])
    );
    match before.zip(after) {
        Some((before, after)) => {
            println!("memory          {:.1} bytes per bar", (after - before) / BARS as f64);
        }
        None => println!("memory          not measured: no /proc on this system"),
    }
}

fn run(candles: &[Candle]) -> BacktestResult {
    let go_on = |_done, _total| ControlFlow::Continue(());
    backtesting::run(candles, Interval::H1, &default_graph(), &Settings::default(), go_on)
        .expect("generated bars are valid")
}

/// The highest resident memory of this process so far, from Linux's `VmHWM` (kB).
fn peak_memory_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1_024.0)
}
