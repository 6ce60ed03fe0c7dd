//! The same measurements for every peer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::handled::{count, last_nanos, now_nanos, reach};
use crate::{Figure, Peer, Request, Work};

/// How many rows one bulk enqueue has.
const BULK: usize = 1_000;
/// Between two looks at what is unfinished, once every handler has begun.
const LOOK: Duration = Duration::from_millis(2);
/// How many latencies are measured, unless the time is over before.
const PICKUPS: u64 = 100;
/// A worker that polls every so many seconds needs as long for its first jobs.
const PICKUP_PATIENCE: Duration = Duration::from_secs(12);

/// Measures what is asked for.
///
/// # Errors
///
/// What the peer answers; work that it does not have; a drain in which nothing was done.
pub async fn measure<P: Peer>(peer: &P, request: &Request) -> anyhow::Result<Figure> {
    let span = Duration::try_from_secs_f64(request.seconds).context("seconds")?;
    match request.work {
        Work::Enqueue1 => enqueue(peer, 1, 1, span).await,
        Work::Enqueue16 => enqueue(peer, 16, 1, span).await,
        Work::Bulk => enqueue(peer, 1, BULK, span).await,
        Work::Drain10 => drain(peer, 10, request.jobs, span).await,
        Work::Drain50 => drain(peer, 50, request.jobs, span).await,
        Work::Pickup => pickup(peer).await,
        Work::Ticks => bail!("{} is a queue, not a clock", request.peer),
    }
}

async fn enqueue<P: Peer>(
    peer: &P,
    tasks: usize,
    rows: usize,
    span: Duration,
) -> anyhow::Result<Figure> {
    // Connections are open and statements prepared.
    peer.enqueue(rows).await?;
    let began = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                let mut enqueued = 0;
                while began.elapsed() < span {
                    peer.enqueue(rows).await?;
                    enqueued += rows;
                }
                anyhow::Ok(enqueued)
            })
        })
        .collect();
    let mut enqueued = 0;
    for task in tasks {
        enqueued += task.await??;
    }
    Ok(Figure { value: rate(enqueued as u64, began.elapsed()), ..Figure::default() })
}

/// The rate at which the database holds jobs as done: until all are, or for as long as is given.
async fn drain<P: Peer>(
    peer: &P,
    concurrency: usize,
    jobs: usize,
    span: Duration,
) -> anyhow::Result<Figure> {
    fill(peer, jobs).await?;
    let jobs = u64::try_from(jobs)?;
    ensure!(peer.unfinished().await? == jobs, "not {jobs} jobs wait");
    let began = Instant::now();
    let _workers = peer.start(concurrency).await?;
    let all = tokio::time::timeout(span, reach(jobs)).await.is_ok();
    let mut left = peer.unfinished().await?;
    let mut took = began.elapsed();
    while all && left > 0 && took < span * 2 {
        tokio::time::sleep(LOOK).await;
        left = peer.unfinished().await?;
        took = began.elapsed();
    }
    let done = jobs - left;
    ensure!(done > 0, "no job was done within {span:?}");
    // What has begun and not ended is at most what may run at once; only a whole drain can tell more.
    let repeated = if left == 0 { count().saturating_sub(jobs) } else { 0 };
    Ok(Figure { value: rate(done, took), repeated, ..Figure::default() })
}

async fn fill<P: Peer>(peer: &P, jobs: usize) -> anyhow::Result<()> {
    if P::HAS_BULK {
        let mut left = jobs;
        while left > 0 {
            let rows = left.min(BULK);
            peer.enqueue(rows).await?;
            left -= rows;
        }
        return Ok(());
    }
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (peer, rows) = (peer.clone(), jobs / 16 + usize::from(task < jobs % 16));
            tokio::spawn(async move {
                for _ in 0..rows {
                    peer.enqueue(1).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn pickup<P: Peer>(peer: &P) -> anyhow::Result<Figure> {
    let ends = Instant::now() + PICKUP_PATIENCE;
    let _workers = peer.start(10).await?;
    let mut late_ms = Vec::new();
    for number in 1..=PICKUPS + 1 {
        // It is idle when the next comes, and not always as long.
        tokio::time::sleep(Duration::from_millis(10 + number * 7 % 20)).await;
        let before = now_nanos();
        peer.enqueue(1).await?;
        let left = ends.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left, reach(number)).await.is_err() {
            break;
        }
        // The first opens connections.
        if number > 1 {
            late_ms.push(last_nanos().saturating_sub(before) as f64 / 1e6);
        }
    }
    ensure!(!late_ms.is_empty(), "less than two jobs began within {PICKUP_PATIENCE:?}");
    late_ms.sort_by(f64::total_cmp);
    let at = |part: usize| late_ms[(late_ms.len() * part / 100).min(late_ms.len() - 1)];
    Ok(Figure { value: at(50), p99: Some(at(99)), ..Figure::default() })
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
