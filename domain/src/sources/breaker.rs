//! A host that is down is left alone: no request waits for a timeout that is sure to come.

use std::time::Duration;

/// Counts failures in a row; open, it admits nobody but one probe per span.
#[derive(Debug, Clone)]
pub struct Breaker {
    opens_after: u32,
    span_ms: i64,
    failures: u32,
    open_until_ms: Option<i64>,
}

/// Whether a request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It may not before this time, epoch milliseconds.
    LeftAlone {
        /// Until when.
        until_ms: i64,
        /// Failures in a row.
        failures: u32,
    },
}

impl Default for Breaker {
    /// Opens after five failures, for 30 s.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(30))
    }
}

impl Breaker {
    /// Opens for `span` after `opens_after` failures in a row.
    #[must_use]
    pub fn new(opens_after: u32, span: Duration) -> Self {
        let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self { opens_after: opens_after.max(1), span_ms, failures: 0, open_until_ms: None }
    }

    /// Whether a request may go out at `now_ms`. Once the span is over one may, as a probe; the
    /// others wait for what it finds.
    pub fn admit(&mut self, now_ms: i64) -> Admission {
        match self.open_until_ms {
            Some(until_ms) if now_ms < until_ms => {
                Admission::LeftAlone { until_ms, failures: self.failures }
            }
            Some(_) => {
                self.open_until_ms = Some(now_ms.saturating_add(self.span_ms));
                Admission::Go
            }
            None => Admission::Go,
        }
    }

    /// The host answered.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.open_until_ms = None;
    }

    /// The host is down. Whether that opened the breaker.
    pub fn failed(&mut self, now_ms: i64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.opens_after {
            return false;
        }
        let was_open = self.open_until_ms.is_some();
        self.open_until_ms = Some(now_ms.saturating_add(self.span_ms));
        !was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_admits_a_probe_and_closes() {
        let mut breaker = Breaker::new(3, Duration::from_secs(30));
        assert!(!breaker.failed(0) && !breaker.failed(0));
        assert_eq!(breaker.admit(0), Admission::Go);
        assert!(breaker.failed(1_000));
        let shut = Admission::LeftAlone { until_ms: 31_000, failures: 3 };
        assert_eq!(breaker.admit(30_999), shut);
        assert_eq!(breaker.admit(31_000), Admission::Go, "the probe");
        assert!(matches!(breaker.admit(31_000), Admission::LeftAlone { until_ms: 61_000, .. }));
        assert!(!breaker.failed(32_000), "it was open");
        assert!(matches!(breaker.admit(33_000), Admission::LeftAlone { failures: 4, .. }));
        assert_eq!(breaker.admit(62_000), Admission::Go);
        breaker.succeeded();
        assert_eq!(breaker.admit(62_001), Admission::Go);
        assert!(!breaker.failed(62_002), "the count starts anew");
    }
}
