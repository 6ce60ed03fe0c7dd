//! One perpetual: what is fixed of it, where its price is at any time, and its minutes.

use crate::venues::random::Noise;

pub(crate) const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// A perpetual of the simulated exchange.
#[derive(Debug, Clone)]
pub(crate) struct Perpetual {
    pub(crate) name: String,
    /// Digits of a size after the point; a price has at most six less.
    pub(crate) size_decimals: u32,
    pub(crate) max_leverage: u32,
    pub(crate) delisted: bool,
    /// The price around which it moves, in USD.
    base: f64,
    /// By how much it moves in a day, as a fraction.
    volatility: f64,
    /// Trades in a minute, on average.
    trades: u64,
    /// USD that change hands in a minute, on average.
    turnover: f64,
    noise: Noise,
}

/// Name, size decimals, leverage, price, volatility, trades per minute, turnover per minute in USD.
type Facts = (&'static str, u32, u32, f64, f64, u64, f64);

const LISTED: [Facts; 10] = [
    ("BTC", 5, 40, 84_000.0, 0.025, 110, 2_900_000.0),
    ("ETH", 4, 25, 2_300.0, 0.034, 80, 1_400_000.0),
    ("SOL", 2, 20, 142.0, 0.045, 60, 520_000.0),
    ("HYPE", 2, 10, 38.0, 0.055, 50, 310_000.0),
    ("XRP", 0, 20, 2.1, 0.04, 34, 160_000.0),
    ("DOGE", 0, 10, 0.165, 0.05, 28, 90_000.0),
    ("AVAX", 2, 10, 21.5, 0.05, 18, 40_000.0),
    ("LINK", 1, 10, 14.2, 0.045, 14, 30_000.0),
    ("kPEPE", 0, 10, 0.0078, 0.065, 20, 60_000.0),
    // Some of its minutes pass without a trade.
    ("DYDX", 1, 5, 0.61, 0.05, 1, 900.0),
];

impl Perpetual {
    /// A perpetual by its name. A name that is not known gets figures of its own from the seed.
    pub(crate) fn new(name: &str, seed: Noise, pace: u32) -> Self {
        let noise = seed.of(name);
        let known = LISTED.iter().find(|(listed, ..)| *listed == name);
        let (_, size_decimals, max_leverage, base, volatility, trades, turnover) =
            known.copied().unwrap_or_else(|| {
                let price = 0.5 + 40.0 * noise.of("base").unit();
                ("", 1, 5, price, 0.05, 12, 20_000.0)
            });
        let trades = trades * u64::from(pace.max(1));
        let delisted = false;
        let name = name.to_owned();
        Self {
            name,
            size_decimals,
            max_leverage,
            delisted,
            base,
            volatility,
            trades,
            turnover,
            noise,
        }
    }

    /// A perpetual that is traded no more.
    pub(crate) fn delisted(name: &str, price: f64, seed: Noise) -> Self {
        Self { base: price, delisted: true, ..Self::new(name, seed, 1) }
    }

    /// Names that are listed unless others are asked for.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        LISTED.iter().map(|(name, ..)| *name)
    }

    pub(crate) fn noise(&self) -> Noise {
        self.noise
    }

    /// Digits of a price after the point.
    pub(crate) fn price_decimals(&self) -> u32 {
        6_u32.saturating_sub(self.size_decimals)
    }

    /// The price at a time, not rounded, in USD.
    pub(crate) fn price(&self, at_ms: i64) -> f64 {
        if self.delisted {
            return self.base;
        }
        // From two minutes to 45 days; and a swing of hours, which is what strategies trade.
        let walk = self.noise.of("walk").walk(at_ms, 2 * MINUTE_MS, 16);
        let swing = self.noise.of("swing").smooth(at_ms, 5 * HOUR_MS);
        let x = self.volatility * (walk + 0.4 * swing);
        let half = (x / 2.0).clamp(-0.9, 0.9);
        self.base * (1.0 + half) / (1.0 - half)
    }

    /// How far the perpetual is above what it follows, as a fraction.
    pub(crate) fn premium(&self, at_ms: i64) -> f64 {
        let noise = self.noise.of("premium");
        0.0004 * noise.smooth(at_ms, 7 * HOUR_MS) + 0.0003 * noise.at(1).smooth(at_ms, HOUR_MS / 4)
    }

    /// Open interest in USD.
    pub(crate) fn open_interest(&self, at_ms: i64) -> f64 {
        self.turnover * 1_100.0 * (1.0 + 0.2 * self.noise.of("interest").smooth(at_ms, 9 * HOUR_MS))
    }

    /// A price in units of the last digit after the point, rounded to a price that may be quoted:
    /// five significant figures, whole numbers always.
    pub(crate) fn quotable(&self, price: f64) -> i64 {
        let units = price * 10_f64.powi(i32::try_from(self.price_decimals()).unwrap_or_default());
        let units = units.round() as i64;
        let tick = self.tick(units);
        ((units + tick / 2) / tick * tick).max(tick)
    }

    /// The step between prices near this one, in units.
    pub(crate) fn tick(&self, units: i64) -> i64 {
        let whole = 10_i64.pow(self.price_decimals());
        let figures = units.max(1).ilog10().saturating_sub(4);
        10_i64.pow(figures).min(whole)
    }

    /// What happens in the minute that begins at `open_ms`, decided as a whole.
    pub(crate) fn minute(&self, open_ms: i64) -> Minute {
        let noise = self.noise.of("minute").at(open_ms / MINUTE_MS);
        let (from, to) = (self.price(open_ms), self.price(open_ms + MINUTE_MS));
        let busy = 0.3 + 1.4 * self.noise.of("busy").smooth(open_ms, 3 * HOUR_MS).abs();
        let mean = self.trades as f64 * busy;
        let trades = (mean * (0.4 + 1.2 * noise.at(0).unit())).round() as u32;
        let (open, mut close) = (self.quotable(from), self.quotable(to));
        if trades < 2 {
            close = open;
        }
        let (mut high, mut low) = (open.max(close), open.min(close));
        if trades >= 4 {
            // A wick as long as about half a minute's move.
            let wick = from * self.volatility / 40.0;
            high = high.max(self.quotable(from.max(to) + wick * noise.at(1).unit()));
            low = low.min(self.quotable(from.min(to) - wick * noise.at(2).unit()));
        }
        let lots = self.turnover * busy * (0.3 + 1.4 * noise.at(3).unit()) / from
            * 10_f64.powi(i32::try_from(self.size_decimals).unwrap_or_default());
        let lots = (lots as i64).max(i64::from(trades));
        let volume = if trades == 0 { 0 } else { lots };
        Minute { open_ms, open, high, low, close, volume, trades }
    }
}

