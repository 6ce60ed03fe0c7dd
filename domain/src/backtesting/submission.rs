//! Whether a back-test may be queued.
//!
//! [`services::backtests::submit`](crate::services::backtests::submit) loads the history, asks
//! here, and saves.

use crate::market::Interval;
use crate::strategy::ValidGraph;

/// What somebody asks to be back-tested.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestRequest {
    /// Who asks; limits count per user.
    pub user_id: i64,
    /// The clone whose strategy it is, if it is one's.
    pub clone_id: Option<i64>,
    /// The strategy.
    pub graph: ValidGraph,
    /// The instrument.
    pub symbol: String,
    /// The bars to run over.
    pub interval: Interval,
    /// Open time of the first bar, inclusive, epoch milliseconds; `None`: from the beginning.
    pub from_ms: Option<i64>,
    /// End, exclusive, epoch milliseconds; `None`: to the end.
    pub to_ms: Option<i64>,
    /// Cash at the start, USD.
    pub initial_cash: f64,
    /// Fee per side as a fraction of the notional: 0.00045 is 0.045 %.
    pub fee_rate: f64,
    /// Slippage per fill as a fraction of the price.
    pub slippage_rate: f64,
    /// Lower is claimed first; 0 unless there is a reason.
    pub priority: i32,
}

impl BacktestRequest {
    /// Cash at the start unless asked otherwise, USD.
    pub const DEFAULT_CASH: f64 = 10_000.0;
    /// Fee per side unless asked otherwise: 0.045 %.
    pub const DEFAULT_FEE_RATE: f64 = 0.000_45;
    /// Slippage unless asked otherwise: none.
    pub const DEFAULT_SLIPPAGE_RATE: f64 = 0.0;
}

/// The stored history of the request's symbol and interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Open time of its first bar, epoch milliseconds.
    pub first_ms: i64,
    /// Open time of its last bar, epoch milliseconds.
    pub last_ms: i64,
}

/// A request that passed [`validate`].
#[derive(Debug, Clone, PartialEq)]
pub struct NewBacktest {
    request: BacktestRequest,
}

impl NewBacktest {
    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &BacktestRequest {
        &self.request
    }
}

/// Why a back-test is not queued.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// A field holds what it may not.
    #[error("{field} is `{value}`, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The graph was made for bars of another length: its periods would mean something else.
    #[error("interval is `{asked}`, expected `{timeframe}`: the timeframe of graph `{name}`")]
    Timeframe {
        /// The interval asked for.
        asked: Interval,
        /// The graph's own.
        timeframe: Interval,
        /// The graph's name.
        name: String,
    },
    /// There is nothing to run over.
    #[error("symbol `{symbol}` has no {interval} candles; import them first")]
    NoHistory {
        /// The symbol.
        symbol: String,
        /// The interval.
        interval: Interval,
    },
    /// The times are the wrong way round.
    #[error("from_ms is `{from_ms}`, expected a time before to_ms, which is `{to_ms}`")]
    EmptyRange {
        /// The beginning.
        from_ms: i64,
        /// The end.
        to_ms: i64,
    },
    /// The range and the history do not meet.
    #[error(
        "from_ms `{}` to to_ms `{}` is outside the history, which is from {first_ms} to {last_ms}",
        shown(*from_ms), shown(*to_ms)
    )]
    OutsideHistory {
        /// The beginning, if one was asked for.
        from_ms: Option<i64>,
        /// The end, if one was asked for.
        to_ms: Option<i64>,
        /// Open time of the first stored bar.
        first_ms: i64,
        /// Open time of the last stored bar.
        last_ms: i64,
    },
}

/// The most cash that a back-test starts with, USD: beyond it doubles no longer hold cents well.
const MOST_CASH: f64 = 1e12;

/// The highest fee or slippage: more than this is a percentage given as a fraction.
const HIGHEST_RATE: f64 = 0.1;

/// Checks a request against the stored history of its symbol and interval (`None`: there is none).
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(
    request: BacktestRequest,
    history: Option<History>,
) -> Result<NewBacktest, SubmissionError> {
    check_id("user_id", request.user_id)?;
    if let Some(clone_id) = request.clone_id {
        check_id("clone_id", clone_id)?;
    }
    check_timeframe(request.interval, &request.graph)?;
    let cash = request.initial_cash;
    if !(cash > 0.0 && cash <= MOST_CASH) {
        return Err(wrong("initial_cash", cash, "USD above 0, at most 1e12"));
    }
    check_rate("fee_rate", request.fee_rate)?;
    check_rate("slippage_rate", request.slippage_rate)?;
    check_range(&request, history)?;
    Ok(NewBacktest { request })
}

fn check_id(field: &'static str, id: i64) -> Result<(), SubmissionError> {
    if id > 0 { Ok(()) } else { Err(wrong(field, id, "a whole number above 0")) }
}

