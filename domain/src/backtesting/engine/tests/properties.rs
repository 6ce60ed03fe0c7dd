//! What must hold for every history and every graph.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{DAY_MS, go_on};
use crate::backtesting::{BacktestError, BacktestResult, Settings, run};
use crate::market::{Candle, Interval};
use crate::strategy::ValidGraph;

/// One bar by factors on the price before: open, close, and how far high and low reach.
fn candles() -> impl Strategy<Value = Vec<Candle>> {
    let calm = (0.97..1.03, 0.95..1.05, 0.0..0.05, 0.0..0.05);
    let wild = (0.2..5.0, 0.1..8.0, 0.0..3.0, 0.0..0.9);
    let flat = Just((1.0, 1.0, 0.0, 0.0));
    let row = prop_oneof![8 => calm, 1 => wild, 2 => flat];
    (prop::collection::vec((row, 0.0..4.0_f64), 1..120), 1e-3..1e5_f64).prop_map(|(rows, start)| {
        let mut price: f64 = start;
        rows.into_iter()
            .zip(0..)
            .map(|(((jump, step, up, down), volume), day): (_, i64)| {
                let open = (price * jump).clamp(1e-6, 1e9);
                let close = (open * step).clamp(1e-6, 1e9);
                price = close;
                Candle {
                    open_time_ms: day * DAY_MS,
                    open,
                    high: open.max(close) * (1.0 + up),
                    low: open.min(close) * (1.0 - down),
                    close,
                    volume,
                }
            })
            .collect()
    })
}

/// A valid graph of random nodes: numbers in `numbers`, conditions in `conditions`, each taking its
/// inputs from what stands before it.
fn graphs() -> impl Strategy<Value = ValidGraph> {
    let number_row =
        (0..20_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..12_u16);
    let condition_row =
        (0..11_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..5_u16);
    let action_row =
        (0..3_u8, any::<prop::sample::Index>(), 0..5_u8, -2..3_i64, any::<[bool; 4]>());
    (
        prop::collection::vec(number_row, 0..12),
        prop::collection::vec(condition_row, 1..8),
        prop::collection::vec(action_row, 1..5),
        0..10_u16,
    )
        .prop_map(|(number_rows, condition_rows, action_rows, warmup)| {
            let mut nodes = vec![
                json!({"id":"open","type":"input","feature":"price","params":{"field":"open"}}),
                json!({"id":"close","type":"input","feature":"price"}),
                json!({"id":"volume","type":"input","feature":"volume"}),
                json!({"id":"pnl","type":"input","feature":"position_pnl_pct"}),
                json!({"id":"fall","type":"input","feature":"equity_drawdown"}),
                json!({"id":"mark","type":"input","feature":"mark"}),
                json!({"id":"one","type":"const","value":"1"}),
            ];
            let mut numbers: Vec<String> =
                nodes.iter().map(|node| node["id"].as_str().expect("an id").to_owned()).collect();
            for (position, (kind, left, right, period)) in number_rows.into_iter().enumerate() {
                let (a, b) = (left.get(&numbers), right.get(&numbers));
                let node = number_node(&format!("n{position}"), kind, a, b, period);
                nodes.push(node);
                numbers.push(format!("n{position}"));
            }
            let mut conditions: Vec<String> = Vec::new();
            for (position, (kind, left, right, bars)) in condition_rows.into_iter().enumerate() {
                let id = format!("c{position}");
                // The first conditions can only compare.
                let kind = if conditions.is_empty() { kind % 6 } else { kind };
                let from = if kind < 6 { &numbers } else { &conditions };
                let (a, b) = (left.get(from), right.get(from));
                nodes.push(condition_node(&id, kind, a, b, bars));
                conditions.push(id);
            }
            let actions: Vec<Value> = action_rows
                .into_iter()
                .enumerate()
                .map(|(position, (kind, when, sizing, priority, flags))| {
                    let when = when.get(&conditions);
                    action(&format!("a{position}"), kind, when, sizing, priority, flags)
                })
                .collect();
            let graph = json!({
                "schema_version":1,"name":"random","universe":["X"],"timeframe":"1d",
                "warmup_bars":warmup,"nodes":nodes,"actions":actions,
                "risk":{"max_leverage":"20","max_position_pct":"20"},
            });
            ValidGraph::from_value(&graph).expect("a valid graph")
        })
}

