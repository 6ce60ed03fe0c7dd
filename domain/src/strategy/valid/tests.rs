mod structure;

use serde_json::{Value, json};

use super::*;
use crate::strategy::DEFAULT_GRAPH_JSON;

/// The graph of the reference (domain.md §6.1), with features, logic, sizing and exits.
const FUNDING_FADE: &str = r#"{"schema_version":1,"name":"funding-fade","universe":["BTC","ETH"],"timeframe":"15m","warmup_bars":60,
 "nodes":[
  {"id":"px","type":"input","feature":"price","params":{"field":"close"}},
  {"id":"ema_f","type":"indicator","fn":"ema","inputs":["px"],"params":{"period":12}},
  {"id":"ema_s","type":"indicator","fn":"ema","inputs":["px"],"params":{"period":48}},
  {"id":"rsi","type":"indicator","fn":"rsi","inputs":["px"],"params":{"period":14}},
  {"id":"fund","type":"input","feature":"funding","params":{"agg":"mean","window":"8h"},"max_age":"75m"},
  {"id":"tvl","type":"input","feature":"tvl_change","params":{"chain":"Ethereum","window":"7d"},"max_age":"36h"},
  {"id":"odds","type":"input","feature":"pm_odds","params":{"condition_id":"0x0f49…","outcome":"Yes"},"max_age":"10m"},
  {"id":"c_fund","type":"const","value":"0.00005"},
  {"id":"up","type":"compare","op":"cross_up","inputs":["ema_f","ema_s"]},
  {"id":"dn","type":"compare","op":"cross_down","inputs":["ema_f","ema_s"]},
  {"id":"cheap","type":"compare","op":"lt","inputs":["fund","c_fund"]},
  {"id":"cool","type":"compare","op":"between","inputs":["rsi"],"params":{"lo":"35","hi":"70"}},
  {"id":"go","type":"logic","op":"and","inputs":["up","cheap","cool"]}],
 "actions":[
  {"id":"long","when":"go","do":"open_long","sizing":{"mode":"pct_equity","value":"0.10"},"leverage":"3",
   "stop_loss":{"mode":"pct","value":"0.02"},"take_profit":{"mode":"pct","value":"0.04"},"cooldown":"2h","priority":10},
  {"id":"exit","when":"dn","do":"close","priority":20}],
 "risk":{"max_leverage":"5","max_position_pct":"0.25","max_open_positions":3,"max_daily_loss_pct":"0.03"}}"#;

fn funding_fade() -> Value {
    serde_json::from_str(FUNDING_FADE).expect("JSON")
}

