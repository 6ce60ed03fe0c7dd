//! `arena market`: candles from files.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use domain::market::{ImportError, ImportReport, Interval, check_symbol, import_candles};
use scheduler_core::Store;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::terminal::{escape, number, table, text, utc, write_json};

#[derive(Debug, Subcommand)]
pub(crate) enum MarketCommand {
    /// Read candles from a CSV file with the header
    /// `open_time_ms,open,high,low,close,volume`. Doing it again changes nothing.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The instrument, as in BTC.
    #[arg(long, value_parser = symbol)]
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
    store: &Store,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let MarketCommand::Import(ImportArgs { symbol, interval, file, json }) = command;
    let report = import(store, &symbol, interval, &file).await?;
    if json {
        write_json(out, &document(&report))?;
    } else {
        show(&report, out)?;
    }
    if report.rows > 0 && report.rejects.total == report.rows {
        return Err(Failure::work(format!("every row of `{}` was refused", file.display())));
    }
    Ok(())
}

/// Parses `--symbol`.
pub(crate) fn symbol(text: &str) -> Result<String, String> {
    check_symbol(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

async fn import(
    store: &Store,
    symbol: &str,
    interval: Interval,
    path: &Path,
) -> Result<ImportReport, Failure> {
    let shown = path.display();
    let file = File::open(path)
        .with_context(|| format!("cannot open `{shown}`"))
        .map_err(Failure::Usage)?;
    match import_candles(store, BufReader::new(file), symbol, interval).await {
        Ok(report) => Ok(report),
        Err(ImportError::Store(error)) => Err(error.into()),
        Err(error @ (ImportError::File(_) | ImportError::Symbol(_))) => Err(Failure::Usage(
            anyhow::Error::from(error).context(format!("cannot read `{shown}`")),
        )),
        Err(error) => Err(Failure::Work(error.into())),
    }
}

fn document(report: &ImportReport) -> Value {
    let gaps: Vec<_> = report
        .gaps
        .iter()
        .map(|gap| json!({ "from_ms": gap.from_ms, "to_ms": gap.to_ms, "missing": gap.missing }))
        .collect();
    let rejects: Vec<_> = report
        .rejects
        .first
        .iter()
        .map(|reject| json!({ "line": reject.line, "reason": reject.reason.to_string() }))
        .collect();
    json!({
        "rows": report.rows,
        "inserted": report.inserted,
        "duplicates": report.duplicates,
        "changed": report.changed,
        "unsorted": report.unsorted,
        "first_ms": report.first_ms,
        "last_ms": report.last_ms,
        "gap_count": report.gap_count,
        "gaps": gaps,
        "reject_count": report.rejects.total,
        "rejects": rejects,
    })
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
            report.rejects.total,
        ]
        .map(number),
    );
    writeln!(out, "{counts}")?;
    if let Some((first_ms, last_ms)) = report.first_ms.zip(report.last_ms) {
        writeln!(out, "from {} to {}", utc(first_ms), utc(last_ms))?;
    }
    if report.unsorted > 0 {
        writeln!(out, "rows that stood after a later bar: {}", report.unsorted)?;
    }
    if !report.gaps.is_empty() {
        let mut gaps = table(&["first missing bar", "next bar", "missing"]);
        for gap in &report.gaps {
            gaps.add_row([text(&utc(gap.from_ms)), text(&utc(gap.to_ms)), number(gap.missing)]);
        }
        writeln!(out, "{gaps}")?;
        write_rest(report.gap_count, report.gaps.len(), "gaps", out)?;
    }
    for reject in &report.rejects.first {
        writeln!(out, "line {}: {}", reject.line, escape(&reject.reason.to_string()))?;
    }
    write_rest(report.rejects.total, report.rejects.first.len(), "rejects", out)
}

fn write_rest(all: u64, shown: usize, what: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        rest => writeln!(out, "… {what} not shown: {rest}"),
    }
}
