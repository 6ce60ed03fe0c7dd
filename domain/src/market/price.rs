//! What a market is worth now, as far as it is known, and what the venue says about trading it.

use rust_decimal::Decimal;

/// A value and when it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    /// The value.
    pub value: Decimal,
    /// When it was received, epoch milliseconds.
    pub received_at_ms: i64,
}

/// The newest that is known of a market; what is not known is `None`. Prices in USD, sizes in the
/// base currency, rates of one hour as fractions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Price {
    /// The venue's mark.
    pub mark: Option<Dated>,
    /// The oracle's price.
    pub oracle: Option<Dated>,
    /// The middle of the book, whoever told it last.
    pub mid: Option<Dated>,
    /// The best bid.
    pub bid: Option<Dated>,
    /// What is bid for there.
    pub bid_size: Option<Decimal>,
    /// The best ask.
    pub ask: Option<Dated>,
    /// What is offered there.
    pub ask_size: Option<Decimal>,
    /// The rate that the current hour is heading for: not settled.
    pub funding_rate: Option<Dated>,
    /// Open interest (base currency).
    pub open_interest: Option<Dated>,
    /// Premium over the oracle, as a fraction.
    pub premium: Option<Dated>,
    /// What the venue says about trading it; `None` when it is not listed.
    pub terms: Option<Terms>,
}

/// The terms of trading an instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Sizes are multiples of this (base currency).
    pub size_step: Decimal,
    /// Margin by notional, lowest bound first; never empty.
    pub tiers: Vec<MarginTier>,
    /// Positions cannot share their margin.
    pub only_isolated: bool,
    /// It is traded no longer.
    pub delisted: bool,
}

/// From which notional on which leverage is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarginTier {
    /// The notional that it begins at (USD).
    pub lower_bound: Decimal,
    /// The highest leverage from there on.
    pub max_leverage: Decimal,
}

/// The leverage of an instrument of which the venue does not tell any: the lowest that venues give
/// to those that they trust least.
pub const UNTOLD_MAX_LEVERAGE: Decimal = Decimal::from_parts(3, 0, 0, false, 0);

/// A price that came in longer ago is not traded or marked with (milliseconds).
pub const PRICE_MAX_AGE_MS: i64 = 15_000;

impl Dated {
    /// Whether it is at most [`PRICE_MAX_AGE_MS`] old.
    #[must_use]
    pub fn is_fresh(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.received_at_ms) <= PRICE_MAX_AGE_MS
    }
}

impl Price {
    /// The price that positions are valued at: the venue's mark if it is fresh, else the middle of
    /// the book if that is; `None` when neither is, since a stale price values nothing.
    #[must_use]
    pub fn fresh_mark(&self, now_ms: i64) -> Option<Dated> {
        fresh(self.mark, now_ms).or_else(|| self.fresh_mid(now_ms))
    }

    /// The middle of the book, if it is fresh.
    #[must_use]
    pub fn fresh_mid(&self, now_ms: i64) -> Option<Dated> {
        fresh(self.mid, now_ms)
    }

    /// The oracle's price, if it is fresh.
    #[must_use]
    pub fn fresh_oracle(&self, now_ms: i64) -> Option<Dated> {
        fresh(self.oracle, now_ms)
    }

    /// The best bid, if it is fresh.
    #[must_use]
    pub fn fresh_bid(&self, now_ms: i64) -> Option<Dated> {
        fresh(self.bid, now_ms)
    }

    /// The best ask, if it is fresh.
    #[must_use]
    pub fn fresh_ask(&self, now_ms: i64) -> Option<Dated> {
        fresh(self.ask, now_ms)
    }
}

impl Terms {
    /// Reads the tiers as they are stored: `[[lower bound, highest leverage], …]`, numbers or text.
    /// Without any, or with what means nothing, there is one tier of `max_leverage`.
    #[must_use]
    pub fn tiers(stored: Option<&str>, max_leverage: Option<i32>) -> Vec<MarginTier> {
        let told = stored.and_then(read_tiers).filter(|tiers| !tiers.is_empty());
        told.unwrap_or_else(|| {
            let max_leverage = max_leverage.map(Decimal::from).filter(|told| *told >= Decimal::ONE);
            let max_leverage = max_leverage.unwrap_or(UNTOLD_MAX_LEVERAGE);
            vec![MarginTier { lower_bound: Decimal::ZERO, max_leverage }]
        })
    }
}

fn read_tiers(stored: &str) -> Option<Vec<MarginTier>> {
    let rows: Vec<[serde_json::Value; 2]> = serde_json::from_str(stored).ok()?;
    let mut tiers = Vec::with_capacity(rows.len());
    for [bound, leverage] in rows {
        let lower_bound = crate::ingestion::decimal("lower_bound", &bound).ok()?;
        let max_leverage = crate::ingestion::decimal("max_leverage", &leverage).ok()?;
        if lower_bound < Decimal::ZERO || max_leverage < Decimal::ONE {
            return None;
        }
        tiers.push(MarginTier { lower_bound, max_leverage });
    }
    tiers.sort_by_key(|tier| tier.lower_bound);
    // What is below the first bound has the first tier's leverage.
    if let Some(first) = tiers.first_mut() {
        first.lower_bound = Decimal::ZERO;
    }
    Some(tiers)
}

/// Prices outside are no prices: sums of them would not stay exact.
const LOWEST_PRICE: Decimal = Decimal::from_parts(1, 0, 0, false, 8);
const HIGHEST_PRICE: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);

fn fresh(dated: Option<Dated>, now_ms: i64) -> Option<Dated> {
    let sane = |price: Decimal| (LOWEST_PRICE..=HIGHEST_PRICE).contains(&price);
    dated.filter(|dated| dated.is_fresh(now_ms) && sane(dated.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(value: i64, received_at_ms: i64) -> Option<Dated> {
        Some(Dated { value: value.into(), received_at_ms })
    }

    #[test]
    fn a_mark_is_the_venues_else_the_mid_and_never_stale() {
        let check = |mark, mid, expected: Option<i64>| {
            let price = Price { mark, mid, ..Price::default() };
            let found = price.fresh_mark(20_000).map(|mark| mark.value);
            assert_eq!(found, expected.map(Decimal::from), "{price:?}");
        };
        check(dated(1, 20_000), dated(2, 20_000), Some(1));
        check(dated(1, 5_000), dated(2, 20_000), Some(1));
        check(dated(1, 4_999), dated(2, 20_000), Some(2));
        check(None, dated(2, 5_000), Some(2));
        check(dated(1, 4_999), dated(2, 4_999), None);
        check(None, None, None);
    }

    #[test]
    fn tiers_are_read_in_order_and_nonsense_falls_back() {
        let check = |stored: Option<&str>, max_leverage, expected: &[(i64, i64)]| {
            let tiers = Terms::tiers(stored, max_leverage);
            let expected: Vec<_> = expected
                .iter()
                .map(|&(bound, leverage)| MarginTier {
                    lower_bound: bound.into(),
                    max_leverage: leverage.into(),
                })
                .collect();
            assert_eq!(tiers, expected, "{stored:?}");
        };
        check(Some(r#"[["3000000","5"],[0,10]]"#), Some(10), &[(0, 10), (3_000_000, 5)]);
        check(Some("[[5,20]]"), None, &[(0, 20)]);
        check(Some("[]"), Some(40), &[(0, 40)]);
        check(Some("[[0,0.5]]"), Some(40), &[(0, 40)]);
        check(Some("tiers"), None, &[(0, 3)]);
        check(None, Some(0), &[(0, 3)]);
    }
}
