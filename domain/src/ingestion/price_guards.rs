//! The jump guards of prices, one per kind of price and coin.

use std::collections::HashMap;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::jump::{JumpGuard, JumpRule, Verdict};
use super::reject::Reject;

/// What a price is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PriceKind {
    /// What positions are marked with.
    Mark,
    /// Between bid and ask, as the venue says.
    Mid,
    /// Between bid and ask, of an order book.
    Quote,
}

/// Holds prices back that jump, until a second sample or a second source says the same.
#[derive(Debug, Clone, Default)]
pub struct PriceGuards {
    guards: HashMap<PriceKind, HashMap<String, JumpGuard>>,
}

impl PriceGuards {
    /// Judges a price of `at_ms`.
    ///
    /// # Errors
    /// `held_jump` for a price that is held back.
    pub fn admit(
        &mut self,
        kind: PriceKind,
        symbol: &str,
        price: Decimal,
        at_ms: i64,
    ) -> Result<(), Reject> {
        let guards = self.guards.entry(kind).or_default();
        if !guards.contains_key(symbol) {
            guards.insert(symbol.to_owned(), JumpGuard::default());
        }
        let value = price.to_f64().unwrap_or(f64::NAN);
        let verdict =
            guards.get_mut(symbol).map(|guard| guard.judge(value, at_ms, &JumpRule::PRICE));
        match verdict {
            Some(Verdict::Held) => {
                Err(Reject::new("held_jump", format!("{kind:?} of {symbol} jumps to {price}")))
            }
            Some(Verdict::Good) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_coin_is_guarded_for_itself() {
        let mut guards = PriceGuards::default();
        let mut check = |kind, symbol, price: i64, at_ms, good: bool| {
            let admitted = guards.admit(kind, symbol, price.into(), at_ms);
            assert_eq!(admitted.is_ok(), good, "{kind:?} {symbol} {price}: {admitted:?}");
        };
        check(PriceKind::Mark, "BTC", 100, 0, true);
        check(PriceKind::Mark, "ETH", 5, 0, true);
        check(PriceKind::Mid, "BTC", 70, 1, true);
        check(PriceKind::Mark, "BTC", 50, 1_000, false);
        check(PriceKind::Mark, "ETH", 5, 1_000, true);
        // A second source, as the witness is, says the same.
        check(PriceKind::Mark, "BTC", 50, 2_000, true);
    }
}
