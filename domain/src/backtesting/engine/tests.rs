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

/// Runs the scripted graph without costs and compares `side entry→exit pnl reason` of its trades.
fn check(entry: Value, rows: &[(f64, f64, f64, f64, f64)], expected: &[&str]) {
    let result = run_daily(&bars(rows), &scripted(entry, json!({})), &FREE);
    assert_eq!(lines(&result.trades), expected);
}

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
fn orders_fill_at_the_next_open_and_never_on_the_signal_bar() {
    check(
        json!({}),
        &[
            (100.0, 101.0, 99.0, 100.0, LONG),
            (102.0, 104.0, 101.0, 103.0, NOTHING),
            (103.0, 106.0, 102.0, 105.0, CLOSE),
            (107.0, 108.0, 106.0, 107.0, NOTHING),
        ],
        &["Long 102@1 -> 107@3 pnl 50.0000 Signal"],
    );
    check(
        json!({}),
        &[
            (100.0, 101.0, 99.0, 100.0, SHORT),
            (102.0, 104.0, 101.0, 103.0, CLOSE),
            (107.0, 108.0, 106.0, 107.0, NOTHING),
        ],
        &["Short 102@1 -> 107@2 pnl -50.0000 Signal"],
    );
    // A signal on the last bar has no next open.
    check(json!({}), &[(100.0, 101.0, 99.0, 100.0, LONG)], &[]);
}

#[test]
fn the_other_side_flips_and_the_same_side_is_not_added_to() {
    check(
        json!({}),
        &[
            (100.0, 101.0, 99.0, 100.0, LONG),
            (101.0, 101.0, 99.0, 100.0, LONG),
            (102.0, 103.0, 99.0, 100.0, SHORT),
            (103.0, 103.0, 99.0, 100.0, SHORT),
            (99.0, 101.0, 99.0, 100.0, CLOSE),
            (98.0, 101.0, 98.0, 100.0, CLOSE),
            (97.0, 101.0, 97.0, 100.0, NOTHING),
        ],
        &["Long 101@1 -> 103@3 pnl 20.0000 Signal", "Short 103@3 -> 98@5 pnl 50.0000 Signal"],
    );
}

#[test]
fn stops_and_targets_are_left_inside_the_bar() {
    let exits = json!({
        "stop_loss":{"mode":"pct","value":"0.1"},"take_profit":{"mode":"pct","value":"0.2"}
    });
    let check = |signal, bar, expected: &str| {
        let enter = (100.0, 100.0, 100.0, 100.0, signal);
        let quiet = (100.0, 100.0, 100.0, 100.0, NOTHING);
        check(exits.clone(), &[enter, quiet, bar, quiet], &[expected]);
    };
    // Long from 100: stop 90, target 120.
    check(LONG, (99.0, 101.0, 90.0, 95.0, 0.0), "Long 100@1 -> 90@2 pnl -100.0000 StopLoss");
    check(LONG, (99.0, 120.0, 98.0, 99.0, 0.0), "Long 100@1 -> 120@2 pnl 200.0000 TakeProfit");
    check(LONG, (99.0, 119.9, 90.1, 99.0, 0.0), "Long 100@1 -> 100@3 pnl 0.0000 End");
    // Both in one bar: the stop.
    check(LONG, (99.0, 130.0, 80.0, 99.0, 0.0), "Long 100@1 -> 90@2 pnl -100.0000 StopLoss");
    // A gap fills at the open.
    check(LONG, (85.0, 130.0, 80.0, 99.0, 0.0), "Long 100@1 -> 85@2 pnl -150.0000 StopLoss");
    check(LONG, (125.0, 130.0, 80.0, 99.0, 0.0), "Long 100@1 -> 125@2 pnl 250.0000 TakeProfit");
    // Short from 100: stop 110, target 80.
    check(SHORT, (99.0, 110.0, 98.0, 99.0, 0.0), "Short 100@1 -> 110@2 pnl -100.0000 StopLoss");
    check(SHORT, (99.0, 101.0, 80.0, 99.0, 0.0), "Short 100@1 -> 80@2 pnl 200.0000 TakeProfit");
    check(SHORT, (99.0, 120.0, 70.0, 99.0, 0.0), "Short 100@1 -> 110@2 pnl -100.0000 StopLoss");
    check(SHORT, (115.0, 120.0, 70.0, 99.0, 0.0), "Short 100@1 -> 115@2 pnl -150.0000 StopLoss");
    check(SHORT, (75.0, 120.0, 70.0, 99.0, 0.0), "Short 100@1 -> 75@2 pnl 250.0000 TakeProfit");
}

