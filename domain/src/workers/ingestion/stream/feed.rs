//! What a venue's stream is made of: what to ask for, what a frame means, when it is silent.

use async_trait::async_trait;

use super::delivery::{Delivery, Outbox};
use crate::workers::ingestion::PollError;

/// One venue's side of a stream.
#[async_trait]
pub(in crate::workers::ingestion) trait Feed: Send {
    /// Where it connects to.
    fn url(&self) -> &str;

    /// When a connection is taken for dead.
    fn rules(&self) -> SessionRules;

    /// Finds out what to ask for, before each connection.
    async fn prepare(&mut self, now_ms: i64) -> Result<(), PollError>;

    /// The connection stands: the messages that ask for data. Work in the background delivers to
    /// `outbox`, and ends with the feed.
    fn opened(&mut self, outbox: &Outbox, now_ms: i64) -> Vec<String>;

    /// Reads a frame.
    fn read(&mut self, text: &str, now_ms: i64) -> Heard;

    /// A second passed: what was waiting for its time.
    fn tick(&mut self, now_ms: i64) -> Heard;

    /// Why the connection is not to be trusted any more, if it is not.
    fn distrust(&self) -> Option<&'static str> {
        None
    }

    /// The connection ended.
    fn closed(&mut self, now_ms: i64);

    /// Asks over REST while there is no stream.
    async fn substitute(&mut self, outbox: &Outbox);
}

/// What a frame came to.
#[derive(Debug, Default)]
pub(in crate::workers::ingestion) struct Heard {
    /// What it brought.
    pub(in crate::workers::ingestion) deliveries: Vec<Delivery>,
    /// What to send now.
    pub(in crate::workers::ingestion) replies: Vec<String>,
    /// Whether it is data, and not only a sign of life.
    pub(in crate::workers::ingestion) is_data: bool,
    /// Whether it answers a ping.
    pub(in crate::workers::ingestion) is_pong: bool,
}

/// When a connection is taken for dead. Spans in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(in crate::workers::ingestion) struct SessionRules {
    /// The client's own ping.
    pub(in crate::workers::ingestion) ping: &'static str,
    /// How often it is sent.
    pub(in crate::workers::ingestion) ping_every_ms: i64,
    /// Without any frame for this long, or without the pong of a ping, it is dead: what is sent may
    /// not arrive although data come.
    pub(in crate::workers::ingestion) silent_after_ms: i64,
    /// Without data for this long, it is frozen, whatever else comes.
    pub(in crate::workers::ingestion) frozen_after_ms: i64,
    /// It is made anew after this long, whatever it does.
    pub(in crate::workers::ingestion) longest_ms: i64,
}
