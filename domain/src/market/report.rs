//! What an import did.

use super::{Gap, RejectReason};

/// How many rejects and gaps a report lists. All are counted.
pub const LISTED: usize = 100;

/// What an import read, wrote and left out.
///
/// Every row is exactly one of inserted, duplicate, changed or rejected.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportReport {
    /// Lines of the file after the header, blank ones aside.
    pub rows: u64,
    /// Bars that were not there before.
    pub inserted: u64,
    /// Bars that were stored already, or stood on an earlier line, with the same values.
    pub duplicates: u64,
    /// Bars that were stored with other values; they have the file's values now.
    pub changed: u64,
    /// Good rows that stood after a later bar. They are counted above too.
    pub unsorted: u64,
    /// Lines that were left out.
    pub rejects: Rejects,
    /// Open time of the file's first bar in time, epoch milliseconds; `None` without a good row.
    pub first_ms: Option<i64>,
    /// Open time of the file's last bar in time, epoch milliseconds.
    pub last_ms: Option<i64>,
    /// What the stored history lacks over the span of the file and up to its stored neighbours on
    /// both sides, oldest first, at most [`LISTED`]. Bars of earlier imports fill gaps of the file.
    pub gaps: Vec<Gap>,
    /// How many gaps there are.
    pub gap_count: u64,
}

/// A line that was left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Its number; the header is line 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: RejectReason,
}

/// All rejects counted, the first [`LISTED`] kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rejects {
    /// How many there were.
    pub total: u64,
    /// The first of them, by line.
    pub first: Vec<Reject>,
}

impl Rejects {
    pub(super) fn push(&mut self, reject: Reject) {
        self.total += 1;
        // A conflict is found a batch later than its line was read.
        let place = self.first.partition_point(|kept| kept.line < reject.line);
        if place < LISTED {
            self.first.truncate(LISTED - 1);
            self.first.insert(place, reject);
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        let unlisted = other.total - other.first.len() as u64;
        for reject in other.first {
            self.push(reject);
        }
        self.total += unlisted;
    }
}

#[cfg(test)]
mod tests {
    use super::{LISTED, Reject, RejectReason, Rejects};

    #[test]
    fn the_first_hundred_lines_are_listed_whatever_the_order_and_all_are_counted() {
        let reject = |line| Reject { line, reason: RejectReason::FieldCount { found: 1 } };
        let (mut late, mut early) = (Rejects::default(), Rejects::default());
        (2..=201).filter(|line| line % 2 == 0).for_each(|line| late.push(reject(line)));
        (2..=401).filter(|line| line % 2 == 1).for_each(|line| early.push(reject(line)));

        late.append(early);

        assert_eq!(late.total, 300);
        let lines: Vec<_> = late.first.iter().map(|reject| reject.line).collect();
        assert_eq!(lines, (2..2 + LISTED as u64).collect::<Vec<_>>());
    }
}
