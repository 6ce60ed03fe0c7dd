//! Rows as DefiLlama writes them. Times are epoch milliseconds; `at_ms` is the time that a row is
//! dated to where the source gives none.

use serde_json::Value;

use super::features;
use crate::ingestion::{Reject, name, not_in_the_future, statistic, whole};
use crate::market::{Interval, Statistic, start_of};

/// A date of the source may be this much ahead of us.
const AHEAD_MS: i64 = 60_000;
/// Pools below this value are passed over, USD.
const SMALLEST_POOL: f64 = 1_000_000.0;
/// Yields above this are mistakes or traps, percent.
const HIGHEST_APY: f64 = 10_000.0;
/// Protocols below this value are passed over, USD.
const SMALLEST_PROTOCOL: f64 = 10_000_000.0;
/// Prices that the source trusts less are refused.
const LEAST_CONFIDENCE: f64 = 0.9;

const ABSENT: Value = Value::Null;

pub(super) fn field<'v>(row: &'v Value, name: &str) -> &'v Value {
    row.get(name).unwrap_or(&ABSENT)
}

/// What a row says: none, one or several statistics.
pub(super) type Said = Vec<Statistic>;

fn value(feature: &'static str, subject: String, at_ms: i64, value: f64) -> Statistic {
    Statistic { feature, subject, at_ms, value }
}

/// Value locked: never below zero.
fn locked(field_name: &'static str, found: &Value) -> Result<f64, Reject> {
    let value = statistic(field_name, found)?;
    if value >= 0.0 {
        return Ok(value);
    }
    Err(Reject::new("negative", format!("{field_name} is {value}")))
}

pub(super) fn chain(row: &Value, at_ms: i64) -> Result<Said, Reject> {
    let subject = name("name", field(row, "name"))?;
    Ok(vec![value(features::CHAIN_TVL, subject, at_ms, locked("tvl", field(row, "tvl"))?)])
}

pub(super) fn chain_day(chain: &str, row: &Value, now_ms: i64) -> Result<Said, Reject> {
    let at_ms = seconds("date", field(row, "date"), now_ms)?;
    let tvl = locked("tvl", field(row, "tvl"))?;
    // The day under way is told by the hour.
    if at_ms == start_of(now_ms, Interval::D1) {
        return Ok(Vec::new());
    }
    Ok(vec![value(features::CHAIN_TVL, chain.to_owned(), at_ms, tvl)])
}

pub(super) fn protocol(row: &Value, at_ms: i64) -> Result<Said, Reject> {
    // Nobody measures it: not wrong.
    if field(row, "tvl").is_null() {
        return Ok(Vec::new());
    }
    let tvl = locked("tvl", field(row, "tvl"))?;
    if tvl < SMALLEST_PROTOCOL {
        return Ok(Vec::new());
    }
    Ok(vec![value(features::PROTOCOL_TVL, name("slug", field(row, "slug"))?, at_ms, tvl)])
}

pub(super) fn stablecoin(row: &Value, at_ms: i64) -> Result<Said, Reject> {
    let id = name("id", field(row, "id"))?;
    let subject = format!("{}-{id}", name("symbol", field(row, "symbol"))?);
    let circulating = match field(row, "circulating") {
        // By peg; the asset has one.
        Value::Object(by_peg) => {
            let of_its_peg = field(row, "pegType").as_str().and_then(|peg| by_peg.get(peg));
            locked("circulating", of_its_peg.or_else(|| by_peg.values().next()).unwrap_or(&ABSENT))?
        }
        // The number 0 stands for no record.
        _ => return Err(Reject::new("missing_number", "circulating is no object")),
    };
    let mut said =
        vec![value(features::STABLECOIN_CIRCULATING, subject.clone(), at_ms, circulating)];
    if let Ok(price) = statistic("price", field(row, "price"))
        && price > 0.0
    {
        said.push(value(features::STABLECOIN_PRICE, subject, at_ms, price));
    }
    Ok(said)
}

