//! Whether a history is one.

use super::error::BacktestError;
use crate::market::{Candle, Interval};

/// Checks that bars ascend on the interval's grid and that their prices are possible. Missing bars
/// are no error: the engine trades at the next one that is there.
pub(super) fn check_candles(candles: &[Candle], interval: Interval) -> Result<(), BacktestError> {
    if candles.is_empty() {
        return Err(BacktestError::NoCandles);
    }
    let interval_ms = interval.as_millis();
    let mut previous_ms = None;
    for (bar, candle) in candles.iter().enumerate() {
        let open_time_ms = candle.open_time_ms;
        if open_time_ms.rem_euclid(interval_ms) != 0 {
            return Err(BacktestError::OffGrid { bar, open_time_ms, interval_ms });
        }
        if let Some(previous_ms) = previous_ms.filter(|&previous| open_time_ms <= previous) {
            return Err(BacktestError::NotAscending { bar, open_time_ms, previous_ms });
        }
        if let Some((field, value, expected)) = wrong_value(candle) {
            return Err(BacktestError::CandleValue { bar, open_time_ms, field, value, expected });
        }
        previous_ms = Some(open_time_ms);
    }
    Ok(())
}

fn wrong_value(candle: &Candle) -> Option<(&'static str, f64, &'static str)> {
    let Candle { open, high, low, close, volume, .. } = *candle;
    let prices = [("open", open), ("high", high), ("low", low), ("close", close)];
    for (field, price) in prices {
        if !(price.is_finite() && price > 0.0) {
            return Some((field, price, "a finite price above 0"));
        }
    }
    if low > high {
        return Some(("low", low, "a price not above `high`"));
    }
    for (field, price) in [("open", open), ("close", close)] {
        if !(low..=high).contains(&price) {
            return Some((field, price, "a price from `low` to `high`"));
        }
    }
    if !(volume.is_finite() && volume >= 0.0) {
        return Some(("volume", volume, "a finite volume of at least 0"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::RandomWalk;

    #[test]
    fn a_bar_that_cannot_be_is_named_with_its_place_time_and_value() {
        let check = |change: fn(&mut Candle), expected: &str| {
            let mut candles: Vec<Candle> =
                RandomWalk::new(1, Interval::D1, 86_400_000, 100.0, 0.01).take(5).collect();
            change(&mut candles[3]);
            let error = check_candles(&candles, Interval::D1).expect_err(expected).to_string();
            assert_eq!(error, expected);
        };
        const BAR: &str = "bar 3 (open_time_ms 345600000)";
        let at = |rest: &str| format!("{BAR}: {rest}");
        check(|c| c.open = f64::NAN, &at("`open` is NaN; expected a finite price above 0"));
        check(|c| c.high = f64::INFINITY, &at("`high` is inf; expected a finite price above 0"));
        check(|c| c.low = 0.0, &at("`low` is 0; expected a finite price above 0"));
        check(|c| c.close = -5.0, &at("`close` is -5; expected a finite price above 0"));
        check(|c| c.low = 1e6, &at("`low` is 1000000; expected a price not above `high`"));
        check(|c| c.open = 1e6, &at("`open` is 1000000; expected a price from `low` to `high`"));
        check(|c| c.close = 1.0, &at("`close` is 1; expected a price from `low` to `high`"));
        check(|c| c.volume = -1.0, &at("`volume` is -1; expected a finite volume of at least 0"));
        check(
            |c| c.open_time_ms += 1,
            "bar 3: `open_time_ms` is 345600001; expected a multiple of the interval, 86400000 ms",
        );
        check(
            |c| c.open_time_ms -= 86_400_000,
            "bar 3: `open_time_ms` is 259200000; expected a time after the bar before, 259200000",
        );
        check(
            |c| c.open_time_ms = 0,
            "bar 3: `open_time_ms` is 0; expected a time after the bar before, 259200000",
        );
    }

    #[test]
    fn an_empty_history_is_refused_and_a_gap_is_not() {
        assert_eq!(check_candles(&[], Interval::H1), Err(BacktestError::NoCandles));
        let mut candles: Vec<Candle> =
            RandomWalk::new(1, Interval::H1, 0, 100.0, 0.01).take(5).collect();
        candles.remove(2);
        assert_eq!(check_candles(&candles, Interval::H1), Ok(()));
    }
}
