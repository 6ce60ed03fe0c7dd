//! Funding as the venue settles it: each hour, on the position at that instant.

use rust_decimal::Decimal;

use super::accounting::money;
use super::decimal;

/// The interest of eight hours.
const INTEREST: Decimal = decimal(1, 4);
/// How far the interest may move the premium.
const CLAMP: Decimal = decimal(5, 4);
/// The highest rate of one hour, either way.
pub const MOST_HOURLY: Decimal = decimal(4, 2);

/// The length of an hour.
pub const HOUR_MS: i64 = 3_600_000;

/// The premium of the book's impact prices over the oracle, as a fraction.
#[must_use]
pub fn premium(impact_bid: Decimal, impact_ask: Decimal, oracle: Decimal) -> Decimal {
    let above = (impact_bid - oracle).max(Decimal::ZERO);
    let below = (oracle - impact_ask).max(Decimal::ZERO);
    (above - below) / oracle
}

/// The rate of eight hours, of the mean premium.
#[must_use]
pub fn eight_hour_rate(premium: Decimal) -> Decimal {
    (premium + (INTEREST - premium).clamp(-CLAMP, CLAMP)).normalize()
}

/// The rate of one hour, of the mean premium.
#[must_use]
pub fn hourly_rate(premium: Decimal) -> Decimal {
    (eight_hour_rate(premium) / decimal(8, 0)).clamp(-MOST_HOURLY, MOST_HOURLY).normalize()
}

/// What an account receives for an hour (USD); negative is what it pays. A positive rate is paid
/// by who is long.
#[must_use]
pub fn payment(size: Decimal, oracle: Decimal, rate: Decimal) -> Decimal {
    money(-(size * oracle * rate.clamp(-MOST_HOURLY, MOST_HOURLY)))
}

/// The settlements after one instant, up to and with another; epoch milliseconds.
pub fn hours_after(after_ms: i64, until_ms: i64) -> impl Iterator<Item = i64> {
    let first = (after_ms.div_euclid(HOUR_MS) + 1) * HOUR_MS;
    (0..).map(move |hour| first + hour * HOUR_MS).take_while(move |at_ms| *at_ms <= until_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    /// domain.md §5.2.
    #[test]
    fn rates_are_those_of_the_reference() {
        for (premium, eight_hours, hourly) in [
            ("0.00029005", "0.0001", "0.0000125"),
            ("0", "0.0001", "0.0000125"),
            ("-0.0003", "0.0001", "0.0000125"),
            ("-0.0006413454", "-0.0001413454", "-0.000017668175"),
            ("0.0010", "0.0005", "0.0000625"),
            ("0.01", "0.0095", "0.0011875"),
            ("-0.005", "-0.0045", "-0.0005625"),
            ("0.5", "0.4995", "0.04"),
            ("-0.5", "-0.4995", "-0.04"),
            // An hour of the venue's history.
            ("0.00021467", "0.0001", "0.0000125"),
        ] {
            assert_eq!(eight_hour_rate(d(premium)), d(eight_hours), "{premium}");
            assert_eq!(hourly_rate(d(premium)), d(hourly), "{premium}");
        }
    }

    #[test]
    fn the_premium_of_a_live_frame_is_the_venues() {
        let found = premium(d("84143"), d("84144"), d("84198"));
        assert_eq!(found.round_dp(10), d("-0.0006413454"));
        assert_eq!(premium(d("101"), d("102"), d("100")), d("0.01"));
        assert_eq!(premium(d("99"), d("101"), d("100")), d("0"));
    }

    #[test]
    fn longs_pay_a_positive_rate_on_the_oracles_price() {
        assert_eq!(payment(d("2"), d("2548"), d("0.0000125")), d("-0.0637"));
        assert_eq!(payment(d("1.5"), d("2610"), d("-0.00002")), d("0.0783"));
        assert_eq!(payment(d("-1"), d("100"), d("0.01")), d("1"));
        // The venue's sample, to the cent of its rounded rate.
        let sample = payment(d("49.1477"), d("1768.9116"), d("0.0000417"));
        assert_eq!(sample.round_dp(6), d("-3.625312"));
        assert_eq!(payment(d("1"), d("100"), d("9")), d("-4"), "the cap");
    }

    #[test]
    fn settlements_lie_after_the_first_instant_and_up_to_the_second() {
        let hours = |after, until| hours_after(after, until).collect::<Vec<_>>();
        assert_eq!(hours(0, HOUR_MS - 1), [0; 0]);
        assert_eq!(hours(0, HOUR_MS), [HOUR_MS]);
        assert_eq!(hours(-1, 2 * HOUR_MS + 1), [0, HOUR_MS, 2 * HOUR_MS]);
        assert_eq!(hours(HOUR_MS, HOUR_MS), [0; 0]);
    }
}
