//! Which of many equal states are worth a row of history.

use std::collections::HashMap;

use crate::market::AssetContext;

/// Keeps one row per coin and second, and of states that do not change one per minute.
#[derive(Debug, Clone, Default)]
pub struct ContextSampler {
    kept: HashMap<String, AssetContext>,
}

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60_000;

impl ContextSampler {
    /// The row to keep, dated to its full second; `None` when the kept one says enough.
    pub fn sample(&mut self, context: &AssetContext) -> Option<AssetContext> {
        let at_ms = context.received_at_ms - context.received_at_ms.rem_euclid(SECOND_MS);
        if let Some(kept) = self.kept.get(&context.symbol) {
            let age_ms = at_ms.saturating_sub(kept.received_at_ms);
            if age_ms < SECOND_MS || (age_ms < MINUTE_MS && kept.says_the_same(context)) {
                return None;
            }
        }
        let row = AssetContext { received_at_ms: at_ms, ..context.clone() };
        self.kept.insert(row.symbol.clone(), row.clone());
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_kept_when_it_changes_and_once_a_minute() {
        let mut sampler = ContextSampler::default();
        let mut check = |mark: i64, received_at_ms, expected: Option<i64>| {
            let context = AssetContext {
                symbol: "BTC".into(),
                mark: Some(mark.into()),
                oracle: None,
                mid: None,
                funding_rate: None,
                open_interest: None,
                premium: None,
                day_volume: None,
                received_at_ms,
            };
            let kept = sampler.sample(&context).map(|row| row.received_at_ms);
            assert_eq!(kept, expected, "{mark} at {received_at_ms}");
        };
        check(1, 500, Some(0));
        check(2, 900, None);
        check(2, 1_100, Some(1_000));
        check(2, 2_100, None);
        check(2, 60_900, None);
        check(2, 61_000, Some(61_000));
        check(3, 62_000, Some(62_000));
    }
}
