//! The raw limits, scheduler-core and the peers that build beside its driver, one measurement a process.

mod apalis_postgres_queue;
mod apalis_sqlite_queue;
mod graphile;
mod own;
mod raw;
mod ticks;

use anyhow::bail;
use clap::Parser as _;
use probe::{Figure, Request, Work, answer, measure};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    answer(figure(&Request::parse()).await)
}

async fn figure(request: &Request) -> anyhow::Result<Figure> {
    if request.work == Work::Ticks {
        return ticks::measure(request).await;
    }
    let database = &request.database;
    match request.peer.as_str() {
        "raw" => measure(&raw::Raw::open(database).await?, request).await,
        "scheduler-core" => measure(&own::Own::open(database).await?, request).await,
        "apalis-sqlite" => {
            measure(&apalis_sqlite_queue::Apalis::open(database).await?, request).await
        }
        "apalis-postgres" => {
            measure(&apalis_postgres_queue::Apalis::open(database).await?, request).await
        }
        "graphile_worker" => measure(&graphile::Graphile::open(database).await?, request).await,
        other => bail!("no peer `{other}` here"),
    }
}
