//! How the parts of a graph fit together.

use serde_json::{Value, json};

use super::{check, funding_fade};
use crate::strategy::ValidGraph;

#[test]
fn the_parts_fit_together() {
    check(
        "/nodes/2/id",
        json!("ema_f"),
        "node `ema_f`: the id is used by two nodes; expected unique ids",
    );
    check(
        "/actions/1/id",
        json!("long"),
        "action `long`: the id is used by two actions; expected unique ids",
    );
    check(
        "/nodes/8/inputs/1",
        json!("ema_x"),
        "node `up`: `inputs` names `ema_x`, which is no node; expected the id of a node",
    );
    check(
        "/actions/0/when",
        json!("gone"),
        "action `long`: `when` names `gone`, which is no node; expected the id of a node",
    );
    check(
        "/actions/0/when",
        json!("rsi"),
        "action `long`: `when` names `rsi`, a number; expected a bool",
    );
    check(
        "/nodes/12/inputs/0",
        json!("rsi"),
        "node `go`: `inputs` names `rsi`, a number; expected a bool",
    );
    check(
        "/nodes/1/inputs/0",
        json!("up"),
        "node `ema_f`: `inputs` names `up`, a bool; expected a number",
    );
    check(
        "/actions/0/leverage",
        json!("5.5"),
        "action `long`: `leverage` is 5.5; expected at most `risk.max_leverage`, 5",
    );
    check(
        "/risk",
        Value::Null,
        "action `long`: `leverage` is 3; expected at most `risk.max_leverage`, 1",
    );
    let by_risk =
        json!({"id":"n","when":"go","do":"open_long","sizing":{"mode":"risk_pct","value":"0.01"}});
    check(
        "/actions/0",
        by_risk,
        "action `n`: `sizing.mode` is `risk_pct` without a `stop_loss`; expected a `stop_loss` beside it",
    );
}

#[test]
fn a_cycle_is_named_from_node_to_node() {
    check(
        "/nodes/1/inputs/0",
        json!("ema_f"),
        "node `ema_f`: the inputs form a cycle: ema_f <- ema_f; expected none",
    );
    let mut document = funding_fade();
    document["nodes"][1]["inputs"][0] = json!("ema_s");
    document["nodes"][2]["inputs"][0] = json!("rsi");
    document["nodes"][3]["inputs"][0] = json!("ema_f");
    let error = ValidGraph::from_value(&document).expect_err("a cycle");
    assert_eq!(
        error.to_string(),
        "node `ema_f`: the inputs form a cycle: ema_f <- ema_s <- rsi <- ema_f; expected none"
    );
}

#[test]
fn each_node_has_the_inputs_that_it_needs() {
    let check_arity = |node: Value, found: usize, expected: &str| {
        let mut node = node;
        node["id"] = json!("n");
        let inputs: Vec<&str> =
            if node["type"] == "logic" { vec!["up"; found] } else { vec!["px"; found] };
        node["inputs"] = json!(inputs);
        check(
            "/nodes/-",
            node,
            &format!("node `n`: `inputs` has {found} entries; expected {expected}"),
        );
    };
    for found in [0, 2] {
        check_arity(json!({"type":"indicator","fn":"sma","params":{"period":3}}), found, "1");
        check_arity(json!({"type":"math","op":"abs"}), found, "1");
        check_arity(json!({"type":"logic","op":"not"}), found, "1");
        check_arity(json!({"type":"logic","op":"hold_for","params":{"bars":3}}), found, "1");
        check_arity(
            json!({"type":"compare","op":"between","params":{"lo":"0","hi":"1"}}),
            found,
            "1",
        );
        check_arity(
            json!({"type":"indicator","fn":"atr","params":{"period":3}}),
            found,
            "3: high, low, close",
        );
    }
    for found in [1, 3] {
        check_arity(json!({"type":"math","op":"sub"}), found, "2");
        check_arity(json!({"type":"math","op":"div"}), found, "2");
        check_arity(json!({"type":"compare","op":"gt"}), found, "2");
        check_arity(json!({"type":"compare","op":"cross_up"}), found, "2");
        check_arity(json!({"type":"logic","op":"xor"}), found, "2");
    }
    for found in [0, 1] {
        check_arity(json!({"type":"math","op":"add"}), found, "2 or more");
        check_arity(json!({"type":"logic","op":"and"}), found, "2 or more");
        check_arity(json!({"type":"logic","op":"or"}), found, "2 or more");
    }
    check(
        "/nodes/0/inputs",
        json!(["rsi"]),
        "node `px`: key `inputs` is unknown; expected only id, type, feature, params, max_age",
    );
}

/// `depth` nodes in a row: the input and `depth - 2` absolute values, then a comparison.
fn chain(depth: usize, spare_nodes: usize) -> Value {
    let mut nodes = vec![json!({"id":"n1","type":"input","feature":"price"})];
    for link in 2..depth {
        nodes.push(json!({"id":format!("n{link}"),"type":"math","op":"abs","inputs":[format!("n{}", link - 1)]}));
    }
    let last = format!("n{}", depth - 1);
    nodes.push(json!({"id":"end","type":"compare","op":"gt","inputs":[last,"n1"]}));
    nodes
        .extend((0..spare_nodes).map(|n| json!({"id":format!("s{n}"),"type":"const","value":"1"})));
    json!({"schema_version":1,"name":"chain","universe":["X"],"timeframe":"1d","nodes":nodes,
           "actions":[{"id":"a","when":"end","do":"close"}]})
}

#[test]
fn depth_and_number_of_nodes_have_limits() {
    let check = |document: Value, expected: &str| {
        let refusal = ValidGraph::from_value(&document).map(|_| "valid".to_owned());
        assert_eq!(refusal.unwrap_or_else(|error| error.to_string()), expected);
    };
    check(chain(32, 0), "valid");
    check(chain(33, 0), "node `end`: the node stands 33 deep; expected at most 32");
    check(chain(3, 125), "valid");
    check(chain(3, 126), "graph: `nodes` is a list of 129; expected 1 to 128 nodes");
}
