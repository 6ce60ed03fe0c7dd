use serde_json::{Value, json};

use super::*;
use crate::strategy::graph::{Feature, PriceField};

/// Inputs of one bar: open, high, low, close. `None` is a stale datum.
struct Bar([Option<f64>; 4]);

impl InputSource for Bar {
    fn read(&self, input: &Input) -> Reading<f64> {
        let place = match input.feature {
            Feature::Price(PriceField::Open) => 0,
            Feature::Price(PriceField::High) => 1,
            Feature::Price(PriceField::Low) => 2,
            Feature::Price(PriceField::Close) => 3,
            _ => return Reading::Unknown(Unknown::NoHistory),
        };
        self.0[place].map_or(Reading::Unknown(Unknown::Stale), Reading::number)
    }
}

/// A graph of the inputs `a` (open) and `b` (close), `extra` nodes, and one action on `when`.
fn evaluator(extra: Value, when: &str) -> Evaluator {
    let mut nodes = vec![
        json!({"id":"a","type":"input","feature":"price","params":{"field":"open"}}),
        json!({"id":"b","type":"input","feature":"price","params":{"field":"close"}}),
        json!({"id":"two","type":"const","value":"2"}),
    ];
    nodes.extend(extra.as_array().expect("a list").iter().cloned());
    let graph = json!({
        "schema_version":1,"name":"t","universe":["X"],"timeframe":"1d","nodes":nodes,
        "actions":[{"id":"go","when":when,"do":"close"}],
    });
    Evaluator::new(&ValidGraph::from_value(&graph).expect("a valid graph"))
}

/// The condition on each bar of `a` and `b`: `1` true, `0` false, `?` unknown.
fn conditions(mut evaluator: Evaluator, a: &[Option<f64>], b: &[Option<f64>]) -> String {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| {
            evaluator.step(&Bar([a, a, b, b]));
            match evaluator.condition(0) {
                Reading::Known(true) => '1',
                Reading::Known(false) => '0',
                Reading::Unknown(_) => '?',
            }
        })
        .collect()
}

fn series(text: &str) -> Vec<Option<f64>> {
    text.split(' ').map(|word| word.parse().ok()).collect()
}

#[test]
fn comparisons_follow_their_definitions_bar_by_bar() {
    let check = |op: &str, a: &str, b: &str, expected: &str| {
        let node = json!([{"id":"c","type":"compare","op":op,"inputs":["a","b"]}]);
        assert_eq!(conditions(evaluator(node, "c"), &series(a), &series(b)), expected, "{op}");
    };
    check("gt", "1 2 3 ?", "2 2 2 2", "001?");
    check("gte", "1 2 3 3", "2 2 2 ?", "011?");
    check("lt", "1 2 3 ?", "2 2 2 2", "100?");
    check("lte", "1 2 3 ?", "2 2 2 2", "110?");
    // Up: a[t-1] <= b[t-1] and a[t] > b[t]; a touch is not yet a crossing.
    check("cross_up", "1 2 3 4 2 3", "2 2 2 2 2 2", "?01001");
    check("cross_down", "3 2 1 0 2 1", "2 2 2 2 2 2", "?01001");
    check("cross_up", "1 ? 3 1 3", "2 2 2 2 2", "???01");
    check("cross_up", "1 1 1", "0 2 0", "?01");
}

#[test]
fn between_includes_both_ends() {
    let node = json!([
        {"id":"c","type":"compare","op":"between","inputs":["a"],"params":{"lo":"-1","hi":"2.5"}}
    ]);
    let a = series("-1.1 -1 0 2.5 2.6 ?");
    assert_eq!(conditions(evaluator(node, "c"), &a, &a), "01110?");
}

#[test]
fn math_follows_its_definitions() {
    let check = |op: &str, inputs: &[&str], expected: &str| {
        let node = json!([
            {"id":"m","type":"math","op":op,"inputs":inputs},
            {"id":"c","type":"compare","op":"gt","inputs":["m","two"]},
        ]);
        let (a, b) = (series("1 -3 6 ? 1e308"), series("2 1 2 2 0"));
        assert_eq!(conditions(evaluator(node, "c"), &a, &b), expected, "{op}");
    };
    check("add", &["a", "b"], "101?1");
    check("sub", &["a", "b"], "001?1");
    check("mul", &["a", "b", "two"], "101?0");
    check("div", &["a", "b"], "001??");
    check("abs", &["a"], "011?1");
    check("min", &["a", "b"], "000?0");
    check("max", &["a", "b", "two"], "001?1");
    // Too large for a number is unknown, not infinity.
    check("mul", &["a", "a", "two"], "011??");
}

