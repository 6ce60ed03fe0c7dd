//! How many units a decision trades.

use super::graph::{Entry, Risk, Sizing};
use super::reading::Reading;

/// Positions smaller than this (USD) are refused, as venues do.
pub const MINIMUM_NOTIONAL_USD: f64 = 10.0;

/// What a size depends on, at the moment of the decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizingContext {
    /// Equity of the account (USD).
    pub equity: f64,
    /// The price that turns notional into units: the close of the decision's bar (USD).
    pub price: f64,
    /// Sizes are whole multiples of this (base currency).
    pub size_step: f64,
    /// Yearly volatility as a fraction; asked only by [`Sizing::VolTarget`].
    pub yearly_volatility: Reading<f64>,
}

/// Why there is no size. The decision becomes a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizingRefusal {
    /// The size is worth less than [`MINIMUM_NOTIONAL_USD`].
    #[error("the position is worth less than {MINIMUM_NOTIONAL_USD} USD")]
    BelowMinimum,
    /// The volatility is unknown or zero.
    #[error("the volatility that the size depends on is unknown or zero")]
    VolatilityUnknown,
    /// The numbers are out of range: no equity, no price, or a size beyond a number.
    #[error("equity, price and size step give no finite size")]
    OutOfRange,
}

/// The size (base currency) that `entry` opens: its notional, not more than
/// `max_position_pct · equity` nor `leverage · equity`, by the price, rounded down to the step.
///
/// # Errors
/// Why nothing can be opened.
pub fn size(entry: &Entry, risk: &Risk, context: &SizingContext) -> Result<f64, SizingRefusal> {
    let SizingContext { equity, price, size_step, yearly_volatility } = *context;
    let wanted = match entry.sizing {
        Sizing::PctEquity(fraction) => fraction * equity,
        Sizing::FixedNotional(notional) => notional,
        Sizing::RiskPct(fraction) => match entry.stop_loss {
            Some(stop_loss) => fraction * equity / stop_loss,
            None => return Err(SizingRefusal::OutOfRange),
        },
        Sizing::VolTarget { target, .. } => match yearly_volatility {
            Reading::Known(volatility) if volatility > 0.0 => target / volatility * equity,
            _ => return Err(SizingRefusal::VolatilityUnknown),
        },
        Sizing::Units(units) => units * price,
    };
    let notional = wanted.min(risk.max_position_pct * equity).min(entry.leverage * equity);
    let size = round_down(notional / price, size_step);
    if !size.is_finite() {
        return Err(SizingRefusal::OutOfRange);
    }
    if size * price < MINIMUM_NOTIONAL_USD {
        return Err(SizingRefusal::BelowMinimum);
    }
    Ok(size)
}

/// The largest multiple of `step` that is not above `size`, but for the rounding of `size` itself:
/// 10 units that arithmetic has made 9.999999999999998 stay 10.
fn round_down(size: f64, step: f64) -> f64 {
    let inverse = (1.0 / step).round();
    // A step such as 1e-8 has no exact double. Dividing a count by 1e8 gives the nearest double of
    // the decimal, multiplying it by 1e-8 would not.
    let is_decimal_fraction = inverse >= 1.0 && 1.0 / inverse == step;
    let exact = if is_decimal_fraction { size * inverse } else { size / step };
    let nearest = exact.round();
    let count = if (exact - nearest).abs() <= 4.0 * f64::EPSILON * nearest {
        nearest
    } else {
        exact.floor()
    };
    if is_decimal_fraction { count / inverse } else { count * step }
}

#[cfg(test)]
mod tests {
    use super::super::reading::Unknown;
    use super::*;

    const CONTEXT: SizingContext = SizingContext {
        equity: 10_000.0,
        price: 100.0,
        size_step: 1e-8,
        yearly_volatility: Reading::Unknown(Unknown::WarmUp),
    };

    fn entry(sizing: Sizing) -> Entry {
        Entry { sizing, leverage: 1.0, stop_loss: None, take_profit: None }
    }

