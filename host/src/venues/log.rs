//! What was asked, for tests to look at. Of everything only the latest is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Host;
use super::endpoint::Endpoint;

/// Requests that are kept.
const REQUESTS: usize = 20_000;
/// Connections of which the messages are kept, and messages of each.
const CONNECTIONS: usize = 256;
const MESSAGES: usize = 2_048;
/// Of a body or a message this much is kept, in bytes.
const BODY: usize = 4_096;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When, by the venues' clock, in epoch milliseconds.
    pub at_ms: i64,
    /// Of whom it was asked.
    pub host: Host,
    /// What was asked.
    pub endpoint: Endpoint,
    /// Method, path and query.
    pub line: String,
    /// The start of the body.
    pub body: String,
    /// Who asked, as they say.
    pub user_agent: String,
    /// What it took of the caller's budget.
    pub weight: u32,
    /// How it was answered.
    pub status: u16,
}

/// A message that a client sent on a stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// When, by the venues' clock, in epoch milliseconds.
    pub at_ms: i64,
    /// The message.
    pub text: String,
}

/// The log of running venues.
#[derive(Debug, Default)]
pub struct Log {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Seen>,
    streams: BTreeMap<Endpoint, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    open: usize,
    /// When connections opened in the last minute.
    opened_ms: VecDeque<i64>,
    connections: VecDeque<(u64, Vec<Message>)>,
    count: u64,
    brought: u64,
}

impl Log {
    /// The requests to an endpoint, oldest first.
    #[must_use]
    pub fn requests(&self, endpoint: Endpoint) -> Vec<Seen> {
        let kept = self.kept();
        kept.requests.iter().filter(|seen| seen.endpoint == endpoint).cloned().collect()
    }

    /// Every request, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Seen> {
        self.kept().requests.iter().cloned().collect()
    }

    /// The most weight that a host was asked for within any minute.
    #[must_use]
    pub fn heaviest_minute(&self, host: Host) -> u32 {
        let kept = self.kept();
        let (mut minute, mut sum, mut most) = (VecDeque::new(), 0, 0);
        for seen in kept.requests.iter().filter(|seen| seen.host == host) {
            minute.push_back(seen);
            sum += seen.weight;
            while let Some(first) =
                minute.front().filter(|first| first.at_ms <= seen.at_ms - 60_000)
            {
                sum -= first.weight;
                minute.pop_front();
            }
            most = most.max(sum);
        }
        most
    }

    /// How many connections a stream has had.
    #[must_use]
    pub fn connections(&self, stream: Endpoint) -> u64 {
        self.kept().streams.get(&stream).map_or(0, |stream| stream.count)
    }

    /// How many frames of data a stream has brought, on all of its connections.
    #[must_use]
    pub fn brought(&self, stream: Endpoint) -> u64 {
        self.kept().streams.get(&stream).map_or(0, |stream| stream.brought)
    }

    /// How many connections of a stream are open.
    #[must_use]
    pub fn open(&self, stream: Endpoint) -> usize {
        self.kept().streams.get(&stream).map_or(0, |stream| stream.open)
    }

    /// What a client has sent on a connection of a stream, of which the first is number 1.
    #[must_use]
    pub fn messages(&self, stream: Endpoint, connection: u64) -> Vec<Message> {
        let kept = self.kept();
        let found = kept
            .streams
            .get(&stream)
            .and_then(|stream| stream.connections.iter().find(|(number, _)| *number == connection));
        found.map(|(_, messages)| messages.clone()).unwrap_or_default()
    }

    pub(crate) fn saw(&self, mut seen: Seen) {
        seen.body.truncate(seen.body.floor_char_boundary(BODY));
        let mut kept = self.kept();
        if kept.requests.len() >= REQUESTS {
            kept.requests.pop_front();
        }
        kept.requests.push_back(seen);
    }

    /// Notes a connection and answers its number.
    pub(crate) fn connected(&self, stream: Endpoint) -> u64 {
        let mut kept = self.kept();
        let stream = kept.streams.entry(stream).or_default();
        stream.open += 1;
        stream.count += 1;
        if stream.connections.len() >= CONNECTIONS {
            stream.connections.pop_front();
        }
        stream.connections.push_back((stream.count, Vec::new()));
        stream.count
    }

    pub(crate) fn brings(&self, stream: Endpoint) {
        self.kept().streams.entry(stream).or_default().brought += 1;
    }

    pub(crate) fn disconnected(&self, stream: Endpoint) {
        if let Some(stream) = self.kept().streams.get_mut(&stream) {
            stream.open = stream.open.saturating_sub(1);
        }
    }

    /// Whether one more connection is within the limits; if so, it counts as opened.
    pub(crate) fn may_connect(
        &self,
        stream: Endpoint,
        now_ms: i64,
        (most, per_minute): (usize, usize),
    ) -> bool {
        let mut kept = self.kept();
        let stream = kept.streams.entry(stream).or_default();
        stream.opened_ms.retain(|at_ms| now_ms - at_ms < 60_000);
        let may = stream.open < most && stream.opened_ms.len() < per_minute;
        if may {
            stream.opened_ms.push_back(now_ms);
        }
        may
    }

    pub(crate) fn heard(&self, stream: Endpoint, connection: u64, at_ms: i64, text: &str) {
        let mut kept = self.kept();
        let Some(stream) = kept.streams.get_mut(&stream) else { return };
        let found = stream.connections.iter_mut().find(|(number, _)| *number == connection);
        if let Some((_, messages)) = found
            && messages.len() < MESSAGES
        {
            let text = text.get(..text.floor_char_boundary(BODY)).unwrap_or_default();
            messages.push(Message { at_ms, text: text.to_owned() });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
