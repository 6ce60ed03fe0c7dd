//! The trades of a minute, made to fit what was decided of it: the first is its open, the last its
//! close, one touches its high and one its low, and their sizes add up to its volume.

use super::perpetual::{MINUTE_MS, Minute, Perpetual};
use crate::venues::random::Noise;

/// A trade. Price and size are in units of their last digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trade {
    pub(crate) time_ms: i64,
    pub(crate) price: i64,
    pub(crate) size: i64,
    /// Whether the buyer came to the seller.
    pub(crate) buy: bool,
    pub(crate) id: u64,
}

/// The trades of a minute in the order of their times.
pub(crate) fn tape(perpetual: &Perpetual, minute: &Minute) -> Vec<Trade> {
    let noise = perpetual.noise().of("tape").at(minute.open_ms / MINUTE_MS);
    let count = minute.trades as usize;
    let prices = prices(perpetual, minute, noise.at(1));
    let sizes = sizes(minute.volume, count, noise.at(2));
    let mut before = minute.open;
    let mut trades = Vec::with_capacity(count);
    for (index, (price, size)) in (0_i64..).zip(prices.into_iter().zip(sizes)) {
        let own = noise.at(3).at(index);
        let step_ms = MINUTE_MS / i64::from(minute.trades);
        let within = own.at(0).below(step_ms.max(1).cast_unsigned()).cast_signed();
        let time_ms = minute.open_ms + MINUTE_MS * index / i64::from(minute.trades) + within;
        let buy = if price == before { own.at(1).unit() < 0.5 } else { price > before };
        // As long as the exchange's own: 15 to 16 digits.
        let id = own.at(2).bits() >> 14;
        trades.push(Trade { time_ms, price, size, buy, id });
        before = price;
    }
    trades
}

/// From open to close by way of the high and the low, in a line that wobbles.
fn prices(perpetual: &Perpetual, minute: &Minute, noise: Noise) -> Vec<i64> {
    let count = minute.trades as usize;
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let mut stops = vec![(0, minute.open)];
    if count >= 4 {
        let inner = u64::from(minute.trades) - 2;
        let first = 1 + noise.at(-1).below(inner);
        let second = 1 + (first + noise.at(-2).below(inner - 1)) % inner;
        let (first, second) = (first.min(second) as usize, first.max(second) as usize);
        // The nearer end first: a minute that rises dips before.
        let low_first = minute.close >= minute.open;
        let (one, other) =
            if low_first { (minute.low, minute.high) } else { (minute.high, minute.low) };
        stops.extend([(first, one), (second, other)]);
    }
    if last > 0 {
        stops.push((last, minute.close));
    }
    let tick = perpetual.tick(minute.open);
    let mut prices = Vec::with_capacity(count);
    for pair in stops.windows(2) {
        let [(from, start), (to, end)] = *pair else { continue };
        let steps = (to - from).max(1) as i64;
        for step in 0..steps {
            let own = noise.at(from as i64 + step);
            let wobble = if step == 0 { 0 } else { own.below(5).cast_signed() - 2 };
            let ticks = (start + (end - start) * step / steps) / tick;
            let price = (ticks + wobble) * tick;
            let price = if step == 0 { start } else { price };
            prices.push(price.clamp(minute.low, minute.high));
        }
    }
    prices.push(if last > 0 { minute.close } else { minute.open });
    prices
}

/// Shares of a volume: many small ones, a few large ones, none of nothing.
fn sizes(volume: i64, count: usize, noise: Noise) -> Vec<i64> {
    let shares: Vec<f64> = (0..count)
        .map(|index| {
            let unit = noise.at(index as i64).unit();
            0.02 + unit * unit * unit * unit
        })
        .collect();
    let whole: f64 = shares.iter().sum();
    let spare = volume - count as i64;
    let mut sizes: Vec<i64> = shares
        .iter()
        .map(|share| {
            let size = spare as f64 * share / whole;
            let size = size as i64;
            1 + size
        })
        .collect();
    let given: i64 = sizes.iter().sum();
    if let Some(first) = sizes.first_mut() {
        *first += volume - given;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trades_make_the_minute_that_they_belong_to() {
        for name in ["BTC", "SOL", "kPEPE", "DYDX", "DOGE"] {
            let perpetual = Perpetual::new(name, Noise::new(9), 1);
            for index in 0..500 {
                let minute = perpetual.minute(1_790_000_040_000 + index * MINUTE_MS);
                let trades = tape(&perpetual, &minute);
                assert_eq!(trades.len(), minute.trades as usize);
                let Some((first, last)) = trades.first().zip(trades.last()) else { continue };
                assert_eq!((first.price, last.price), (minute.open, minute.close), "{minute:?}");
                let high = trades.iter().map(|trade| trade.price).max();
                let low = trades.iter().map(|trade| trade.price).min();
                assert_eq!((high, low), (Some(minute.high), Some(minute.low)), "{minute:?}");
                assert_eq!(trades.iter().map(|trade| trade.size).sum::<i64>(), minute.volume);
                assert!(trades.iter().all(|trade| trade.size > 0));
                assert!(trades.is_sorted_by_key(|trade| trade.time_ms));
                assert!(first.time_ms >= minute.open_ms);
                assert!(last.time_ms < minute.open_ms + MINUTE_MS);
            }
        }
    }
}
