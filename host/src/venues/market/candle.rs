//! Candles, read off minutes; the one in progress is read off the trades so far.

use super::{BARS, Interval, MINUTE_MS, Market, Minute, OPENED_MS};

/// Candles that the exchange still knows, of each interval.
const KEPT: i64 = 5_000;

/// A candle in units of last digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) open_ms: i64,
    pub(crate) close_ms: i64,
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) close: i64,
    pub(crate) volume: i64,
    pub(crate) trades: u64,
}

impl Bar {
    fn of(minute: &Minute, close_ms: i64) -> Self {
        let Minute { open_ms, open, high, low, close, volume, trades } = *minute;
        Self { open_ms, close_ms, open, high, low, close, volume, trades: u64::from(trades) }
    }

    fn add(&mut self, minute: &Minute) {
        self.high = self.high.max(minute.high);
        self.low = self.low.min(minute.low);
        self.close = minute.close;
        self.volume += minute.volume;
        self.trades += u64::from(minute.trades);
    }
}

impl Market {
    /// The candles that contain a time of `from_ms..=to_ms`, of those that are still known at
    /// `now_ms`, oldest first. The last one may be in progress.
    pub(crate) fn candles(
        &self,
        coin: usize,
        interval: Interval,
        from_ms: i64,
        to_ms: i64,
        now_ms: i64,
    ) -> Vec<Bar> {
        let newest_ms = interval.floor(now_ms);
        let length_ms = interval.next(newest_ms) - newest_ms;
        let oldest_ms = newest_ms.saturating_sub((KEPT - 1) * length_ms).max(OPENED_MS);
        let mut open_ms = interval.floor(from_ms.max(oldest_ms));
        let mut bars = Vec::new();
        while open_ms <= to_ms.min(now_ms) {
            bars.extend(self.candle(coin, interval, open_ms, now_ms));
            open_ms = interval.next(open_ms);
        }
        bars
    }

    /// The candle that opens at a time, as it stands at `now_ms`; none before its first trade.
    pub(crate) fn candle(
        &self,
        coin: usize,
        interval: Interval,
        open_ms: i64,
        now_ms: i64,
    ) -> Option<Bar> {
        let perpetual = self.perpetuals.get(coin).filter(|perpetual| !perpetual.delisted)?;
        let next_ms = interval.next(open_ms);
        // A short one is made faster than it is found.
        let long = interval >= Interval::H1;
        let ended = next_ms <= now_ms;
        let key = (coin, interval, open_ms);
        if long
            && ended
            && let Some(bar) = self.made().bars.get(&key)
        {
            return Some(*bar);
        }
        let mut bar: Option<Bar> = None;
        let mut add = |minute: &Minute| match &mut bar {
            Some(bar) => bar.add(minute),
            None => bar = Some(Bar { open_ms, ..Bar::of(minute, next_ms - 1) }),
        };
        let mut minute_ms = open_ms.max(OPENED_MS);
        while minute_ms < next_ms && minute_ms + MINUTE_MS <= now_ms {
            add(&perpetual.minute(minute_ms));
            minute_ms += MINUTE_MS;
        }
        if minute_ms < next_ms
            && minute_ms <= now_ms
            && let Some(minute) = self.minute_so_far(coin, minute_ms, now_ms)
        {
            add(&minute);
        }
        if long
            && ended
            && let Some(bar) = bar
        {
            let mut made = self.made();
            if made.bars.len() >= BARS * self.perpetuals.len() {
                made.bars.clear();
            }
            made.bars.insert(key, bar);
        }
        bar
    }

    fn minute_so_far(&self, coin: usize, open_ms: i64, now_ms: i64) -> Option<Minute> {
        let trades = self.trades(coin, open_ms - 1, now_ms);
        let (first, last) = trades.first().zip(trades.last())?;
        Some(Minute {
            open_ms,
            open: first.price,
            high: trades.iter().map(|trade| trade.price).max()?,
            low: trades.iter().map(|trade| trade.price).min()?,
            close: last.price,
            volume: trades.iter().map(|trade| trade.size).sum(),
            trades: u32::try_from(trades.len()).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_523_696_000;

    fn market() -> Market {
        Market::new(5, &["BTC".to_owned(), "DYDX".to_owned()], 1)
    }

    #[test]
    fn a_longer_candle_is_made_of_the_shorter_ones() {
        let market = market();
        for coin in 0..2 {
            let hours = market.candles(coin, Interval::H1, NOW_MS - 7_200_000, NOW_MS, NOW_MS);
            let hour = hours[1];
            let minutes = market.candles(coin, Interval::M1, hour.open_ms, hour.close_ms, NOW_MS);
            assert_eq!(minutes.len(), 60);
            assert_eq!(hour.open, minutes[0].open);
            assert_eq!(hour.close, minutes[59].close);
            assert_eq!(Some(hour.high), minutes.iter().map(|minute| minute.high).max());
            assert_eq!(Some(hour.low), minutes.iter().map(|minute| minute.low).min());
            assert_eq!(hour.volume, minutes.iter().map(|minute| minute.volume).sum::<i64>());
        }
    }

    #[test]
    fn the_last_candle_grows_until_it_is_what_it_will_have_been() {
        let market = market();
        let open_ms = Interval::M1.floor(NOW_MS);
        let at = |now_ms| market.candle(0, Interval::M1, open_ms, now_ms).unwrap();
        let (half, whole) = (at(open_ms + 30_000), at(open_ms + MINUTE_MS));
        assert!(half.trades < whole.trades && half.volume < whole.volume);
        assert_eq!(half.open, whole.open);
        assert_eq!(at(open_ms + MINUTE_MS - 1), whole);
    }

    #[test]
    fn only_the_latest_five_thousand_candles_are_known() {
        let market = market();
        let bars = market.candles(0, Interval::M1, 0, NOW_MS, NOW_MS);
        assert_eq!(bars.len(), 5_000);
        assert_eq!(bars.last().map(|bar| bar.open_ms), Some(Interval::M1.floor(NOW_MS)));
    }
}
