//! What a fill does to a position and what it costs: average entry, exact decimals.

use rust_decimal::{Decimal, RoundingStrategy};

/// Money is booked in multiples of 1e-8 USD.
pub const MONEY_SCALE: u32 = 8;

/// Prices that come of a division are kept to 12 places.
const PRICE_SCALE: u32 = 12;

/// A sum of money, half-even at 1e-8.
#[must_use]
pub fn money(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(MONEY_SCALE, RoundingStrategy::MidpointNearestEven).normalize()
}

/// A price that came of a division.
#[must_use]
pub fn price(quotient: Decimal) -> Decimal {
    quotient.round_dp_with_strategy(PRICE_SCALE, RoundingStrategy::MidpointNearestEven).normalize()
}

/// The fee of a fill (USD).
#[must_use]
pub fn fee(size: Decimal, price: Decimal, rate: Decimal) -> Decimal {
    money(size.abs() * price * rate)
}

/// What a position is worth more than it cost (USD), at a mark.
#[must_use]
pub fn unrealized(size: Decimal, entry: Decimal, mark: Decimal) -> Decimal {
    size * (mark - entry)
}

/// What a fill does to a position. Sizes are signed: negative is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The position after it; zero is flat.
    pub size: Decimal,
    /// Its average price; zero when flat.
    pub entry: Decimal,
    /// What the closed part earned (USD), without fees.
    pub realized: Decimal,
    /// How much was closed, without sign.
    pub closed: Decimal,
    /// How much was opened or added, without sign.
    pub opened: Decimal,
}

/// Applies a fill to a position of `size` at `entry`. One that goes through zero closes the
/// position first; the rest opens at the fill's price.
#[must_use]
pub fn apply(size: Decimal, entry: Decimal, filled: Decimal, at: Decimal) -> Applied {
    let against = !size.is_zero() && size.is_sign_negative() != filled.is_sign_negative();
    let closed = if against { size.abs().min(filled.abs()) } else { Decimal::ZERO };
    let opened = filled.abs() - closed;
    let after = size + filled;
    let per_unit = if size.is_sign_negative() { entry - at } else { at - entry };
    let entry = match () {
        () if after.is_zero() => Decimal::ZERO,
        () if opened.is_zero() => entry,
        () if closed.is_zero() => price((size * entry + filled * at) / after),
        () => at,
    };
    Applied {
        size: after.normalize(),
        entry,
        realized: money(closed * per_unit),
        closed: closed.normalize(),
        opened: opened.normalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    /// domain.md §5.2, the ledger walk: cash 10,000, taker 0.045 %.
    #[test]
    fn the_ledger_walk_ends_at_10214_61285() {
        let rate = d("0.00045");
        let (mut cash, mut size, mut entry) = (d("10000"), Decimal::ZERO, Decimal::ZERO);
        let mut fill = |cash: &mut Decimal, filled: &str, at: &str, expected: [&str; 5]| {
            let applied = apply(size, entry, d(filled), d(at));
            let fee = fee(d(filled), d(at), rate);
            (size, entry) = (applied.size, applied.entry);
            *cash += applied.realized - fee;
            let found = [fee, applied.realized, *cash, size, entry];
            assert_eq!(found, expected.map(d), "{filled} @ {at}");
        };
        fill(&mut cash, "2", "2500", ["2.25", "0", "9997.75", "2", "2500"]);
        assert_eq!(cash + unrealized(d("2"), d("2500"), d("2550")), d("10097.75"));
        cash += super::super::funding::payment(d("2"), d("2548"), d("0.0000125"));
        assert_eq!(cash, d("9997.6863"));
        fill(&mut cash, "1", "2560", ["1.152", "0", "9996.5343", "3", "2520"]);
        assert_eq!(cash + unrealized(d("3"), d("2520"), d("2600")), d("10236.5343"));
        fill(&mut cash, "-1.5", "2620", ["1.7685", "150", "10144.7658", "1.5", "2520"]);
        cash += super::super::funding::payment(d("1.5"), d("2610"), d("-0.00002"));
        assert_eq!(cash, d("10144.8441"));
        fill(&mut cash, "-3", "2580", ["3.483", "90", "10231.3611", "-1.5", "2580"]);
        assert_eq!(cash + unrealized(d("-1.5"), d("2580"), d("2600")), d("10201.3611"));
        fill(&mut cash, "1.5", "2590", ["1.74825", "-15", "10214.61285", "0", "0"]);
    }

    #[test]
    fn adding_averages_reducing_keeps_the_entry_and_a_flip_takes_the_price() {
        let check = |size, entry, filled, at, expected: [&str; 5]| {
            let applied = apply(d(size), d(entry), d(filled), d(at));
            let Applied { size, entry, realized, closed, opened } = applied;
            assert_eq!([size, entry, realized, closed, opened], expected.map(d));
        };
        check("0", "0", "-2", "100", ["-2", "100", "0", "0", "2"]);
        check("-2", "100", "-1", "130", ["-3", "110", "0", "0", "1"]);
        check("-3", "110", "1", "100", ["-2", "110", "10", "1", "0"]);
        check("-2", "110", "5", "120", ["3", "120", "-20", "2", "3"]);
        check("3", "120", "-3", "120", ["0", "0", "0", "3", "0"]);
        // A third has no end: it is rounded once, to 12 places.
        check("1", "1", "2", "2", ["3", "1.666666666667", "0", "0", "2"]);
    }

    #[test]
    fn money_rounds_half_to_even() {
        let check = |amount, expected| assert_eq!(money(d(amount)), d(expected));
        check("0.000000005", "0");
        check("0.000000015", "0.00000002");
        check("0.000000025", "0.00000002");
        check("-0.000000035", "-0.00000004");
        assert_eq!(fee(d("-1"), d("84147.2"), d("0.00045")), d("37.86624"));
    }
}
