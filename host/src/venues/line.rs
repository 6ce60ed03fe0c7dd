//! One connection of a stream: what is heard, what is said, and the faults of its script.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use poem::web::websocket::{Message, WebSocketStream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::VenueLimits;
use super::endpoint::Endpoint;
use super::faults::{Faults, Step};
use super::network::Network;

/// The connection is over, by whichever side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended;

/// What came of listening.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Text(String),
    /// Nothing until the time was up.
    Nothing,
}

/// A connection. Dropping it cuts the connection without a word, as a lost network does.
pub(crate) struct Line {
    socket: WebSocketStream,
    stream: Endpoint,
    number: u64,
    network: Arc<Network>,
    changes: watch::Receiver<u64>,
    last_sent_ms: i64,
    /// Messages of the last minute.
    heard: VecDeque<i64>,
    state: State,
}

/// What the script has made of the connection.
#[derive(Default)]
struct State {
    brought: u64,
    frozen: bool,
    mute: bool,
    duplicates: bool,
    /// A frame that waits for the one after it.
    held: Option<Value>,
    swap: bool,
}

impl Line {
    pub(crate) fn new(socket: WebSocketStream, stream: Endpoint, network: Arc<Network>) -> Self {
        let number = network.log.connected(stream);
        let changes = network.faults.changes();
        let last_sent_ms = network.now_ms();
        Self {
            socket,
            stream,
            number,
            network,
            changes,
            last_sent_ms,
            heard: VecDeque::new(),
            state: State::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.network.now_ms()
    }

    pub(crate) fn limits(&self) -> VenueLimits {
        self.network.limits
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.network.faults
    }

    pub(crate) fn last_sent_ms(&self) -> i64 {
        self.last_sent_ms
    }

    /// Listens until a message comes or the venue's clock reaches `until_ms`.
    pub(crate) async fn hear(&mut self, until_ms: i64) -> Result<Heard, Ended> {
        loop {
            self.play().await?;
            let stop = self.network.shutdown.stop.clone();
            let offset_ms = self.network.faults.clock_offset_ms();
            tokio::select! {
                () = stop.cancelled() => return Err(Ended),
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => return self.heard(text),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Ended),
                    // The library answers a ping itself.
                    Some(Ok(_)) => {}
                },
                () = self.network.clock.sleep_until(until_ms - offset_ms) => {
                    self.network.faults.stir(self.stream);
                    return Ok(Heard::Nothing);
                }
                changed = self.changes.changed() => changed.map_err(|_| Ended)?,
            }
        }
    }

    fn heard(&mut self, text: String) -> Result<Heard, Ended> {
        let now_ms = self.now_ms();
        self.heard.retain(|at_ms| now_ms - at_ms < 60_000);
        if self.heard.len() >= self.limits().messages_per_minute {
            return Err(Ended);
        }
        self.heard.push_back(now_ms);
        self.network.log.heard(self.stream, self.number, now_ms, &text);
        Ok(Heard::Text(text))
    }

    /// Says something that is not data.
    pub(crate) async fn say(&mut self, frame: Value) -> Result<(), Ended> {
        self.send(Message::text(frame.to_string())).await
    }

    /// Says a word that is no document.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), Ended> {
        self.send(Message::text(text)).await
    }

    /// Answers a ping.
    pub(crate) async fn pong(&mut self, text: String) -> Result<(), Ended> {
        if self.state.mute { Ok(()) } else { self.send(Message::text(text)).await }
    }

    /// Brings data, as far as the script lets it.
    pub(crate) async fn bring(&mut self, mut frame: Value) -> Result<(), Ended> {
        if self.state.frozen {
            return Ok(());
        }
        self.network.faults.edit(self.stream, &mut frame);
        if self.state.swap {
            match self.state.held.take() {
                None => {
                    self.state.held = Some(frame);
                    return Ok(());
                }
                Some(earlier) => {
                    self.state.swap = false;
                    self.deliver(frame).await?;
                    return self.deliver(earlier).await;
                }
            }
        }
        self.deliver(frame).await
    }

    async fn deliver(&mut self, frame: Value) -> Result<(), Ended> {
        let text = frame.to_string();
        if self.state.duplicates {
            self.send(Message::text(text.clone())).await?;
        }
        self.send(Message::text(text)).await?;
        self.state.brought += 1;
        self.network.log.brings(self.stream);
        self.play().await
    }

    /// Plays the steps of the script that are due on this connection.
    async fn play(&mut self) -> Result<(), Ended> {
        while let Some(step) = self.network.faults.next_step(self.stream, self.state.brought) {
            match step {
                Step::Text(text) => self.send(Message::text(text)).await?,
                Step::Error(text) => {
                    self.say(json!({ "channel": "error", "data": text })).await?;
                }
                Step::Close(code) => {
                    self.send(Message::close_with(code, "")).await?;
                    return Err(Ended);
                }
                Step::Drop => return Err(Ended),
                Step::Freeze => self.state.frozen = true,
                Step::Thaw => self.state.frozen = false,
                Step::Mute => self.state.mute = true,
                Step::Duplicate(on) => self.state.duplicates = on,
                Step::Swap => self.state.swap = true,
                Step::AfterFrames(_) | Step::Refuse => {}
            }
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), Ended> {
        let stop = self.network.shutdown.stop.clone();
        tokio::select! {
            sent = self.socket.send(message) => sent.map_err(|_| Ended)?,
            () = stop.cancelled() => return Err(Ended),
        }
        self.last_sent_ms = self.now_ms();
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.network.log.disconnected(self.stream);
    }
}
