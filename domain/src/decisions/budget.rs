//! What a clone may spend on a model in a day.

use rust_decimal::Decimal;

/// Tokens and money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of what was asked.
    pub tokens_in: u64,
    /// Tokens of what was answered.
    pub tokens_out: u64,
    /// What they cost (USD).
    pub cost_usd: Decimal,
}

impl Usage {
    /// Adds another's.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost_usd: self.cost_usd.saturating_add(other.cost_usd),
        }
    }
}

/// The limits of a day, from midnight UTC; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tokens asked and answered.
    pub tokens: Option<u64>,
    /// Money (USD).
    pub cost_usd: Option<Decimal>,
}

impl Default for Budget {
    /// 200,000 tokens and one dollar.
    fn default() -> Self {
        Self { tokens: Some(200_000), cost_usd: Some(Decimal::ONE) }
    }
}

impl Budget {
    /// Whether one more question may be asked after this much was used today.
    #[must_use]
    pub fn allows(&self, used: &Usage) -> bool {
        let tokens = used.tokens_in.saturating_add(used.tokens_out);
        self.tokens.is_none_or(|limit| tokens < limit)
            && self.cost_usd.is_none_or(|limit| used.cost_usd < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_limit_ends_the_day() {
        let budget = Budget { tokens: Some(100), cost_usd: Some(Decimal::new(5, 1)) };
        let check = |tokens_in, tokens_out, cost, expected| {
            let used = Usage { tokens_in, tokens_out, cost_usd: Decimal::new(cost, 2) };
            assert_eq!(budget.allows(&used), expected, "{used:?}");
        };
        check(0, 0, 0, true);
        check(60, 39, 49, true);
        check(60, 40, 0, false);
        check(0, 0, 50, false);
        let used = Usage { tokens_in: u64::MAX, tokens_out: 1, cost_usd: Decimal::MAX };
        assert!(!budget.allows(&used.and(used)));
        assert!(Budget { tokens: None, cost_usd: None }.allows(&used));
    }
}