fn check_rate(field: &'static str, rate: f64) -> Result<(), SubmissionError> {
    if (0.0..=HIGHEST_RATE).contains(&rate) {
        Ok(())
    } else {
        Err(wrong(field, rate, "a fraction from 0 to 0.1 (0.00045 is 0.045 %)"))
    }
}

fn check_timeframe(asked: Interval, graph: &ValidGraph) -> Result<(), SubmissionError> {
    let graph = graph.graph();
    if asked == graph.timeframe {
        return Ok(());
    }
    Err(SubmissionError::Timeframe { asked, timeframe: graph.timeframe, name: graph.name.clone() })
}

fn check_range(request: &BacktestRequest, history: Option<History>) -> Result<(), SubmissionError> {
    let &BacktestRequest { from_ms, to_ms, interval, .. } = request;
    if let Some((from_ms, to_ms)) = from_ms.zip(to_ms)
        && from_ms >= to_ms
    {
        return Err(SubmissionError::EmptyRange { from_ms, to_ms });
    }
    let Some(History { first_ms, last_ms }) = history else {
        return Err(SubmissionError::NoHistory { symbol: request.symbol.clone(), interval });
    };
    if from_ms.is_some_and(|from| from > last_ms) || to_ms.is_some_and(|to| to <= first_ms) {
        return Err(SubmissionError::OutsideHistory { from_ms, to_ms, first_ms, last_ms });
    }
    Ok(())
}

fn wrong(field: &'static str, value: impl ToString, expected: &'static str) -> SubmissionError {
    SubmissionError::Field { field, value: value.to_string(), expected }
}

fn shown(end_ms: Option<i64>) -> String {
    end_ms.map_or_else(|| "open".to_owned(), |end_ms| end_ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::{BacktestRequest, History, Interval, validate};
    use crate::strategy::default_graph;

    fn request() -> BacktestRequest {
        BacktestRequest {
            user_id: 7,
            clone_id: None,
            graph: default_graph(),
            symbol: "BTC".into(),
            interval: Interval::H1,
            from_ms: None,
            to_ms: None,
            initial_cash: BacktestRequest::DEFAULT_CASH,
            fee_rate: BacktestRequest::DEFAULT_FEE_RATE,
            slippage_rate: BacktestRequest::DEFAULT_SLIPPAGE_RATE,
            priority: 0,
        }
    }

    const HISTORY: Option<History> = Some(History { first_ms: 100, last_ms: 200 });

    #[test]
    fn a_request_over_stored_bars_passes() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut BacktestRequest)) {
            let mut request = request();
            change(&mut request);
            assert_eq!(validate(request.clone(), HISTORY).unwrap().request(), &request);
        }
        check(|_| {});
        check(|request| request.clone_id = Some(1));
        check(|request| (request.from_ms, request.to_ms) = (Some(200), Some(201)));
        check(|request| (request.from_ms, request.to_ms) = (Some(-5), Some(101)));
        check(|request| (request.fee_rate, request.slippage_rate) = (0.0, 0.1));
    }

    #[test]
    fn a_bad_request_is_named_by_field_and_value() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut BacktestRequest), expected: &str) {
            let mut request = request();
            change(&mut request);
            assert_eq!(validate(request, HISTORY).unwrap_err().to_string(), expected);
        }
        check(|new| new.user_id = 0, "user_id is `0`, expected a whole number above 0");
        check(|new| new.clone_id = Some(-1), "clone_id is `-1`, expected a whole number above 0");
        check(
            |new| new.interval = Interval::D1,
            "interval is `1d`, expected `1h`: the timeframe of graph `sma-cross`",
        );
        const CASH: &str = "expected USD above 0, at most 1e12";
        for (cash, shown) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (2e12, "2000000000000"),
        ] {
            check(|new| new.initial_cash = cash, &format!("initial_cash is `{shown}`, {CASH}"));
        }
        const RATE: &str = "expected a fraction from 0 to 0.1 (0.00045 is 0.045 %)";
        for (rate, shown) in [(-0.001, "-0.001"), (0.11, "0.11"), (f64::NAN, "NaN")] {
            check(|new| new.fee_rate = rate, &format!("fee_rate is `{shown}`, {RATE}"));
            check(|new| new.slippage_rate = rate, &format!("slippage_rate is `{shown}`, {RATE}"));
        }
        check(
            |new| (new.from_ms, new.to_ms) = (Some(150), Some(150)),
            "from_ms is `150`, expected a time before to_ms, which is `150`",
        );
        const OUTSIDE: &str = "is outside the history, which is from 100 to 200";
        check(|new| new.from_ms = Some(201), &format!("from_ms `201` to to_ms `open` {OUTSIDE}"));
        check(|new| new.to_ms = Some(100), &format!("from_ms `open` to to_ms `100` {OUTSIDE}"));
    }

    #[test]
    fn a_symbol_without_candles_is_refused_and_told_what_to_do() {
        let error = validate(request(), None).unwrap_err().to_string();
        assert_eq!(error, "symbol `BTC` has no 1h candles; import them first");
    }
}
