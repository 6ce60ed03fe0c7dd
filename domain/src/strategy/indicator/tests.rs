//! Against TA-Lib 0.8.2, from the reference vectors of the project (8 decimals), and against
//! plain definitions.

use super::*;
use crate::strategy::graph::{Indicator as Kind, MacdLine};

const CLOSE: [f64; 20] = [
    100.0, 101.0, 102.5, 101.8, 103.2, 104.0, 103.1, 102.2, 104.8, 106.1, 105.4, 107.0, 108.3,
    107.7, 106.9, 109.2, 110.5, 109.8, 111.4, 112.0,
];

/// The readings of `kind` over [`CLOSE`], with high = close + 0.8 and low = close − 0.7.
fn readings(kind: Kind, close: &[f64]) -> Vec<Reading<f64>> {
    let mut state = State::new(kind);
    close
        .iter()
        .map(|&close| match &mut state {
            State::Single(indicator) => indicator.push(Reading::Known(close)),
            State::TrueRange(atr) => {
                atr.read([close + 0.8, close - 0.7, close].map(Reading::Known))
            }
        })
        .collect()
}

/// `expected` are the last values; every bar before them must be warm-up.
fn check(kind: Kind, expected: &[f64]) {
    let readings = readings(kind, &CLOSE);
    let (warm_up, known) = readings.split_at(CLOSE.len() - expected.len());
    for reading in warm_up {
        assert_eq!(*reading, Reading::Unknown(Unknown::WarmUp), "{kind:?}");
    }
    for (reading, expected) in known.iter().zip(expected) {
        let value = reading.known().expect("known");
        assert!((value - expected).abs() <= 1e-8, "{kind:?}: {value} is not {expected}");
    }
}

/// `talib_sma5`, `talib_ema5`.
#[test]
fn moving_averages_equal_ta_lib() {
    check(
        Kind::Sma(5),
        &[
            101.7, 102.5, 102.92, 102.86, 103.46, 104.04, 104.32, 105.1, 106.32, 106.9, 107.06,
            107.82, 108.52, 108.82, 109.56, 110.58,
        ],
    );
    check(
        Kind::Ema(5),
        &[
            101.7,
            102.46666667,
            102.67777778,
            102.51851852,
            103.27901235,
            104.21934156,
            104.61289438,
            105.40859625,
            106.3723975,
            106.81493167,
            106.84328778,
            107.62885852,
            108.58590568,
            108.99060379,
            109.79373586,
            110.52915724,
        ],
    );
}

/// `talib_rsi14`, `talib_rsi5`, `talib_atr5`.
#[test]
fn wilder_s_indicators_equal_ta_lib() {
    check(
        Kind::Rsi(14),
        &[71.42857143, 75.23809524, 77.09689774, 73.88086443, 76.3130637, 77.17154878],
    );
    check(
        Kind::Rsi(5),
        &[
            87.03703704,
            72.03065134,
            59.25925926,
            75.16214269,
            80.03331,
            70.70061997,
            78.0227997,
            82.47172011,
            73.84721289,
            62.88657287,
            75.7965785,
            80.57144649,
            71.12686011,
            78.37079196,
            80.64680288,
        ],
    );
    check(
        Kind::Atr(5),
        &[
            1.88, 1.824, 1.7792, 2.10336, 2.102688, 1.9821504, 2.06572032, 2.07257626, 1.958061,
            1.8664488, 2.11315904, 2.11052723, 1.98842179, 2.07073743, 1.95658994,
        ],
    );
}

/// `roc5_pct`, `macd`, `macdsig` (periods 3, 6, 4).
#[test]
fn rate_of_change_and_macd_equal_ta_lib() {
    check(
        Kind::Roc(5),
        &[
            4.0,
            2.07920792,
            -0.29268293,
            2.94695481,
            2.81007752,
            1.34615385,
            3.78273521,
            5.96868885,
            2.76717557,
            0.75400566,
            3.60531309,
            3.27102804,
            1.38504155,
            3.4354689,
            4.77081384,
        ],
    );
    let macd = [
        0.68096453, 0.99801038, 0.81866813, 0.98052188, 1.17682366, 0.95024235, 0.56214297,
        0.83608706, 1.09305465, 0.87867813, 1.01944678, 1.05265747,
    ];
    let signal = [
        0.643668, 0.78540495, 0.79871022, 0.87143488, 0.9935904, 0.97625118, 0.81060789,
        0.82079956, 0.92970159, 0.90929221, 0.95335404, 0.99307541,
    ];
    let line = |line| Kind::Macd { fast: 3, slow: 6, signal: 4, line };
    check(line(MacdLine::Macd), &macd);
    check(line(MacdLine::Signal), &signal);

    // The histogram's reference has twice the rounding.
    let histogram = readings(line(MacdLine::Histogram), &CLOSE);
    for ((macd, signal), reading) in macd.iter().zip(&signal).zip(&histogram[8..]) {
        let value = reading.known().expect("known");
        assert!((value - (macd - signal)).abs() <= 2e-8);
    }
}

