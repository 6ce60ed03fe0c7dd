//! The back-test reference (domain.md §5.4): 30 daily bars, SMA 3/6, 10 units, long only, cash
//! 10,000, fee 0.045 % per side.

use serde_json::json;

use super::{DAY_MS, run_daily};
use crate::backtesting::{BacktestResult, Settings};
use crate::market::Candle;
use crate::strategy::{Side, ValidGraph};

const CLOSE: [f64; 30] = [
    100.0, 99.0, 98.0, 97.5, 98.5, 100.0, 102.0, 104.0, 105.0, 104.5, 103.0, 101.0, 99.0, 97.0,
    96.0, 95.5, 97.0, 99.5, 102.0, 104.0, 106.0, 107.5, 107.0, 105.0, 102.5, 100.0, 98.0, 97.0,
    98.5, 100.0,
];

/// Bars that open at the close before plus `gap(i)`, with half a dollar around open and close.
fn bars(gap: fn(usize) -> f64) -> Vec<Candle> {
    (0..CLOSE.len())
        .zip(0..)
        .map(|(bar, day): (usize, i64)| {
            let close = CLOSE[bar];
            let open = if bar == 0 { 100.0 } else { CLOSE[bar - 1] + gap(bar) };
            Candle {
                open_time_ms: 1_767_225_600_000 + day * DAY_MS,
                open,
                high: open.max(close) + 0.5,
                low: open.min(close) - 0.5,
                close,
                volume: 1_000.0,
            }
        })
        .collect()
}

fn sma_cross() -> ValidGraph {
    let graph = json!({
        "schema_version":1,"name":"reference","universe":["X"],"timeframe":"1d",
        "nodes":[
            {"id":"close","type":"input","feature":"price"},
            {"id":"fast","type":"indicator","fn":"sma","inputs":["close"],"params":{"period":3}},
            {"id":"slow","type":"indicator","fn":"sma","inputs":["close"],"params":{"period":6}},
            {"id":"up","type":"compare","op":"cross_up","inputs":["fast","slow"]},
            {"id":"down","type":"compare","op":"cross_down","inputs":["fast","slow"]},
        ],
        "actions":[
            {"id":"enter","when":"up","do":"open_long","sizing":{"mode":"units","value":"10"}},
            {"id":"exit","when":"down","do":"close"},
        ],
    });
    ValidGraph::from_value(&graph).expect("a valid graph")
}

fn run(gap: fn(usize) -> f64, slippage_rate: f64) -> BacktestResult {
    let settings = Settings { slippage_rate, ..Settings::default() };
    run_daily(&bars(gap), &sma_cross(), &settings)
}

fn assert_close(name: &str, value: f64, expected: f64, tolerance: f64) {
    let error = (value - expected).abs() / expected.abs();
    assert!(error <= tolerance, "{name}: {value} is not {expected} (relative error {error:e})");
}

/// Entry bar, exit bar, entry price, exit price, net profit, fees.
fn assert_trades(result: &BacktestResult, expected: [(i64, i64, f64, f64, f64, f64); 2]) {
    assert_eq!(result.trades.len(), 2);
    for (trade, (entry_bar, exit_bar, entry, exit, pnl, fees)) in result.trades.iter().zip(expected)
    {
        let bar = |time_ms: i64| (time_ms - 1_767_225_600_000) / DAY_MS;
        assert_eq!((bar(trade.entry_time_ms), bar(trade.exit_time_ms)), (entry_bar, exit_bar));
        assert_eq!((trade.side, trade.size, trade.open_at_end), (Side::Long, 10.0, false));
        assert_close("entry", trade.entry_price, entry, 1e-12);
        assert_close("exit", trade.exit_price, exit, 1e-12);
        assert_close("pnl", trade.pnl, pnl, 1e-9);
        assert_close("fees", trade.fees, fees, 1e-9);
    }
}

const EVEN: fn(usize) -> f64 = |_| 0.2;

