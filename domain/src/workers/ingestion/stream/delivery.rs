//! What goes from a session to its writer.

use tokio::sync::mpsc;

use crate::ingestion::Rejects;
use crate::market::{
    AssetContext, Candle, Mid, PredictionQuote, PredictionTrade, Quote, Resolution, Trade,
};
use crate::store::market_gaps::MarketGap;

/// The way to the writer: bounded, so that a slow database slows the reading down.
pub(in crate::workers::ingestion) type Outbox = mpsc::Sender<Message>;

/// A message to the writer.
#[derive(Debug)]
pub(in crate::workers::ingestion) enum Message {
    /// A window begins: a connection is tried.
    Begin { at_ms: i64 },
    /// The window ends and another begins.
    Roll { at_ms: i64 },
    /// The window ends, well or not.
    End { at_ms: i64, error: Option<String> },
    /// Rows.
    Rows(Delivery),
}

/// What one frame, or one answer, brought to one channel.
#[derive(Debug, Default)]
pub(in crate::workers::ingestion) struct Delivery {
    /// The index of the channel among the stream's.
    pub(in crate::workers::ingestion) channel: usize,
    /// The good rows.
    pub(in crate::workers::ingestion) rows: Vec<Row>,
    /// How many rows came.
    pub(in crate::workers::ingestion) read: usize,
    /// Why some are not among the good ones.
    pub(in crate::workers::ingestion) rejects: Rejects,
    /// The time of the newest good datum.
    pub(in crate::workers::ingestion) newest_ms: Option<i64>,
}

/// A row for the database.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::workers::ingestion) enum Row {
    /// State: the newest of a coin counts.
    Context(AssetContext),
    /// State.
    Mid(Mid),
    /// State.
    Quote(Quote),
    /// An event: each one counts.
    Trade(Trade),
    /// Closed minutes of a coin, ascending.
    Minutes(String, Vec<Candle>),
    /// State.
    TokenQuote(PredictionQuote),
    /// An event.
    TokenTrade(PredictionTrade),
    /// An event.
    Resolved(Resolution),
    /// A span without data.
    Gap(MarketGap),
    /// The spans without data within this one are filled.
    Filled(MarketGap),
}
