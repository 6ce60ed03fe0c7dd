//! At which price a paper order is filled.

use rust_decimal::Decimal;

use super::accounting::price;
use super::decimal;
use crate::market::Price;

/// A level of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Its price (USD).
    pub price: Decimal,
    /// What stands there (base currency).
    pub size: Decimal,
}

/// A price that an order is filled at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// The average price (USD).
    pub price: Decimal,
    /// How much worse than the middle of the book, in hundredths of a per cent.
    pub slippage_bps: Decimal,
}

/// Walks the levels that face an order of `size` (no sign), best first: the average price, or
/// `None` when the book does not hold that much.
#[must_use]
pub fn walk(levels: &[Level], size: Decimal) -> Option<Decimal> {
    let mut left = size;
    let mut paid = Decimal::ZERO;
    for level in levels {
        let taken = left.min(level.size.max(Decimal::ZERO));
        paid += taken * level.price;
        left -= taken;
        if left.is_zero() {
            return (!size.is_zero()).then(|| price(paid / size));
        }
    }
    None
}

/// Fills an order of `size` (negative sells) now: at the quote as far as it reaches and
/// `slippage_rate` beyond it for the rest, else at the mid and `slippage_rate` worse, else so at the
/// mark; `None` when no price is fresh.
#[must_use]
pub fn execute(
    market: &Price,
    size: Decimal,
    slippage_rate: Decimal,
    now_ms: i64,
) -> Option<Execution> {
    let sells = size.is_sign_negative();
    let worse = |from: Decimal| {
        let by = if sells { -slippage_rate } else { slippage_rate };
        price(from * (Decimal::ONE + by))
    };
    let (quoted, quoted_size) = match sells {
        true => (market.fresh_bid(now_ms), market.bid_size),
        false => (market.fresh_ask(now_ms), market.ask_size),
    };
    let middle = market.fresh_mid(now_ms).or_else(|| market.fresh_mark(now_ms));
    let price = match (quoted, middle) {
        (Some(best), _) => {
            let standing = quoted_size.unwrap_or(size.abs());
            let levels = [
                Level { price: best.value, size: standing },
                Level { price: worse(best.value), size: size.abs() },
            ];
            walk(&levels, size.abs())?
        }
        (None, Some(middle)) => worse(middle.value),
        (None, None) => return None,
    };
    let middle = middle.map_or(price, |middle| middle.value);
    Some(Execution { price, slippage_bps: slippage_bps(size, price, middle) })
}

/// How much worse than `middle` a fill is, in hundredths of a per cent; negative is better.
#[must_use]
pub fn slippage_bps(size: Decimal, price: Decimal, middle: Decimal) -> Decimal {
    let difference = if size.is_sign_negative() { middle - price } else { price - middle };
    let share = difference.checked_div(middle).unwrap_or_default();
    (share * decimal(10_000, 0)).round_dp(6).normalize()
}

#[cfg(test)]
mod tests {
    use super::super::accounting::fee;
    use super::*;
    use crate::market::Dated;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    /// domain.md §5.2.
    #[test]
    fn a_book_is_walked_level_by_level() {
        let asks = [("84144", "0.5"), ("84150", "0.3"), ("84151", "2.0")]
            .map(|(price, size)| Level { price: d(price), size: d(size) });
        assert_eq!(walk(&asks, d("1.0")), Some(d("84147.2")));
        assert_eq!(slippage_bps(d("1"), d("84147.2"), d("84143.5")), d("0.439725"));
        assert_eq!(fee(d("1"), d("84147.2"), d("0.00045")), d("37.86624"));
        assert_eq!(walk(&asks, d("0.5")), Some(d("84144")));
        assert_eq!(walk(&asks, d("2.9")), None, "the book holds 2.8");
        assert_eq!(walk(&[], d("1")), None);
        assert_eq!(walk(&asks, d("0")), None);
    }

    #[test]
    fn an_order_takes_the_quote_then_what_is_behind_it_then_the_middle() {
        let at = |value: &str, received_at_ms| Some(Dated { value: d(value), received_at_ms });
        let quoted = Price {
            bid: at("100", 20_000),
            bid_size: Some(d("1")),
            ask: at("102", 20_000),
            mid: at("101", 20_000),
            ..Price::default()
        };
        let check = |market: &Price, size: &str, expected: Option<(&str, &str)>| {
            let found = execute(market, d(size), d("0.01"), 20_000);
            let expected = expected.map(|(price, bps)| (d(price), d(bps)));
            assert_eq!(found.map(|found| (found.price, found.slippage_bps)), expected, "{size}");
        };
        check(&quoted, "1", Some(("102", "99.009901")));
        check(&quoted, "-1", Some(("100", "99.009901")));
        check(&quoted, "-2", Some(("99.5", "148.514851")));
        let stale = Price { bid: at("100", 0), ask: at("102", 0), ..quoted.clone() };
        check(&stale, "1", Some(("102.01", "100")));
        check(&stale, "-1", Some(("99.99", "100")));
        let marked = Price { mid: None, mark: at("200", 20_000), ..stale.clone() };
        check(&marked, "1", Some(("202", "100")));
        check(&Price { mark: None, ..marked }, "1", None);
    }
}
