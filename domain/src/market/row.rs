//! One line of a candle file: its bar, or why it is none.

use super::{Candle, Interval};

/// The columns of a candle file, in order.
pub(super) const COLUMNS: [&str; 6] = ["open_time_ms", "open", "high", "low", "close", "volume"];

/// Why a line of a candle file was left out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// Nothing of such a line is kept in memory.
    #[error("the line is longer than {limit} bytes")]
    TooLong {
        /// The longest line that is read.
        limit: usize,
    },
    /// The bytes are no text.
    #[error("the line is not UTF-8 after its first {valid} bytes")]
    NotUtf8 {
        /// How many bytes are valid.
        valid: usize,
    },
    /// Too few or too many fields.
    #[error("the line has {found} fields, expected 6: {}", COLUMNS.join(","))]
    FieldCount {
        /// How many there are.
        found: usize,
    },
    /// A field does not hold what it should.
    #[error("{field} is `{value}`, expected {expected}")]
    Field {
        /// The column.
        field: &'static str,
        /// What stands there, its first 40 characters.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The time is no start of a bar.
    #[error("open_time_ms is `{value}`, expected a multiple of {step_ms} (interval {interval})")]
    OffGrid {
        /// The time.
        value: i64,
        /// The interval of the import.
        interval: Interval,
        /// Its length in milliseconds.
        step_ms: i64,
    },
    /// The extremes are the wrong way round.
    #[error("high is `{high}`, expected at least low, which is `{low}`")]
    HighBelowLow {
        /// The highest price.
        high: f64,
        /// The lowest price.
        low: f64,
    },
    /// Open or close is not between the extremes.
    #[error("{field} is `{value}`, expected a price between low `{low}` and high `{high}`")]
    OutsideRange {
        /// `open` or `close`.
        field: &'static str,
        /// The price.
        value: f64,
        /// The lowest price.
        low: f64,
        /// The highest price.
        high: f64,
    },
    /// An earlier line of the same file has this time and other values; the earlier one stays.
    #[error("open_time_ms is `{open_time_ms}` again with other values; the earlier line was kept")]
    Conflict {
        /// The time of both.
        open_time_ms: i64,
    },
}

/// Reads a line without its line break. Blanks around a field are allowed.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn parse(line: &str, interval: Interval) -> Result<Candle, RejectReason> {
    let fields = split(line)?;
    let candle = Candle {
        open_time_ms: parse_time(fields[0], interval)?,
        open: parse_price(1, fields[1])?,
        high: parse_price(2, fields[2])?,
        low: parse_price(3, fields[3])?,
        close: parse_price(4, fields[4])?,
        volume: parse_volume(fields[5])?,
    };
    let Candle { open, high, low, close, .. } = candle;
    if high < low {
        return Err(RejectReason::HighBelowLow { high, low });
    }
    for (field, value) in [("open", open), ("close", close)] {
        if !(low..=high).contains(&value) {
            return Err(RejectReason::OutsideRange { field, value, low, high });
        }
    }
    Ok(candle)
}

fn split(line: &str) -> Result<[&str; 6], RejectReason> {
    let mut fields = [""; 6];
    let mut found = 0;
    for field in line.split(',') {
        if let Some(slot) = fields.get_mut(found) {
            *slot = field.trim();
        }
        found += 1;
    }
    if found == fields.len() { Ok(fields) } else { Err(RejectReason::FieldCount { found }) }
}

/// The first millisecond of the year 10000: what is later is not meant as milliseconds.
const END_OF_TIME_MS: i64 = 253_402_300_800_000;

fn parse_time(text: &str, interval: Interval) -> Result<i64, RejectReason> {
    let value = text
        .parse()
        .ok()
        .filter(|value| (0..END_OF_TIME_MS).contains(value))
        .ok_or_else(|| wrong(0, text, "milliseconds since 1970 as a whole number"))?;
    let step_ms = interval.as_millis();
    if value % step_ms == 0 {
        Ok(value)
    } else {
        Err(RejectReason::OffGrid { value, interval, step_ms })
    }
}

fn parse_price(column: usize, text: &str) -> Result<f64, RejectReason> {
    parse_finite(text)
        .filter(|&value| value > 0.0)
        .ok_or_else(|| wrong(column, text, "a finite number above 0"))
}

