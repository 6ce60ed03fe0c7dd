//! Indicators: one number in, one reading out, a fixed amount of memory each.
//!
//! Every indicator is incremental and has seen nothing but the past. An unknown input starts it
//! again: a window with a hole is no window.

mod average;
mod bands;
mod extreme;
mod macd;
mod wilder;
mod window;

pub(super) use wilder::Atr;
pub(super) use window::Window;

use super::graph;
use super::reading::{Reading, Unknown};
use average::{Ema, Sma};
use bands::{Bands, Spread};
use extreme::Extreme;
use macd::Macd;
use wilder::Rsi;

/// The running state of an indicator of one input.
#[derive(Debug, Clone)]
pub(super) enum Indicator {
    Sma(Sma),
    Ema(Ema),
    Rsi(Rsi),
    Roc(Window),
    Macd(Macd),
    Bands(Bands),
    Extreme(Extreme),
}

/// The running state of an indicator of any number of inputs.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Of one number.
    Single(Indicator),
    /// Of high, low and close.
    TrueRange(Atr),
}

impl State {
    /// The state before the first bar.
    pub(super) fn new(indicator: graph::Indicator) -> Self {
        use graph::Indicator as Kind;
        Self::Single(match indicator {
            Kind::Atr(period) => return Self::TrueRange(Atr::new(period)),
            Kind::Sma(period) => Indicator::Sma(Sma::new(period)),
            Kind::Ema(period) => Indicator::Ema(Ema::new(period)),
            Kind::Rsi(period) => Indicator::Rsi(Rsi::new(period)),
            Kind::Roc(period) => Indicator::Roc(Window::new(period)),
            Kind::Macd { fast, slow, signal, line } => {
                Indicator::Macd(Macd::new(fast, slow, signal, line))
            }
            Kind::BbPos { period, width } => {
                Indicator::Bands(Bands::new(period, Spread::Position { width }))
            }
            Kind::ZScore(period) => Indicator::Bands(Bands::new(period, Spread::Score)),
            Kind::Highest(period) => Indicator::Extreme(Extreme::highest(period)),
            Kind::Lowest(period) => Indicator::Extreme(Extreme::lowest(period)),
        })
    }
}

impl Indicator {
    /// Takes the input of the next bar and gives the indicator's value on it.
    #[inline]
    pub(super) fn push(&mut self, input: Reading<f64>) -> Reading<f64> {
        let Reading::Known(value) = input else {
            self.reset();
            return input;
        };
        let output = match self {
            Self::Sma(sma) => warm(sma.push(value)),
            Self::Ema(ema) => warm(ema.push(value)),
            Self::Rsi(rsi) => warm(rsi.push(value)),
            Self::Roc(window) => rate_of_change(window.push(value), value),
            Self::Macd(macd) => warm(macd.push(value)),
            Self::Bands(bands) => bands.push(value),
            Self::Extreme(extreme) => warm(extreme.push(value)),
        };
        // A sum that has overflowed would stay infinite: the next bar begins a new window.
        if output == Reading::Unknown(Unknown::Overflow) {
            self.reset();
        }
        output
    }

    fn reset(&mut self) {
        match self {
            Self::Sma(sma) => sma.reset(),
            Self::Ema(ema) => ema.reset(),
            Self::Rsi(rsi) => rsi.reset(),
            Self::Roc(window) => window.clear(),
            Self::Macd(macd) => macd.reset(),
            Self::Bands(bands) => bands.reset(),
            Self::Extreme(extreme) => extreme.reset(),
        }
    }
}

impl Atr {
    /// Takes high, low and close of the next bar and gives the indicator's value on it.
    pub(super) fn read(&mut self, bar: [Reading<f64>; 3]) -> Reading<f64> {
        let [high, low, close] = bar;
        let output = match high.zip(low).zip(close) {
            Reading::Known(((high, low), close)) => warm(self.push(high, low, close)),
            Reading::Unknown(reason) => {
                self.reset();
                return Reading::Unknown(reason);
            }
        };
        if output == Reading::Unknown(Unknown::Overflow) {
            self.reset();
        }
        output
    }
}

fn warm(value: Option<f64>) -> Reading<f64> {
    value.map_or(Reading::Unknown(Unknown::WarmUp), Reading::number)
}

fn rate_of_change(earlier: Option<f64>, now: f64) -> Reading<f64> {
    match earlier {
        None => Reading::Unknown(Unknown::WarmUp),
        Some(0.0) => Reading::Unknown(Unknown::DivisionByZero),
        Some(earlier) => Reading::number((now / earlier - 1.0) * 100.0),
    }
}

#[cfg(test)]
mod tests;
