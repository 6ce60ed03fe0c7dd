//! Whether two documents have the same keys and the same types.

use serde_json::Value;

/// Checks that an answer has the shape of a documented one: the same keys, the same types, all the
/// way down. What is null in either may be anything; of arrays, every element is compared with the
/// first documented one, unless both are tuples of the same length.
#[track_caller]
pub(crate) fn assert_shape(answer: &Value, documented: &Value) {
    let mut differences = Vec::new();
    compare("$", answer, documented, &mut differences);
    assert!(differences.is_empty(), "{}\nin {answer:.600}", differences.join("\n"));
}

/// A documented answer.
#[track_caller]
pub(crate) fn documented(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn compare(path: &str, answer: &Value, documented: &Value, differences: &mut Vec<String>) {
    match (answer, documented) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(answer), Value::Object(documented)) => {
            for key in answer.keys().filter(|key| !documented.contains_key(*key)) {
                differences.push(format!("{path}.{key} is not documented"));
            }
            for (key, documented) in documented {
                match answer.get(key) {
                    None => differences.push(format!("{path}.{key} is missing")),
                    Some(answer) => {
                        compare(&format!("{path}.{key}"), answer, documented, differences);
                    }
                }
            }
        }
        (Value::Array(answer), Value::Array(documented)) => {
            let tuple = answer.len() == documented.len();
            for (index, answer) in answer.iter().enumerate() {
                let like = documented.get(if tuple { index } else { 0 });
                if let Some(documented) = like {
                    compare(&format!("{path}[{index}]"), answer, documented, differences);
                }
            }
        }
        (answer, documented) => {
            let same = (answer.is_string() && documented.is_string())
                || (answer.is_number() && documented.is_number())
                || (answer.is_boolean() && documented.is_boolean());
            if !same {
                differences.push(format!("{path} is {answer:.80}, documented is {documented:.80}"));
            }
        }
    }
}

#[test]
fn a_difference_is_found() {
    let documented = documented(r#"{"a":[{"b":"1"}],"c":null}"#);
    let find = |answer: &str| {
        let mut differences = Vec::new();
        let answer: Value = serde_json::from_str(answer).unwrap();
        compare("$", &answer, &documented, &mut differences);
        differences
    };
    assert!(find(r#"{"a":[{"b":"2"},{"b":"3"}],"c":7}"#).is_empty());
    assert_eq!(find(r#"{"a":[{"b":2}],"c":7}"#).len(), 1);
    assert_eq!(find(r#"{"a":[],"d":7}"#), ["$.d is not documented", "$.c is missing"]);
}
