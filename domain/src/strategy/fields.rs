//! One JSON object of a graph, read key by key, each refusal naming place, key and value.

use serde_json::{Map, Value};

use super::error::{GraphError, GraphProblem, Place};

/// An object, where it stands, and the path that its keys are named with.
pub(super) struct Fields<'a> {
    place: Place,
    prefix: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Takes `value` as an object at `place`.
    pub(super) fn at(place: Place, value: &'a Value) -> Result<Self, GraphError> {
        match value {
            Value::Object(object) => Ok(Self { place, prefix: String::new(), object }),
            other => Err(GraphError {
                place,
                problem: GraphProblem::Invalid {
                    key: "value".to_owned(),
                    found: shown(other),
                    expected: "an object".to_owned(),
                },
            }),
        }
    }

    pub(super) fn relocate(&mut self, place: Place) {
        self.place = place;
    }

    /// Refuses every key that is not in `allowed`.
    pub(super) fn allow(&self, allowed: &[&str]) -> Result<(), GraphError> {
        match self.object.keys().find(|key| !allowed.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.error(GraphProblem::UnknownKey {
                key: format!("{}{}", self.prefix, clip(key)),
                allowed: if allowed.is_empty() {
                    "no key at all".to_owned()
                } else {
                    allowed.join(", ")
                },
            })),
        }
    }

    /// The object under `key`, if the key is there.
    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, GraphError> {
        match self.object.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields {
                place: self.place.clone(),
                prefix: format!("{}{key}.", self.prefix),
                object,
            })),
            Some(other) => Err(self.invalid(key, other, "an object")),
        }
    }

    /// The object under `key`; an empty one when the key is absent.
    pub(super) fn object_or_empty(&self, key: &str) -> Result<Fields<'a>, GraphError> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        Ok(self.object(key)?.unwrap_or_else(|| Fields {
            place: self.place.clone(),
            prefix: format!("{}{key}.", self.prefix),
            object: &EMPTY,
        }))
    }

    /// The object under `key`.
    pub(super) fn required_object(&self, key: &str) -> Result<Fields<'a>, GraphError> {
        self.object(key)?.ok_or_else(|| self.missing(key, "an object"))
    }

    /// A list under `key`.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], GraphError> {
        match self.require(key, "a list")? {
            Value::Array(values) => Ok(values),
            other => Err(self.invalid(key, other, "a list")),
        }
    }

    /// A list of texts under `key`, each of 1 to 64 printable characters.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, GraphError> {
        const EXPECTED: &str = "a list of texts of 1 to 64 printable characters";
        self.list(key)?
            .iter()
            .map(|value| match value {
                Value::String(text) if is_printable(text, 64) => Ok(text.clone()),
                other => Err(self.invalid(key, other, EXPECTED)),
            })
            .collect()
    }

    /// A text under `key`, of 1 to `longest` printable characters.
    pub(super) fn text(&self, key: &str, longest: usize) -> Result<&'a str, GraphError> {
        let expected = format!("a text of 1 to {longest} printable characters");
        match self.require(key, &expected)? {
            Value::String(text) if is_printable(text, longest) => Ok(text),
            other => Err(self.invalid(key, other, &expected)),
        }
    }

    /// An id under `key`: 1 to 64 letters, digits, `_`, `-` or `.`.
    pub(super) fn id(&self, key: &str) -> Result<&'a str, GraphError> {
        const EXPECTED: &str = "an id of 1 to 64 letters, digits, `_`, `-` or `.`";
        match self.require(key, EXPECTED)? {
            Value::String(text) if is_id(text) => Ok(text),
            other => Err(self.invalid(key, other, EXPECTED)),
        }
    }

    /// The value in `choices` whose name stands under `key`.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<T, GraphError> {
        let expected = || {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        };
        let value = self.object.get(key).ok_or_else(|| self.missing(key, &expected()))?;
        choices
            .iter()
            .find(|(name, _)| value.as_str() == Some(name))
            .map(|(_, choice)| *choice)
            .ok_or_else(|| self.invalid(key, value, &expected()))
    }

    /// Like [`Self::choice`], with a value for an absent key.
    pub(super) fn choice_or<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, GraphError> {
        if self.object.contains_key(key) { self.choice(key, choices) } else { Ok(default) }
    }

    /// A whole number under `key`, within `low..=high`.
    pub(super) fn whole(&self, key: &str, low: i64, high: i64) -> Result<i64, GraphError> {
        let expected = format!("a whole number from {low} to {high}");
        let value = self.require(key, &expected)?;
        value
            .as_i64()
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| self.invalid(key, value, &expected))
    }

    /// Like [`Self::whole`], with a value for an absent key.
    pub(super) fn whole_or(
        &self,
        key: &str,
        low: i64,
        high: i64,
        default: i64,
    ) -> Result<i64, GraphError> {
        if self.object.contains_key(key) { self.whole(key, low, high) } else { Ok(default) }
    }

    /// A count of bars under `key`, within `low..=high`.
    pub(super) fn bars(&self, key: &str, low: u16, high: u16) -> Result<usize, GraphError> {
        let bars = self.whole(key, i64::from(low), i64::from(high))?;
        // Within u16 by the range above.
        Ok(usize::try_from(bars).unwrap_or_default())
    }

    /// Any decimal under `key`.
    pub(super) fn any_decimal(&self, key: &str) -> Result<f64, GraphError> {
        self.decimal(key, "a decimal in a string, such as \"0.25\"", |_| true)
    }

    /// A decimal above 0 and at most `high` under `key`.
    pub(super) fn positive_decimal(&self, key: &str, high: f64) -> Result<f64, GraphError> {
        let expected = format!("a decimal in a string, above 0 and at most {high}");
        self.decimal(key, &expected, |value| value > 0.0 && value <= high)
    }

    /// A decimal above 0 and below 1 under `key`.
    pub(super) fn fraction(&self, key: &str) -> Result<f64, GraphError> {
        self.decimal(key, "a decimal in a string, above 0 and below 1", |value| {
            value > 0.0 && value < 1.0
        })
    }

    /// A decimal of at least 1 and at most `high` under `key`.
    pub(super) fn factor(&self, key: &str, high: f64) -> Result<f64, GraphError> {
        let expected = format!("a decimal in a string, from 1 to {high}");
        self.decimal(key, &expected, |value| value >= 1.0 && value <= high)
    }

    /// A duration under `key` in ms: a whole number and one of `s m h d`, at most 3650 days.
    pub(super) fn duration_ms(&self, key: &str) -> Result<i64, GraphError> {
        const EXPECTED: &str =
            "a duration such as \"90s\", \"75m\", \"8h\" or \"7d\", above 0 and at most 3650 days";
        let value = self.require(key, EXPECTED)?;
        value.as_str().and_then(parse_duration_ms).ok_or_else(|| self.invalid(key, value, EXPECTED))
    }

    /// Whether `key` is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// A refusal of the value under `key`.
    pub(super) fn refuse(&self, key: &str, expected: &str) -> GraphError {
        match self.object.get(key) {
            Some(value) => self.invalid(key, value, expected),
            None => self.missing(key, expected),
        }
    }

    fn decimal(
        &self,
        key: &str,
        expected: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<f64, GraphError> {
        let value = self.require(key, expected)?;
        value
            .as_str()
            .and_then(parse_decimal)
            .filter(|number| fits(*number))
            .ok_or_else(|| self.invalid(key, value, expected))
    }

    fn require(&self, key: &str, expected: &str) -> Result<&'a Value, GraphError> {
        self.object.get(key).ok_or_else(|| self.missing(key, expected))
    }

    fn missing(&self, key: &str, expected: &str) -> GraphError {
        self.error(GraphProblem::MissingKey {
            key: format!("{}{key}", self.prefix),
            expected: expected.to_owned(),
        })
    }

    fn invalid(&self, key: &str, found: &Value, expected: &str) -> GraphError {
        self.error(GraphProblem::Invalid {
            key: format!("{}{key}", self.prefix),
            found: shown(found),
            expected: expected.to_owned(),
        })
    }

    fn error(&self, problem: GraphProblem) -> GraphError {
        GraphError { place: self.place.clone(), problem }
    }
}