#[test]
fn a_stop_can_be_hit_on_the_bar_of_the_entry_and_a_signal_close_comes_before_it() {
    let stop = json!({"stop_loss":{"mode":"pct","value":"0.1"}});
    check(
        stop.clone(),
        &[(100.0, 100.0, 100.0, 100.0, LONG), (100.0, 100.0, 85.0, 95.0, NOTHING)],
        &["Long 100@1 -> 90@1 pnl -100.0000 StopLoss"],
    );
    check(
        stop,
        &[
            (100.0, 100.0, 100.0, 100.0, LONG),
            (100.0, 100.0, 100.0, 100.0, CLOSE),
            (85.0, 100.0, 50.0, 95.0, NOTHING),
        ],
        &["Long 100@1 -> 85@2 pnl -150.0000 Signal"],
    );
}

#[test]
fn the_size_is_fixed_at_the_decision() {
    let half = json!({"sizing":{"mode":"pct_equity","value":"0.5"}});
    let rows = [(100.0, 100.0, 100.0, 100.0, LONG), (80.0, 200.0, 80.0, 200.0, NOTHING)];
    let result = run_daily(&bars(&rows), &scripted(half, json!({})), &FREE);
    // 5,000 by the close of 100, although the fill is at 80.
    assert_eq!(result.trades[0].size, 50.0);
    assert_eq!(result.final_equity, 16_000.0);
}

#[test]
fn every_fill_pays_fee_and_slippage() {
    let settings = Settings { fee_rate: 0.001, slippage_rate: 0.01, ..FREE };
    let rows = [
        (100.0, 100.0, 100.0, 100.0, SHORT),
        (100.0, 100.0, 100.0, 100.0, NOTHING),
        (100.0, 100.0, 100.0, 100.0, NOTHING),
    ];
    let result = run_daily(&bars(&rows), &scripted(json!({}), json!({})), &settings);
    let [trade] = &result.trades[..] else { panic!("one trade") };
    assert_eq!((trade.entry_price, trade.exit_price), (99.0, 101.0));
    assert!((trade.fees - 2.0).abs() < 1e-12 && (trade.pnl + 22.0).abs() < 1e-12);
    assert!((result.final_equity - 9_978.0).abs() < 1e-9);
    assert_eq!(result.fees_paid, trade.fees);
    assert!((result.turnover.expect("turnover") - 2_000.0 / (29_967.01 / 3.0)).abs() < 1e-9);
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
fn an_account_is_liquidated_when_it_has_nothing_left() {
    let all_in = json!({"sizing":{"mode":"pct_equity","value":"10"},"leverage":"10"});
    let settings = Settings { fee_rate: 0.001, ..FREE };
    let run = |bar, signal| {
        let rows = [
            (100.0, 100.0, 100.0, 100.0, signal),
            (100.0, 100.0, 100.0, 100.0, NOTHING),
            bar,
            (100.0, 100.0, 100.0, 100.0, LONG),
            (100.0, 100.0, 100.0, 100.0, NOTHING),
        ];
        run_daily(&bars(&rows), &scripted(all_in.clone(), json!({})), &settings)
    };
    // 1,000 units with 10,000 − 100 of cash: ruin at (100,000 − 9,900)/(1,000 · 0.999) = 90.19.
    for (bar, signal, price) in [
        ((95.0, 101.0, 90.0, 101.0, NOTHING), LONG, 90_100.0 / 999.0),
        // The market has jumped beyond the ruin: the account still loses only what it has.
        ((50.0, 101.0, 50.0, 101.0, NOTHING), LONG, 90_100.0 / 999.0),
        ((105.0, 110.0, 99.0, 100.0, NOTHING), SHORT, 109_900.0 / 1_001.0),
        ((200.0, 210.0, 99.0, 100.0, NOTHING), SHORT, 109_900.0 / 1_001.0),
    ] {
        let result = run(bar, signal);
        let [trade] = &result.trades[..] else { panic!("one trade: {:?}", result.trades) };
        assert_eq!(trade.exit_reason, ExitReason::Liquidation);
        assert!((trade.exit_price - price).abs() < 1e-9, "{} {price}", trade.exit_price);
        assert!((trade.pnl + 10_000.0).abs() < 1e-9, "{}", trade.pnl);
        assert_eq!((result.final_equity, result.total_return), (0.0, -1.0));
        assert_eq!((result.cagr, result.max_drawdown), (Some(-1.0), -1.0));
    }
    let survivor = run((95.0, 101.0, 90.2, 101.0, NOTHING), LONG);
    assert_eq!(survivor.trades[0].exit_reason, ExitReason::End);
}

#[test]
fn leverage_caps_the_notional_and_does_not_multiply_it() {
    let size = |sizing: &str, leverage: &str| {
        let entry = json!({"sizing":{"mode":"pct_equity","value":sizing},"leverage":leverage});
        let rows = [(100.0, 100.0, 100.0, 100.0, LONG), (100.0, 100.0, 100.0, 100.0, NOTHING)];
        run_daily(&bars(&rows), &scripted(entry, json!({})), &FREE).trades[0].size
    };
    assert_eq!(size("0.1", "5"), 10.0);
    assert_eq!(size("8", "5"), 500.0);
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