/// The reference graph with the value at `pointer` replaced (or added, or with `Value::Null`
/// removed) is refused with exactly `expected`.
fn check(pointer: &str, value: Value, expected: &str) {
    let mut document = funding_fade();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match document.pointer_mut(parent).expect("a parent") {
        Value::Object(object) if value.is_null() => {
            object.remove(key);
        }
        Value::Object(object) => {
            object.insert(key.to_owned(), value);
        }
        Value::Array(values) if key == "-" => values.push(value),
        Value::Array(values) => values[key.parse::<usize>().expect("an index")] = value,
        other => panic!("{other} has no members"),
    }
    let error = ValidGraph::from_value(&document).expect_err(pointer);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_reference_graph_is_valid_and_fully_read() {
    let graph = ValidGraph::parse(FUNDING_FADE).expect("valid");
    let graph = graph.graph();
    assert_eq!((graph.nodes.len(), graph.actions.len(), graph.warmup_bars), (13, 2, 60));
    assert_eq!(graph.risk.max_daily_loss_pct, Some(0.03));
    let ActionKind::OpenLong(entry) = graph.actions[0].kind else { panic!("opens long") };
    assert_eq!(entry.sizing, Sizing::PctEquity(0.1));
    assert_eq!((entry.leverage, entry.stop_loss, entry.take_profit), (3.0, Some(0.02), Some(0.04)));
    assert_eq!((graph.actions[0].cooldown_ms, graph.actions[0].priority), (7_200_000, 10));
    assert_eq!(graph.actions[1].kind, ActionKind::Close);
}

#[test]
fn keys_are_known_present_and_of_the_right_type() {
    check(
        "/schema_version",
        json!(2),
        "graph: `schema_version` is 2; expected a whole number from 1 to 1",
    );
    check(
        "/schema_version",
        Value::Null,
        "graph: key `schema_version` is missing; expected a whole number from 1 to 1",
    );
    check(
        "/comment",
        json!("x"),
        "graph: key `comment` is unknown; expected only schema_version, name, universe, timeframe, warmup_bars, nodes, actions, risk",
    );
    check(
        "/name",
        json!(""),
        "graph: `name` is \"\"; expected a text of 1 to 200 printable characters",
    );
    check(
        "/name",
        json!("a\u{1b}[2J"),
        "graph: `name` is \"a\\u{1b}[2J\"; expected a text of 1 to 200 printable characters",
    );
    check(
        "/universe",
        json!([]),
        "graph: `universe` is a list; expected a list of at least one symbol",
    );
    check(
        "/universe",
        json!([7]),
        "graph: `universe` is 7; expected a list of texts of 1 to 64 printable characters",
    );
    check(
        "/timeframe",
        json!("2h"),
        "graph: `timeframe` is \"2h\"; expected one of 1m, 5m, 15m, 1h, 4h, 1d",
    );
    check(
        "/warmup_bars",
        json!(-1),
        "graph: `warmup_bars` is -1; expected a whole number from 0 to 10000",
    );
    check("/nodes", json!({}), "graph: `nodes` is an object; expected a list");
    check("/nodes", json!([]), "graph: `nodes` is a list of 0; expected 1 to 128 nodes");
    check("/actions", json!([]), "graph: `actions` is a list of 0; expected 1 to 32 actions");
    check("/nodes/0", json!("px"), "node `#0`: `value` is \"px\"; expected an object");
    check(
        "/nodes/0/id",
        json!("p x"),
        "node `#0`: `id` is \"p x\"; expected an id of 1 to 64 letters, digits, `_`, `-` or `.`",
    );
    check(
        "/nodes/0/max_agee",
        json!("1h"),
        "node `px`: key `max_agee` is unknown; expected only id, type, feature, params, max_age",
    );
    check(
        "/nodes/0/params/fields",
        json!("close"),
        "node `px`: key `params.fields` is unknown; expected only field",
    );
    check(
        "/nodes/1/params/window",
        json!(3),
        "node `ema_f`: key `params.window` is unknown; expected only period",
    );
    check(
        "/nodes/8/params",
        json!({}),
        "node `up`: key `params` is unknown; expected only id, type, op, inputs",
    );
    check(
        "/actions/1/sizing",
        json!({}),
        "action `exit`: key `sizing` is unknown; expected only id, when, do, cooldown, priority",
    );
    check(
        "/risk/max_gain",
        json!("1"),
        "risk: key `risk.max_gain` is unknown; expected only max_leverage, max_position_pct, max_open_positions, max_daily_loss_pct",
    );
}

#[test]
fn names_are_those_of_the_schema() {
    check(
        "/nodes/0/type",
        json!("inptu"),
        "node `px`: `type` is \"inptu\"; expected one of input, indicator, const, math, compare, logic",
    );
    check(
        "/nodes/0/feature",
        json!("prise"),
        "node `px`: `feature` is \"prise\"; expected one of price, volume, mark, oracle, mid, spread, funding, open_interest, premium, tvl, tvl_change, stablecoin_supply_change, dex_volume_change, pool_apy, pm_odds, position_side, position_pnl_pct, equity_drawdown",
    );
    check(
        "/nodes/0/params/field",
        json!("vwap"),
        "node `px`: `params.field` is \"vwap\"; expected one of open, high, low, close",
    );
    check(
        "/nodes/1/fn",
        json!("wma"),
        "node `ema_f`: `fn` is \"wma\"; expected one of sma, ema, rsi, atr, roc, macd, bb_pos, zscore, highest, lowest",
    );
    check(
        "/nodes/8/op",
        json!("eq"),
        "node `up`: `op` is \"eq\"; expected one of gt, gte, lt, lte, between, cross_up, cross_down",
    );
    check(
        "/nodes/12/op",
        json!("nand"),
        "node `go`: `op` is \"nand\"; expected one of and, or, not, xor, hold_for",
    );
    check(
        "/actions/1/do",
        json!("sell"),
        "action `exit`: `do` is \"sell\"; expected one of open_long, open_short, close",
    );
    check(
        "/actions/0/sizing/mode",
        json!("all_in"),
        "action `long`: `sizing.mode` is \"all_in\"; expected one of pct_equity, fixed_notional, risk_pct, vol_target, units",
    );
    check(
        "/actions/0/stop_loss/mode",
        json!("atr"),
        "action `long`: `stop_loss.mode` is \"atr\"; expected one of pct",
    );
    check(
        "/nodes/4/params/agg",
        json!("median"),
        "node `fund`: `params.agg` is \"median\"; expected one of mean, sum, last, min, max",
    );
}

#[test]
fn numbers_are_within_their_ranges() {
    for bad in [json!(0), json!(1001), json!(-3), json!(12.5), json!("12"), json!(1e3)] {
        let found = if bad.is_string() { "\"12\"".to_owned() } else { bad.to_string() };
        check(
            "/nodes/1/params/period",
            bad,
            &format!(
                "node `ema_f`: `params.period` is {found}; expected a whole number from 1 to 1000"
            ),
        );
    }
    check(
        "/nodes/1/params",
        Value::Null,
        "node `ema_f`: key `params` is missing; expected an object",
    );
    for bad in ["NaN", "inf", "-Infinity", "1e999", "0,5", ""] {
        check(
            "/nodes/7/value",
            json!(bad),
            &format!(
                "node `c_fund`: `value` is \"{bad}\"; expected a decimal in a string, such as \"0.25\""
            ),
        );
    }
    check(
        "/nodes/7/value",
        json!(0.5),
        "node `c_fund`: `value` is 0.5; expected a decimal in a string, such as \"0.25\"",
    );
    check(
        "/nodes/11/params/hi",
        json!("34.9"),
        "node `cool`: `params.hi` is \"34.9\"; expected a decimal not below `params.lo`",
    );
    check(
        "/nodes/4/max_age",
        json!("75"),
        "node `fund`: `max_age` is \"75\"; expected a duration such as \"90s\", \"75m\", \"8h\" or \"7d\", above 0 and at most 3650 days",
    );
    for bad in ["0", "-0.1", "100.5"] {
        check(
            "/actions/0/sizing/value",
            json!(bad),
            &format!(
                "action `long`: `sizing.value` is \"{bad}\"; expected a decimal in a string, above 0 and at most 100"
            ),
        );
    }
    check(
        "/actions/0/sizing",
        Value::Null,
        "action `long`: key `sizing` is missing; expected an object",
    );
    check(
        "/actions/0/stop_loss/value",
        json!("1"),
        "action `long`: `stop_loss.value` is \"1\"; expected a decimal in a string, above 0 and below 1",
    );
    check(
        "/actions/0/take_profit/value",
        json!("0"),
        "action `long`: `take_profit.value` is \"0\"; expected a decimal in a string, above 0 and below 1",
    );
    check(
        "/actions/0/leverage",
        json!("0.5"),
        "action `long`: `leverage` is \"0.5\"; expected a decimal in a string, from 1 to 100",
    );
    check(
        "/actions/0/cooldown",
        json!("soon"),
        "action `long`: `cooldown` is \"soon\"; expected a duration such as \"90s\", \"75m\", \"8h\" or \"7d\", above 0 and at most 3650 days",
    );
    check(
        "/actions/0/priority",
        json!(1001),
        "action `long`: `priority` is 1001; expected a whole number from -1000 to 1000",
    );
    check(
        "/risk/max_leverage",
        json!("0"),
        "risk: `risk.max_leverage` is \"0\"; expected a decimal in a string, from 1 to 100",
    );
    check(
        "/risk/max_open_positions",
        json!(0),
        "risk: `risk.max_open_positions` is 0; expected a whole number from 1 to 100",
    );
}

#[test]
fn text_that_is_no_document_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = ValidGraph::parse(text).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check("", "graph: not valid JSON: EOF");
    check("[]", "graph: `value` is a list; expected an object");
    check(
        "{\"name\":\"a\",\"name\":\"b\"}",
        "graph: not valid JSON: key \"name\" stands here twice",
    );
    check(
        &" ".repeat(300_000),
        "graph: `document` is 300000 bytes long; expected at most 262144 bytes",
    );
}

