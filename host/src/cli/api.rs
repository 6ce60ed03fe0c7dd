//! `arena api`: the HTTP interface.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use scheduler_core::{Shutdown, Store};
use tokio::net::TcpListener;

use super::MigrateArgs;
use crate::api::{ApiState, app, serve};
use crate::config::{self, DatabaseUrl, Environment, ServeConfig};
use crate::database;
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::tokens::{Minted, Tokens};

#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    migrate: MigrateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one. An address that other machines can reach needs
    /// both kinds of token. [default: 127.0.0.1:8080]
    #[arg(long, env = "ARENA_BIND", value_name = "ADDRESS", value_parser = config::bind)]
    pub(crate) bind: Option<SocketAddr>,
}

impl ServeArgs {
    /// The address asked for, or the default.
    pub(crate) fn address(&self) -> SocketAddr {
        self.bind.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))
    }
}

/// How long requests that run may take to finish once stopping has begun.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    args: ApiArgs,
    database_url: &DatabaseUrl,
    environment: Environment<'_>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let ServeConfig { bind, tokens, minted } = ServeConfig::new(args.serve.address(), environment)?;
    let store = args.migrate.open(database_url).await?;
    let done = async {
        let listener = listen(bind).await?;
        announce(&listener, &minted, out)?;
        serve_routes(listener, tokens, &store, Arc::default(), shutdown).await
    }
    .await;
    database::close(store).await;
    done
}

/// Takes the address.
pub(crate) async fn listen(bind: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(bind).await;
    Ok(listener.with_context(|| format!("cannot listen on {bind} (--bind or ARENA_BIND)"))?)
}

/// Says where the interface is and which tokens were made for it.
pub(crate) fn announce(
    listener: &TcpListener,
    minted: &Minted,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    for (name, token) in minted.entries() {
        let token = token.reveal();
        writeln!(out, "{name}={token} (made for this run: the variable is not set)")?;
    }
    writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    out.flush()
}

/// Serves until it is told to stop.
pub(crate) async fn serve_routes(
    listener: TcpListener,
    tokens: Tokens,
    store: &Store,
    pulse: Arc<Pulse>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let app = app(ApiState { health: Arc::new(store.clone()), pulse, tokens });
    serve(listener, app, shutdown, GRACE).await.context("the HTTP server failed")?;
    Ok(())
}
