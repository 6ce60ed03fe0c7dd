//! `arena market`: candles from files.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use domain::market::Interval;

use crate::failure::Failure;
use crate::terminal::{escape, number, table, text, utc, write_json};
use crate::wiring::{Arena, CandleImport, ImportReport};

#[derive(Debug, Subcommand)]
pub(crate) enum MarketCommand {
    /// Read candles from a CSV file with the header
    /// `open_time_ms,open,high,low,close,volume`. Doing it again changes nothing.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The instrument, as in BTC.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    symbol: String,
    /// The length of a bar: 1m, 5m, 15m, 1h, 4h or 1d.
    #[arg(long)]
    interval: Interval,
    /// The CSV file to read.
    file: PathBuf,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(
    command: MarketCommand,
    arena: &dyn Arena,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let MarketCommand::Import(ImportArgs { symbol, interval, file, json }) = command;
    let shown = file.display().to_string();
    let report = arena.import_candles(CandleImport { symbol, interval, file }).await?;
    if json {
        write_json(out, &report)?;
    } else {
        show(&report, out)?;
    }
    if report.rows > 0 && report.reject_count == report.rows {
        return Err(Failure::work(format!("every row of `{shown}` was refused")));
    }
    Ok(())
}

fn show(report: &ImportReport, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let mut counts = table(&["rows", "inserted", "duplicates", "changed", "gaps", "rejects"]);
    counts.add_row(
        [
            report.rows,
            report.inserted,
            report.duplicates,
            report.changed,
            report.gap_count,
            report.reject_count,
        ]
        .map(number),
    );
    writeln!(out, "{counts}")?;

    if !report.gaps.is_empty() {
        let mut gaps = table(&["first missing bar", "last missing bar", "missing"]);
        for gap in &report.gaps {
            gaps.add_row([text(&utc(gap.from_ms)), text(&utc(gap.to_ms)), number(gap.missing)]);
        }
        writeln!(out, "{gaps}")?;
        write_rest(report.gap_count, report.gaps.len(), "gaps", out)?;
    }
    for reject in &report.rejects {
        writeln!(out, "line {}: {}", reject.line, escape(&reject.reason))?;
    }
    write_rest(report.reject_count, report.rejects.len(), "rejects", out)
}

fn write_rest(all: u64, shown: usize, what: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        rest => writeln!(out, "… {what} not shown: {rest}"),
    }
}
