//! What an audition asks for: kept as JSON with each audition, as it was when it was made.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::prop::{AccountRules, InvalidRules};

/// The rules of an audition. Fractions are of 1; decimals are written as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditionRules {
    /// Cash that its account opens with (USD).
    pub initial: Decimal,
    /// Profit asked for, of the initial cash, on the balance without open positions; `None` asks to
    /// last the window.
    pub target: Option<Decimal>,
    /// How long it may take (ms).
    pub window_ms: i64,
    /// Days on which a position was opened.
    pub min_trading_days: u32,
    /// Fills that closed something.
    pub min_closed_trades: u32,
    /// How much of the profit one day may make.
    pub consistency: Option<Consistency>,
    /// The share of decisions that the clone's provider may leave out.
    pub max_provider_skip_share: Decimal,
    /// The share of decisions that may be left out for want of data.
    pub max_data_skip_share: Decimal,
    /// The rules of its account.
    pub account: AccountRules,
}

/// How much of the profit one day may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// The best day's share, at most.
    pub max_best_day_share: Decimal,
    /// Of what.
    pub of: ConsistencyBase,
}

/// What the best day is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyBase {
    /// The sum of all days.
    TotalProfit,
    /// The sum of the days that gained.
    PositiveDays,
}

/// Rules that cannot be read or met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditionRulesError {
    /// The text is no set of rules.
    #[error("the audition's rules cannot be read: {0}")]
    Malformed(String),
    /// Rules of its account that cannot be.
    #[error(transparent)]
    Account(#[from] InvalidRules),
    /// A value that makes no sense.
    #[error("the audition's rule `{field}` is {value}; expected {expected}")]
    Value {
        /// Which.
        field: &'static str,
        /// What it says.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

const DAY_MS: i64 = 86_400_000;

impl Default for AuditionRules {
    /// To last 30 days with 10,000 dollars; at most a fifth of the decisions left out, by either.
    fn default() -> Self {
        Self {
            initial: Decimal::from(10_000),
            target: None,
            window_ms: 30 * DAY_MS,
            min_trading_days: 0,
            min_closed_trades: 0,
            consistency: None,
            max_provider_skip_share: Decimal::new(2, 1),
            max_data_skip_share: Decimal::new(2, 1),
            account: AccountRules::default(),
        }
    }
}

impl AuditionRules {
    /// Reads the rules of a row. What is not said has its default.
    ///
    /// # Errors
    /// Text that is none, an unknown field, or a value that makes no sense.
    pub fn parse(text: &str) -> Result<Self, AuditionRulesError> {
        let rules: Self = serde_json::from_str(text)
            .map_err(|error| AuditionRulesError::Malformed(error.to_string()))?;
        rules.check()?;
        Ok(rules)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn check(&self) -> Result<(), AuditionRulesError> {
        let positive = |value: Decimal| value > Decimal::ZERO;
        let share = |value: Decimal| (Decimal::ZERO..=Decimal::ONE).contains(&value);
        let best_day = self.consistency.map(|consistency| consistency.max_best_day_share);
        let amounts = [
            ("initial", Some(self.initial), positive as fn(Decimal) -> bool, "more than 0"),
            ("target", self.target, positive, "more than 0, or none"),
            ("consistency.max_best_day_share", best_day, share, "0 to 1"),
            ("max_provider_skip_share", Some(self.max_provider_skip_share), share, "0 to 1"),
            ("max_data_skip_share", Some(self.max_data_skip_share), share, "0 to 1"),
        ];
        for (field, value, is_right, expected) in amounts {
            if let Some(value) = value.filter(|value| !is_right(*value)) {
                let value = value.to_string();
                return Err(AuditionRulesError::Value { field, value, expected });
            }
        }
        if self.window_ms <= 0 {
            let value = self.window_ms.to_string();
            let expected = "more than 0";
            return Err(AuditionRulesError::Value { field: "window_ms", value, expected });
        }
        self.account.check(self.initial)?;
        Ok(())
    }

    /// As the text of a row.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain data always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back_from_their_text_and_nonsense_is_named() {
        let rules = AuditionRules {
            target: Some(Decimal::new(1, 1)),
            consistency: Some(Consistency {
                max_best_day_share: Decimal::new(4, 1),
                of: ConsistencyBase::TotalProfit,
            }),
            ..AuditionRules::default()
        };
        assert_eq!(AuditionRules::parse(&rules.to_json()).unwrap(), rules);
        assert_eq!(AuditionRules::parse("{}").unwrap(), AuditionRules::default());
        let check = |text: &str, expected: &str| {
            let error = AuditionRules::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("[", "cannot be read");
        check(r#"{"days": 3}"#, "unknown field `days`");
        check(r#"{"target": "-0.1"}"#, "`target` is -0.1; expected more than 0, or none");
        check(r#"{"initial": "0"}"#, "`initial` is 0");
        check(r#"{"window_ms": 0}"#, "`window_ms` is 0");
        check(r#"{"account": {"max_leverage": "0"}}"#, "max_leverage");
        check(r#"{"max_data_skip_share": "1.5"}"#, "`max_data_skip_share` is 1.5; expected 0 to 1");
    }
}
