//! The command line: what can be asked, and who answers.
//!
//! Each command has a file with its flags and its body. Bodies write results to `out`, return a
//! [`Failure`] otherwise, and know the system only as an [`Arena`].

mod api;
mod backtest;
mod backtest_view;
mod db;
mod market;
mod plot;
mod up;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::config::{DatabaseUrl, Environment, process_environment};
use crate::failure::Failure;
use crate::logging::{self, DEFAULT_FILTER, LogFormat};
use crate::shutdown::on_signals;
use crate::terminal::Streams;
use crate::wiring::{self, Arena, MigrationState};

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
    /// What is logged.
    #[arg(long, global = true, env = "RUST_LOG", default_value = DEFAULT_FILTER, value_name = "FILTER")]
    log_filter: String,
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
    /// Serve the HTTP interface.
    Api(api::ApiArgs),
    /// Everything in one process: migrate, serve, run the workers.
    Up(up::UpArgs),
    /// Print the OpenAPI document.
    Openapi,
}

/// Runs the command that the arguments name (the first one is the program), on the real system,
/// and answers the exit code. Everything that `main` does.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let system = System { environment: &process_environment, connect: wiring::connect };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let streams = Streams { out: &mut out, err: &mut err };
    ExitCode::from(run_on(args, &system, streams).await)
}

/// What a command needs from outside the process.
struct System<'a, C> {
    environment: Environment<'a>,
    connect: C,
}

impl<C> System<'_, C>
where
    C: AsyncFn(&DatabaseUrl) -> Result<Arc<dyn Arena>, Failure>,
{
    /// Opens the database as it is.
    async fn open(&self, url: &DatabaseUrl) -> Result<Arc<dyn Arena>, Failure> {
        (self.connect)(url).await
    }

    /// Opens the database for a command that works on its tables.
    async fn open_current(&self, url: &DatabaseUrl) -> Result<Arc<dyn Arena>, Failure> {
        let arena = self.open(url).await?;
        require_current(&*arena).await?;
        Ok(arena)
    }

    /// Opens the database for a process that stays: migrates, or checks that there is no need.
    async fn open_migrated(
        &self,
        url: &DatabaseUrl,
        no_migrate: bool,
    ) -> Result<Arc<dyn Arena>, Failure> {
        let arena = self.open(url).await?;
        if no_migrate {
            require_current(&*arena).await?;
        } else {
            let applied = arena.migrate().await?;
            if !applied.is_empty() {
                tracing::info!(applied = applied.len(), "migrated the database");
            }
        }
        Ok(arena)
    }
}

async fn require_current(arena: &dyn Arena) -> Result<(), Failure> {
    let migrations = arena.migrations().await?;
    let count = |state| migrations.iter().filter(|m| m.state == state).count();
    let unknown = count(MigrationState::Unknown);
    if unknown > 0 {
        return Err(Failure::usage(format!(
            "the database has migrations that this binary does not know ({unknown}); use a newer one"
        )));
    }
    match count(MigrationState::Pending) {
        0 => Ok(()),
        pending => Err(Failure::usage(format!(
            "the database lacks migrations ({pending} pending); run `arena db migrate`"
        ))),
    }
}

async fn run_on<C>(
    args: impl IntoIterator<Item = OsString>,
    system: &System<'_, C>,
    streams: Streams<'_>,
) -> u8
where
    C: AsyncFn(&DatabaseUrl) -> Result<Arc<dyn Arena>, Failure>,
{
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
    let Err(failure) = dispatch(cli, system, out).await else {
        return 0;
    };
    if is_closed_pipe(&failure) {
        // `arena backtest list | head`: the reader has what it wanted.
        return 0;
    }
    let _unread = write!(err, "{}", failure.report());
    failure.code()
}

async fn dispatch<C>(
    cli: Cli,
    system: &System<'_, C>,
    out: &mut (dyn std::io::Write + Send),
) -> Result<(), Failure>
where
    C: AsyncFn(&DatabaseUrl) -> Result<Arc<dyn Arena>, Failure>,
{
    let Cli { shared: SharedArgs { database_url, log_format, log_filter }, command } = cli;
    logging::start(log_format, &log_filter)?;
    match command {
        Command::Openapi => write!(out, "{}", crate::api::openapi_document())?,
        Command::Db(command) => {
            let arena = system.open(&database_url).await?;
            let done = db::run(command, &*arena, out).await;
            arena.close().await;
            done?;
        }
        Command::Market(command) => {
            let arena = system.open_current(&database_url).await?;
            let done = market::run(command, &*arena, out).await;
            arena.close().await;
            done?;
        }
        Command::Backtest(command) => {
            let arena = system.open_current(&database_url).await?;
            let done = backtest::run(command, &*arena, out).await;
            arena.close().await;
            done?;
        }
        Command::Worker(command) => {
            let shutdown = on_signals()?;
            let arena = system.open_migrated(&database_url, command.no_migrate()).await?;
            let done = worker::run(command, &*arena, &shutdown, out).await;
            arena.close().await;
            done?;
        }
        Command::Api(args) => {
            let shutdown = on_signals()?;
            api::run(args, &database_url, system, &shutdown, out).await?;
        }
        Command::Up(args) => {
            let shutdown = on_signals()?;
            up::run(args, &database_url, system, &shutdown, out).await?;
        }
    }
    out.flush()?;
    Ok(())
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
