//! `arena up`: migrate, serve and run the workers, in one process.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tempfile::TempDir;

use super::System;
use super::api::{ServeArgs, listen_and_serve};
use super::worker::CadenceArgs;
use crate::config::{DatabaseUrl, ServeConfig};
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::wiring::Arena;
use scheduler_core::Shutdown;

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    cadences: CadenceArgs,
    /// Use a throw-away database with something in it, in place of --database-url. Needs no
    /// network and no configuration.
    #[arg(long)]
    demo: bool,
    /// Do not migrate first; pending migrations are then an error.
    #[arg(long, conflicts_with = "demo")]
    no_migrate: bool,
}

pub(crate) async fn run<C>(
    args: UpArgs,
    database_url: &DatabaseUrl,
    system: &System<'_, C>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure>
where
    C: AsyncFn(&DatabaseUrl) -> Result<Arc<dyn Arena>, Failure>,
{
    let config = ServeConfig::new(args.serve.bind, system.environment)?;
    let demo = args.demo.then(Demo::create).transpose()?;
    let url = demo.as_ref().map_or(database_url, |demo| &demo.url);
    let arena = system.open_migrated(url, args.no_migrate).await?;
    let done = async {
        if demo.is_some() {
            arena.seed_demo().await?;
        }
        serve_and_work(config, &args.cadences, &*arena, shutdown, out).await
    }
    .await;
    arena.close().await;
    done
}

/// Serves and works side by side. When one of them ends, for whatever reason, the other is told
/// to stop: half a process is worse than none, a supervisor restarts it whole.
async fn serve_and_work(
    config: ServeConfig,
    cadences: &CadenceArgs,
    arena: &dyn Arena,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let pulse = Arc::<Pulse>::default();
    let workers = cadences.workers();
    let serving = async {
        let served = listen_and_serve(config, arena, Arc::clone(&pulse), shutdown, out).await;
        shutdown.stop.cancel();
        served
    };
    let working = async {
        let worked = arena.run_workers(&workers, &pulse, shutdown).await;
        shutdown.stop.cancel();
        worked
    };
    let (served, worked) = tokio::join!(serving, working);
    if let (Err(_), Err(failure)) = (&served, &worked) {
        // Only one of them can be the answer.
        tracing::error!(error = failure.report(), "the workers failed, too");
    }
    served.and(worked)
}

/// A database that goes with the process.
struct Demo {
    url: DatabaseUrl,
    _folder: TempDir,
}

impl Demo {
    fn create() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("arena-demo-")
            .tempdir()
            .context("cannot make a folder for the demo's database")?;
        let file = folder.path().join("arena.db");
        let file = file.to_str().context("the folder for temporary files has no UTF-8 name")?;
        let Ok(url) = format!("sqlite://{file}").parse();
        Ok(Self { url, _folder: folder })
    }
}