#[test]
fn logic_nodes_use_kleene_s_tables() {
    let check = |op: &str, inputs: &[&str], expected: &str| {
        let nodes = json!([
            {"id":"p","type":"compare","op":"gt","inputs":["a","two"]},
            {"id":"q","type":"compare","op":"gt","inputs":["b","two"]},
            {"id":"l","type":"logic","op":op,"inputs":inputs},
        ]);
        let (a, b) = (series("3 3 3 1 1 1 ? ? ?"), series("3 1 ? 3 1 ? 3 1 ?"));
        assert_eq!(conditions(evaluator(nodes, "l"), &a, &b), expected, "{op}");
    };
    check("and", &["p", "q"], "10?000?0?");
    check("or", &["p", "q"], "11110?1??");
    check("xor", &["p", "q"], "01?10????");
    check("not", &["p"], "000111???");
    check("and", &["p", "q", "p", "q"], "10?000?0?");
}

#[test]
fn hold_for_is_the_conjunction_of_the_last_bars() {
    let check = |bars: u16, a: &str, expected: &str| {
        let nodes = json!([
            {"id":"p","type":"compare","op":"gt","inputs":["a","two"]},
            {"id":"h","type":"logic","op":"hold_for","inputs":["p"],"params":{"bars":bars}},
        ]);
        let a = series(a);
        assert_eq!(conditions(evaluator(nodes, "h"), &a, &a), expected, "{bars}: {a:?}");
    };
    check(1, "3 1 ? 3", "10?1");
    check(3, "3 3 3 3 1 3 3 3", "??110001");
    check(3, "1 3 3 3", "0001");
    check(3, "3 3 3 ? 3 3 3", "??1???1");
    // A false bar inside the window decides, whatever is unknown beside it.
    check(3, "1 ? 3 3 3", "000?1");
}

#[test]
fn nodes_are_evaluated_after_their_inputs_whatever_the_order_of_the_document() {
    let nodes = json!([
        {"id":"c","type":"compare","op":"gt","inputs":["later","two"]},
        {"id":"later","type":"math","op":"add","inputs":["a","two"]},
    ]);
    let a = series("0 1");
    assert_eq!(conditions(evaluator(nodes, "c"), &a, &a), "01");
}

#[test]
fn average_true_range_takes_high_low_and_close() {
    let nodes = json!([
        {"id":"high","type":"input","feature":"price","params":{"field":"high"}},
        {"id":"low","type":"input","feature":"price","params":{"field":"low"}},
        {"id":"atr","type":"indicator","fn":"atr","inputs":["high","low","b"],"params":{"period":1}},
        {"id":"c","type":"compare","op":"gte","inputs":["atr","two"]},
    ]);
    // High is `a`, low and close are `b`: the ranges are 1, 3 (from the last close), 2.
    assert_eq!(conditions(evaluator(nodes, "c"), &series("2 4 4"), &series("1 3 2")), "?11");
}

#[test]
fn unknown_inputs_are_counted_by_feature() {
    let nodes = json!([
        {"id":"f","type":"input","feature":"funding"},
        {"id":"g","type":"input","feature":"funding","params":{"agg":"mean","window":"8h"}},
        {"id":"m","type":"input","feature":"mark"},
        {"id":"c","type":"compare","op":"gt","inputs":["f","g"]},
    ]);
    let mut evaluator = evaluator(nodes, "c");
    for _ in 0..5 {
        evaluator.step(&Bar([Some(1.0); 4]));
        assert_eq!(evaluator.condition(0), Reading::Unknown(Unknown::NoHistory));
    }
    assert_eq!(evaluator.unknown_inputs(), BTreeMap::from([("funding", 10), ("mark", 5)]));
}
