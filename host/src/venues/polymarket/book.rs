//! The book of a market. It changes in steps of a few seconds; the second outcome's is the mirror
//! of the first one's.

use std::collections::BTreeMap;

use super::contract::Contract;

/// Levels of a side.
const DEPTH: i64 = 8;

/// Both sides of the first outcome: price in thousandths to size in hundredths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Book {
    pub(super) bids: BTreeMap<i64, i64>,
    pub(super) asks: BTreeMap<i64, i64>,
}

/// A trade: price of the first outcome in thousandths, size in hundredths, whether it was bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) price: i64,
    pub(super) size: i64,
    pub(super) buy: bool,
}

impl Book {
    pub(super) fn bid(&self) -> Option<i64> {
        self.bids.last_key_value().map(|(price, _)| *price)
    }

    pub(super) fn ask(&self) -> Option<i64> {
        self.asks.first_key_value().map(|(price, _)| *price)
    }

    /// The book of the other outcome.
    fn mirrored(self) -> Self {
        let mirror = |side: BTreeMap<i64, i64>| {
            side.into_iter().map(|(price, size)| (1_000 - price, size)).collect()
        };
        Self { bids: mirror(self.asks), asks: mirror(self.bids) }
    }

    /// As of one of the two outcomes.
    pub(super) fn of(self, outcome: usize) -> Self {
        if outcome == 0 { self } else { self.mirrored() }
    }
}

impl Contract {
    /// How long the book stays as it is.
    fn step_ms(&self) -> i64 {
        1_000 + self.noise.of("step").below(4_000).cast_signed()
    }

    /// The number of the book that stands at a time.
    pub(super) fn step(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.step_ms())
    }

    /// When a book began to stand.
    pub(super) fn stepped_ms(&self, step: i64) -> i64 {
        step * self.step_ms()
    }

    /// A book of the first outcome.
    pub(super) fn book(&self, step: i64) -> Book {
        let at_ms = self.stepped_ms(step);
        let noise = self.noise.of("book");
        let chance = (self.chance(at_ms) * 1_000.0) as i64;
        let tick = self.tick;
        let spread = tick * (1 + noise.of("spread").at(step / 7).below(2).cast_signed());
        let bid = (chance / tick * tick).clamp(tick, 1_000 - tick - spread);
        let ask = bid + spread;
        let mut book = Book::default();
        for depth in 0..DEPTH {
            let size = |price: i64| {
                // A level changes every dozen of steps.
                let own = noise.at(price);
                let turn = (step + own.below(12).cast_signed()) / 12;
                1_000 + own.at(turn).below(400_000).cast_signed() * (1 + depth) / 2
            };
            let (below, above) = (bid - depth * tick, ask + depth * tick);
            if below > 0 {
                book.bids.insert(below, size(below));
            }
            if above < 1_000 {
                book.asks.insert(above, size(above));
            }
        }
        book
    }

    /// What was traded when a book began to stand.
    pub(super) fn fill(&self, step: i64) -> Option<Fill> {
        let noise = self.noise.of("fill").at(step);
        if noise.at(0).below(5) > 1 {
            return None;
        }
        let book = self.book(step);
        let buy = noise.at(1).below(2) == 0;
        let price = if buy { book.ask() } else { book.bid() }?;
        Some(Fill { price, size: 100 + noise.at(2).below(60_000).cast_signed(), buy })
    }

    /// The latest trade of the last hundred books.
    pub(super) fn last_fill(&self, step: i64) -> Option<Fill> {
        (0..100).find_map(|back| self.fill(step - back))
    }
}
