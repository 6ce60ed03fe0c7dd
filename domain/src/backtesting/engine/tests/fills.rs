//! Where, when and at what size orders fill, and how a position is left inside a bar.

use serde_json::{Value, json};

use super::{CLOSE, FREE, LONG, NOTHING, SHORT, bars, lines, run_daily, scripted};
use crate::backtesting::{ExitReason, Settings};

/// Runs the scripted graph without costs and compares `side entry→exit pnl reason` of its trades.
fn check(entry: Value, rows: &[(f64, f64, f64, f64, f64)], expected: &[&str]) {
    let result = run_daily(&bars(rows), &scripted(entry, json!({})), &FREE);
    assert_eq!(lines(&result.trades), expected);
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
    let rows = [(90.0, 100.0, 90.0, 100.0, LONG), (80.0, 200.0, 80.0, 200.0, NOTHING)];
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
