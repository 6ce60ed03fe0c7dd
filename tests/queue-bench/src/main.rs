#![doc = include_str!("../README.md")]

mod arguments;
mod chart;
mod machine;
mod peers;
mod report;
mod round;
mod server;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Parser as _;

use self::arguments::Arguments;
use self::report::Report;
use self::round::Bench;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whatever was started ends with what is dropped here.
    let ended = tokio::select! {
        ended = run(&arguments) => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bench = Bench::new(arguments)?;
    let mut report = Report::new(arguments, bench.folder())?;
    for database in arguments.databases() {
        bench.measure(database, &mut report).await?;
    }
    print(&report.to_string());
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, chart::draw(&report)).with_context(|| path.display().to_string())?;
    }
    let failures = report.failures();
    ensure!(failures == 0, "{failures} measurements failed");
    Ok(())
}

/// The report.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn print(text: &str) {
    println!("{text}");
}

/// What goes on, and what went wrong.
#[expect(clippy::print_stderr, reason = "apart from the figures")]
fn say(text: &str) {
    eprintln!("{text}");
}