fn number_node(id: &str, kind: u8, a: &str, b: &str, period: u16) -> Value {
    let single = ["sma", "ema", "rsi", "roc", "bb_pos", "zscore", "highest", "lowest"];
    let double = ["add", "sub", "mul", "div", "min", "max"];
    match kind {
        0..8 => json!({"id":id,"type":"indicator","fn":single[usize::from(kind)],"inputs":[a],
            "params":{"period":period}}),
        8..14 => json!({"id":id,"type":"math","op":double[usize::from(kind - 8)],"inputs":[a,b]}),
        14 => json!({"id":id,"type":"math","op":"abs","inputs":[a]}),
        15 | 16 => json!({"id":id,"type":"indicator","fn":"macd","inputs":[a],
            "params":{"fast":period,"slow":period + 3,"signal":2,"line":"histogram"}}),
        17 => json!({"id":id,"type":"indicator","fn":"atr","inputs":[a,b,a],
            "params":{"period":period}}),
        _ => json!({"id":id,"type":"const","value":format!("{period}.5")}),
    }
}

fn condition_node(id: &str, kind: u8, a: &str, b: &str, bars: u16) -> Value {
    let compare = ["gt", "gte", "lt", "lte", "cross_up", "cross_down"];
    let logic = ["and", "or", "xor"];
    match kind {
        0..6 => json!({"id":id,"type":"compare","op":compare[usize::from(kind)],"inputs":[a,b]}),
        6..9 => json!({"id":id,"type":"logic","op":logic[usize::from(kind - 6)],"inputs":[a,b]}),
        9 => json!({"id":id,"type":"logic","op":"not","inputs":[a]}),
        _ => json!({"id":id,"type":"logic","op":"hold_for","inputs":[a],"params":{"bars":bars}}),
    }
}

fn action(id: &str, kind: u8, when: &str, sizing: u8, priority: i64, flags: [bool; 4]) -> Value {
    let [leverage, stop, target, cooldown] = flags;
    let verb = ["open_long", "open_short", "close"][usize::from(kind)];
    let mut action = json!({"id":id,"when":when,"priority":priority,"do":verb});
    if cooldown {
        action["cooldown"] = json!("3d");
    }
    if kind == 2 {
        return action;
    }
    action["sizing"] = match sizing {
        0 => json!({"mode":"pct_equity","value":"3"}),
        1 => json!({"mode":"fixed_notional","value":"2500"}),
        2 if stop => json!({"mode":"risk_pct","value":"0.05"}),
        3 => json!({"mode":"vol_target","value":"0.4","lookback":5}),
        _ => json!({"mode":"units","value":"3"}),
    };
    if leverage {
        action["leverage"] = json!("20");
    }
    if stop {
        action["stop_loss"] = json!({"mode":"pct","value":"0.03"});
    }
    if target {
        action["take_profit"] = json!({"mode":"pct","value":"0.05"});
    }
    action
}

fn settings() -> impl Strategy<Value = Settings> {
    (1.0..1e6, 0.0..0.01, 0.0..0.01, prop::sample::select(vec![1e-8, 0.001, 1.0])).prop_map(
        |(initial_cash, fee_rate, slippage_rate, size_step)| Settings {
            initial_cash,
            fee_rate,
            slippage_rate,
            size_step,
        },
    )
}

fn run_daily(candles: &[Candle], graph: &ValidGraph, settings: &Settings) -> BacktestResult {
    run(candles, Interval::D1, graph, settings, go_on).expect("a result")
}

