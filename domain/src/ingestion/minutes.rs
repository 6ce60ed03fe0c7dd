//! The bars under way: a bar is stored when it is closed, and what comes for it later corrects it.

use std::collections::HashMap;

use crate::market::{Candle, Interval};

/// A bar is closed this long after its minute: the last trades of it are on their way.
const GRACE_MS: i64 = 5_000;

/// The newest bar of each coin that is not closed yet.
#[derive(Debug, Clone, Default)]
pub struct OpenMinutes {
    open: HashMap<String, Vec<Candle>>,
}

impl OpenMinutes {
    /// Takes a bar as it stands. A later word on the same minute replaces the earlier one.
    pub fn take(&mut self, symbol: &str, candle: Candle) {
        if !self.open.contains_key(symbol) {
            self.open.insert(symbol.to_owned(), Vec::new());
        }
        let Some(bars) = self.open.get_mut(symbol) else { return };
        match bars.iter_mut().find(|bar| bar.open_time_ms == candle.open_time_ms) {
            Some(bar) => *bar = candle,
            None => bars.push(candle),
        }
    }

    /// Takes out the bars that are closed at `now_ms`, by coin, ascending. A bar that comes for a
    /// minute that was closed before is closed at once: it corrects the stored one.
    pub fn close(&mut self, now_ms: i64) -> Vec<(String, Vec<Candle>)> {
        let is_closed = |bar: &Candle| {
            now_ms >= bar.open_time_ms.saturating_add(Interval::M1.as_millis() + GRACE_MS)
        };
        let mut closed = Vec::new();
        for (symbol, bars) in &mut self.open {
            let mut done: Vec<Candle> = bars.extract_if(.., |bar| is_closed(bar)).collect();
            if !done.is_empty() {
                done.sort_by_key(|bar| bar.open_time_ms);
                closed.push((symbol.clone(), done));
            }
        }
        closed.sort_by(|one, two| one.0.cmp(&two.0));
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(minute: i64, close: f64) -> Candle {
        Candle { open_time_ms: minute * 60_000, open: 1.0, high: 9.0, low: 1.0, close, volume: 1.0 }
    }

    #[test]
    fn a_bar_closes_after_its_minute_and_a_late_word_corrects_it() {
        let mut minutes = OpenMinutes::default();
        minutes.take("BTC", bar(0, 2.0));
        minutes.take("BTC", bar(0, 3.0));
        assert!(minutes.close(60_000).is_empty(), "its last trades are on their way");
        minutes.take("BTC", bar(1, 5.0));
        minutes.take("BTC", bar(0, 4.0));
        assert_eq!(minutes.close(65_000), [("BTC".to_owned(), vec![bar(0, 4.0)])]);
        assert!(minutes.close(65_000).is_empty(), "once");
        minutes.take("BTC", bar(0, 4.5));
        minutes.take("ETH", bar(1, 7.0));
        assert_eq!(minutes.close(70_000), [("BTC".to_owned(), vec![bar(0, 4.5)])]);
        let closed = minutes.close(125_000);
        assert_eq!(
            closed,
            [("BTC".to_owned(), vec![bar(1, 5.0)]), ("ETH".to_owned(), vec![bar(1, 7.0)])]
        );
    }
}