/// backtesting 0.6.6, and empyrical 0.7.1 on its equity.
#[test]
fn without_slippage_it_equals_backtesting_py() {
    let result = run(EVEN, 0.0);
    assert_trades(
        &result,
        [(7, 12, 102.2, 101.2, -10.9153, 0.9153), (19, 25, 102.2, 102.7, 4.077_95, 0.922_05)],
    );
    assert_close("final equity", result.final_equity, 9_993.162_65, 1e-12);
    assert_close("total", result.total_return, 9_993.162_65 / 10_000.0 - 1.0, 1e-9);
    assert_close("fees", result.fees_paid, 1.837_35, 1e-9);
    assert_close("max drawdown", result.max_drawdown, -0.004_979_273_872_092_8, 1e-9);
    assert_eq!(result.win_rate, Some(0.5));
    let factor = result.profit_factor.expect("a profit factor");
    assert_close("profit factor", factor, 4.077_95 / 10.9153, 1e-9);
    assert_eq!(result.exposure, 13.0 / 30.0);
    // The reference gives these with ten digits.
    assert_close("sharpe", result.sharpe.expect("sharpe"), -0.416_305_388_1, 2e-10);
    assert_close("sortino", result.sortino.expect("sortino"), -0.566_936_281_3, 2e-10);
    assert_close("calmar", result.calmar.expect("calmar"), -1.664_317_412_3, 2e-10);
    assert_close("cagr", result.cagr.expect("cagr"), -0.008_287_092_2, 1e-8);
    assert_close("turnover", result.turnover.expect("turnover"), 4_083.0 / 10_002.395_182, 1e-9);
    assert_close("turnover", result.turnover.expect("turnover"), 0.408_202_228, 2e-9);
    assert!(result.nulls.is_empty() && result.unknown_inputs.is_empty());
}

/// "Equity by bar without slippage", domain.md §5.4.
#[test]
fn equity_is_marked_at_every_close() {
    let mut expected = vec![10_000.0; 7];
    expected.extend([10017.5401, 10027.5401, 10022.5401, 10007.5401, 9987.5401]);
    expected.extend([9989.0847; 7]);
    expected.extend([10006.6248, 10026.6248, 10041.6248, 10036.6248, 10016.6248, 9991.6248]);
    expected.extend([9_993.162_65; 5]);

    let equity = run(EVEN, 0.0).equity;
    assert_eq!(equity.len(), 30);
    for ((bar, &(time_ms, value)), expected) in equity.iter().enumerate().zip(expected) {
        assert_eq!(time_ms, bars(EVEN)[bar].open_time_ms);
        // Bars 19 to 24 stand with four decimals in the reference, which are five.
        assert!((value - expected).abs() <= 5.1e-5, "bar {bar}: {value} is not {expected}");
    }
}

/// vectorbt 1.0.0, 0.05 % slippage.
#[test]
fn with_slippage_it_equals_vectorbt() {
    let result = run(EVEN, 0.000_5);
    assert_trades(
        &result,
        [
            (7, 12, 102.2511, 101.1494, -11.932_302_25, 0.460_129_95 + 0.455_172_3),
            (19, 25, 102.2511, 102.648_65, 3.053_451_125, 0.460_129_95 + 0.461_918_925),
        ],
    );
    assert_close("final equity", result.final_equity, 9_991.121_148_875, 1e-12);
    assert_close("max drawdown", result.max_drawdown, -0.004_980_031_781_801_508, 1e-9);
    let factor = result.profit_factor.expect("a profit factor");
    assert_close("profit factor", factor, 0.255_898, 2e-6);
    assert_close("sharpe", result.sharpe.expect("sharpe"), -0.547_074_790_148_070_4, 1e-9);
    assert_close("sortino", result.sortino.expect("sortino"), -0.740_207_619_568_588_8, 1e-9);
    assert_close("calmar", result.calmar.expect("calmar"), -2.158_462_26, 3e-9);
    assert_close("cagr", result.cagr.expect("cagr"), -0.010_749_210_6, 5e-9);
    assert_close("fees", result.fees_paid, 1.837_351_125, 1e-9);
}

/// backtesting 0.6.6 on opens that jump, which tells a fill at the next open from a fill at the
/// signal's close: the latter ends at 9,993.16625.
#[test]
fn on_gaps_it_fills_at_the_next_open_and_not_at_the_close_of_the_signal() {
    let result = run(|bar| if bar % 2 == 1 { 0.8 } else { -0.5 }, 0.0);
    assert_trades(
        &result,
        [(7, 12, 102.8, 100.5, -23.914_85, 0.914_85), (19, 25, 102.8, 103.3, 4.072_55, 0.927_45)],
    );
    assert_close("fees", result.fees_paid, 1.8423, 1e-9);
    assert_close("final equity", result.final_equity, 9980.1577, 1e-12);
    assert_close("max drawdown", result.max_drawdown, -0.004_988_714_256_2, 1e-9);
    assert_close("sharpe", result.sharpe.expect("sharpe"), -1.286_549_400_7, 1e-9);
    assert_close("sortino", result.sortino.expect("sortino"), -1.655_136_827_0, 1e-9);
    assert_close("cagr", result.cagr.expect("cagr"), -0.023_875_801_2, 5e-9);

    for same_bar in [9_993.166_25, 9_991.128_748_875] {
        for (gap, slippage) in [(EVEN, 0.0), (EVEN, 0.000_5)] {
            assert!((run(gap, slippage).final_equity - same_bar).abs() > 1e-3);
        }
        assert!((result.final_equity - same_bar).abs() > 1.0);
    }
}
