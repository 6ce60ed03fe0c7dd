//! A batch of rows from a source: the good ones, how many there were, and why the others are not
//! among them.

use serde_json::Value;

use super::reject::{Reject, Rejects};

/// The longest text that is taken as a name or an identity, in bytes.
const LONGEST_NAME: usize = 200;

/// What a batch came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows<T> {
    /// The good rows.
    pub good: Vec<T>,
    /// How many the source gave.
    pub read: usize,
    /// Why the others were refused.
    pub rejects: Rejects,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { good: Vec::new(), read: 0, rejects: Rejects::default() }
    }
}

impl<T> Rows<T> {
    /// Reads each value; a bad one costs nobody else.
    pub fn read<V>(
        values: impl IntoIterator<Item = V>,
        mut decode: impl FnMut(V) -> Result<T, Reject>,
    ) -> Self {
        Self::read_some(values, |value| decode(value).map(Some))
    }

    /// Like [`read`](Self::read); `None` is a row that is neither good nor bad.
    pub fn read_some<V>(
        values: impl IntoIterator<Item = V>,
        mut decode: impl FnMut(V) -> Result<Option<T>, Reject>,
    ) -> Self {
        let mut rows = Self::default();
        for value in values {
            rows.read += 1;
            let row = decode(value);
            rows.good.extend(rows.rejects.keep(row).flatten());
        }
        rows
    }

    /// Adds another batch.
    pub fn absorb(&mut self, other: Self) {
        self.good.extend(other.good);
        self.read += other.read;
        self.rejects.absorb(other.rejects);
    }
}

/// A short text, or a number as text.
///
/// # Errors
/// `missing_text` and `bad_text`.
pub fn name(field: &'static str, value: &Value) -> Result<String, Reject> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null => return Err(Reject::new("missing_text", format!("{field} is missing"))),
        _ => return Err(Reject::new("bad_text", format!("{field} is no text"))),
    };
    if text.is_empty() {
        return Err(Reject::new("missing_text", format!("{field} is empty")));
    }
    if text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(Reject::new("bad_text", format!("{field} is `{shown}`, expected a name")));
    }
    Ok(text)
}

/// A text for people, cut off after `longest` bytes, without control characters.
#[must_use]
pub fn prose(value: &Value, longest: usize) -> String {
    let text = value.as_str().unwrap_or_default();
    let kept: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    kept[..kept.floor_char_boundary(longest)].trim().to_owned()
}

/// A whole number, from a JSON number or text.
///
/// # Errors
/// `missing_number` and `not_a_number`.
pub fn whole(field: &'static str, value: &Value) -> Result<i64, Reject> {
    let read = match value {
        Value::Null => return Err(Reject::new("missing_number", format!("{field} is missing"))),
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
        Value::Number(number) => number.as_i64().or_else(|| {
            let double = number.as_f64()?;
            (double.fract() == 0.0 && double.abs() < 9e15).then_some(double as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    read.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        Reject::new("not_a_number", format!("{field} is `{shown}`, expected a whole number"))
    })
}

/// Refuses what a source dates later than `tolerance_ms` from now.
///
/// # Errors
/// `from_the_future`.
pub fn not_in_the_future(at_ms: i64, now_ms: i64, tolerance_ms: i64) -> Result<i64, Reject> {
    if at_ms <= now_ms.saturating_add(tolerance_ms) {
        return Ok(at_ms);
    }
    let ahead_ms = at_ms.saturating_sub(now_ms);
    Err(Reject::new("from_the_future", format!("{at_ms} is {ahead_ms} ms from now")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_texts_may_stand_for_each_other() {
        for value in [json!(7), json!("7"), json!(7.0), json!(" 7 ")] {
            assert_eq!(whole("t", &value), Ok(7), "{value}");
        }
        for value in [json!(null), json!(7.5), json!("x"), json!([7]), json!(1e300)] {
            assert!(whole("t", &value).is_err(), "{value}");
        }
        assert_eq!(name("id", &json!(12)), Ok("12".into()));
        assert_eq!(name("id", &json!(" 12 ")), Ok("12".into()));
        for value in [json!(""), json!(null), json!({}), json!("a\u{0}b"), json!("x".repeat(201))] {
            assert!(name("id", &value).is_err(), "{value}");
        }
        assert_eq!(prose(&json!("a\nb\u{0}c"), 100), "a b c");
        assert_eq!(prose(&json!("ééé"), 3), "é");
    }

    #[test]
    fn a_bad_row_costs_nobody_else() {
        let rows = Rows::read([json!(1), json!("x"), json!(3)].iter(), |row| whole("n", row));
        assert_eq!((rows.good, rows.read, rows.rejects.total()), (vec![1, 3], 3, 1));
    }

    #[test]
    fn a_row_from_the_future_is_refused() {
        assert_eq!(not_in_the_future(1_000, 0, 1_000), Ok(1_000));
        assert_eq!(not_in_the_future(1_001, 0, 1_000).unwrap_err().reason, "from_the_future");
    }
}
