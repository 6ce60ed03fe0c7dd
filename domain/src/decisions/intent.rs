//! What a provider proposes.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::strategy::Side;

/// One proposal. It is data from outside until the risk checks have passed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// What to trade.
    pub symbol: String,
    /// What to do.
    #[serde(flatten)]
    pub kind: IntentKind,
    /// The action of the graph that fired, for its cooldown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_id: Option<String>,
    /// How sure the model says it is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Why, in the model's words: untrusted text, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
}

/// What to do. Fractions are of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum IntentKind {
    /// Open a position; one on the other side is closed first.
    Open {
        /// On which side.
        side: Side,
        /// How large.
        size: OpenSize,
        /// Notional by margin: it sets the margin that is locked.
        leverage: Decimal,
        /// Loss at which to close, as a fraction of the entry price.
        stop_loss_pct: Option<Decimal>,
        /// Profit at which to close, as a fraction of the entry price.
        take_profit_pct: Option<Decimal>,
    },
    /// Close the position.
    Close,
}

/// The size of a new position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenSize {
    /// Units of the base currency, fixed at the decision.
    Units(Decimal),
    /// Notional as a fraction of equity, turned into units at the mark.
    EquityFraction(Decimal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_stored_as_readable_json_with_exact_numbers() {
        let intent = Intent {
            symbol: "BTC".into(),
            kind: IntentKind::Open {
                side: Side::Long,
                size: OpenSize::Units("0.10000001".parse().unwrap()),
                leverage: "3".parse().unwrap(),
                stop_loss_pct: Some("0.02".parse().unwrap()),
                take_profit_pct: None,
            },
            action_id: Some("long".into()),
            confidence: None,
            rationale: None,
        };
        let text = serde_json::to_string(&intent).unwrap();
        assert_eq!(
            text,
            r#"{"symbol":"BTC","do":"open","side":"long","size":{"units":"0.10000001"},"leverage":"3","stop_loss_pct":"0.02","take_profit_pct":null,"action_id":"long"}"#
        );
        assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent);
    }
}
