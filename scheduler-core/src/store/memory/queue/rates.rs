//! How many rows may start within a span of time.

use std::collections::HashMap;

use serde_json::Value;

use crate::queue::{QueueTable, Rate};
use crate::testing::QueueRow;

/// The starts of one queue that may count: the key of each, and when it was.
#[derive(Default)]
pub(in super::super) struct Starts(Vec<(Option<Value>, i64)>);

fn key_of(table: &QueueTable, row: &QueueRow) -> Option<Value> {
    let (column, _) = table.key_rate.as_ref()?;
    row.columns.get(column).filter(|value| !value.is_null()).cloned()
}

impl Starts {
    fn recent(&self, rate: Rate, now_ms: i64) -> impl Iterator<Item = &(Option<Value>, i64)> {
        self.0.iter().filter(move |(_, at_ms)| *at_ms > now_ms.saturating_sub(rate.period_ms))
    }

    /// Whether the queue has started less than it may.
    pub(super) fn has_room(&self, table: &QueueTable, now_ms: i64) -> bool {
        table.rate.is_none_or(|rate| self.recent(rate, now_ms).count() < rate.starts as usize)
    }

    /// Whether the row's key has started less than it may.
    pub(super) fn has_room_for(&self, table: &QueueTable, row: &QueueRow, now_ms: i64) -> bool {
        let (Some((_, rate)), Some(key)) = (&table.key_rate, key_of(table, row)) else {
            return true;
        };
        let of_key = self.recent(*rate, now_ms).filter(|(of, _)| of.as_ref() == Some(&key));
        of_key.count() < rate.starts as usize
    }

    pub(super) fn note(&mut self, table: &QueueTable, row: Option<&QueueRow>, now_ms: i64) {
        let (Some(period_ms), Some(row)) = (table.longest_period_ms(), row) else { return };
        self.0.retain(|(_, at_ms)| *at_ms > now_ms.saturating_sub(period_ms));
        self.0.push((key_of(table, row), now_ms));
    }

    /// When the oldest of so many starts that there can be no more does not count any longer.
    pub(super) fn next_ms(&self, table: &QueueTable, now_ms: i64) -> Option<i64> {
        let full = |rate: Rate, starts: &[i64]| {
            let oldest = starts.iter().min().filter(|_| starts.len() >= rate.starts as usize);
            oldest.map(|at_ms| at_ms.saturating_add(rate.period_ms))
        };
        let of_queue = table.rate.and_then(|rate| {
            let starts: Vec<i64> = self.recent(rate, now_ms).map(|(_, at_ms)| *at_ms).collect();
            full(rate, &starts)
        });
        let of_keys = table.key_rate.as_ref().and_then(|(_, rate)| {
            let mut keys: HashMap<&Value, Vec<i64>> = HashMap::new();
            for (key, at_ms) in self.recent(*rate, now_ms) {
                if let Some(key) = key {
                    keys.entry(key).or_default().push(*at_ms);
                }
            }
            keys.values().filter_map(|starts| full(*rate, starts)).min()
        });
        of_queue.into_iter().chain(of_keys).min()
    }
}
