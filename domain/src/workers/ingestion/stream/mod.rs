//! A stream: one owner by lease, one connection, one task that writes.
//!
//! ```text
//! socket ──▶ session ──bounded──▶ writer ──▶ one transaction per short window, fenced
//!   ▲          │ feed: what to ask for, what a frame means
//!   └─ ping ───┘
//! ```
//!
//! Nothing between the socket and the database drops a row: when the database is slow, the channel
//! fills, the session stops reading, and the venue's own buffers fill. What is state (a price) is
//! joined in memory to its newest; what is an event (a trade) is kept, each one.

mod batch;
mod delivery;
mod feed;
mod job;
mod recorder;
mod session;
mod windows;
mod writer;

use std::sync::Arc;

use scheduler_core::{Clock, JobContext, JobResult, RunSummary, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) use self::delivery::{Delivery, Message, Outbox, Row};
pub(super) use self::feed::{Feed, Heard, SessionRules};
pub(super) use self::job::{StreamJob, register};
use self::session::{Ended, Session};
use self::writer::Writer;
use super::polled::PollError;
use crate::ingestion::{Channel, Reconnect};
use crate::sources::Socket;

/// Deliveries between the session and the writer: what a slow database makes wait in memory.
const WAITING: usize = 1_024;
/// A one-shot run waits this long for its first datum; its error says so.
const PATIENCE_MS: i64 = 30_000;
/// Between two questions over REST while there is no stream.
const SUBSTITUTE_MS: i64 = 10_000;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// What was written, or the lease.
    #[error(transparent)]
    Poll(#[from] PollError),
    /// A one-shot run saw nothing.
    #[error("no datum came within 30 s: {0}")]
    NoDatum(String),
}

/// Keeps a stream going until the run is to end; a one-shot run ends at its first datum.
pub(super) async fn run<F: Feed>(
    context: JobContext,
    store: Store,
    channels: &'static [&'static Channel],
    mut feed: F,
) -> JobResult {
    let (outbox, inbox) = mpsc::channel(WAITING);
    let writer = Writer::new(store, context.lease().clone(), channels, inbox);
    let mut writer = tokio::spawn(writer.run());
    let ended = stream(&context, &mut feed, &outbox, &mut writer).await;
    // What the feed still fetches in the background holds the outbox, too.
    drop(feed);
    drop(outbox);
    let connections = match ended {
        Ok(connections) => connections,
        // The writer ended first: its error says why.
        Err(StreamError::Poll(PollError::Stopped)) => 0,
        Err(error) => {
            let _ = writer.await;
            return Err(error.into());
        }
    };
    let written = writer.await??;
    Ok(RunSummary::new().count("connections", connections).count("rows_written", written))
}

async fn stream<F: Feed>(
    context: &JobContext,
    feed: &mut F,
    outbox: &Outbox,
    writer: &mut JoinHandle<Result<u64, PollError>>,
) -> Result<u64, StreamError> {
    let clock = Arc::clone(context.clock());
    let began_ms = clock.now_ms();
    let mut reconnect = Reconnect::default();
    let mut connections = 0;
    let mut substituted_ms = began_ms;
    let mut trouble = String::from("the stream never stood");
    loop {
        if writer.is_finished() {
            return Err(PollError::Stopped.into());
        }
        let wait_ms = reconnect.wait_ms(clock.now_ms(), fastrand::f64());
        let until_ms = clock.now_ms().saturating_add(wait_ms);
        tokio::select! {
            () = context.cancelled() => return Ok(connections),
            () = wait_until(&clock, until_ms) => {}
        }
        let now_ms = clock.now_ms();
        if context.drain() && now_ms.saturating_sub(began_ms) >= PATIENCE_MS {
            return Err(StreamError::NoDatum(trouble));
        }
        reconnect.connecting(now_ms);
        connections += 1;
        // It sees for itself that the run is to end, and ends its windows.
        let ended = connect_and_read(context, feed, outbox, &mut reconnect).await;
        feed.closed(clock.now_ms());
        match ended {
            Ended::Stopped | Ended::FirstDatum => return Ok(connections),
            Ended::Planned => reconnect.works(),
            Ended::Broke(error) => {
                reconnect.failed();
                tracing::warn!(
                    stream = context.job(),
                    error,
                    "a stream broke; it is connected again"
                );
                trouble = error;
                if clock.now_ms().saturating_sub(substituted_ms) >= SUBSTITUTE_MS {
                    substituted_ms = clock.now_ms();
                    tokio::select! {
                        () = context.cancelled() => return Ok(connections),
                        () = feed.substitute(outbox) => {}
                    }
                }
            }
        }
    }
}

/// One connection from its preparation to its end, in windows.
async fn connect_and_read<F: Feed>(
    context: &JobContext,
    feed: &mut F,
    outbox: &Outbox,
    reconnect: &mut Reconnect,
) -> Ended {
    let clock = context.clock();
    let mut session = Session { context, outbox, feed, reconnect };
    if outbox.send(Message::Begin { at_ms: clock.now_ms() }).await.is_err() {
        return Ended::Stopped;
    }
    let ended = session.run().await;
    let error = match &ended {
        Ended::Broke(error) => Some(error.clone()),
        _ => None,
    };
    let _ = outbox.send(Message::End { at_ms: clock.now_ms(), error }).await;
    ended
}

pub(super) async fn wait_until(clock: &Arc<dyn Clock>, at_ms: i64) {
    while clock.now_ms() < at_ms {
        clock.sleep_until(at_ms).await;
    }
}

/// Connects to where the feed is.
async fn connect(url: &str) -> Result<Socket, String> {
    Socket::connect(url).await.map_err(|error| error.to_string())
}
