//! What a second source says about a stream: whether it brings what it should.

use std::collections::HashMap;

/// A change that the stream has not brought after this long, it has missed.
const OVERDUE_MS: i64 = 30_000;

/// The changes that a stream owes, by key, each since its time. Times are epoch milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    owed: HashMap<String, i64>,
}

/// What the second source's word on one key comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Testimony {
    /// The stream knows as much, or more; or nothing is known of the key yet.
    Known,
    /// The stream may still bring it.
    Awaited,
    /// The stream should have brought it.
    Missed,
}

impl Witness {
    /// Judges a state that the second source dates to `told_ms`, where the stored one is of
    /// `stored_ms`. Who changes all the time is judged by the first change that is missing: the last
    /// one is always recent.
    pub fn judge(
        &mut self,
        key: &str,
        told_ms: i64,
        stored_ms: Option<i64>,
        now_ms: i64,
    ) -> Testimony {
        let Some(stored_ms) = stored_ms.filter(|stored_ms| *stored_ms < told_ms) else {
            self.owed.remove(key);
            return Testimony::Known;
        };
        let owed_ms = self.owed.get(key).copied().filter(|owed_ms| *owed_ms > stored_ms);
        let owed_ms = owed_ms.unwrap_or(told_ms);
        if owed_ms.saturating_add(OVERDUE_MS) < now_ms {
            self.owed.remove(key);
            return Testimony::Missed;
        }
        self.owed.insert(key.to_owned(), owed_ms);
        Testimony::Awaited
    }

    /// Forgets the keys that nobody watches any more.
    pub fn retain(&mut self, is_watched: impl Fn(&str) -> bool) {
        self.owed.retain(|key, _| is_watched(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_missed_when_it_does_not_come_although_others_follow() {
        let mut witness = Witness::default();
        let mut check = |told_ms, stored_ms: Option<i64>, now_ms, expected| {
            let testimony = witness.judge("token", told_ms, stored_ms, now_ms);
            assert_eq!(testimony, expected, "{told_ms} against {stored_ms:?} at {now_ms}");
        };
        check(5_000, None, 6_000, Testimony::Known);
        check(5_000, Some(5_000), 6_000, Testimony::Known);
        check(5_000, Some(9_000), 90_000, Testimony::Known);
        // An old change that is not there.
        check(10_000, Some(9_000), 40_001, Testimony::Missed);
        // A market that changes all the time: the last change is always recent.
        check(60_000, Some(10_000), 61_000, Testimony::Awaited);
        check(89_000, Some(10_000), 90_000, Testimony::Awaited);
        check(119_000, Some(10_000), 120_000, Testimony::Missed);
        // Asked again, it begins anew; and what comes meanwhile settles it.
        check(150_000, Some(119_000), 151_000, Testimony::Awaited);
        check(180_000, Some(170_000), 182_000, Testimony::Awaited);
        check(209_000, Some(208_000), 210_000, Testimony::Awaited);
        check(209_000, Some(209_000), 240_000, Testimony::Known);
    }
}