pub(super) fn pool(row: &Value, at_ms: i64) -> Result<Said, Reject> {
    let tvl = locked("tvlUsd", field(row, "tvlUsd"))?;
    if tvl < SMALLEST_POOL || field(row, "outlier").as_bool() == Some(true) {
        return Ok(Vec::new());
    }
    let subject = name("pool", field(row, "pool"))?;
    let mut said = vec![value(features::POOL_TVL, subject.clone(), at_ms, tvl)];
    match statistic("apy", field(row, "apy")) {
        Ok(apy) if apy.abs() <= HIGHEST_APY => {
            said.push(value(features::POOL_APY, subject, at_ms, apy));
        }
        Ok(apy) => return Err(Reject::new("out_of_range", format!("apy is {apy}"))),
        // No yield is known.
        Err(_) => {}
    }
    Ok(said)
}

pub(super) fn exchange(row: &Value, at_ms: i64) -> Result<Said, Reject> {
    if field(row, "disabled").as_bool() == Some(true) || field(row, "total24h").is_null() {
        return Ok(Vec::new());
    }
    let module = field(row, "module");
    let subject = name("module", if module.is_null() { field(row, "name") } else { module })?;
    Ok(vec![value(
        features::EXCHANGE_VOLUME,
        subject,
        at_ms,
        locked("total24h", field(row, "total24h"))?,
    )])
}

/// What was traded in all, of a chain or of every one.
pub(super) fn volume(subject: &str, overview: &Value, at_ms: i64) -> Result<Statistic, Reject> {
    let total = locked("total24h", field(overview, "total24h"))?;
    Ok(value(features::DEX_VOLUME, subject.to_owned(), at_ms, total))
}

/// The stablecoins that are pegged to the dollar, together; `None` when there is none.
pub(super) fn supply(coins: &[Value], at_ms: i64) -> Option<Statistic> {
    let dollars = coins.iter().filter_map(|coin| {
        let circulating = field(coin, "circulating").get("peggedUSD")?;
        locked("circulating", circulating).ok()
    });
    let sum: f64 = dollars.sum();
    (sum > 0.0).then(|| value(features::STABLECOIN_SUPPLY, "all".to_owned(), at_ms, sum))
}

pub(super) fn price(key: &str, row: &Value, now_ms: i64) -> Result<Said, Reject> {
    let subject = name("key", &Value::String(key.to_owned()))?;
    let price = statistic("price", field(row, "price"))?;
    if price <= 0.0 {
        return Err(Reject::new("not_positive", format!("price of {subject} is {price}")));
    }
    let confidence = statistic("confidence", field(row, "confidence")).unwrap_or(1.0);
    if confidence < LEAST_CONFIDENCE {
        return Err(Reject::new("low_confidence", format!("{subject}: {confidence}")));
    }
    let at_ms = seconds("timestamp", field(row, "timestamp"), now_ms)?;
    Ok(vec![value(features::PRICE, subject, at_ms, price)])
}

