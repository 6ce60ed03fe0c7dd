//! How much margin a position needs, and at which price it is liquidated.

use rust_decimal::Decimal;

use crate::market::MarginTier;

/// The margin that a position locks (USD).
#[must_use]
pub fn initial(notional: Decimal, leverage: Decimal) -> Decimal {
    notional / leverage.max(Decimal::ONE)
}

/// The highest leverage of a position of this notional.
#[must_use]
pub fn max_leverage(notional: Decimal, tiers: &[MarginTier]) -> Decimal {
    let reached = tiers.iter().rev().find(|tier| notional > tier.lower_bound);
    reached.or(tiers.first()).map_or(Decimal::ONE, |tier| tier.max_leverage)
}

/// The equity below which a position of this notional is liquidated (USD): half the initial margin
/// at the highest leverage, tier by tier.
#[must_use]
pub fn maintenance(notional: Decimal, tiers: &[MarginTier]) -> Decimal {
    let mut required = Decimal::ZERO;
    for (at, tier) in tiers.iter().enumerate() {
        let upper = tiers.get(at + 1).map_or(notional, |next| notional.min(next.lower_bound));
        required += (upper - tier.lower_bound).max(Decimal::ZERO) * rate(tier.max_leverage);
    }
    required
}

/// The price at which a position of `size` is liquidated when `available` (USD) is left above its
/// maintenance margin at `price`; `None` when no price does it.
#[must_use]
pub fn liquidation_price(
    size: Decimal,
    price: Decimal,
    available: Decimal,
    tiers: &[MarginTier],
) -> Option<Decimal> {
    if size.is_zero() {
        return None;
    }
    let side = if size.is_sign_negative() { -Decimal::ONE } else { Decimal::ONE };
    let rate = rate(max_leverage(size.abs() * price, tiers));
    let distance = available.checked_div(size.abs())?.checked_div(Decimal::ONE - rate * side)?;
    let liquidation = price.checked_sub(side * distance)?;
    (liquidation > Decimal::ZERO).then_some(liquidation)
}

fn rate(max_leverage: Decimal) -> Decimal {
    Decimal::ONE / (Decimal::TWO * max_leverage.max(Decimal::ONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn one_tier(max_leverage: &str) -> Vec<MarginTier> {
        vec![MarginTier { lower_bound: Decimal::ZERO, max_leverage: d(max_leverage) }]
    }

    /// domain.md §5.2: {0: 10x, 3,000,000: 5x}.
    #[test]
    fn maintenance_is_summed_tier_by_tier() {
        let tiers = [("0", "10"), ("3000000", "5")].map(|(lower_bound, max_leverage)| MarginTier {
            lower_bound: d(lower_bound),
            max_leverage: d(max_leverage),
        });
        for (notional, expected) in [
            ("0", "0"),
            ("1000000", "50000"),
            ("3000000", "150000"),
            ("3000001", "150000.10"),
            ("5000000", "350000"),
        ] {
            assert_eq!(maintenance(d(notional), &tiers), d(expected), "{notional}");
        }
        assert_eq!(max_leverage(d("3000000"), &tiers), d("10"));
        assert_eq!(max_leverage(d("3000001"), &tiers), d("5"));
        assert_eq!(initial(d("3000"), d("3")), d("1000"));
    }

    /// domain.md §5.2; margin is the equity of a cross position, or an isolated one's own.
    #[test]
    fn liquidation_prices_are_those_of_the_reference() {
        let check = |size: &str, price: &str, margin: &str, leverage: &str, expected: &str| {
            let tiers = one_tier(leverage);
            let required = maintenance(d(size).abs() * d(price), &tiers);
            let found = liquidation_price(d(size), d(price), d(margin) - required, &tiers);
            let found = found.map(|price| price.round_dp(7).to_string());
            assert_eq!(found.as_deref().unwrap_or("never"), expected, "{size} @ {price}");
        };
        // The venue's sample: margin = −95.059824 + 100.02765.
        check("0.0335", "2985.9", "4.967826", "50", "2866.2693804");
        check("1", "60000", "6000", "40", "54683.5443038");
        check("-1", "60000", "6000", "40", "65185.1851852");
        check("0.5", "100000", "10000", "40", "81012.6582278");
        check("-20", "2500", "10000", "25", "2941.1764706");
        check("1000", "10", "12000", "3", "never");
        check("0", "10", "12000", "3", "never");
    }
}