fn parse_volume(text: &str) -> Result<f64, RejectReason> {
    parse_finite(text)
        .filter(|&value| value >= 0.0)
        // Minus zero would come back from SQLite as zero.
        .map(|value| value + 0.0)
        .ok_or_else(|| wrong(5, text, "a finite number, 0 or above"))
}

fn parse_finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

fn wrong(column: usize, text: &str, expected: &'static str) -> RejectReason {
    RejectReason::Field { field: COLUMNS[column], value: text.chars().take(40).collect(), expected }
}

#[cfg(test)]
mod tests {
    use super::{Candle, Interval, parse};

    #[test]
    fn a_good_line_is_a_bar() {
        // The first line of the BTC-USD hourly history.
        let expected = Candle {
            open_time_ms: 1_498_906_800_000,
            open: 2505.56,
            high: 2513.38,
            low: 2495.12,
            close: 2509.17,
            volume: 114.6,
        };
        for line in [
            "1498906800000,2505.56,2513.38,2495.12,2509.17,114.6",
            " 1498906800000 , 2505.56,2513.38,\t2495.12,2509.17,114.6 ",
            "1498906800000,2.50556e3,2513.380,2495.12,2509.17,+114.6",
        ] {
            assert_eq!(parse(line, Interval::H1), Ok(expected), "{line}");
        }
    }

    #[test]
    fn equal_prices_and_no_volume_are_a_bar_and_minus_zero_is_zero() {
        let candle = parse("0,7,7,7,7,-0", Interval::D1).unwrap();
        assert_eq!(candle.volume.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_bad_line_is_named_by_field_and_value() {
        #[track_caller]
        fn check(line: &str, expected: &str) {
            assert_eq!(parse(line, Interval::H1).unwrap_err().to_string(), expected, "{line}");
        }
        const COUNT: &str = "expected 6: open_time_ms,open,high,low,close,volume";
        check("0,1,1,1,1", &format!("the line has 5 fields, {COUNT}"));
        check("0,1,1,1,1,1,", &format!("the line has 7 fields, {COUNT}"));
        check(&",".repeat(1000), &format!("the line has 1001 fields, {COUNT}"));
        const TIME: &str = "expected milliseconds since 1970 as a whole number";
        check("x,1,1,1,1,1", &format!("open_time_ms is `x`, {TIME}"));
        check("-3600000,1,1,1,1,1", &format!("open_time_ms is `-3600000`, {TIME}"));
        check("3600000.0,1,1,1,1,1", &format!("open_time_ms is `3600000.0`, {TIME}"));
        check(
            "9223372036854775808,1,1,1,1,1",
            &format!("open_time_ms is `9223372036854775808`, {TIME}"),
        );
        check("253402300800000,1,1,1,1,1", &format!("open_time_ms is `253402300800000`, {TIME}"));
        check(
            "3600001,1,1,1,1,1",
            "open_time_ms is `3600001`, expected a multiple of 3600000 (interval 1h)",
        );
        check("0,NaN,1,1,1,1", "open is `NaN`, expected a finite number above 0");
        check("0,1,inf,1,1,1", "high is `inf`, expected a finite number above 0");
        check("0,1,1e999,1,1,1", "high is `1e999`, expected a finite number above 0");
        check("0,1,1,0,1,1", "low is `0`, expected a finite number above 0");
        check("0,1,1,1,-2,1", "close is `-2`, expected a finite number above 0");
        check("0,1,1,1,,1", "close is ``, expected a finite number above 0");
        check("0,1,1,1,1,-1", "volume is `-1`, expected a finite number, 0 or above");
        check("0,1,1,1,1,nan", "volume is `nan`, expected a finite number, 0 or above");
        check("0,1,1,2,1,1", "high is `1`, expected at least low, which is `2`");
        check("0,3,2,1,1,1", "open is `3`, expected a price between low `1` and high `2`");
        check("0,2,2,1,0.5,1", "close is `0.5`, expected a price between low `1` and high `2`");
        let long = "9".repeat(41);
        check(
            &format!("{long},1,1,1,1,1"),
            &format!("open_time_ms is `{}`, {TIME}", "9".repeat(40)),
        );
    }
}
