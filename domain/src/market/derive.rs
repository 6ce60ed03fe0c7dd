//! Longer bars made of minutes.

use super::{Candle, Interval};

/// The bars of `interval` that `minutes` fill without a gap; a bar that lacks a minute is left out.
///
/// `minutes` are one-minute bars, ascending, none twice.
#[must_use]
pub fn derive_candles(minutes: &[Candle], interval: Interval) -> Vec<Candle> {
    let wanted = interval.as_millis() / Interval::M1.as_millis();
    minutes
        .chunk_by(|one, two| {
            start_of(one.open_time_ms, interval) == start_of(two.open_time_ms, interval)
        })
        .filter(|bar| i64::try_from(bar.len()) == Ok(wanted))
        .map(|bar| join(bar, start_of(bar[0].open_time_ms, interval)))
        .collect()
}

/// The start of the bar that a time lies in.
#[must_use]
pub fn start_of(at_ms: i64, interval: Interval) -> i64 {
    at_ms - at_ms.rem_euclid(interval.as_millis())
}

/// At least one bar.
fn join(bars: &[Candle], open_time_ms: i64) -> Candle {
    let mut joined = Candle { open_time_ms, volume: 0.0, ..bars[0] };
    for bar in bars {
        joined.high = joined.high.max(bar.high);
        joined.low = joined.low.min(bar.low);
        joined.close = bar.close;
        joined.volume += bar.volume;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::RandomWalk;

    fn minutes(from_ms: i64, count: usize) -> Vec<Candle> {
        RandomWalk::new(7, Interval::M1, from_ms, 100.0, 0.01).take(count).collect()
    }

    #[test]
    fn a_bar_is_the_join_of_its_minutes() {
        let minute = |minute: i64, open, high, low, close, volume| Candle {
            open_time_ms: minute * 60_000,
            open,
            high,
            low,
            close,
            volume,
        };
        let mut quarter: Vec<Candle> =
            (15..30).map(|at| minute(at, 10.0, 10.0, 10.0, 10.0, 0.0)).collect();
        quarter[0] = minute(15, 9.0, 12.0, 9.0, 10.0, 1.0);
        quarter[7] = minute(22, 10.0, 11.0, 3.0, 10.0, 2.0);
        quarter[14] = minute(29, 10.0, 10.0, 8.0, 8.5, 4.0);
        let expected = minute(15, 9.0, 12.0, 3.0, 8.5, 7.0);
        assert_eq!(derive_candles(&quarter, Interval::M15), [expected]);
    }

    #[test]
    fn a_bar_that_lacks_a_minute_is_left_out() {
        let day = minutes(0, 24 * 60);
        let check = |bars: &[Candle], interval, expected: usize| {
            assert_eq!(derive_candles(bars, interval).len(), expected, "{interval}");
        };
        check(&day, Interval::M15, 96);
        check(&day, Interval::H1, 24);
        check(&day, Interval::D1, 1);
        check(&day[1..], Interval::D1, 0);
        check(&day[1..], Interval::H1, 23);
        check(&day[..14], Interval::M15, 0);
        check(&[], Interval::H1, 0);
        let mut holed = day;
        holed.remove(100);
        check(&holed, Interval::H1, 23);
        check(&holed, Interval::M15, 95);
    }
}
