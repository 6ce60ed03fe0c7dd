//! `arena up`: migrate, serve and run the workers, in one process.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use domain::workers::ingestion::IngestionOptions;
use scheduler_core::Shutdown;

use super::api::{ServeArgs, announce, listen, serve_routes};
use super::retention::RetentionArgs;
use super::sources::SourceArgs;
use super::worker::WorkersArgs;
use super::{MigrateArgs, demo};
use crate::config::{DatabaseUrl, Environment, ServeConfig};
use crate::database;
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::wiring::{WorkerSet, Workers};

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    #[command(flatten)]
    pub(crate) workers: WorkersArgs,
    /// Read no market data.
    #[arg(long, conflicts_with = "demo")]
    no_ingest: bool,
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    retention: RetentionArgs,
    /// Use a throw-away database, simulated venues and a seeded arena, in place of --database-url and
    /// the venues. Needs no network and no configuration.
    #[arg(long, conflicts_with = "no_migrate")]
    pub(crate) demo: bool,
    /// With --demo: let the venues fail at random, the same way for the same number.
    #[arg(long, value_name = "SEED", requires = "demo")]
    pub(crate) faults: Option<u64>,
    #[command(flatten)]
    migrate: MigrateArgs,
}

impl UpArgs {
    fn workers(&self, environment: Environment<'_>) -> Result<WorkerSet, Failure> {
        let ingestion = (!self.no_ingest)
            .then(|| IngestionOptions { urls: self.sources.urls(), ..IngestionOptions::default() });
        let retention = Some(self.retention.options());
        Ok(WorkerSet { ingestion, retention, ..self.workers.workers(environment)? })
    }
}

pub(crate) async fn run(
    args: UpArgs,
    database_url: &DatabaseUrl,
    environment: Environment<'_>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    if args.demo {
        return demo::run(&args, environment, shutdown, out).await;
    }
    let ServeConfig { bind, tokens, minted } = ServeConfig::new(args.serve.address(), environment)?;
    let workers = args.workers(environment)?;
    let store = args.migrate.open(database_url).await?;
    let done = async {
        let listener = listen(bind).await?;
        announce(&listener, &minted, out)?;
        let pulse = Arc::<Pulse>::default();
        let workers = Workers::start(&store, &workers, &pulse).await?;
        let serving = serve_routes(listener, tokens, &store, pulse, shutdown);
        work_beside(serving, workers, shutdown).await
    }
    .await;
    database::close(store).await;
    done
}

/// Runs workers beside something else. When that ends, for whatever reason, the workers stop too:
/// half a process is worse than none, a supervisor restarts it whole.
pub(crate) async fn work_beside(
    other: impl Future<Output = Result<(), Failure>>,
    workers: Workers,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let other = async {
        let ended = other.await;
        shutdown.stop.cancel();
        ended
    };
    let working = async {
        shutdown.stop.cancelled().await;
        workers.stop(shutdown).await;
    };
    let (ended, ()) = tokio::join!(other, working);
    ended
}
