//! What a language model's completion means.

use rust_decimal::Decimal;
use serde_json::Value;

use super::intent::{Intent, IntentKind, OpenSize};
use super::provider::{Output, ProviderError};
use crate::ingestion::decimal;
use crate::strategy::Side;

/// A completion that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What it decides, or why that is of no use.
    pub output: Result<Output, ProviderError>,
    /// Tokens of what was asked, as the host counts.
    pub tokens_in: u64,
    /// Tokens of what was answered.
    pub tokens_out: u64,
    /// The model that the host names.
    pub model: Option<String>,
    /// The message as it came, but for NUL, which not every database can keep.
    pub content: Option<String>,
}

/// The longest rationale that is kept, in bytes.
const LONGEST_RATIONALE: usize = 500;

/// Reads the body of a chat completion. `symbols` are those that may be traded.
///
/// Tolerated: one pair of code fences, numbers as text. Refused: an answer that was cut off, a
/// refusal, an unknown action or symbol, a size that is none.
#[must_use]
pub fn read_completion(body: &Value, symbols: &[String]) -> Reply {
    let tokens = |name: &str| body["usage"][name].as_u64().unwrap_or_default();
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let content = message["content"].as_str();
    let output = match (choice["finish_reason"].as_str(), message["refusal"].as_str(), content) {
        (_, Some(refusal), _) if !refusal.is_empty() => {
            Err(ProviderError::Refused(bounded(refusal)))
        }
        (Some("length"), ..) => Err(malformed("it was cut off at the longest answer")),
        (Some("content_filter"), ..) => {
            Err(ProviderError::Refused("the host's filter held it back".to_owned()))
        }
        (_, _, None) => Err(malformed("it has no choices[0].message.content")),
        (_, _, Some(content)) => read_decision(content, symbols),
    };
    Reply {
        output,
        tokens_in: tokens("prompt_tokens"),
        tokens_out: tokens("completion_tokens"),
        model: body["model"].as_str().map(bounded),
        content: content.map(storable),
    }
}

fn read_decision(content: &str, symbols: &[String]) -> Result<Output, ProviderError> {
    let decision: Value = serde_json::from_str(without_fences(content))
        .map_err(|error| malformed(&format!("it is no JSON: {error}")))?;
    if !decision.is_object() {
        return Err(malformed("it is no JSON object"));
    }
    let rationale = decision["rationale"].as_str().map(bounded);
    let action = decision["action"].as_str().unwrap_or_default();
    if action == "hold" {
        return Ok(Output::Hold { reason: rationale.unwrap_or_else(|| "hold".to_owned()) });
    }
    let kind = match action {
        "open_long" => open(&decision, Side::Long)?,
        "open_short" => open(&decision, Side::Short)?,
        "close" => IntentKind::Close,
        other => return Err(malformed(&format!("`{}` is no action", bounded(other)))),
    };
    let symbol = decision["symbol"].as_str().unwrap_or_default();
    if !symbols.iter().any(|known| known == symbol) {
        return Err(malformed(&format!("`{}` is no symbol of the strategy", bounded(symbol))));
    }
    let confidence = decision["confidence"].as_f64().map(|confidence| confidence.clamp(0.0, 1.0));
    let symbol = symbol.to_owned();
    Ok(Output::Intents(vec![Intent { symbol, kind, action_id: None, confidence, rationale }]))
}

fn open(decision: &Value, side: Side) -> Result<IntentKind, ProviderError> {
    let number = |name: &'static str| match &decision[name] {
        Value::Null => Ok(None),
        value => decimal(name, value).map(Some).map_err(|error| malformed(&error.to_string())),
    };
    let positive = |name: &'static str| match number(name)? {
        Some(value) if value <= Decimal::ZERO => {
            Err(malformed(&format!("{name} is {value}, expected more than 0")))
        }
        value => Ok(value),
    };
    let fraction = positive("size_pct")?.ok_or_else(|| malformed("size_pct is missing"))?;
    Ok(IntentKind::Open {
        side,
        size: OpenSize::EquityFraction(fraction),
        leverage: positive("leverage")?.unwrap_or(Decimal::ONE).max(Decimal::ONE),
        stop_loss_pct: positive("stop_loss_pct")?,
        take_profit_pct: positive("take_profit_pct")?,
    })
}

/// Some models wrap their JSON in one pair of fences.
fn without_fences(content: &str) -> &str {
    let trimmed = content.trim();
    let Some(inner) = trimmed.strip_prefix("```") else { return trimmed };
    let inner = inner.strip_prefix("json").unwrap_or(inner);
    inner.strip_suffix("```").unwrap_or(inner).trim()
}

fn malformed(detail: &str) -> ProviderError {
    ProviderError::Malformed(detail.to_owned())
}

/// Text from outside, cut off.
fn bounded(text: &str) -> String {
    storable(&text[..text.floor_char_boundary(LONGEST_RATIONALE)])
}