/// The paths of all nulls of the written result. serde_json writes NaN and infinity as null: a
/// null that `nulls` does not explain is one of them.
fn null_paths(result: &BacktestResult) -> Vec<String> {
    fn collect(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(path.to_owned()),
            Value::Array(values) => values.iter().for_each(|value| collect(value, path, found)),
            Value::Object(object) => {
                for (key, value) in object {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    collect(value, &path, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::to_value(result).expect("JSON"), "", &mut found);
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_past_does_not_change_when_the_future_is_cut_off(
        candles in candles(),
        graph in graphs(),
        settings in settings(),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = run_daily(&candles, &graph, &settings);
        let length = 1 + cut.index(candles.len());
        let mut part = run_daily(&candles[..length], &graph, &settings);
        // The last bar of the part closes what is open, which the whole does not.
        prop_assert_eq!(&part.equity[..length - 1], &whole.equity[..length - 1]);
        part.trades.retain(|trade| !trade.open_at_end);
        prop_assert_eq!(&part.trades[..], &whole.trades[..part.trades.len()]);
    }

    #[test]
    fn equity_is_the_start_and_the_profits(
        candles in candles(),
        graph in graphs(),
        settings in settings(),
    ) {
        let result = run_daily(&candles, &graph, &settings);
        let profits: f64 = result.trades.iter().map(|trade| trade.pnl).sum();
        let fees: f64 = result.trades.iter().map(|trade| trade.fees).sum();
        let notionals = result.trades.iter().map(|t| t.size * t.entry_price.max(t.exit_price));
        let tolerance = 1e-9 * notionals.fold(settings.initial_cash, f64::max);
        let expected = settings.initial_cash + profits;
        prop_assert!((result.final_equity - expected).abs() <= tolerance);
        prop_assert!((result.fees_paid - fees).abs() <= tolerance);
        prop_assert!(result.equity.iter().all(|point| point.1 >= 0.0), "an account cannot owe");
    }

    #[test]
    fn results_are_finite_complete_and_repeatable(
        candles in candles(),
        graph in graphs(),
        settings in settings(),
    ) {
        let result = run_daily(&candles, &graph, &settings);
        prop_assert_eq!(&result, &run_daily(&candles, &graph, &settings));
        let nulls: Vec<String> = result.nulls.keys().cloned().collect();
        prop_assert_eq!(null_paths(&result), nulls);
        prop_assert!((0.0..=1.0).contains(&result.exposure));
        prop_assert!((-1.0..=0.0).contains(&result.max_drawdown));
    }

    #[test]
    fn prices_over_the_whole_range_of_a_number_end_in_a_result_or_in_an_overflow(
        exponents in prop::collection::vec((-300..300_i32, -300..300_i32), 2..40),
        graph in graphs(),
        settings in settings(),
    ) {
        let candle = |((open, close), day): ((i32, i32), i64)| {
            let (open, close) = (10.0_f64.powi(open), 10.0_f64.powi(close));
            let (high, low) = (open.max(close), open.min(close));
            Candle { open_time_ms: day * DAY_MS, open, high, low, close, volume: 1.0 }
        };
        let candles: Vec<Candle> = exponents.into_iter().zip(0..).map(candle).collect();
        match run(&candles, Interval::D1, &graph, &settings, go_on) {
            Ok(result) => prop_assert_eq!(null_paths(&result).len(), result.nulls.len()),
            Err(error) => prop_assert!(matches!(error, BacktestError::Overflow { .. }), "{}", error),
        }
    }
}

/// The properties above mean nothing if random graphs never trade.
#[test]
fn random_graphs_do_trade() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = (candles(), graphs(), settings());
    let mut reasons = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..400 {
        let (candles, graph, settings) = strategy.new_tree(&mut runner).expect("a case").current();
        for trade in run_daily(&candles, &graph, &settings).trades {
            *reasons.entry(format!("{:?}", trade.exit_reason)).or_default() += 1;
        }
    }
    let seen: Vec<&str> = reasons.keys().map(String::as_str).collect();
    assert_eq!(seen, ["End", "Liquidation", "Signal", "StopLoss", "TakeProfit"], "{reasons:?}");
}
