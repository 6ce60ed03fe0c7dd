//! Peers on sqlx 0.8: fang and underway, one measurement a process.

mod fang_queue;
mod underway_queue;

use anyhow::bail;
use clap::Parser as _;
use probe::{Figure, Request, answer, measure};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    answer(figure(&Request::parse()).await)
}

async fn figure(request: &Request) -> anyhow::Result<Figure> {
    match request.peer.as_str() {
        "fang" => measure(&fang_queue::Fang::open(&request.database).await?, request).await,
        "underway" => {
            measure(&underway_queue::Underway::open(&request.database).await?, request).await
        }
        other => bail!("no peer `{other}` here"),
    }
}