/// PostgreSQL's text has no NUL.
fn storable(text: &str) -> String {
    text.replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completion(content: &str) -> Value {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "model": "m-1",
            "choices": [{ "index": 0, "finish_reason": "stop",
                          "message": { "role": "assistant", "content": content } }],
            "usage": { "prompt_tokens": 812, "completion_tokens": 64, "total_tokens": 876 },
        })
    }

    fn read(body: &Value) -> Result<Output, ProviderError> {
        read_completion(body, &["BTC".to_owned()]).output
    }

    const LONG: &str = r#"{"action":"open_long","symbol":"BTC","size_pct":0.1,"leverage":3,
        "stop_loss_pct":0.02,"take_profit_pct":null,"confidence":1.7,"rationale":"up"}"#;

    #[test]
    fn a_decision_is_read_with_its_cost() {
        let reply = read_completion(&completion(LONG), &["BTC".to_owned()]);
        assert_eq!((reply.tokens_in, reply.tokens_out), (812, 64));
        assert_eq!(reply.model.as_deref(), Some("m-1"));
        let Ok(Output::Intents(intents)) = reply.output else { panic!("{:?}", reply.output) };
        assert_eq!(intents[0].confidence, Some(1.0));
        assert_eq!(
            intents[0].kind,
            IntentKind::Open {
                side: Side::Long,
                size: OpenSize::EquityFraction(Decimal::new(1, 1)),
                leverage: Decimal::from(3),
                stop_loss_pct: Some(Decimal::new(2, 2)),
                take_profit_pct: None,
            }
        );
        let fenced = read(&completion(&format!("```json\n{LONG}\n```")));
        assert_eq!(fenced.unwrap(), Output::Intents(intents));
        let hold = read(&completion(r#"{"action":"hold","rationale":"calm"}"#));
        assert_eq!(hold.unwrap(), Output::Hold { reason: "calm".into() });
    }

    #[test]
    fn what_is_of_no_use_says_why() {
        let check = |body: &Value, expected: &str| {
            assert_eq!(read(body).unwrap_err().to_string(), expected, "{body}");
        };
        let malformed = |content: &str, expected: &str| {
            let expected = format!("the provider's answer cannot be understood: {expected}");
            check(&completion(content), &expected);
        };
        malformed("buy!", "it is no JSON: expected value at line 1 column 1");
        malformed("[1]", "it is no JSON object");
        malformed(r#"{"action":"moon"}"#, "`moon` is no action");
        malformed(r#"{"action":"close","symbol":"DOGE"}"#, "`DOGE` is no symbol of the strategy");
        malformed(r#"{"action":"open_long","symbol":"BTC"}"#, "size_pct is missing");
        let sized =
            |size: &str| format!(r#"{{"action":"open_long","symbol":"BTC","size_pct":{size}}}"#);
        malformed(&sized("-1"), "size_pct is -1, expected more than 0");
        malformed(&sized("\"NaN\""), "size_pct is `NaN`, expected a number");
        let mut cut = completion(LONG);
        cut["choices"][0]["finish_reason"] = json!("length");
        check(
            &cut,
            "the provider's answer cannot be understood: it was cut off at the longest answer",
        );
        let mut refused = completion(LONG);
        refused["choices"][0]["message"] = json!({ "content": null, "refusal": "I cannot" });
        check(&refused, "the provider refuses: I cannot");
        check(
            &json!({ "choices": [] }),
            "the provider's answer cannot be understood: it has no choices[0].message.content",
        );
    }

    #[test]
    fn no_text_of_an_answer_has_a_nul() {
        let mut body = completion("{\"action\":\"hold\",\"rationale\":\"a\\u0000b\"}\0");
        body["model"] = json!("m\0");
        let reply = read_completion(&body, &["BTC".to_owned()]);
        assert_eq!(reply.model.as_deref(), Some("m "));
        assert!(reply.content.is_some_and(|content| !content.contains('\0')));
        let hold = read(&completion("{\"action\":\"hold\",\"rationale\":\"a\\u0000b\"}"));
        assert_eq!(hold.unwrap(), Output::Hold { reason: "a b".into() });
        let Err(error) = read(&completion("{\"action\":\"\\u0000\"}")) else { panic!() };
        assert!(!error.to_string().contains('\0'), "{error}");
        body["choices"][0]["message"]["refusal"] = json!("no\0");
        assert!(!read(&body).unwrap_err().to_string().contains('\0'));
    }

    #[test]
    fn a_rationale_is_cut_off_between_characters() {
        let long = format!(r#"{{"action":"hold","rationale":"{}"}}"#, "ü".repeat(400));
        let Ok(Output::Hold { reason }) = read(&completion(&long)) else { panic!() };
        assert_eq!(reason.len(), 500);
    }
}
