//! What the exchange says of a perpetual beside its trades: mark, oracle, funding, open interest.

use super::{Interval, MINUTE_MS, Market};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// The figures of a perpetual at a time, in USD and fractions, not rounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Of the price of the other exchanges.
    pub(crate) oracle: f64,
    /// Of the price that margins go by.
    pub(crate) mark: f64,
    pub(crate) premium: f64,
    /// The rate of the hour as far as it has gone.
    pub(crate) funding: f64,
    /// In coins.
    pub(crate) open_interest: f64,
    pub(crate) day: Day,
}

/// The 24 hours up to the minute.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Day {
    /// The price at their beginning, in units of its last digit.
    pub(crate) first_price: i64,
    /// Coins traded, in units of a size's last digit.
    pub(crate) volume: i128,
    /// USD traded, in millionths.
    pub(crate) notional: i128,
}

/// A rate of funding that was settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settlement {
    pub(crate) time_ms: i64,
    pub(crate) rate: f64,
    pub(crate) premium: f64,
}

impl Market {
    pub(crate) fn context(&self, coin: usize, at_ms: i64) -> Option<Context> {
        let perpetual = self.perpetuals.get(coin).filter(|perpetual| !perpetual.delisted)?;
        let price = perpetual.price(at_ms);
        let oracle = price / (1.0 + perpetual.premium(at_ms));
        // The mark stands between the oracle and the book, nearer to the book.
        let mark = oracle + (price - oracle) * 0.8;
        let open_interest = perpetual.open_interest(at_ms) / oracle;
        let hour_ms = Interval::H1.floor(at_ms);
        let premium = perpetual.premium(at_ms);
        let funding = rate(self.mean_premium(coin, hour_ms, at_ms));
        Some(Context { oracle, mark, premium, funding, open_interest, day: self.day(coin, at_ms) })
    }

    /// What was settled in `from_ms..=to_ms`, oldest first, at most `limit` hours of it.
    pub(crate) fn settlements(
        &self,
        coin: usize,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
    ) -> Vec<Settlement> {
        let Some(perpetual) = self.perpetuals.get(coin).filter(|perpetual| !perpetual.delisted)
        else {
            return Vec::new();
        };
        let mut hour_ms = Interval::H1.floor(from_ms.max(super::OPENED_MS));
        let mut settled = Vec::new();
        while hour_ms <= to_ms && settled.len() < limit {
            // A little after the hour, as on the exchange.
            let late = perpetual.noise().of("settlement").at(hour_ms / HOUR_MS).below(118);
            let time_ms = hour_ms + 1 + late.cast_signed();
            if time_ms >= from_ms && time_ms <= to_ms {
                let premium = self.mean_premium(coin, hour_ms - HOUR_MS, hour_ms - 1);
                settled.push(Settlement { time_ms, rate: rate(premium), premium });
            }
            hour_ms += HOUR_MS;
        }
        settled
    }

    fn mean_premium(&self, coin: usize, from_ms: i64, to_ms: i64) -> f64 {
        let Some(perpetual) = self.perpetuals.get(coin) else { return 0.0 };
        let samples = 1 + (to_ms - from_ms) / (5 * MINUTE_MS);
        let sum: f64 =
            (0..samples).map(|sample| perpetual.premium(from_ms + sample * 5 * MINUTE_MS)).sum();
        sum / samples as f64
    }

    fn day(&self, coin: usize, at_ms: i64) -> Day {
        let Some(perpetual) = self.perpetuals.get(coin) else { return Day::default() };
        let until_ms = Interval::M1.floor(at_ms);
        if let Some((made_ms, day)) = self.made().days.get(&coin)
            && *made_ms == until_ms
        {
            return *day;
        }
        let mut day =
            Day { first_price: perpetual.minute(until_ms - DAY_MS).open, ..Day::default() };
        for minute in 1..=DAY_MS / MINUTE_MS {
            let minute = perpetual.minute(until_ms - minute * MINUTE_MS);
            let middle = (i128::from(minute.high) + i128::from(minute.low)) / 2;
            day.volume += i128::from(minute.volume);
            // Units of a price times units of a size are millionths of a USD.
            day.notional += middle * i128::from(minute.volume);
        }
        self.made().days.insert(coin, (until_ms, day));
        day
    }
}

/// The rate of an hour by the exchange's formula: the premium, drawn towards 0.01 % in eight hours.
fn rate(premium: f64) -> f64 {
    (premium + (0.000_1 - premium).clamp(-0.000_5, 0.000_5)) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_523_696_000;

    #[test]
    fn funding_is_the_formula_of_the_premium() {
        for (premium, hourly) in [
            (0.000_214_67, 0.000_012_5),
            (0.0, 0.000_012_5),
            (0.001, 0.000_062_5),
            (-0.000_641_345_4, -0.000_017_668_175),
        ] {
            assert!((rate(premium) - hourly).abs() < 1e-12, "{premium}: {}", rate(premium));
        }
    }

    #[test]
    fn an_hour_is_settled_once_and_pages_join() {
        let market = Market::new(5, &["BTC".to_owned()], 1);
        let all = market.settlements(0, NOW_MS - 100 * HOUR_MS, NOW_MS, 500);
        assert_eq!(all.len(), 100);
        let first = market.settlements(0, NOW_MS - 100 * HOUR_MS, NOW_MS, 60);
        let rest = market.settlements(0, first[59].time_ms + 1, NOW_MS, 60);
        assert_eq!([first, rest].concat(), all);
    }

    #[test]
    fn the_figures_belong_to_each_other() {
        let market = Market::new(5, &["BTC".to_owned()], 1);
        let context = market.context(0, NOW_MS).unwrap();
        assert!((context.mark / context.oracle - 1.0).abs() < 0.001);
        let day = context.day;
        let mean = day.notional as f64 / day.volume as f64;
        assert!((mean / day.first_price as f64 - 1.0).abs() < 0.15, "{mean} {day:?}");
    }
}
