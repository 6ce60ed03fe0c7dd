//! `arena worker`: for long, or for one cycle.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::{self, BacktestsConfig, WorkersConfig};
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::terminal::{escape, table, text, utc, write_json};
use crate::wiring::{Arena, Cycle, CycleOutcome};
use scheduler_core::Shutdown;

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
    pub(crate) fn workers(&self) -> WorkersConfig {
        let backtests =
            BacktestsConfig { interval: self.backtests_interval, ..BacktestsConfig::default() };
        WorkersConfig { backtests }
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
    /// With --once: print one JSON document instead of a table.
    #[arg(long, requires = "once")]
    json: bool,
    /// Do not migrate first; pending migrations are then an error.
    #[arg(long)]
    no_migrate: bool,
}

impl WorkerCommand {
    pub(crate) fn no_migrate(&self) -> bool {
        let (Self::Backtests(BacktestsArgs { run, .. }) | Self::All(AllArgs { run, .. })) = self;
        run.no_migrate
    }

    fn into_parts(self) -> (WorkersConfig, RunArgs) {
        match self {
            Self::All(AllArgs { cadences, run }) => (cadences.workers(), run),
            Self::Backtests(args) => {
                let backtests = BacktestsConfig {
                    interval: args.cadences.backtests_interval,
                    max_concurrent: args.max_concurrent,
                    max_per_user: args.max_per_user,
                    lease: args.lease,
                };
                (WorkersConfig { backtests }, args.run)
            }
        }
    }
}

pub(crate) async fn run(
    command: WorkerCommand,
    arena: &dyn Arena,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (workers, args) = command.into_parts();
    if !args.once {
        return arena.run_workers(&workers, &Pulse::default(), shutdown).await;
    }
    let cycles = arena.run_once(&workers, args.wait, shutdown).await?;
    if args.json {
        write_json(out, &json!({ "cycles": cycles }))?;
    } else {
        let mut rows = table(&["worker", "outcome", "detail"]);
        for cycle in &cycles {
            let (outcome, detail) = describe(&cycle.outcome);
            rows.add_row([text(&cycle.worker), text(outcome), text(&detail)]);
        }
        writeln!(out, "{rows}")?;
    }
    verdict(&cycles)
}

fn describe(outcome: &CycleOutcome) -> (&'static str, String) {
    match outcome {
        CycleOutcome::Succeeded { summary } => ("succeeded", summary.to_string()),
        CycleOutcome::Failed { error } => ("failed", error.clone()),
        CycleOutcome::Busy { holder, until_ms } => {
            ("busy", format!("held by {holder} until {}", utc(*until_ms)))
        }
    }
}

/// A failure outweighs a busy worker: waiting would not mend it.
fn verdict(cycles: &[Cycle]) -> Result<(), Failure> {
    let mut busy = None;
    for Cycle { worker, outcome } in cycles {
        let (_, detail) = describe(outcome);
        match outcome {
            CycleOutcome::Succeeded { .. } => {}
            CycleOutcome::Failed { .. } => {
                return Err(Failure::work(format!("the cycle of {worker} failed: {detail}")));
            }
            CycleOutcome::Busy { .. } => {
                busy = busy.or(Some(format!("{worker} is busy, {detail}")));
            }
        }
    }
    busy.map_or(Ok(()), |sentence| Err(Failure::busy(escape(&sentence))))
}