/// A minute of trading. Prices and volume are in units of their last digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Minute {
    pub(crate) open_ms: i64,
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) close: i64,
    pub(crate) volume: i64,
    pub(crate) trades: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_five_figures_or_is_whole() {
        let of = |name| Perpetual::new(name, Noise::new(1), 1);
        for (name, price, units) in [
            ("BTC", 84_143.26, 841_430),
            ("ETH", 2_296.456, 229_650),
            ("SOL", 142.123_4, 1_421_200),
            ("kPEPE", 0.007_812_34, 7_812),
            ("XRP", 2.123_456, 2_123_500),
        ] {
            assert_eq!(of(name).quotable(price), units, "{name}");
        }
    }

    #[test]
    fn a_minute_is_a_valid_candle_and_follows_the_one_before() {
        for name in ["BTC", "kPEPE", "DYDX", "NEW"] {
            let perpetual = Perpetual::new(name, Noise::new(3), 1);
            let minutes: Vec<_> = (0..3_000)
                .map(|minute| {
                    perpetual.minute(1_790_000_000_000 / MINUTE_MS * MINUTE_MS + minute * MINUTE_MS)
                })
                .collect();
            for pair in minutes.windows(2) {
                let [minute, next] = pair else { continue };
                assert!(
                    minute.low <= minute.open.min(minute.close) && minute.low > 0,
                    "{minute:?}"
                );
                assert!(minute.high >= minute.open.max(minute.close), "{minute:?}");
                assert!(minute.volume >= i64::from(minute.trades), "{minute:?}");
                assert!(minute.trades < 2 || minute.close == next.open, "{minute:?} {next:?}");
            }
            assert_eq!(name == "DYDX", minutes.iter().any(|minute| minute.trades == 0), "{name}");
        }
    }
}
