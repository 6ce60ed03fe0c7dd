//! The market behind the simulated exchange: every perpetual at any time, past or present.
//!
//! Nothing moves by itself: a minute is decided by the seed and its time, its trades are made to fit
//! it, and candles, quotes and figures are read off those. So a year of history exists at once,
//! and what was streamed is what a later request is told.

mod book;
mod candle;
mod context;
mod interval;
mod perpetual;
mod tape;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use self::book::{Level, Quote};
pub(crate) use self::candle::Bar;
pub(crate) use self::context::Context;
pub(crate) use self::interval::Interval;
pub(crate) use self::perpetual::{MINUTE_MS, Perpetual};
pub(crate) use self::tape::Trade;

use self::perpetual::Minute;
use super::random::Noise;

/// When trading began: 2025-01-01. There is no history before it.
pub(crate) const OPENED_MS: i64 = 1_735_689_600_000;

/// Tapes that are kept at once, for each perpetual.
const TAPES: usize = 8;
/// Bars of an hour or longer that are kept at once, for each perpetual.
const BARS: usize = 6_000;

/// Every perpetual of the exchange.
#[derive(Debug)]
pub(crate) struct Market {
    perpetuals: Vec<Perpetual>,
    noise: Noise,
    made: Mutex<Made>,
}

/// What was made already: only a saving of work.
#[derive(Debug, Default)]
struct Made {
    tapes: HashMap<(usize, i64), Arc<[Trade]>>,
    bars: HashMap<(usize, Interval, i64), Bar>,
    days: HashMap<usize, (i64, context::Day)>,
}

impl Market {
    /// A market of the named perpetuals, `pace` times as busy as the figures say.
    pub(crate) fn new(seed: u64, coins: &[String], pace: u32) -> Self {
        let noise = Noise::new(seed);
        let mut perpetuals: Vec<_> =
            coins.iter().map(|name| Perpetual::new(name, noise, pace)).collect();
        // One coin of the past, as on the exchange.
        perpetuals.push(Perpetual::delisted("MATIC", 0.376_18, noise));
        Self { perpetuals, noise, made: Mutex::default() }
    }

    pub(crate) fn noise(&self) -> Noise {
        self.noise
    }

    pub(crate) fn perpetuals(&self) -> &[Perpetual] {
        &self.perpetuals
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.perpetuals.iter().position(|perpetual| perpetual.name == name)
    }

    /// The trades after `after_ms`, up to and with `until_ms`, oldest first.
    pub(crate) fn trades(&self, coin: usize, after_ms: i64, until_ms: i64) -> Vec<Trade> {
        let mut trades = Vec::new();
        let mut open_ms = Interval::M1.floor(after_ms.max(OPENED_MS));
        while open_ms <= until_ms {
            let tape = self.tape(coin, open_ms);
            let new = |trade: &&Trade| trade.time_ms > after_ms && trade.time_ms <= until_ms;
            trades.extend(tape.iter().filter(new));
            open_ms += MINUTE_MS;
        }
        trades
    }

    /// The last trade of the hour up to a time.
    pub(crate) fn last_trade(&self, coin: usize, at_ms: i64) -> Option<Trade> {
        let open_ms = Interval::M1.floor(at_ms);
        (0..60).find_map(|minutes| {
            let tape = self.tape(coin, open_ms - minutes * MINUTE_MS);
            tape.iter().rfind(|trade| trade.time_ms <= at_ms).copied()
        })
    }

    fn tape(&self, coin: usize, open_ms: i64) -> Arc<[Trade]> {
        let Some(perpetual) = self.perpetuals.get(coin).filter(|perpetual| !perpetual.delisted)
        else {
            return Arc::new([]);
        };
        let mut made = self.made();
        if let Some(tape) = made.tapes.get(&(coin, open_ms)) {
            return Arc::clone(tape);
        }
        if made.tapes.len() >= TAPES * self.perpetuals.len() {
            made.tapes.clear();
        }
        let tape: Arc<[Trade]> = tape::tape(perpetual, &perpetual.minute(open_ms)).into();
        made.tapes.insert((coin, open_ms), Arc::clone(&tape));
        tape
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