/// `bb_up`, `bb_mid`, `bb_lo` (5, 2) and `talib_stddev5_pop` give the place and the score; their
/// 8 decimals are divided by a spread of about 2, which leaves a little less than 8.
#[test]
fn bollinger_position_and_score_follow_ta_lib_s_bands() {
    let bands = [
        (103.94142812, 101.7, 99.45857188, 1.12071406),
        (104.59380037, 102.5, 100.40619963, 1.04690019),
        (104.39186956, 102.92, 101.44813044, 0.73593478),
    ];
    let position = readings(Kind::BbPos { period: 5, width: 2.0 }, &CLOSE);
    let score = readings(Kind::ZScore(5), &CLOSE);
    for (offset, (upper, middle, lower, deviation)) in bands.into_iter().enumerate() {
        let bar = 4 + offset;
        let expected = (CLOSE[bar] - lower) / (upper - lower);
        assert!((position[bar].known().expect("known") - expected).abs() < 2e-8);
        let expected = (CLOSE[bar] - middle) / deviation;
        assert!((score[bar].known().expect("known") - expected).abs() < 3e-8);
    }
    assert_eq!(position[3], Reading::Unknown(Unknown::WarmUp));
}

#[test]
fn extremes_equal_a_scan_of_the_window() {
    for period in [1, 2, 3, 7, 20] {
        let highest = readings(Kind::Highest(period), &CLOSE);
        let lowest = readings(Kind::Lowest(period), &CLOSE);
        for bar in 0..CLOSE.len() {
            let window = (bar + 1).checked_sub(period).map(|start| &CLOSE[start..=bar]);
            let by =
                |pick: fn(f64, f64) -> f64| window.and_then(|w| w.iter().copied().reduce(pick));
            assert_eq!(highest[bar].known(), by(f64::max), "highest {period} at {bar}");
            assert_eq!(lowest[bar].known(), by(f64::min), "lowest {period} at {bar}");
        }
    }
}

#[test]
fn flat_and_one_sided_windows_have_stated_values() {
    let check = |kind, close: &[f64], expected: Reading<f64>| {
        assert_eq!(*readings(kind, close).last().expect("bars"), expected, "{kind:?}");
    };
    let flat = [0.1; 12];
    let rising: Vec<f64> = (1..=12_u8).map(f64::from).collect();
    let falling: Vec<f64> = rising.iter().rev().copied().collect();
    check(Kind::Rsi(5), &flat, Reading::Known(50.0));
    check(Kind::Rsi(5), &rising, Reading::Known(100.0));
    check(Kind::Rsi(5), &falling, Reading::Known(0.0));
    check(Kind::ZScore(5), &flat, Reading::Unknown(Unknown::DivisionByZero));
    check(Kind::BbPos { period: 5, width: 2.0 }, &flat, Reading::Unknown(Unknown::DivisionByZero));
    check(Kind::Roc(5), &[0.0; 12], Reading::Unknown(Unknown::DivisionByZero));
    // Not 0.10000000000000002, whatever the period: averages of a flat market must not cross.
    for period in 1..=12 {
        check(Kind::Sma(period), &flat, Reading::Known(0.1));
    }
}

#[test]
fn an_average_forgets_an_outlier_and_does_not_drift() {
    let mut close = vec![1e15; 3];
    close.extend((0..1_000).map(|bar| 0.1 + f64::from(bar % 7) * 0.01));
    let last = readings(Kind::Sma(7), &close).last().expect("bars").known().expect("known");
    assert!((last - 0.13).abs() < 1e-15, "{last}");
}

#[test]
fn an_unknown_input_starts_the_window_again() {
    for kind in [
        Kind::Sma(3),
        Kind::Ema(3),
        Kind::Rsi(3),
        Kind::Roc(3),
        Kind::Macd { fast: 2, slow: 3, signal: 2, line: MacdLine::Macd },
        Kind::BbPos { period: 3, width: 2.0 },
        Kind::ZScore(3),
        Kind::Highest(3),
        Kind::Lowest(3),
    ] {
        let State::Single(mut broken) = State::new(kind) else { unreachable!("one input") };
        let State::Single(mut fresh) = State::new(kind) else { unreachable!("one input") };
        for close in CLOSE {
            broken.push(Reading::Known(close * 3.0));
        }
        let stale = Reading::Unknown(Unknown::Stale);
        assert_eq!(broken.push(stale), stale);
        for close in CLOSE {
            let value = Reading::Known(close);
            assert_eq!(broken.push(value), fresh.push(value), "{kind:?}");
        }
    }
}

#[test]
fn a_sum_that_overflows_is_unknown_once_and_not_for_ever() {
    for kind in [Kind::Sma(2), Kind::Ema(2), Kind::Rsi(2), Kind::ZScore(2), Kind::Roc(2)] {
        let State::Single(mut indicator) = State::new(kind) else { unreachable!("one input") };
        let huge = [f64::MAX, -f64::MAX, f64::MAX, -f64::MAX];
        for value in huge.into_iter().chain(CLOSE) {
            if let Reading::Known(value) = indicator.push(Reading::Known(value)) {
                assert!(value.is_finite());
            }
        }
        assert!(indicator.push(Reading::Known(100.0)).known().is_some(), "{kind:?}");
    }
}
