//! A host to be killed, frozen and stopped: works on the database that it is given and books a
//! fenced effect for each run.
//!
//! `fault-host job URL [NAME=VALUE]…` drives one fast job, `fault-host queue URL [NAME=VALUE]…`
//! works off the table `parcels`, `fault-host write URL` writes small rows all the time. It ends well at SIGTERM, and at the end of its standard input.
//! Later versions keep these words: a test runs an older host beside a newer one.

mod clock;
mod job;
mod options;
mod queue;
mod script;
mod write;

use std::sync::Arc;

use scheduler_core::{Scheduler, Shutdown, SqliteOptions, Store, StoreError};

use self::clock::SteppedClock;
use self::options::Options;
use self::script::Script;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let shutdown = host::shutdown::on_signals()?;
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(url)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: fault-host job|queue|write URL [NAME=VALUE]…")
    };
    let options = Options::parse(arguments)?;
    let shutdown = Shutdown { grace: options.grace, ..shutdown };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn").init();
    let clock = SteppedClock::default();
    let script = Script::read(options.hold, clock.clone(), shutdown.clone());
    let store = open(&url, clock).await?;
    if kind == "write" {
        write::write(&store, &shutdown).await;
        return Ok(store.close().await?);
    }
    let mut scheduler = Scheduler::new(store.clone());
    script::say(&format!("instance {}", scheduler.instance_id()));
    match kind.as_str() {
        "job" => job::register(&mut scheduler, &store, &options, script)?,
        "queue" => queue::register(&mut scheduler, &store, &options, script).await?,
        kind => anyhow::bail!("`{kind}` is none of job, queue and write"),
    }
    let running = scheduler.start().await?;
    script::say("started");
    shutdown.stop.cancelled().await;
    running.stop(&shutdown).await;
    store.close().await?;
    Ok(())
}

async fn open(url: &str, clock: SteppedClock) -> Result<Store, StoreError> {
    let clock = Arc::new(clock);
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return Store::postgres_with(url, scheduler_core::PostgresOptions::default(), clock).await;
    }
    Store::sqlite_with(url, SqliteOptions::default(), clock).await
}
