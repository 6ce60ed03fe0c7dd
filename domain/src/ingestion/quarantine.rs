//! Keys that are left alone for a while: a coin that kills the socket, a market that is always
//! refused.

use std::collections::HashMap;
use std::time::Duration;

/// Keys that failed too often, each until a time.
#[derive(Debug, Clone)]
pub struct Quarantine {
    tries: u32,
    span_ms: i64,
    keys: HashMap<String, Failing>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failing {
    failures: u32,
    until_ms: Option<i64>,
}

impl Default for Quarantine {
    /// After three failures, for an hour.
    fn default() -> Self {
        Self::new(3, Duration::from_secs(3_600))
    }
}

impl Quarantine {
    /// Keys are left alone for `span` after `tries` failures in a row.
    #[must_use]
    pub fn new(tries: u32, span: Duration) -> Self {
        let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self { tries: tries.max(1), span_ms, keys: HashMap::new() }
    }

    /// Notes a failure; whether the key is left alone from now on.
    pub fn failed(&mut self, key: &str, now_ms: i64) -> bool {
        let failing = self.keys.entry(key.to_owned()).or_default();
        failing.failures += 1;
        if failing.failures < self.tries {
            return false;
        }
        failing.until_ms = Some(now_ms.saturating_add(self.span_ms));
        true
    }

    /// Forgets its failures.
    pub fn succeeded(&mut self, key: &str) {
        self.keys.remove(key);
    }

    /// Whether the key may be tried at `now_ms`. One whose time is over gets one try: another
    /// failure sends it back.
    #[must_use]
    pub fn admits(&self, key: &str, now_ms: i64) -> bool {
        let until_ms = self.keys.get(key).and_then(|failing| failing.until_ms);
        until_ms.is_none_or(|until_ms| now_ms >= until_ms)
    }

    /// The keys that are left alone at `now_ms`, sorted.
    #[must_use]
    pub fn held(&self, now_ms: i64) -> Vec<&str> {
        let mut held: Vec<&str> =
            self.keys.keys().map(String::as_str).filter(|key| !self.admits(key, now_ms)).collect();
        held.sort_unstable();
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_left_alone_after_its_tries_and_gets_one_more_later() {
        let mut quarantine = Quarantine::new(3, Duration::from_secs(60));
        assert!(!quarantine.failed("DOGE", 0) && !quarantine.failed("DOGE", 1));
        assert!(quarantine.admits("DOGE", 2));
        assert!(quarantine.failed("DOGE", 2));
        assert!(!quarantine.admits("DOGE", 60_001) && quarantine.admits("BTC", 2));
        assert_eq!(quarantine.held(3), ["DOGE"]);
        assert!(quarantine.admits("DOGE", 60_002));
        assert!(quarantine.failed("DOGE", 60_002), "one try, not three");
        quarantine.succeeded("DOGE");
        assert!(quarantine.admits("DOGE", 60_003));
    }
}
