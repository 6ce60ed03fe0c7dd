//! One connection: reads, pings, looks whether it lives.

use scheduler_core::JobContext;

use super::delivery::{Message, Outbox};
use super::feed::{Feed, Heard, SessionRules};
use super::{PATIENCE_MS, connect, wait_until};
use crate::ingestion::{Channel, Reconnect};
use crate::sources::Socket;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The run is to end.
    Stopped,
    /// A one-shot run has what it waited for.
    FirstDatum,
    /// It was old.
    Planned,
    /// It broke, or never stood.
    Broke(String),
}

/// One connection and what it works on.
pub(super) struct Session<'s, F> {
    pub(super) context: &'s JobContext,
    pub(super) outbox: &'s Outbox,
    pub(super) feed: &'s mut F,
    pub(super) reconnect: &'s mut Reconnect,
}

/// Signs of life. Times are epoch milliseconds.
struct Life {
    opened_ms: i64,
    frame_ms: i64,
    datum_ms: i64,
    pinged_ms: i64,
    window_ms: i64,
    /// Since when a ping waits for its pong.
    owed_ms: Option<i64>,
}

impl Life {
    /// Nothing was read for a span because the writer was slow: that is not the venue's silence.
    fn forgive(&mut self, span_ms: i64) {
        self.frame_ms = self.frame_ms.saturating_add(span_ms);
        self.datum_ms = self.datum_ms.saturating_add(span_ms);
        self.owed_ms = self.owed_ms.map(|owed_ms| owed_ms.saturating_add(span_ms));
    }
}

/// The feed is told of time this often.
const TICK_MS: i64 = 1_000;

impl<F: Feed> Session<'_, F> {
    pub(super) async fn run(&mut self) -> Ended {
        let context = self.context;
        let opened = tokio::select! {
            biased;
            () = context.cancelled() => return Ended::Stopped,
            opened = self.open() => opened,
        };
        match opened {
            Ok(socket) => self.read(socket).await,
            Err(error) => Ended::Broke(error),
        }
    }

    async fn open(&mut self) -> Result<Socket, String> {
        let now_ms = self.now_ms();
        self.feed.prepare(now_ms).await.map_err(|error| error.to_string())?;
        let mut socket = connect(self.feed.url()).await?;
        for message in self.feed.opened(self.outbox, self.context.now_ms()) {
            socket.send(message).await.map_err(|error| error.to_string())?;
        }
        Ok(socket)
    }

    async fn read(&mut self, mut socket: Socket) -> Ended {
        let rules = self.feed.rules();
        let now_ms = self.now_ms();
        let mut life = Life {
            opened_ms: now_ms,
            frame_ms: now_ms,
            datum_ms: now_ms,
            pinged_ms: now_ms,
            window_ms: now_ms,
            owed_ms: None,
        };
        let mut next_tick_ms = now_ms + TICK_MS;
        let ended = loop {
            // Time first: a flood of frames must not keep the pings from leaving.
            let step = tokio::select! {
                biased;
                () = self.context.cancelled() => break Ended::Stopped,
                () = wait_until(self.context.clock(), next_tick_ms) => {
                    next_tick_ms = self.now_ms() + TICK_MS;
                    self.tick(&mut socket, &rules, &mut life).await
                }
                frame = socket.next() => match frame {
                    Ok(text) => self.hear(&text, &mut socket, &mut life).await,
                    Err(error) => Some(Ended::Broke(error.to_string())),
                },
            };
            if let Some(ended) = step {
                break ended;
            }
        };
        if !matches!(ended, Ended::Broke(_)) {
            socket.close().await;
        }
        ended
    }

    async fn hear(&mut self, text: &str, socket: &mut Socket, life: &mut Life) -> Option<Ended> {
        let now_ms = self.now_ms();
        life.frame_ms = now_ms;
        let heard = self.feed.read(text, now_ms);
        let mut is_good = false;
        if heard.is_data {
            life.datum_ms = now_ms;
            self.reconnect.works();
        }
        if heard.is_pong {
            life.owed_ms = None;
        }
        for delivery in heard.deliveries {
            is_good |= delivery.newest_ms.is_some();
            if let Err(ended) = self.deliver(Message::Rows(delivery), life).await {
                return Some(ended);
            }
        }
        for reply in heard.replies {
            if let Err(error) = socket.send(reply).await {
                return Some(Ended::Broke(error.to_string()));
            }
        }
        (is_good && self.context.drain()).then_some(Ended::FirstDatum)
    }

    async fn tick(
        &mut self,
        socket: &mut Socket,
        rules: &SessionRules,
        life: &mut Life,
    ) -> Option<Ended> {
        let now_ms = self.now_ms();
        let since = |at_ms: i64| now_ms.saturating_sub(at_ms);
        if since(life.frame_ms) >= rules.silent_after_ms {
            return Some(Ended::Broke(format!("no frame for {} ms", since(life.frame_ms))));
        }
        if let Some(owed_ms) =
            life.owed_ms.filter(|owed_ms| since(*owed_ms) >= rules.silent_after_ms)
        {
            return Some(Ended::Broke(format!("no pong for {} ms", since(owed_ms))));
        }
        if since(life.datum_ms) >= rules.frozen_after_ms {
            let answered = "although pings were answered";
            return Some(Ended::Broke(format!(
                "no data for {} ms {answered}",
                since(life.datum_ms)
            )));
        }
        if self.context.drain() && since(life.opened_ms) >= PATIENCE_MS {
            return Some(Ended::Broke("it stands and brings nothing".to_owned()));
        }
        if since(life.opened_ms) >= rules.longest_ms {
            return Some(Ended::Planned);
        }
        if let Some(reason) = self.feed.distrust() {
            return Some(Ended::Broke(reason.to_owned()));
        }
        let window_ms = i64::try_from(Channel::WINDOW.as_millis()).unwrap_or(i64::MAX);
        let Heard { deliveries, replies, .. } = self.feed.tick(now_ms);
        let mut messages: Vec<Message> = deliveries.into_iter().map(Message::Rows).collect();
        if since(life.window_ms) >= window_ms {
            life.window_ms = now_ms;
            messages.push(Message::Roll { at_ms: now_ms });
        }
        for message in messages {
            if let Err(ended) = self.deliver(message, life).await {
                return Some(ended);
            }
        }
        let mut replies = replies;
        if since(life.pinged_ms) >= rules.ping_every_ms {
            life.pinged_ms = now_ms;
            life.owed_ms.get_or_insert(now_ms);
            replies.push(rules.ping.to_owned());
        }
        for reply in replies {
            if let Err(error) = socket.send(reply).await {
                return Some(Ended::Broke(error.to_string()));
            }
        }
        None
    }

    /// Hands over to the writer.
    async fn deliver(&mut self, message: Message, life: &mut Life) -> Result<(), Ended> {
        let began_ms = self.now_ms();
        let sent = self.outbox.send(message).await;
        life.forgive(self.now_ms().saturating_sub(began_ms));
        sent.map_err(|_| Ended::Broke("what came could not be written".to_owned()))
    }

    fn now_ms(&self) -> i64 {
        self.context.now_ms()
    }
}
