//! `arena worker`: for long, or for one cycle.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use domain::workers::backtests::{self, BacktestsOptions};
use scheduler_core::{RunReport, RunStatus, Shutdown, Store};
use serde_json::{Value, json};

use super::MigrateArgs;
use crate::config::{self, DatabaseUrl};
use crate::database;
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::terminal::{escape, write_json};
use crate::wiring::{Workers, run_backtests_once};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Play queued back-tests. With --once: until none can be claimed.
    Backtests(BacktestsArgs),
    /// Every worker in one process.
    All(AllArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BacktestsArgs {
    #[command(flatten)]
    cadences: CadenceArgs,
    /// Back-tests that run at once, over all hosts.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_concurrent: u32,
    /// Back-tests of one user that run at once, over all hosts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_per_user: u32,
    /// How long a claimed back-test stays with its host without a sign of life.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = config::lease)]
    lease: Duration,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AllArgs {
    #[command(flatten)]
    cadences: CadenceArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// How often each worker is due.
#[derive(Debug, Args)]
pub(crate) struct CadenceArgs {
    /// How often the queue of back-tests is looked at when nothing wakes the worker.
    #[arg(
        long,
        env = "BACKTESTS_INTERVAL",
        value_name = "TIME",
        default_value = "15s",
        value_parser = config::backtests_interval
    )]
    backtests_interval: Duration,
}

impl CadenceArgs {
    /// The back-tests worker as it is unless its own flags say otherwise.
    pub(crate) fn backtests(&self) -> BacktestsOptions {
        BacktestsOptions { interval: self.backtests_interval, ..BacktestsOptions::default() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Run one cycle of each worker, then exit.
    #[arg(long)]
    once: bool,
    /// With --once: how long to wait for another host to finish.
    #[arg(long, value_name = "TIME", default_value = "0s", requires = "once", value_parser = config::wait)]
    wait: Duration,
    /// With --once: print one JSON document instead of a sentence.
    #[arg(long, requires = "once")]
    json: bool,
    #[command(flatten)]
    migrate: MigrateArgs,
}

impl WorkerCommand {
    fn into_parts(self) -> (BacktestsOptions, RunArgs) {
        match self {
            Self::All(AllArgs { cadences, run }) => (cadences.backtests(), run),
            Self::Backtests(BacktestsArgs {
                cadences,
                max_concurrent,
                max_per_user,
                lease,
                run,
            }) => {
                let interval = cadences.backtests_interval;
                (BacktestsOptions { interval, max_concurrent, max_per_user, lease }, run)
            }
        }
    }
}

pub(crate) async fn run(
    command: WorkerCommand,
    database_url: &DatabaseUrl,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (options, args) = command.into_parts();
    let store = args.migrate.open(database_url).await?;
    let done = if args.once {
        run_once(&store, &options, &args, shutdown, out).await
    } else {
        run_until_stopped(&store, &options, shutdown).await
    };
    database::close(store).await;
    done
}

async fn run_until_stopped(
    store: &Store,
    options: &BacktestsOptions,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let workers = Workers::start(store, options, &Pulse::default()).await?;
    shutdown.stop.cancelled().await;
    workers.stop(shutdown).await;
    Ok(())
}

async fn run_once(
    store: &Store,
    options: &BacktestsOptions,
    args: &RunArgs,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let report = run_backtests_once(store, options, args.wait, shutdown).await?;
    if args.json {
        write_json(out, &json!({ "cycles": [document(backtests::NAME, &report)] }))?;
    } else {
        writeln!(out, "{}", sentence(backtests::NAME, &report))?;
    }
    match report.status {
        RunStatus::Succeeded => Ok(()),
        _ => Err(Failure::work(format!("the cycle of {} did not succeed", backtests::NAME))),
    }
}

fn document(worker: &str, report: &RunReport) -> Value {
    json!({
        "worker": worker,
        "run_id": report.run_id.to_string(),
        "status": report.status.to_string(),
        "summary": report.summary,
        "error": report.error,
    })
}

/// As in `backtesting succeeded: claimed 3, succeeded 2, dead 1`.
fn sentence(worker: &str, report: &RunReport) -> String {
    let counts = report.summary.as_ref().and_then(Value::as_object).into_iter().flatten();
    let counts: Vec<String> = counts
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
        .collect();
    let detail = match &report.error {
        Some(error) => error.clone(),
        None if counts.is_empty() => "nothing to do".to_owned(),
        None => counts.join(", "),
    };
    escape(&format!("{worker} {}: {detail}", report.status))
}

#[cfg(test)]
mod tests {
    use scheduler_core::RunId;

    use super::*;

    #[test]
    fn a_cycle_is_one_sentence() {
        let check = |status, summary, error: Option<&str>, expected: &str| {
            let error = error.map(str::to_owned);
            let report = RunReport { run_id: RunId::new(), status, summary, error };
            assert_eq!(sentence("backtesting", &report), expected);
        };
        check(
            RunStatus::Succeeded,
            Some(json!({"claimed": 3, "dead": 1, "lost": 0, "queued_again": 2})),
            None,
            "backtesting succeeded: claimed 3, dead 1, queued again 2",
        );
        check(
            RunStatus::Succeeded,
            Some(json!({"claimed": 0})),
            None,
            "backtesting succeeded: nothing to do",
        );
        check(RunStatus::Failed, None, Some("no\ntable"), "backtesting failed: no\\ntable");
    }
}
