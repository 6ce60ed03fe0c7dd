//! The command line: what can be asked, and who answers.
//!
//! Each command has a file with its flags and its body. Bodies write results to `out` and return a
//! [`Failure`] otherwise.

mod api;
mod backtest;
mod backtest_document;
mod backtest_view;
mod cadence;
mod cadences;
mod db;
mod dead_letters;
mod demo;
mod doctor;
mod ingest;
mod ingestion;
mod jobs;
mod journal;
mod market;
mod model;
mod plot;
mod retention;
mod seed;
mod sources;
mod up;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{DatabaseUrl, Environment, process_environment};
use crate::database;
use crate::failure::Failure;
use crate::logging::{self, DEFAULT_FILTER, LogFormat};
use crate::shutdown::on_signals;
use crate::terminal::Streams;

/// Runs workers, serves health and works with back-tests and candles.
#[derive(Debug, Parser)]
#[command(name = "arena", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    shared: SharedArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Tokens come from the environment only:
  INTERNAL_SERVICE_TOKEN  what services send as X-Service-Token
  API_BEARER_TOKENS       what clients send as `Authorization: Bearer`, comma-separated
A token that is not set is made at start and shown once; an address that other machines can reach
needs both.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration, 3 another host is at it.";

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct SharedArgs {
    /// The database; a SQLite file that is not there is created.
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://arena.db",
        value_name = "URL"
    )]
    database_url: DatabaseUrl,
    /// How log lines are written, on stderr.
    #[arg(long, global = true, env = "LOG_FORMAT", default_value = "text", ignore_case = true)]
    log_format: LogFormat,
    /// What is logged [default: our own story, and complaints of libraries].
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER")]
    log_filter: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the database up to date, or see where it stands.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Read market data.
    #[command(subcommand)]
    Market(market::MarketCommand),
    /// Submit back-tests and look at them.
    #[command(subcommand)]
    Backtest(backtest::BacktestCommand),
    /// Run workers, for long or for one cycle.
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Items of cycles that failed: see them, try them again, give them up.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// What an operator says about jobs: run now, pause, resume, another cadence.
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// When each job is due, as this configuration and the database have it.
    Cadence(cadence::DueArgs),
    /// Prove the books: cash is what was posted, positions are what was traded.
    Doctor(doctor::DoctorArgs),
    /// Read market data from the venues, for long or once.
    Ingest(ingest::IngestArgs),
    /// How the channels of market data stand.
    #[command(subcommand)]
    Ingestion(ingestion::IngestionCommand),
    /// Serve the HTTP interface.
    Api(api::ApiArgs),
    /// Everything in one process: migrate, serve, run the workers.
    Up(up::UpArgs),
    /// Put something to look at into an empty database.
    #[command(subcommand)]
    Seed(seed::SeedCommand),
    /// Print the OpenAPI document.
    Openapi,
}

impl Command {
    /// What is logged unless somebody says otherwise.
    fn default_filter(&self) -> &'static str {
        match self {
            // It tells its story on stdout.
            Self::Up(args) if args.demo => "warn",
            _ => DEFAULT_FILTER,
        }
    }
}

/// Runs the command that the arguments name (the first one is the program) and answers the exit
/// code. Everything that `main` does.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let streams = Streams { out: &mut out, err: &mut err };
    ExitCode::from(run_on(args, &process_environment, streams).await)
}

async fn run_on(
    args: impl IntoIterator<Item = OsString>,
    environment: Environment<'_>,
    streams: Streams<'_>,
) -> u8 {
    let Streams { out, err } = streams;
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors: they go to `out` and end well.
            let stream = if error.use_stderr() { err } else { out };
            // When nobody reads, there is nobody to tell.
            let _unread = write!(stream, "{}", error.render());
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let Err(failure) = Box::pin(dispatch(cli, environment, out)).await else {
        return 0;
    };
    if is_closed_pipe(&failure) {
        // `arena backtest list | head`: the reader has what it wanted.
        return 0;
    }
    let _unread = write!(err, "{}", failure.report());
    failure.code()
}

/// Runs the command. Commands are on the heap: together they would not fit a thread's stack in a debug
/// build.
async fn dispatch(
    cli: Cli,
    environment: Environment<'_>,
    out: &mut (dyn std::io::Write + Send),
) -> Result<(), Failure> {
    let Cli { shared: SharedArgs { database_url, log_format, log_filter }, command } = cli;
    let log_filter = log_filter.as_deref().unwrap_or(command.default_filter());
    logging::start(log_format, log_filter)?;
    match command {
        Command::Openapi => write!(out, "{}", crate::api::openapi_document())?,
        Command::Db(command) => {
            let store = database::open(&database_url).await?;
            let done = Box::pin(db::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Market(command) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(market::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Backtest(command) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(backtest::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::DeadLetters(command) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(dead_letters::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Jobs(command) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(jobs::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Ingestion(command) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(ingestion::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Seed(command) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(seed::run(command, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Worker(command) => {
            Box::pin(worker::run(command, &database_url, environment, &on_signals()?, out)).await?;
        }
        Command::Cadence(args) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(cadence::run(args, &store, environment, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Doctor(args) => {
            let store = database::open_current(&database_url).await?;
            let done = Box::pin(doctor::run(&args, &store, out)).await;
            database::close(store).await;
            done?;
        }
        Command::Ingest(args) => {
            Box::pin(ingest::run(args, &database_url, &on_signals()?, out)).await?;
        }
        Command::Api(args) => {
            Box::pin(api::run(args, &database_url, environment, &on_signals()?, out)).await?;
        }
        Command::Up(args) => {
            Box::pin(up::run(args, &database_url, environment, &on_signals()?, out)).await?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Whether a process that stays migrates first.
#[derive(Debug, Args)]
struct MigrateArgs {
    /// Do not migrate first; pending migrations are then an error, and a database that a newer
    /// program has migrated is not.
    #[arg(long)]
    no_migrate: bool,
}

impl MigrateArgs {
    async fn open(&self, url: &DatabaseUrl) -> Result<scheduler_core::Store, Failure> {
        if self.no_migrate {
            database::open_current(url).await
        } else {
            database::open_migrated(url).await
        }
    }
}

fn is_closed_pipe(failure: &Failure) -> bool {
    let Failure::Work(error) = failure else {
        return false;
    };
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
