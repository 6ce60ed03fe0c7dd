//! A private PostgreSQL server as the tests start it: says its address, and goes with its standard
//! input, or when its process is killed.

#[path = "../it/postgres/server.rs"]
mod server;

use std::io::{Read, Write};

use anyhow::Context;

use self::server::{PrivateServer, Programs};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let programs = Programs::find().context("no server is installed")?;
    let server = PrivateServer::new(programs, &["fsync=off"]);
    server.answers().await;
    writeln!(std::io::stdout(), "{}", server.url("postgres"))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
