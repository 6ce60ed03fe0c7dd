//! Which open times a file has already named, in little memory.

use std::collections::BTreeMap;

use super::Interval;

/// A set of open times on an interval's grid, kept as runs of neighbours: a history without gaps
/// is one entry, however long. A shuffled file costs at most one entry per two bars.
pub(crate) struct SeenTimes {
    step: i64,
    /// First open time of a run to its last, both inclusive. Runs neither touch nor overlap.
    runs: BTreeMap<i64, i64>,
}

impl SeenTimes {
    pub(crate) fn new(interval: Interval) -> Self {
        Self { step: interval.as_millis(), runs: BTreeMap::new() }
    }

    /// Adds an open time. `false` when it was already in.
    pub(crate) fn insert(&mut self, at_ms: i64) -> bool {
        let before = self.runs.range(..=at_ms).next_back().map(|(&first, &last)| (first, last));
        if before.is_some_and(|(_, last)| at_ms <= last) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last + self.step == at_ms => first,
            _ => at_ms,
        };
        let last = self.runs.remove(&(at_ms + self.step)).unwrap_or(at_ms);
        self.runs.insert(first, last);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Interval, SeenTimes};

    proptest! {
        #[test]
        fn it_answers_like_a_plain_set_and_holds_one_entry_per_run(
            bars in prop::collection::vec(0_i64..60, 0..80),
        ) {
            let mut seen = SeenTimes::new(Interval::M5);
            let mut plain = BTreeSet::new();
            for bar in bars {
                prop_assert_eq!(seen.insert(bar * 300_000), plain.insert(bar));
            }
            let runs = plain.iter().filter(|&&bar| !plain.contains(&(bar - 1))).count();
            prop_assert_eq!(seen.runs.len(), runs);
        }
    }
}
