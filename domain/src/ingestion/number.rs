//! Numbers as the sources write them: decimal text, JSON numbers, and what must be refused.
//!
//! Prices and sizes become exact decimals, since ledgers are made of them; statistics become
//! doubles. A row with a number that means nothing is rejected, the rest of its batch stays.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::Value;

/// Why a number is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// It is absent, `null` or `""`.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// It is no number: `NaN`, `Infinity`, a word, a list.
    #[error("{field} is `{value}`, expected a number")]
    NotANumber {
        /// The field.
        field: &'static str,
        /// What stands there, cut off.
        value: String,
    },
    /// It is a number that cannot be.
    #[error("{field} is {value}, expected more than 0")]
    NotPositive {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: Decimal,
    },
}

/// What is shown of a value that is refused: it comes from outside.
const SHOWN: usize = 40;

/// Reads an exact decimal from JSON text or a JSON number. `".48"` and `"1e5"` are numbers; more
/// digits than a [`Decimal`] holds are rounded to what it holds.
///
/// # Errors
/// [`NumberError::Missing`] for null and `""`, [`NumberError::NotANumber`] for the rest.
pub fn decimal(field: &'static str, value: &Value) -> Result<Decimal, NumberError> {
    let refused = |text: &str| NumberError::NotANumber { field, value: shown(text) };
    match value {
        Value::Null => Err(NumberError::Missing { field }),
        Value::String(text) => parse(field, text.trim()),
        // A JSON number is what its digits say: via text, not via a double.
        Value::Number(number) => parse(field, &number.to_string()),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(refused(&value.to_string())),
    }
}

/// Like [`decimal`], for prices: zero and less are refused.
///
/// # Errors
/// As [`decimal`], and [`NumberError::NotPositive`].
pub fn positive_decimal(field: &'static str, value: &Value) -> Result<Decimal, NumberError> {
    let value = decimal(field, value)?;
    if value > Decimal::ZERO { Ok(value) } else { Err(NumberError::NotPositive { field, value }) }
}

/// Reads a statistic: a finite double, from a JSON number or text.
///
/// # Errors
/// As [`decimal`].
pub fn statistic(field: &'static str, value: &Value) -> Result<f64, NumberError> {
    let number = match value {
        Value::Null => return Err(NumberError::Missing { field }),
        Value::String(text) if text.trim().is_empty() => {
            return Err(NumberError::Missing { field });
        }
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_f64(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| NumberError::NotANumber { field, value: shown(&value.to_string()) })
}

fn parse(field: &'static str, text: &str) -> Result<Decimal, NumberError> {
    if text.is_empty() {
        return Err(NumberError::Missing { field });
    }
    let parsed = if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()
    } else {
        Decimal::from_str(text).ok()
    };
    parsed.ok_or_else(|| NumberError::NotANumber { field, value: shown(text) })
}

fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(SHOWN)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decimal_is_what_its_digits_say() {
        let check = |value: Value, expected: &str| {
            let decimal = decimal("px", &value).unwrap();
            assert_eq!(decimal.normalize().to_string(), expected, "{value}");
        };
        check(json!("84143.0"), "84143");
        check(json!(84143.5), "84143.5");
        check(json!(".48"), "0.48");
        check(json!("1e5"), "100000");
        check(json!("1.25E-3"), "0.00125");
        check(json!("-0.0006413454"), "-0.0006413454");
        check(json!(" 7 "), "7");
        check(json!(12), "12");
        check(json!("4161029539.6949653625"), "4161029539.6949653625");
        // Longer than a decimal holds: rounded, not refused.
        check(json!("1234567890.12345678901234567890"), "1234567890.1234567890123456789");
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        let check = |value: Value, expected: &str| {
            assert_eq!(positive_decimal("px", &value).unwrap_err().to_string(), expected);
        };
        check(json!(null), "px is missing");
        check(json!(""), "px is missing");
        check(json!("NaN"), "px is `NaN`, expected a number");
        check(json!("Infinity"), "px is `Infinity`, expected a number");
        check(json!(true), "px is `true`, expected a number");
        check(json!([1]), "px is `[1]`, expected a number");
        check(json!("0.0"), "px is 0.0, expected more than 0");
        check(json!("-1"), "px is -1, expected more than 0");
        check(json!("9".repeat(60)), &format!("px is `{}`, expected a number", "9".repeat(40)));
    }

    #[test]
    fn a_statistic_is_a_finite_double() {
        assert_eq!(statistic("tvl", &json!(4205486.363487561)), Ok(4205486.363487561));
        assert_eq!(statistic("tvl", &json!("158.9e9")), Ok(158.9e9));
        for value in [json!("NaN"), json!("inf"), json!({"usd": 1}), json!("")] {
            assert!(statistic("tvl", &value).is_err(), "{value}");
        }
        assert_eq!(statistic("tvl", &json!(null)), Err(NumberError::Missing { field: "tvl" }));
    }
}
