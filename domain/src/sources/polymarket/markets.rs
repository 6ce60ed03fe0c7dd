//! Markets of the catalogue.

use rust_decimal::Decimal;
use serde_json::Value;

use crate::ingestion::{Reject, decimal, instant, name, prose, statistic};
use crate::market::{PredictionMarket, Resolution};

/// What is kept of a question, in bytes.
const LONGEST_QUESTION: usize = 500;
/// How far the prices of two outcomes may be from 1 together.
const SLACK: Decimal = Decimal::from_parts(2, 0, 0, false, 2);

const ABSENT: Value = Value::Null;

pub(super) fn field<'v>(row: &'v Value, name: &str) -> &'v Value {
    row.get(name).unwrap_or(&ABSENT)
}

/// A market of the catalogue. One without books yet has no tokens.
pub(super) fn market(row: &Value) -> Result<PredictionMarket, Reject> {
    let condition_id = name("conditionId", field(row, "conditionId"))?;
    let is = |name| field(row, name).as_bool() == Some(true);
    let outcomes = texts("outcomes", field(row, "outcomes"))?;
    let tokens = texts("clobTokenIds", field(row, "clobTokenIds"))?;
    check_prices(field(row, "outcomePrices"), outcomes.len())?;
    if !tokens.is_empty() && tokens.len() != outcomes.len() {
        let (tokens, outcomes) = (tokens.len(), outcomes.len());
        return Err(mismatch(format!("{outcomes} outcomes and {tokens} tokens")));
    }
    let end_at_ms = match field(row, "endDate").as_str().filter(|text| !text.is_empty()) {
        Some(text) => Some(instant("endDate", text)?),
        None => None,
    };
    Ok(PredictionMarket {
        question: prose(field(row, "question"), LONGEST_QUESTION),
        slug: prose(field(row, "slug"), LONGEST_QUESTION),
        end_at_ms,
        tradable: is("active")
            && !is("closed")
            && !is("archived")
            && is("acceptingOrders")
            && is("enableOrderBook"),
        volume_24h: statistic("volume24hr", field(row, "volume24hr")).ok(),
        tokens: tokens.into_iter().zip(outcomes).collect(),
        condition_id,
    })
}

/// The prices of a market stand by outcome, between 0 and 1, and those of two are 1 together.
fn check_prices(found: &Value, outcomes: usize) -> Result<(), Reject> {
    let prices = texts("outcomePrices", found)?;
    if prices.is_empty() {
        return Ok(());
    }
    if prices.len() != outcomes {
        return Err(mismatch(format!("{outcomes} outcomes and {} prices", prices.len())));
    }
    let prices = prices
        .into_iter()
        .map(|price| Ok(decimal("outcomePrices", &Value::String(price))?))
        .collect::<Result<Vec<Decimal>, Reject>>()?;
    if let Some(strange) =
        prices.iter().find(|price| !(Decimal::ZERO..=Decimal::ONE).contains(price))
    {
        return Err(Reject::new("out_of_range", format!("a price is {strange}")));
    }
    let sum: Decimal = prices.iter().sum();
    // Markets of the past have zeros.
    if prices.len() == 2 && !sum.is_zero() && (sum - Decimal::ONE).abs() > SLACK {
        return Err(Reject::new("out_of_range", format!("two prices are {sum} together")));
    }
    Ok(())
}

/// A list, or a list as JSON inside of a text; nothing and `""` are an empty one.
fn texts(field: &'static str, found: &Value) -> Result<Vec<String>, Reject> {
    let bad = |detail: &str| Reject::new("bad_list", format!("{field} {detail}"));
    let read;
    let list = match found {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Value::String(text) => {
            read = serde_json::from_str::<Value>(text).map_err(|_| bad("is no JSON"))?;
            &read
        }
        other => other,
    };
    let list = list.as_array().ok_or_else(|| bad("is no list"))?;
    list.iter().map(|text| name(field, text)).collect()
}

fn mismatch(detail: String) -> Reject {
    Reject::new("lengths_differ", detail)
}

