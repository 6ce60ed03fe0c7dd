//! What stands in the order book.

use super::{Market, Perpetual};

/// Levels of a side.
const DEPTH: i64 = 20;
/// Orders change at least this often.
const STIR_MS: i64 = 2_000;

/// The best prices, in units of the last digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) bid: i64,
    pub(crate) ask: i64,
}

/// A level in units of last digits, and how many orders it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) price: i64,
    pub(crate) size: i64,
    pub(crate) orders: u64,
}

/// Both sides, the best level first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
}

impl Market {
    /// The best prices: the last trade took one of them. None of a perpetual that is not traded.
    pub(crate) fn quote(&self, coin: usize, at_ms: i64) -> Option<Quote> {
        let perpetual = self.perpetuals.get(coin).filter(|perpetual| !perpetual.delisted)?;
        let last = self.last_trade(coin, at_ms);
        let price =
            last.map_or_else(|| perpetual.quotable(perpetual.price(at_ms)), |trade| trade.price);
        let tick = perpetual.tick(price);
        let wide = perpetual.noise().of("spread").at(at_ms / STIR_MS).below(8) == 0;
        let spread = if wide { 3 * tick } else { tick };
        Some(match last {
            Some(trade) if !trade.buy => Quote { bid: price, ask: price + spread },
            _ => Quote { bid: (price - spread).max(tick), ask: price },
        })
    }

    /// The book at a time.
    pub(crate) fn book(&self, coin: usize, at_ms: i64) -> Option<Book> {
        let quote = self.quote(coin, at_ms)?;
        let perpetual = self.perpetuals.get(coin)?;
        let mut book = Book::default();
        let (mut bid, mut ask) = (quote.bid, quote.ask);
        for depth in 0..DEPTH {
            if bid > 0 {
                book.bids.push(level(perpetual, bid, depth, at_ms));
            }
            book.asks.push(level(perpetual, ask, depth, at_ms));
            bid -= gap(perpetual, bid);
            ask += gap(perpetual, ask);
        }
        Some(book)
    }
}

fn level(perpetual: &Perpetual, price: i64, depth: i64, at_ms: i64) -> Level {
    let noise = perpetual.noise().of("level").at(price).at(at_ms / STIR_MS);
    let orders = 1 + noise.at(0).below(12 + 2 * depth.cast_unsigned());
    // About 1,500 USD an order.
    let usd = 3_000.0 * noise.at(1).unit() * orders as f64;
    let lots = usd * 1e6 / price as f64;
    let size = (lots as i64).max(1);
    Level { price, size, orders }
}

/// From one level to the next.
fn gap(perpetual: &Perpetual, price: i64) -> i64 {
    let noise = perpetual.noise().of("gap").at(price);
    perpetual.tick(price) * (1 + noise.below(3).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_sorted_and_uncrossed() {
        let market = Market::new(5, &["BTC".to_owned(), "kPEPE".to_owned()], 1);
        for coin in 0..2 {
            for second in 0..200 {
                let at_ms = 1_795_523_696_000 + second * 1_000;
                let book = market.book(coin, at_ms).unwrap();
                assert!(book.bids[0].price < book.asks[0].price);
                assert!(book.bids.is_sorted_by(|one, next| one.price > next.price));
                assert!(book.asks.is_sorted_by(|one, next| one.price < next.price));
                assert!(book.bids.iter().chain(&book.asks).all(|level| level.size > 0));
            }
        }
        assert_eq!(market.book(2, 1_795_523_696_000), None, "a delisted one has no book");
    }
}
