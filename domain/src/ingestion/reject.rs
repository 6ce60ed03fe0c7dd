//! Rows that are refused: counted by reason, with one example each, so that a batch leaves one
//! line in the log and not a thousand.

use std::collections::BTreeMap;
use std::fmt;

use super::number::NumberError;

/// Why a row is refused. The reason is the key of a count; the detail is one example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// A word for it.
    pub reason: &'static str,
    /// What stood there, cut off.
    pub detail: String,
}

impl Reject {
    /// A reason with an example.
    #[must_use]
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<NumberError> for Reject {
    fn from(error: NumberError) -> Self {
        let reason = match &error {
            NumberError::Missing { .. } => "missing_number",
            NumberError::NotANumber { .. } => "not_a_number",
            NumberError::NotPositive { .. } => "not_positive",
        };
        Self::new(reason, error.to_string())
    }
}

/// The rows that a batch lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejects {
    by_reason: BTreeMap<&'static str, (u64, String)>,
}

impl Rejects {
    /// Counts one.
    pub fn count(&mut self, reject: Reject) {
        self.by_reason.entry(reject.reason).or_insert_with(|| (0, reject.detail)).0 += 1;
    }

    /// Counts it if it is one, and goes on with the value if not.
    pub fn keep<T>(&mut self, row: Result<T, Reject>) -> Option<T> {
        row.map_err(|reject| self.count(reject)).ok()
    }

    /// Adds another batch's.
    pub fn absorb(&mut self, other: Self) {
        for (reason, (count, detail)) in other.by_reason {
            self.by_reason.entry(reason).or_insert_with(|| (0, detail)).0 += count;
        }
    }

    /// How many rows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason.values().map(|(count, _)| count).sum()
    }

    /// How many rows by reason.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.by_reason.iter().map(|(reason, (count, _))| (*reason, *count))
    }
}

impl fmt::Display for Rejects {
    /// As in `3 × not_a_number (px is `NaN`, expected a number), 1 × out_of_order (…)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (reason, (count, detail))) in self.by_reason.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{count} × {reason} ({detail})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ingestion::decimal;

    #[test]
    fn a_batch_is_one_line_with_an_example_of_each_reason() {
        let mut rejects = Rejects::default();
        let rows = [json!("1"), json!("NaN"), json!(null), json!("nan"), json!("2")];
        let kept: Vec<_> = rows
            .iter()
            .filter_map(|row| rejects.keep(decimal("px", row).map_err(Reject::from)))
            .collect();
        assert_eq!((kept.len(), rejects.total()), (2, 3));
        let more = rejects.clone();
        rejects.absorb(more);
        assert_eq!(
            rejects.to_string(),
            "2 × missing_number (px is missing), 4 × not_a_number (px is `NaN`, expected a number)"
        );
    }
}