/// Seconds since the epoch, as a number or as text.
fn seconds(field_name: &'static str, found: &Value, now_ms: i64) -> Result<i64, Reject> {
    let seconds = whole(field_name, found)?;
    let in_range = (0..=253_402_300_799).contains(&seconds);
    let at_ms = in_range.then(|| seconds * 1_000);
    let at_ms =
        at_ms.ok_or_else(|| Reject::new("bad_time", format!("{field_name} is {seconds}")))?;
    not_in_the_future(at_ms, now_ms, AHEAD_MS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_704_744_400_000;

    #[track_caller]
    fn says(said: Result<Said, Reject>, expected: &[(&str, &str, i64, f64)]) {
        let said = said.unwrap();
        let said: Vec<_> = said
            .iter()
            .map(|one| (one.feature, one.subject.as_str(), one.at_ms, one.value))
            .collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn rows_of_each_answer_are_read() {
        let harmony = json!({"gecko_id":"harmony","tvl":4205486.363487561,"tokenSymbol":"ONE","cmcId":"3945",
            "name":"Harmony","chainId":1666600000});
        says(chain(&harmony, 7), &[("chain_tvl_usd", "Harmony", 7, 4205486.363487561)]);
        for date in [json!(1530230400), json!("1530230400")] {
            let day = json!({"date": date, "tvl": "20541.94"});
            let expected = ("chain_tvl_usd", "Ethereum", 1_530_230_400_000, 20541.94);
            says(chain_day("Ethereum", &day, NOW), &[expected]);
        }
        let lido = json!({"slug":"lido","tvl":2e10,"mcap":null,"change_1h":null});
        says(protocol(&lido, 7), &[("protocol_tvl_usd", "lido", 7, 2e10)]);
        says(protocol(&json!({"slug":"tiny","tvl":null}), 7), &[]);
        let tether = json!({"id":"1","symbol":"USDT","pegType":"peggedUSD","circulatingPrevMonth":0,
            "circulating":{"peggedUSD":159510682147.76874},"price":1.001});
        says(
            stablecoin(&tether, 7),
            &[
                ("stablecoin_circulating", "USDT-1", 7, 159510682147.76874),
                ("stablecoin_price_usd", "USDT-1", 7, 1.001),
            ],
        );
        let steth =
            json!({"pool":"747c","tvlUsd":20602827600_i64,"apy":3.1,"outlier":false,"il7d":null});
        says(
            pool(&steth, 7),
            &[("pool_tvl_usd", "747c", 7, 20602827600.0), ("pool_apy", "747c", 7, 3.1)],
        );
        let osmosis =
            json!({"module":"osmosis","name":"Osmosis DEX","total24h":37482383.2,"disabled":false});
        says(exchange(&osmosis, 7), &[("exchange_volume_usd", "osmosis", 7, 37482383.2)]);
        let uni = json!({"decimals":18,"symbol":"UNI","price":6.24,"timestamp":1704744330,"confidence":0.99});
        says(
            price("ethereum:0x1f", &uni, NOW),
            &[("price_usd", "ethereum:0x1f", 1_704_744_330_000, 6.24)],
        );
    }

    #[test]
    fn the_day_under_way_is_no_history_and_dollars_are_summed() {
        let today = json!({"date": NOW / 86_400_000 * 86_400, "tvl": 1});
        says(chain_day("Ethereum", &today, NOW), &[]);
        let coins = [
            json!({"circulating":{"peggedUSD":2.5}}),
            json!({"circulating":{"peggedEUR":100}}),
            json!({"circulating":0}),
            json!({"circulating":{"peggedUSD":"1.5"}}),
        ];
        let sum = supply(&coins, 7).unwrap();
        assert_eq!(
            (sum.feature, sum.subject.as_str(), sum.value),
            ("stablecoin_supply_usd", "all", 4.0)
        );
        assert_eq!(supply(&coins[1..3], 7), None);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let refused = |said: Result<Said, Reject>, reason: &str| {
            assert_eq!(said.unwrap_err().reason, reason);
        };
        refused(chain(&json!({"name":"X","tvl":null}), 0), "missing_number");
        refused(chain(&json!({"name":null,"tvl":1}), 0), "missing_text");
        refused(chain(&json!({"name":"X","tvl":-1}), 0), "negative");
        refused(chain(&json!({"name":"X","tvl":"NaN"}), 0), "not_a_number");
        refused(stablecoin(&json!({"id":1,"symbol":"U","circulating":0}), 0), "missing_number");
        refused(pool(&json!({"pool":"p","tvlUsd":2e6,"apy":444718}), 0), "out_of_range");
        let priced = |confidence: f64, timestamp: i64, price: f64| json!({"price":price,"timestamp":timestamp,"confidence":confidence});
        refused(price("k", &priced(0.5, 1, 1.0), NOW), "low_confidence");
        refused(price("k", &priced(1.0, NOW / 1_000 + 61, 1.0), NOW), "from_the_future");
        refused(price("k", &priced(1.0, i64::MAX, 1.0), NOW), "bad_time");
        refused(price("k", &priced(1.0, 1, 0.0), NOW), "not_positive");
        refused(price("k", &json!("x"), NOW), "missing_number");
    }
}