/// Digits with an optional sign and fraction. Exponents, `NaN` and `inf`, which Rust's own parser
/// takes, are no decimals.
fn parse_decimal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() > 40 || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

fn parse_duration_ms(text: &str) -> Option<i64> {
    const LONGEST_MS: i64 = 3_650 * 86_400_000;
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let unit_ms = match &text[digits.len()..] {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let span_ms = digits.parse::<i64>().ok()?.checked_mul(unit_ms)?;
    (1..=LONGEST_MS).contains(&span_ms).then_some(span_ms)
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn is_printable(text: &str, longest: usize) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= longest
        && !text.chars().any(char::is_control)
}

/// A value as an error message shows it: one line of bounded length without control characters.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("\"{}\"", clip(text)),
        scalar => clip(&scalar.to_string()),
    }
}

fn clip(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut clipped: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_plain_digits() {
        for (text, expected) in [
            ("0.10", Some(0.1)),
            ("-3", Some(-3.0)),
            ("00.5", Some(0.5)),
            ("", None),
            ("-", None),
            (".5", None),
            ("5.", None),
            ("+1", None),
            ("1e5", None),
            ("NaN", None),
            ("inf", None),
            ("-inf", None),
            ("infinity", None),
            (" 1", None),
            ("1_000", None),
            ("0x10", None),
            ("١", None),
            ("11111111111111111111111111111111111111111", None),
        ] {
            assert_eq!(parse_decimal(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, expected) in [
            ("90s", Some(90_000)),
            ("75m", Some(4_500_000)),
            ("8h", Some(28_800_000)),
            ("7d", Some(604_800_000)),
            ("0s", None),
            ("8", None),
            ("h", None),
            ("8hh", None),
            ("1h30m", None),
            ("-1h", None),
            ("1.5h", None),
            ("3651d", None),
            ("99999999999999999999d", None),
            ("é", None),
        ] {
            assert_eq!(parse_duration_ms(text), expected, "{text:?}");
        }
    }

    #[test]
    fn shown_values_are_one_clean_line() {
        assert_eq!(shown(&Value::from("a\u{1b}[31m\n")), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(shown(&Value::from("x".repeat(100))).chars().count(), 63);
    }
}
