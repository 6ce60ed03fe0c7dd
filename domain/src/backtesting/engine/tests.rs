mod fills;
mod properties;
mod reference;

use serde_json::{Value, json};

use super::*;
use crate::backtesting::{Trade, Undefined};

const DAY_MS: i64 = 86_400_000;

fn go_on(_done: usize, _total: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run_daily(candles: &[Candle], graph: &ValidGraph, settings: &Settings) -> BacktestResult {
    run(candles, Interval::D1, graph, settings, go_on).expect("a result")
}

/// Daily bars from `(open, high, low, close, signal)`; the signal stands in the volume, where the
/// graph of [`scripted`] reads it.
fn bars(rows: &[(f64, f64, f64, f64, f64)]) -> Vec<Candle> {
    rows.iter()
        .zip(0..)
        .map(|(&(open, high, low, close, volume), day)| Candle {
            open_time_ms: day * DAY_MS,
            open,
            high,
            low,
            close,
            volume,
        })
        .collect()
}

const NOTHING: f64 = 0.0;
const LONG: f64 = 1.0;
const SHORT: f64 = 2.0;
const CLOSE: f64 = 3.0;

/// A graph that does what the volume says: open long, open short, close. `entry` adds keys to both
/// opens, which buy 10 units unless it says otherwise; `document` adds top-level keys.
fn scripted(entry: Value, document: Value) -> ValidGraph {
    let signal = |id: &str, value: &str| json!({"id":id,"type":"compare","op":"between","inputs":["volume"],"params":{"lo":value,"hi":value}});
    let open = |id: &str| {
        let mut action = json!({"id":id,"when":id,"do":id,"sizing":{"mode":"units","value":"10"}});
        extend(&mut action, &entry);
        action
    };
    let mut graph = json!({
        "schema_version":1,"name":"scripted","universe":["X"],"timeframe":"1d",
        "nodes":[
            {"id":"volume","type":"input","feature":"volume"},
            signal("open_long","1"), signal("open_short","2"), signal("close","3"),
        ],
        "actions":[open("open_long"), open("open_short"), {"id":"close","when":"close","do":"close"}],
        "risk":{"max_leverage":"100","max_position_pct":"100"},
    });
    extend(&mut graph, &document);
    ValidGraph::from_value(&graph).expect("a valid graph")
}

fn extend(object: &mut Value, entries: &Value) {
    for (key, value) in entries.as_object().expect("an object") {
        object[key] = value.clone();
    }
}

const FREE: Settings =
    Settings { initial_cash: 10_000.0, fee_rate: 0.0, slippage_rate: 0.0, size_step: 1e-8 };

fn lines(trades: &[Trade]) -> Vec<String> {
    trades
        .iter()
        .map(|trade| {
            let day = |time_ms: i64| time_ms / DAY_MS;
            format!(
                "{:?} {}@{} -> {}@{} pnl {:.4} {:?}",
                trade.side,
                trade.entry_price,
                day(trade.entry_time_ms),
                trade.exit_price,
                day(trade.exit_time_ms),
                trade.pnl,
                trade.exit_reason
            )
        })
        .collect()
}

#[test]
fn a_position_that_is_open_at_the_end_is_closed_and_flagged() {
    let rows = [(100.0, 100.0, 100.0, 100.0, LONG), (100.0, 110.0, 100.0, 110.0, NOTHING)];
    let result = run_daily(&bars(&rows), &scripted(json!({}), json!({})), &FREE);
    assert_eq!(lines(&result.trades), ["Long 100@1 -> 110@1 pnl 100.0000 End"]);
    assert!(result.trades[0].open_at_end);
    assert_eq!(result.equity, [(0, 10_000.0), (DAY_MS, 10_100.0)]);
    assert_eq!(result.exposure, 0.5);
}

#[test]
fn nothing_is_decided_on_the_warm_up_bars_of_the_graph() {
    let flat = (100.0, 100.0, 100.0, 100.0, LONG);
    let entry_day = |warmup_bars: usize| {
        let graph = scripted(json!({}), json!({"warmup_bars": warmup_bars}));
        run_daily(&bars(&[flat; 6]), &graph, &FREE).trades.first().map(|t| t.entry_time_ms / DAY_MS)
    };
    assert_eq!((entry_day(0), entry_day(3), entry_day(4)), (Some(1), Some(4), Some(5)));
    assert_eq!((entry_day(5), entry_day(100)), (None, None));
}

#[test]
fn an_action_cools_down_after_it_fired() {
    let day = |signal| (100.0, 100.0, 100.0, 100.0, signal);
    let rows = [LONG, CLOSE, LONG, LONG, LONG, CLOSE, NOTHING].map(day);
    let entries = |cooldown: Value| -> Vec<i64> {
        let result = run_daily(&bars(&rows), &scripted(cooldown, json!({})), &FREE);
        result.trades.iter().map(|trade| trade.entry_time_ms / DAY_MS).collect()
    };
    assert_eq!(entries(json!({})), [1, 3]);
    // Fired at the close of day 0; the closes of day 2, 3 and 4 are 2, 3 and 4 days later.
    assert_eq!(entries(json!({"cooldown":"3d"})), [1, 4]);
    assert_eq!(entries(json!({"cooldown":"4d"})), [1, 5]);
    assert_eq!(entries(json!({"cooldown":"5d"})), [1]);
}

#[test]
fn volatility_targets_wait_for_their_window() {
    let entry = json!({"sizing":{"mode":"vol_target","value":"0.5","lookback":3}});
    let closes = [100.0, 110.0, 99.0, 103.95, 103.95];
    let rows = closes.map(|close| (close, close, close, close, LONG));
    let result = run_daily(&bars(&rows), &scripted(entry, json!({})), &FREE);
    let [trade] = &result.trades[..] else { panic!("one trade") };
    assert_eq!(trade.entry_time_ms, 4 * DAY_MS);
    // numpy: std([0.1, -0.1, 0.05], ddof=1) = 0.10408329997330665.
    let volatility = 0.104_083_299_973_306_65 * 365.0_f64.sqrt();
    assert!((trade.size - 0.5 / volatility * 10_000.0 / 103.95).abs() < 1e-7, "{}", trade.size);
}

#[test]
fn the_account_is_an_input_and_other_features_are_counted_as_unknown() {
    // Closes at a loss of 5 %, seen at a close; funding never fires.
    let document = json!({
        "nodes":[
            {"id":"volume","type":"input","feature":"volume"},
            {"id":"pnl","type":"input","feature":"position_pnl_pct"},
            {"id":"side","type":"input","feature":"position_side"},
            {"id":"fall","type":"input","feature":"equity_drawdown"},
            {"id":"funding","type":"input","feature":"funding"},
            {"id":"open_long","type":"compare","op":"between","inputs":["volume"],"params":{"lo":"1","hi":"1"}},
            {"id":"open_short","type":"compare","op":"between","inputs":["funding"],"params":{"lo":"-9","hi":"9"}},
            {"id":"lost","type":"compare","op":"between","inputs":["pnl"],"params":{"lo":"-1","hi":"-0.05"}},
            {"id":"is_long","type":"compare","op":"between","inputs":["side"],"params":{"lo":"1","hi":"1"}},
            {"id":"fallen","type":"compare","op":"between","inputs":["fall"],"params":{"lo":"-1","hi":"-0.001"}},
            {"id":"close","type":"logic","op":"and","inputs":["lost","is_long","fallen"]},
        ],
    });
    let rows = [
        (100.0, 100.0, 100.0, 100.0, LONG),
        (100.0, 100.0, 96.0, 96.0, NOTHING),
        (96.0, 96.0, 94.0, 94.0, NOTHING),
        (93.0, 93.0, 93.0, 93.0, NOTHING),
    ];
    let result = run_daily(&bars(&rows), &scripted(json!({}), document), &FREE);
    assert_eq!(lines(&result.trades), ["Long 100@1 -> 93@3 pnl -70.0000 Signal"]);
    assert_eq!(result.unknown_inputs, BTreeMap::from([("funding".to_owned(), 4)]));
}

#[test]
fn progress_is_reported_and_a_break_cancels() {
    let candles: Vec<Candle> =
        crate::market::RandomWalk::new(1, Interval::M1, 0, 100.0, 0.001).take(10_000).collect();
    let graph = crate::strategy::default_graph();
    let mut reports = Vec::new();
    run(&candles, Interval::M1, &graph, &FREE, |done, total| {
        reports.push((done, total));
        ControlFlow::Continue(())
    })
    .expect("a result");
    assert_eq!(reports, [(0, 10_000), (4_096, 10_000), (8_192, 10_000), (10_000, 10_000)]);

    let cancelled = run(&candles, Interval::M1, &graph, &FREE, |done, _| {
        if done > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(cancelled, Err(BacktestError::Cancelled { done: 4_096, total: 10_000 }));
}

#[test]
fn impossible_arguments_are_refused_before_the_first_bar() {
    let graph = crate::strategy::default_graph();
    let never = |_, _| -> ControlFlow<()> { panic!("no bar may be run") };
    let poor = Settings { initial_cash: 0.0, ..FREE };
    let candles = bars(&[(100.0, 100.0, 100.0, 100.0, NOTHING)]);
    let refusal = run(&candles, Interval::D1, &graph, &poor, never).expect_err("poor");
    assert!(matches!(refusal, BacktestError::Setting { field: "initial_cash", .. }));
    assert_eq!(run(&[], Interval::D1, &graph, &FREE, never), Err(BacktestError::NoCandles));
    let broken = bars(&[(100.0, f64::NAN, 100.0, 100.0, NOTHING)]);
    let refusal = run(&broken, Interval::D1, &graph, &FREE, never).expect_err("broken");
    assert!(matches!(refusal, BacktestError::CandleValue { bar: 0, field: "high", .. }));
}

#[test]
fn money_beyond_the_range_of_a_number_is_an_error() {
    let rows = [
        (1e-290, 1e-290, 1e-290, 1e-290, LONG),
        (1e-290, 1e300, 1e-290, 1e300, NOTHING),
        (1e300, 1e300, 1e300, 1e300, NOTHING),
    ];
    let all_in = json!({"sizing":{"mode":"pct_equity","value":"1"}});
    let overflow = run(&bars(&rows), Interval::D1, &scripted(all_in, json!({})), &FREE, go_on);
    assert_eq!(overflow, Err(BacktestError::Overflow { bar: 1, open_time_ms: DAY_MS }));
}

#[test]
fn a_long_curve_is_thinned_after_it_was_measured() {
    let candles: Vec<Candle> =
        crate::market::RandomWalk::new(5, Interval::H1, 0, 100.0, 0.01).take(30_000).collect();
    let graph = crate::strategy::default_graph();
    let result = run(&candles, Interval::H1, &graph, &FREE, go_on).expect("a result");
    assert!(result.equity.len() <= 2_000 && result.equity.len() > 1_990);
    assert_eq!(result.equity[0], (0, 10_000.0));
    assert_eq!(result.equity.last().map(|point| point.0), Some(29_999 * 3_600_000));
    assert_eq!(result.equity.last().map(|point| point.1), Some(result.final_equity));
    // The thinned curve still shows the whole drawdown.
    let curve: Vec<f64> = result.equity.iter().map(|point| point.1).collect();
    let shown = Performance::measure(10_000.0, &curve, 8_760.0).drawdown.depth;
    assert_eq!(shown, result.max_drawdown);
    assert!(shown < -0.01);
}

#[test]
fn the_result_is_written_as_the_contract_says() {
    let rows = [
        (100.0, 100.0, 100.0, 100.0, LONG),
        (100.0, 100.0, 100.0, 100.0, CLOSE),
        (110.0, 110.0, 110.0, 110.0, SHORT),
        (110.0, 110.0, 110.0, 110.0, NOTHING),
    ];
    let result = run_daily(&bars(&rows), &scripted(json!({}), json!({})), &FREE);
    let written = serde_json::to_value(&result).expect("JSON");
    let cagr = 1.01_f64.powf(365.0 / 4.0) - 1.0;
    assert_eq!(written["cagr"], json!(cagr));
    let mut rest = written.clone();
    for key in ["cagr", "volatility", "sharpe"] {
        rest.as_object_mut().expect("an object").remove(key);
        assert!(written[key].is_f64(), "{key}");
    }
    assert_eq!(
        rest,
        json!({
            "bars":4,"initial_cash":10_000.0,"final_equity":10_100.0,"total_return":0.01,
            "sortino":null,"max_drawdown":0.0,"calmar":null,"win_rate":0.5,"profit_factor":null,
            "exposure":0.75,"turnover":4_300.0 / 10_050.0,"fees_paid":0.0,
            "trades":[
                {"side":"long","entry_time_ms":DAY_MS,"entry_price":100.0,"exit_time_ms":2 * DAY_MS,
                 "exit_price":110.0,"size":10.0,"pnl":100.0,"fees":0.0,"exit_reason":"signal"},
                {"side":"short","entry_time_ms":3 * DAY_MS,"entry_price":110.0,"exit_time_ms":3 * DAY_MS,
                 "exit_price":110.0,"size":10.0,"pnl":0.0,"fees":0.0,"exit_reason":"end","open_at_end":true},
            ],
            "equity":[[0,10_000.0],[DAY_MS,10_000.0],[2 * DAY_MS,10_100.0],[3 * DAY_MS,10_100.0]],
            "nulls":{"calmar":"no_drawdown","profit_factor":"no_losses","sortino":"no_downside"},
            "unknown_inputs":{},
        })
    );
    let read: BacktestResult = serde_json::from_value(written).expect("the same type");
    assert_eq!(read, result);

    let idle = run_daily(&bars(&rows[..1]), &scripted(json!({}), json!({})), &FREE);
    assert_eq!(idle.nulls.get("win_rate"), Some(&Undefined::NoTrades));
    assert_eq!(idle.nulls.get("sharpe"), Some(&Undefined::InsufficientSamples));
    assert_eq!(serde_json::to_value(&idle).expect("JSON")["sharpe"], Value::Null);
}
