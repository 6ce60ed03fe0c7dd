//! What a venue says about a perpetual future. Prices and sizes are exact; times are epoch
//! milliseconds; `symbol` is the venue's name of the coin, as in `BTC`.

use rust_decimal::Decimal;

/// Prices and rates of one coin at one time. What the venue does not give is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetContext {
    /// The coin.
    pub symbol: String,
    /// The price that positions are marked with, in USD.
    pub mark: Option<Decimal>,
    /// The price of other markets, in USD.
    pub oracle: Option<Decimal>,
    /// Between the best bid and the best ask, in USD.
    pub mid: Option<Decimal>,
    /// The estimated funding rate of this hour.
    pub funding_rate: Option<Decimal>,
    /// Open positions, in the base currency.
    pub open_interest: Option<Decimal>,
    /// How far the price is above the oracle's, as a fraction.
    pub premium: Option<Decimal>,
    /// What was traded within a day, in USD.
    pub day_volume: Option<Decimal>,
    /// When it came; the venue tells no time.
    pub received_at_ms: i64,
}

impl AssetContext {
    /// Whether it says the same, whenever it came.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let (mut one, mut two) = (self.clone(), other.clone());
        (one.received_at_ms, two.received_at_ms) = (0, 0);
        one == two
    }
}

/// The price between the best bid and the best ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mid {
    /// The coin.
    pub symbol: String,
    /// The price, in USD.
    pub mid: Decimal,
    /// When it came; the venue tells no time.
    pub received_at_ms: i64,
}

/// The best bid and the best ask; either side may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The coin.
    pub symbol: String,
    /// The best bid: price and size.
    pub bid: Option<(Decimal, Decimal)>,
    /// The best ask: price and size.
    pub ask: Option<(Decimal, Decimal)>,
    /// The venue's time.
    pub at_ms: i64,
    /// When it came.
    pub received_at_ms: i64,
}

/// Who took the other's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Somebody bought.
    Buy,
    /// Somebody sold.
    Sell,
}

impl Side {
    /// The word for it in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// One trade. `(symbol, time_ms, tid)` is its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trade {
    /// The coin.
    pub symbol: String,
    /// When it happened.
    pub time_ms: i64,
    /// The venue's number of it.
    pub tid: i64,
    /// What the taker did.
    pub side: Side,
    /// The price, in USD.
    pub price: Decimal,
    /// The size, in the base currency.
    pub size: Decimal,
}

/// Funding that was settled at a full hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledFunding {
    /// The coin.
    pub symbol: String,
    /// The hour.
    pub hour_ms: i64,
    /// The rate of one hour; longs pay it when it is positive.
    pub rate: Decimal,
    /// The premium that it was made of.
    pub premium: Option<Decimal>,
}

/// What is true of a coin besides its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The coin.
    pub symbol: String,
    /// Decimals of a size.
    pub size_decimals: u32,
    /// The highest leverage.
    pub max_leverage: u32,
    /// From which notional which leverage is the highest, lowest notional first.
    pub margin_tiers: Vec<(Decimal, u32)>,
    /// Whether its margin cannot be shared.
    pub only_isolated: bool,
    /// Whether it is no longer traded.
    pub delisted: bool,
}
