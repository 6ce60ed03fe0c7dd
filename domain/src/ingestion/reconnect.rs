//! When a stream that broke may connect again.

use std::collections::VecDeque;
use std::time::Duration;

/// Waits that double, and a bound on connections per minute. Pure: time and chance come in.
#[derive(Debug, Clone)]
pub struct Reconnect {
    shortest_ms: i64,
    longest_ms: i64,
    per_minute: usize,
    failures: u32,
    connected_at_ms: VecDeque<i64>,
}

const MINUTE_MS: i64 = 60_000;

impl Default for Reconnect {
    /// From 250 ms to 30 s, and at most 20 connections a minute: a source allows 30.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30), 20)
    }
}

impl Reconnect {
    /// Waits from `shortest` to `longest`, and at most `per_minute` connections in any minute.
    #[must_use]
    pub fn new(shortest: Duration, longest: Duration, per_minute: usize) -> Self {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self {
            shortest_ms: millis(shortest).max(1),
            longest_ms: millis(longest).max(1),
            per_minute: per_minute.max(1),
            failures: 0,
            connected_at_ms: VecDeque::new(),
        }
    }

    /// How long to wait before the next connection; `random` is drawn from 0 to 1. Between half the
    /// full wait and all of it, so that clients that were cut off together do not come back together.
    #[must_use]
    pub fn wait_ms(&self, now_ms: i64, random: f64) -> i64 {
        let full = match self.failures {
            0 => 0,
            failures => {
                let doubled = 1_i64 << (failures - 1).min(30);
                self.shortest_ms.saturating_mul(doubled).min(self.longest_ms)
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most the longest wait")]
        #[expect(clippy::cast_precision_loss, reason = "a span, not an instant")]
        let jittered = (full as f64 * (0.5 + 0.5 * random.clamp(0.0, 1.0))) as i64;
        jittered.max(self.until_allowed_ms(now_ms))
    }

    /// Notes an attempt to connect.
    pub fn connecting(&mut self, now_ms: i64) {
        while self.connected_at_ms.len() >= self.per_minute {
            self.connected_at_ms.pop_front();
        }
        self.connected_at_ms.push_back(now_ms);
    }

    /// Notes that a connection broke, or did not come to stand.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes that data came: the next wait is the shortest.
    pub fn works(&mut self) {
        self.failures = 0;
    }

    fn until_allowed_ms(&self, now_ms: i64) -> i64 {
        if self.connected_at_ms.len() < self.per_minute {
            return 0;
        }
        let oldest = self.connected_at_ms.front().copied().unwrap_or(now_ms);
        // A clock that was set back must not lock the stream out.
        oldest.saturating_add(MINUTE_MS).saturating_sub(now_ms).clamp(0, MINUTE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_again_when_data_come() {
        let mut reconnect = Reconnect::default();
        assert_eq!(reconnect.wait_ms(0, 1.0), 0, "the first is free");
        for expected in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            reconnect.failed();
            assert_eq!(reconnect.wait_ms(0, 1.0), expected);
            assert_eq!(reconnect.wait_ms(0, 0.0), expected / 2);
        }
        reconnect.works();
        reconnect.failed();
        assert_eq!(reconnect.wait_ms(0, 1.0), 250);
    }

    #[test]
    fn no_minute_sees_more_connections_than_allowed() {
        let mut reconnect = Reconnect::new(Duration::from_millis(1), Duration::from_millis(1), 20);
        let (mut now_ms, mut connected) = (0, Vec::new());
        while now_ms < 10 * MINUTE_MS {
            reconnect.connecting(now_ms);
            connected.push(now_ms);
            reconnect.failed();
            now_ms += reconnect.wait_ms(now_ms, 1.0).max(1);
        }
        for window in connected.windows(21) {
            assert!(window[20] - window[0] >= MINUTE_MS, "{window:?}");
        }
        assert!(connected.len() >= 180, "it is not starved: {}", connected.len());
        assert!(reconnect.wait_ms(-10 * MINUTE_MS, 1.0) <= MINUTE_MS, "a clock set back");
    }
}
