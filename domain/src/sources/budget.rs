//! What a source may be asked per minute: a bucket of weight that fills again with time.

use std::time::Duration;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// What is needed now: may take all that is there.
    Live,
    /// Repair of old gaps: leaves a third of the bucket to the living.
    Repair,
}

/// A bucket of request weight. Pure: time comes in.
#[derive(Debug, Clone)]
pub struct Budget {
    capacity: f64,
    per_ms: f64,
    weight: f64,
    at_ms: i64,
    closed_until_ms: i64,
    halved_until_ms: i64,
}

/// The share of the bucket that repair leaves alone.
const RESERVE: f64 = 1.0 / 3.0;
/// How long it is asked half as much afterwards.
const CAUTION: Duration = Duration::from_secs(300);

impl Budget {
    /// A full bucket of what may be asked in a minute. `per_minute` is in the source's own weight,
    /// or in requests.
    #[must_use]
    pub fn per_minute(per_minute: u32, now_ms: i64) -> Self {
        let capacity = f64::from(per_minute.max(1));
        Self {
            capacity,
            per_ms: capacity / 60_000.0,
            weight: capacity,
            at_ms: now_ms,
            closed_until_ms: i64::MIN,
            halved_until_ms: i64::MIN,
        }
    }

    /// Takes `weight` if it is there, else says how many milliseconds to wait before asking again.
    /// A request heavier than the whole bucket takes a full one.
    ///
    /// # Errors
    /// The wait, at least 1 ms.
    pub fn take(&mut self, weight: u32, priority: Priority, now_ms: i64) -> Result<(), i64> {
        self.fill(now_ms);
        if now_ms < self.closed_until_ms {
            return Err(self.closed_until_ms - now_ms);
        }
        let reserve = match priority {
            Priority::Live => 0.0,
            Priority::Repair => self.capacity * RESERVE,
        };
        let wanted = f64::from(weight).min(self.capacity - reserve);
        if self.weight - reserve >= wanted {
            self.weight -= f64::from(weight).min(self.capacity);
            return Ok(());
        }
        let missing = wanted + reserve - self.weight;
        #[expect(clippy::cast_possible_truncation, reason = "at most a few minutes")]
        let wait_ms = (missing / self.rate(now_ms)).ceil() as i64;
        Err(wait_ms.max(1))
    }

    /// The source limits us: nothing for `pause`, then half the rate for five minutes.
    pub fn limited(&mut self, pause: Duration, now_ms: i64) {
        self.fill(now_ms);
        self.closed_until_ms = self.closed_until_ms.max(now_ms.saturating_add(millis(pause)));
        self.halved_until_ms = now_ms.saturating_add(millis(CAUTION));
        self.weight = self.weight.min(self.capacity / 2.0);
    }

    fn fill(&mut self, now_ms: i64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a span, not an instant")]
        let gained = passed_ms as f64 * self.rate(now_ms);
        self.weight = (self.weight + gained).min(self.capacity);
        self.at_ms = now_ms;
    }

    fn rate(&self, now_ms: i64) -> f64 {
        if now_ms < self.halved_until_ms { self.per_ms / 2.0 } else { self.per_ms }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_holds_more_than_the_bucket_and_its_refill() {
        let mut budget = Budget::per_minute(600, 0);
        let (mut now_ms, mut taken) = (0, 0);
        while now_ms <= 60_000 {
            match budget.take(20, Priority::Live, now_ms) {
                Ok(()) => taken += 20,
                Err(wait_ms) => now_ms += wait_ms,
            }
        }
        assert_eq!(taken, 1_200, "a full bucket and one minute's refill");
    }

    #[test]
    fn repair_leaves_a_third_to_the_living() {
        let mut budget = Budget::per_minute(600, 0);
        for _ in 0..20 {
            budget.take(20, Priority::Repair, 0).unwrap();
        }
        assert_eq!(budget.take(20, Priority::Repair, 0), Err(2_000));
        for _ in 0..10 {
            budget.take(20, Priority::Live, 0).unwrap();
        }
        assert_eq!(budget.take(20, Priority::Live, 0), Err(2_000));
        assert_eq!(budget.take(20, Priority::Live, 2_000), Ok(()));
    }

    #[test]
    fn a_source_that_limits_is_left_alone_and_then_asked_half_as_much() {
        let mut budget = Budget::per_minute(600, 0);
        budget.limited(Duration::from_secs(10), 0);
        assert_eq!(budget.take(1, Priority::Live, 0), Err(10_000));
        budget.limited(Duration::from_secs(60), 1_000);
        assert_eq!(budget.take(1, Priority::Live, 1_000), Err(60_000));
        let mut calm = Budget::per_minute(600, 0);
        while calm.take(20, Priority::Live, 0).is_ok() {}
        calm.limited(Duration::from_secs(10), 0);
        assert_eq!(calm.take(20, Priority::Live, 10_000), Ok(()), "50 came in ten seconds");
        assert_eq!(calm.take(40, Priority::Live, 10_000), Err(2_000));
    }

    #[test]
    fn a_request_heavier_than_the_bucket_is_not_refused_for_ever() {
        let mut budget = Budget::per_minute(10, 0);
        assert_eq!(budget.take(1_000, Priority::Live, 0), Ok(()));
        assert_eq!(budget.take(1_000, Priority::Live, 0), Err(60_000));
        assert_eq!(budget.take(1_000, Priority::Live, 60_000), Ok(()));
        // A clock that steps back neither fills nor empties it.
        assert_eq!(budget.take(1, Priority::Live, 0), Err(6_000));
    }
}