#[test]
fn the_hash_depends_on_the_document_and_not_on_its_layout() {
    let graph = ValidGraph::parse(DEFAULT_GRAPH_JSON).expect("valid");
    // Computed apart from this code: Python's json.dumps(sort_keys=True, separators=(",", ":"))
    // and hashlib.sha256.
    assert_eq!(graph.hash(), "5f1b0f84d320dca0438be0641a797bee16c1fc20df313ee1b0231c67acf0b426");

    let reversed = reverse_keys(&serde_json::from_str(DEFAULT_GRAPH_JSON).expect("JSON"));
    assert_ne!(reversed, DEFAULT_GRAPH_JSON);
    let reversed = ValidGraph::parse(&reversed).expect("valid");
    assert_eq!(reversed, graph);
    assert_eq!(ValidGraph::parse(graph.canonical_json()).expect("valid"), graph);

    let other = DEFAULT_GRAPH_JSON.replace("\"value\": \"0.25\"", "\"value\": \"0.26\"");
    assert_ne!(ValidGraph::parse(&other).expect("valid").hash(), graph.hash());
}

/// JSON text with keys in descending order and generous whitespace.
fn reverse_keys(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_unstable_by(|left, right| right.cmp(left));
            let entries: Vec<String> = keys
                .iter()
                .map(|key| format!("\n\t\"{key}\" : {}", reverse_keys(&object[*key])))
                .collect();
            format!("{{{} }}", entries.join(" , "))
        }
        Value::Array(values) => {
            format!("[ {} ]", values.iter().map(reverse_keys).collect::<Vec<_>>().join(" , "))
        }
        scalar => scalar.to_string(),
    }
}
