use super::*;
use crate::backtesting::result::ExitReason;
use crate::strategy::Side;

/// REF set M1 (domain.md §5.3): 20 daily returns from 100,000.
const M1: [f64; 20] = [
    0.012, -0.008, 0.005, 0.0, -0.015, 0.021, 0.003, -0.004, 0.009, -0.011, 0.007, 0.002, -0.006,
    0.018, -0.009, 0.004, 0.0, -0.013, 0.010, 0.006,
];

fn curve(initial: f64, returns: &[f64]) -> Vec<f64> {
    returns
        .iter()
        .scan(initial, |equity, r| {
            *equity *= 1.0 + r;
            Some(*equity)
        })
        .collect()
}

fn assert_close(name: &str, value: f64, expected: f64) {
    let error = (value - expected).abs() / expected.abs();
    assert!(error <= 1e-9, "{name}: {value} is not {expected} (relative error {error:e})");
}

/// empyrical-reloaded 0.7.1, equal to quantstats 0.0.86 and vectorbt 1.0.0.
#[test]
fn the_reference_set_has_the_figures_of_empyrical() {
    let check = |periods: f64, cagr: f64, vol: f64, sharpe: f64, sortino: f64, calmar: f64| {
        let measured = Performance::measure(100_000.0, &curve(100_000.0, &M1), periods);
        assert_close("total", measured.total_return, 0.030_488_565_737_222_25);
        assert_close("cagr", measured.cagr.expect("cagr"), cagr);
        assert_close("volatility", measured.volatility.expect("volatility"), vol);
        assert_close("sharpe", measured.sharpe.expect("sharpe"), sharpe);
        assert_close("sortino", measured.sortino.expect("sortino"), sortino);
        assert_close("drawdown", measured.drawdown.depth, -0.017_994_4);
        assert_close("calmar", measured.calmar.expect("calmar"), calmar);
    };
    check(
        365.0,
        0.729_967_659_510_657_5,
        0.190_694_954_808_651_6,
        2.966_780_115_224_802,
        4.963_101_207_461_481,
        40.566_379_513_106_44,
    );
    check(
        252.0,
        0.459_970_340_275_475_56,
        0.158_450_291_059_505_8,
        2.465_126_427_904_828_6,
        4.123_889_023_016_66,
        25.561_860_371_863_81,
    );
    assert_close(
        "final equity",
        *curve(100_000.0, &M1).last().expect("bars"),
        103_048.856_573_722_22,
    );
}

#[test]
fn figures_without_a_meaning_say_why() {
    use Undefined::{InsufficientSamples, NoDownside, NoDrawdown, Overflow, ZeroVariance};
    let measure = |returns: &[f64]| Performance::measure(1_000.0, &curve(1_000.0, returns), 365.0);

    let flat = measure(&[0.0; 20]);
    assert_eq!((flat.total_return, flat.cagr, flat.volatility), (0.0, Ok(0.0), Ok(0.0)));
    assert_eq!((flat.sharpe, flat.sortino), (Err(ZeroVariance), Err(NoDownside)));
    assert_eq!((flat.drawdown.depth, flat.calmar), (0.0, Err(NoDrawdown)));

    // Equal returns differ by rounding, which is no variance.
    for constant in [0.01, 1e-6, 0.3] {
        let constant = measure(&[constant; 20]);
        assert_eq!(constant.sharpe, Err(ZeroVariance));
        assert_eq!(constant.sortino, Err(NoDownside));
        assert_eq!(constant.calmar, Err(NoDrawdown));
    }

    let rising = measure(&[0.01, 0.02, 0.01]);
    assert!(rising.sharpe.is_ok());
    assert_eq!((rising.sortino, rising.calmar), (Err(NoDownside), Err(NoDrawdown)));

    for few in [&[][..], &[0.05], &[-0.05]] {
        let few = measure(few);
        let all = [few.cagr, few.volatility, few.sharpe, few.sortino, few.calmar];
        assert_eq!(all, [Err(InsufficientSamples); 5]);
    }

    // 1.5^(525600/10) is beyond a number.
    let minutes = Performance::measure(1_000.0, &curve(1_000.0, &[0.05; 10]), 525_600.0);
    assert_eq!((minutes.cagr, minutes.calmar), (Err(Overflow), Err(Overflow)));
}

#[test]
fn a_loss_on_the_first_day_is_a_drawdown_from_the_start() {
    let measured = Performance::measure(1_000.0, &[900.0, 950.0], 365.0);
    assert!((measured.drawdown.depth + 0.1).abs() < 1e-15);
    assert_eq!((measured.drawdown.peak, measured.drawdown.trough), (0, 0));
}

#[test]
fn the_deepest_fall_knows_its_peak_and_its_trough() {
    let equity = [100.0, 120.0, 110.0, 130.0, 91.0, 140.0, 120.0];
    let drawdown = Performance::measure(100.0, &equity, 365.0).drawdown;
    assert_eq!((drawdown.peak, drawdown.trough), (3, 4));
    assert!((drawdown.depth + 0.3).abs() < 1e-15);
}

#[test]
fn ruin_is_minus_one_hundred_percent() {
    let measured = Performance::measure(1_000.0, &[1_000.0, 400.0, 0.0, 0.0], 365.0);
    assert_eq!((measured.total_return, measured.cagr), (-1.0, Ok(-1.0)));
    assert_eq!((measured.drawdown.depth, measured.calmar), (-1.0, Ok(-1.0)));
    assert!(measured.sharpe.expect("sharpe").is_finite());
}

#[test]
fn trades_are_counted_in_money() {
    let check = |pnls: &[f64], win_rate: Metric, profit_factor: Metric| {
        let trades: Vec<Trade> = pnls
            .iter()
            .map(|&pnl| Trade {
                side: Side::Long,
                entry_time_ms: 0,
                entry_price: 1.0,
                exit_time_ms: 1,
                exit_price: 1.0,
                size: 1.0,
                pnl,
                fees: 0.0,
                exit_reason: ExitReason::Signal,
                open_at_end: false,
            })
            .collect();
        let statistics = TradeStatistics::measure(&trades);
        assert_eq!(statistics, TradeStatistics { win_rate, profit_factor }, "{pnls:?}");
    };
    check(&[], Err(Undefined::NoTrades), Err(Undefined::NoTrades));
    check(&[5.0, -2.0, 3.0, -2.0], Ok(0.5), Ok(2.0));
    check(&[5.0, 3.0], Ok(1.0), Err(Undefined::NoLosses));
    check(&[-5.0], Ok(0.0), Ok(0.0));
    // A trade that gained nothing is no winner and no loss.
    check(&[0.0, 4.0], Ok(0.5), Err(Undefined::NoLosses));
}