/// How a market was answered, as the order books' host says; `None` while it is not.
pub(super) fn resolution(row: &Value, now_ms: i64) -> Result<Option<Resolution>, Reject> {
    let condition_id = name("condition_id", field(row, "condition_id"))?;
    let tokens = field(row, "tokens").as_array().map(Vec::as_slice).unwrap_or_default();
    let winners: Vec<&Value> =
        tokens.iter().filter(|token| field(token, "winner").as_bool() == Some(true)).collect();
    match winners.as_slice() {
        [] => Ok(None),
        [winner] => {
            let winning_outcome = name("outcome", field(winner, "outcome"))?;
            Ok(Some(Resolution { condition_id, winning_outcome, resolved_at_ms: now_ms }))
        }
        several => Err(Reject::new("several_winners", format!("{} tokens win", several.len()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn newsom() -> Value {
        json!({"id":"559652","question":"Will Gavin Newsom win?\u{0}","conditionId":"0x0f49","slug":"will-gavin",
            "endDate":"2028-11-07T00:00:00Z","outcomes":"[\"Yes\", \"No\"]","outcomePrices":"[\"0.2325\", \"0.7675\"]",
            "clobTokenIds":"[\"5453\", \"8785\"]","active":true,"closed":false,"archived":false,
            "acceptingOrders":true,"enableOrderBook":true,"volume24hr":9066.5,"new":{}})
    }

    #[test]
    fn a_market_is_read_with_its_tokens_by_outcome() {
        let market = market(&newsom()).unwrap();
        assert_eq!(market.tokens, [("5453".into(), "Yes".into()), ("8785".into(), "No".into())]);
        assert_eq!((market.tradable, market.end_at_ms), (true, Some(1_857_168_000_000)));
        assert_eq!(
            (market.question.as_str(), market.volume_24h),
            ("Will Gavin Newsom win?", Some(9066.5))
        );
    }

    #[test]
    fn fields_drift_and_may_be_missing() {
        let check = |name: &str, value: Value, expected: Result<usize, &str>| {
            let mut row = newsom();
            row[name] = value.clone();
            let found = market(&row).map(|market| market.tokens.len());
            assert_eq!(found.map_err(|reject| reject.reason), expected, "{name} {value}");
        };
        check("clobTokenIds", json!(""), Ok(0));
        check("clobTokenIds", json!("[]"), Ok(0));
        check("clobTokenIds", json!(null), Ok(0));
        check("clobTokenIds", json!(["5453", "8785"]), Ok(2));
        check("clobTokenIds", json!("[\"1\"]"), Err("lengths_differ"));
        check("clobTokenIds", json!("[\"1\""), Err("bad_list"));
        check("outcomes", json!("[\"Yes\"]"), Err("lengths_differ"));
        check("outcomePrices", json!("[\"0.5\"]"), Err("lengths_differ"));
        check("outcomePrices", json!("[\"0\", \"0\"]"), Ok(2));
        check("outcomePrices", json!("[\"0.5\", \"0.6\"]"), Err("out_of_range"));
        check("outcomePrices", json!("[\"1.5\", \"-0.5\"]"), Err("out_of_range"));
        check("outcomePrices", json!("[\"NaN\", \"1\"]"), Err("not_a_number"));
        check("volume24hr", json!("12"), Ok(2));
        check("endDate", json!("soon"), Err("bad_time"));
        check("endDate", json!(null), Ok(2));
        check("conditionId", json!(null), Err("missing_text"));
    }

    #[test]
    fn a_market_is_tradable_when_orders_are_taken() {
        for (name, value) in [
            ("active", json!(false)),
            ("closed", json!(true)),
            ("acceptingOrders", json!(null)),
            ("enableOrderBook", json!("yes")),
        ] {
            let mut row = newsom();
            row[name] = value;
            assert!(!market(&row).unwrap().tradable, "{name}");
        }
    }

    #[test]
    fn an_answer_has_one_winner() {
        let answer = |winners: [bool; 2]| {
            json!({"condition_id":"0x1","closed":true,"tokens":[
                {"token_id":"1","outcome":"Yes","price":1,"winner":winners[0]},
                {"token_id":"2","outcome":"No","price":0,"winner":winners[1]}]})
        };
        let found = |winners| resolution(&answer(winners), 7);
        assert_eq!(found([false, false]), Ok(None));
        assert_eq!(found([false, true]).unwrap().unwrap().winning_outcome, "No");
        assert_eq!(found([true, true]).unwrap_err().reason, "several_winners");
    }
}
