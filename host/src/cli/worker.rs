//! `arena worker`: for long, or for one cycle.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use domain::workers::arena_entry::ArenaEntryOptions;
use domain::workers::audition_evaluator::AuditionEvaluatorOptions;
use domain::workers::backtests::BacktestsOptions;
use domain::workers::clone_decisions::CloneDecisionsOptions;
use domain::workers::mark_to_market::MarkToMarketOptions;
use domain::workers::prop_decisions::PropDecisionsOptions;
use domain::workers::{DecidingOptions, Providers};
use scheduler_core::{RunReport, RunStatus, Shutdown, Store};
use serde_json::{Value, json};

use super::MigrateArgs;
use super::cadences::{
    ArenaEntryCadence, AuditionEvaluatorCadence, BacktestsCadence, CadenceArgs,
    CloneDecisionsCadence, MarkToMarketCadence, PropDecisionsCadence,
};
use super::model::ModelArgs;
use super::retention::RetentionArgs;
use crate::config::{self, DatabaseUrl, Environment};
use crate::database;
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::terminal::{escape, write_json};
use crate::wiring::{Cycle, WorkerSet, Workers, run_once};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Let active clones decide: a debugging aid, they trade no account.
    CloneDecisions(CloneDecisionsArgs),
    /// Let prop accounts decide and trade on paper.
    PropDecisions(PropDecisionsArgs),
    /// Mark prop accounts to the market.
    MarkToMarket(MarkToMarketArgs),
    /// Play queued back-tests. With --once: until none can be claimed.
    Backtests(BacktestsArgs),
    /// Start and judge auditions that are due.
    AuditionEvaluator(AuditionEvaluatorArgs),
    /// Let clones that passed into the arena.
    ArenaEntry(ArenaEntryArgs),
    /// Prop decisions, mark-to-market, back-tests, audition evaluator and arena entry in one process.
    All(AllArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CloneDecisionsArgs {
    #[command(flatten)]
    cadence: CloneDecisionsCadence,
    /// Only this clone; may be given several times.
    #[arg(long = "clone-id", value_name = "ID")]
    clone_ids: Vec<i64>,
    /// Decide although it is not due yet. A slot is decided once all the same.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PropDecisionsArgs {
    #[command(flatten)]
    cadence: PropDecisionsCadence,
    #[command(flatten)]
    marks: MarkToMarketCadence,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MarkToMarketArgs {
    #[command(flatten)]
    cadence: MarkToMarketCadence,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BacktestsArgs {
    #[command(flatten)]
    cadence: BacktestsCadence,
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
pub(crate) struct AuditionEvaluatorArgs {
    #[command(flatten)]
    cadence: AuditionEvaluatorCadence,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ArenaEntryArgs {
    #[command(flatten)]
    cadence: ArenaEntryCadence,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AllArgs {
    #[command(flatten)]
    workers: WorkersArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// The workers of one process.
#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    cadences: CadenceArgs,
    /// Run this worker, too.
    #[arg(long, value_enum, value_name = "WORKER")]
    with: Vec<ExtraWorker>,
    #[command(flatten)]
    model: ModelArgs,
}

/// Workers that run only where they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExtraWorker {
    CloneDecisions,
}

#[derive(Debug, Args)]
struct LimitArgs {
    /// Accounts of one cycle, at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
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
    retention: RetentionArgs,
    #[command(flatten)]
    migrate: MigrateArgs,
}

impl WorkersArgs {
    /// The workers of `arena worker all`, each as it is unless its cadence says otherwise.
    ///
    /// # Errors
    /// A model that is set up in part.
    pub(crate) fn workers(&self, environment: Environment<'_>) -> Result<WorkerSet, Failure> {
        let providers = &self.model.providers(environment)?;
        let CadenceArgs {
            clone_decisions,
            prop_decisions,
            mark_to_market,
            backtests,
            audition_evaluator,
            arena_entry,
        } = &self.cadences;
        let with_clones = self.with.contains(&ExtraWorker::CloneDecisions);
        Ok(WorkerSet {
            ingestion: None,
            retention: None,
            clone_decisions: with_clones.then(|| CloneDecisionsOptions {
                deciding: deciding(clone_decisions.clone_decisions_interval, providers),
                ..CloneDecisionsOptions::default()
            }),
            prop_decisions: Some(PropDecisionsOptions {
                deciding: deciding(prop_decisions.prop_decisions_interval, providers),
                max_mark_age: max_mark_age(mark_to_market),
                ..PropDecisionsOptions::default()
            }),
            mark_to_market: Some(MarkToMarketOptions {
                interval: mark_to_market.mark_to_market_interval,
                ..MarkToMarketOptions::default()
            }),
            backtests: Some(BacktestsOptions {
                interval: backtests.backtests_interval,
                ..BacktestsOptions::default()
            }),
            audition_evaluator: Some(AuditionEvaluatorOptions {
                interval: audition_evaluator.audition_evaluator_interval,
                ..AuditionEvaluatorOptions::default()
            }),
            arena_entry: Some(ArenaEntryOptions {
                interval: arena_entry.arena_entry_interval,
                ..ArenaEntryOptions::default()
            }),
        })
    }
}

/// Beyond three marks that did not come, an account opens nothing beside what it holds.
fn max_mark_age(marks: &MarkToMarketCadence) -> Duration {
    marks.mark_to_market_interval.saturating_mul(3)
}

fn deciding(interval: Duration, providers: &Providers) -> DecidingOptions {
    DecidingOptions { interval, providers: providers.clone(), ..DecidingOptions::default() }
}

impl WorkerCommand {
    fn into_parts(self, environment: Environment<'_>) -> Result<(WorkerSet, RunArgs), Failure> {
        let none = WorkerSet::default();
        Ok(match self {
            Self::CloneDecisions(CloneDecisionsArgs { cadence, clone_ids, force, model, run }) => {
                let providers = model.providers(environment)?;
                let options = CloneDecisionsOptions {
                    deciding: deciding(cadence.clone_decisions_interval, &providers),
                    clone_ids,
                    force,
                    ..CloneDecisionsOptions::default()
                };
                (WorkerSet { clone_decisions: Some(options), ..none }, run)
            }
            Self::PropDecisions(PropDecisionsArgs { cadence, marks, limit, model, run }) => {
                let providers = model.providers(environment)?;
                let deciding = deciding(cadence.prop_decisions_interval, &providers);
                let max_mark_age = max_mark_age(&marks);
                let options = PropDecisionsOptions { deciding, limit: limit.limit, max_mark_age };
                (WorkerSet { prop_decisions: Some(options), ..none }, run)
            }
            Self::MarkToMarket(MarkToMarketArgs { cadence, limit, run }) => {
                let interval = cadence.mark_to_market_interval;
                let options = MarkToMarketOptions { interval, limit: limit.limit };
                (WorkerSet { mark_to_market: Some(options), ..none }, run)
            }
            Self::Backtests(args) => {
                let BacktestsArgs { cadence, max_concurrent, max_per_user, lease, run } = args;
                let interval = cadence.backtests_interval;
                let options = BacktestsOptions { interval, max_concurrent, max_per_user, lease };
                (WorkerSet { backtests: Some(options), ..none }, run)
            }
            Self::AuditionEvaluator(AuditionEvaluatorArgs { cadence, run }) => {
                let interval = cadence.audition_evaluator_interval;
                let options =
                    AuditionEvaluatorOptions { interval, ..AuditionEvaluatorOptions::default() };
                (WorkerSet { audition_evaluator: Some(options), ..none }, run)
            }
            Self::ArenaEntry(ArenaEntryArgs { cadence, run }) => {
                let interval = cadence.arena_entry_interval;
                let options = ArenaEntryOptions { interval, ..ArenaEntryOptions::default() };
                (WorkerSet { arena_entry: Some(options), ..none }, run)
            }
            Self::All(AllArgs { workers, run }) => (workers.workers(environment)?, run),
        })
    }
}

pub(crate) async fn run(
    command: WorkerCommand,
    database_url: &DatabaseUrl,
    environment: Environment<'_>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (workers, args) = command.into_parts(environment)?;
    let workers = WorkerSet { retention: Some(args.retention.options()), ..workers };
    let store = args.migrate.open(database_url).await?;
    let done = if args.once {
        let cycles = run_once(&store, workers, args.wait, shutdown).await;
        report(cycles, args.json, out)
    } else {
        run_until_stopped(&store, &workers, shutdown).await
    };
    database::close(store).await;
    done
}

async fn run_until_stopped(
    store: &Store,
    workers: &WorkerSet,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let workers = Workers::start(store, workers, &Pulse::default()).await?;
    shutdown.stop.cancelled().await;
    workers.stop(shutdown).await;
    Ok(())
}

/// Says what came of each cycle. A cycle that failed fails the whole; else the first that could not
/// run does.
pub(crate) fn report(
    cycles: Vec<Cycle>,
    as_json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (mut failed, mut refused, mut documents) = (Vec::new(), None, Vec::new());
    for (worker, cycle) in cycles {
        match cycle {
            Ok(report) => {
                if as_json {
                    documents.push(document(&worker, &report));
                } else {
                    writeln!(out, "{}", sentence(&worker, &report))?;
                }
                if report.status != RunStatus::Succeeded {
                    failed.push(worker);
                }
            }
            Err(failure) => {
                if as_json {
                    let error = failure.report();
                    documents
                        .push(json!({ "worker": worker, "status": "refused", "error": error }));
                }
                refused.get_or_insert(failure);
            }
        }
    }
    if as_json {
        write_json(out, &json!({ "cycles": documents }))?;
    }
    match (failed.as_slice(), refused) {
        ([], None) => Ok(()),
        ([], Some(failure)) => Err(failure),
        (failed, _) => {
            Err(Failure::work(format!("the cycle of {} did not succeed", failed.join(" and "))))
        }
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