    #[test]
    fn each_mode_gives_its_notional() {
        let check = |entry: Entry, context: SizingContext, expected: Result<f64, SizingRefusal>| {
            assert_eq!(size(&entry, &Risk::default(), &context), expected, "{entry:?}");
        };
        check(entry(Sizing::PctEquity(0.25)), CONTEXT, Ok(25.0));
        check(entry(Sizing::FixedNotional(1_234.5)), CONTEXT, Ok(12.345));
        check(entry(Sizing::Units(10.0)), CONTEXT, Ok(10.0));
        // A target of 20 % at a volatility of 50 % is 0.4 of equity.
        let known = SizingContext { yearly_volatility: Reading::Known(0.5), ..CONTEXT };
        let target = entry(Sizing::VolTarget { target: 0.2, lookback: 30 });
        check(target, known, Ok(40.0));
        check(target, CONTEXT, Err(SizingRefusal::VolatilityUnknown));
        let still = SizingContext { yearly_volatility: Reading::Known(0.0), ..CONTEXT };
        check(target, still, Err(SizingRefusal::VolatilityUnknown));
    }

    /// domain.md §6.1: equity 10,000, risk 1 %, stop 2 % → notional 5,000; at 2,530.5 and four
    /// decimals 1.9758 (notional 4,999.76).
    #[test]
    fn risk_is_the_loss_at_the_stop() {
        let entry = Entry { stop_loss: Some(0.02), ..entry(Sizing::RiskPct(0.01)) };
        let context = SizingContext { price: 2_530.5, size_step: 1e-4, ..CONTEXT };
        let size = size(&entry, &Risk::default(), &context).expect("a size");
        assert_eq!(size, 1.9758);
        assert!((size * 2_530.5 - 4999.7619).abs() < 1e-4);
    }

    #[test]
    fn the_notional_is_clamped_to_position_limit_and_leverage() {
        let check = |sizing, leverage, max_position_pct, expected| {
            let entry = Entry { leverage, ..entry(sizing) };
            let risk = Risk { max_position_pct, max_leverage: 10.0, ..Risk::default() };
            assert_eq!(size(&entry, &risk, &CONTEXT), Ok(expected), "{entry:?}");
        };
        check(Sizing::PctEquity(0.5), 1.0, 0.25, 25.0);
        check(Sizing::FixedNotional(1e9), 1.0, 0.25, 25.0);
        check(Sizing::Units(1e6), 1.0, 0.25, 25.0);
        // Leverage never multiplies; it only caps.
        check(Sizing::PctEquity(0.1), 5.0, 10.0, 10.0);
        check(Sizing::PctEquity(8.0), 5.0, 10.0, 500.0);
    }

    #[test]
    fn sizes_round_down_to_the_step_but_never_lose_a_whole_one_to_rounding() {
        for (size, step, expected) in [
            (1.999_999_99, 1.0, 1.0),
            (9.999_999_999_999_998, 1.0, 10.0),
            (0.3, 0.1, 0.3),
            (0.123_456_789, 1e-8, 0.123_456_78),
            (1.29, 0.25, 1.25),
            (17.0, 5.0, 15.0),
            (0.9, 1.0, 0.0),
            (1.7, 0.3, 1.5),
        ] {
            let rounded = round_down(size, step);
            assert!((rounded - expected).abs() < 1e-15, "{size} by {step}: {rounded}");
        }
    }

    #[test]
    fn positions_under_ten_dollars_and_impossible_numbers_are_refused() {
        let check = |sizing, context: SizingContext, expected| {
            assert_eq!(size(&entry(sizing), &Risk::default(), &context), expected, "{context:?}");
        };
        check(Sizing::FixedNotional(9.99), CONTEXT, Err(SizingRefusal::BelowMinimum));
        check(Sizing::FixedNotional(10.0), CONTEXT, Ok(0.1));
        let coarse = SizingContext { size_step: 1.0, ..CONTEXT };
        check(Sizing::FixedNotional(99.0), coarse, Err(SizingRefusal::BelowMinimum));
        let ruined = SizingContext { equity: 0.0, ..CONTEXT };
        check(Sizing::FixedNotional(99.0), ruined, Err(SizingRefusal::BelowMinimum));
        let unpriced = SizingContext { price: 0.0, ..CONTEXT };
        check(Sizing::PctEquity(0.5), unpriced, Err(SizingRefusal::OutOfRange));
    }
}
