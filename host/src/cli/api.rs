//! `arena api`: the HTTP interface.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::System;
use crate::api::{ApiState, app, serve};
use crate::config::{self, DatabaseUrl, ServeConfig};
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::wiring::Arena;
use scheduler_core::Shutdown;

#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Do not migrate first; pending migrations are then an error.
    #[arg(long)]
    no_migrate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one. An address that other machines can reach needs
    /// both kinds of token.
    #[arg(
        long,
        env = "ARENA_BIND",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        value_parser = config::bind
    )]
    pub(crate) bind: SocketAddr,
}

/// How long requests that run may take to finish once stopping has begun.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run<C>(
    args: ApiArgs,
    database_url: &DatabaseUrl,
    system: &System<'_, C>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure>
where
    C: AsyncFn(&DatabaseUrl) -> Result<Arc<dyn Arena>, Failure>,
{
    let config = ServeConfig::new(args.serve.bind, system.environment)?;
    let arena = system.open_migrated(database_url, args.no_migrate).await?;
    let served = listen_and_serve(config, &*arena, Arc::default(), shutdown, out).await;
    arena.close().await;
    served
}

/// Binds, says where and with which tokens, and serves until it is told to stop.
pub(crate) async fn listen_and_serve(
    config: ServeConfig,
    arena: &dyn Arena,
    pulse: Arc<Pulse>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let ServeConfig { bind, tokens, minted } = config;
    let listener =
        TcpListener::bind(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
    for (name, token) in minted.entries() {
        let token = token.reveal();
        writeln!(out, "{name}={token} (made for this run: the variable is not set)")?;
    }
    writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    out.flush()?;
    drop(minted);
    let app = app(ApiState { health: arena.health(), pulse, tokens });
    serve(listener, app, shutdown, GRACE).await.context("the HTTP server failed")?;
    Ok(())
}
