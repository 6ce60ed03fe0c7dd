//! Documents as the exchange writes them: prices, sizes and rates are texts, times and counts are
//! numbers.

use serde_json::{Map, Value, json};

use crate::venues::decimal::{decimal, rounded};
use crate::venues::market::{Bar, Context, Interval, Level, Market, Perpetual, Quote, Trade};

impl Perpetual {
    pub(super) fn price_text(&self, units: i64) -> String {
        decimal(i128::from(units), self.price_decimals())
    }

    fn usd_text(&self, price: f64) -> String {
        self.price_text(self.quotable(price))
    }

    fn size_text(&self, units: i64) -> String {
        decimal(i128::from(units), self.size_decimals)
    }

    pub(super) fn mid_text(&self, quote: Quote) -> String {
        // The sum of both, times five, is their mean with one more digit.
        decimal(i128::from(quote.bid + quote.ask) * 5, self.price_decimals() + 1)
    }
}

pub(super) fn candle(perpetual: &Perpetual, interval: Interval, bar: &Bar) -> Value {
    json!({
        "t": bar.open_ms, "T": bar.close_ms, "s": perpetual.name, "i": interval.as_str(),
        "o": perpetual.price_text(bar.open), "c": perpetual.price_text(bar.close),
        "h": perpetual.price_text(bar.high), "l": perpetual.price_text(bar.low),
        "v": perpetual.size_text(bar.volume), "n": bar.trades,
    })
}

pub(super) fn trade(perpetual: &Perpetual, trade: &Trade) -> Value {
    let noise = perpetual.noise().of("who").at(trade.id.cast_signed());
    json!({
        "coin": perpetual.name,
        "side": if trade.buy { "B" } else { "A" },
        "px": perpetual.price_text(trade.price), "sz": perpetual.size_text(trade.size),
        "hash": format!("0x{}", noise.hex(64)),
        "time": trade.time_ms, "tid": trade.id,
        "users": [format!("0x{}", noise.at(1).hex(40)), format!("0x{}", noise.at(2).hex(40))],
    })
}

pub(super) fn level(perpetual: &Perpetual, level: &Level) -> Value {
    json!({
        "px": perpetual.price_text(level.price), "sz": perpetual.size_text(level.size),
        "n": level.orders,
    })
}

/// The book, at most `depth` levels of a side; empty for a coin that is not traded.
pub(super) fn book(market: &Market, coin: usize, depth: usize, now_ms: i64) -> Value {
    let Some(perpetual) = market.perpetuals().get(coin) else { return Value::Null };
    let book = market.book(coin, now_ms).unwrap_or_default();
    let side = |levels: &[Level]| -> Vec<Value> {
        levels.iter().take(depth).map(|found| level(perpetual, found)).collect()
    };
    json!({
        "coin": perpetual.name, "time": now_ms, "levels": [side(&book.bids), side(&book.asks)],
    })
}

/// The best level of each side.
pub(super) fn best(market: &Market, coin: usize, now_ms: i64) -> Value {
    let Some(perpetual) = market.perpetuals().get(coin) else { return Value::Null };
    let book = market.book(coin, now_ms).unwrap_or_default();
    let best = |levels: &[Level]| levels.first().map(|found| level(perpetual, found));
    json!({
        "coin": perpetual.name, "time": now_ms, "bbo": [best(&book.bids), best(&book.asks)],
    })
}

/// Every mid, and two of the spot market, as on the exchange.
pub(super) fn mids(market: &Market, now_ms: i64) -> Value {
    let mut mids = Map::new();
    for (coin, perpetual) in market.perpetuals().iter().enumerate() {
        if let Some(quote) = market.quote(coin, now_ms) {
            mids.insert(perpetual.name.clone(), perpetual.mid_text(quote).into());
        }
    }
    let spot = market.noise().of("spot").smooth(now_ms, 7_200_000);
    mids.insert("PURR/USDC".to_owned(), rounded(0.067 * (1.0 + 0.05 * spot), 6).into());
    mids.insert("@142".to_owned(), rounded(83_900.0 * (1.0 + 0.02 * spot), 1).into());
    mids.into()
}

/// The figures of a coin; of one that is not traded, nulls and what was last known.
pub(super) fn context(market: &Market, coin: usize, now_ms: i64) -> Value {
    let Some(perpetual) = market.perpetuals().get(coin) else { return Value::Null };
    let Some((context, quote)) = market.context(coin, now_ms).zip(market.quote(coin, now_ms))
    else {
        let last = perpetual.usd_text(perpetual.price(now_ms));
        return json!({
            "funding": "0.0", "openInterest": "0.0", "prevDayPx": last, "dayNtlVlm": "0.0",
            "premium": null, "oraclePx": last, "markPx": last, "midPx": null, "impactPxs": null,
            "dayBaseVlm": "0.0",
        });
    };
    let Context { oracle, mark, premium, funding, open_interest, day } = context;
    json!({
        "funding": rounded(funding, 10),
        "openInterest": rounded(open_interest, perpetual.size_decimals),
        "prevDayPx": perpetual.price_text(day.first_price),
        "dayNtlVlm": decimal(day.notional, 6),
        "premium": rounded(premium, 10),
        "oraclePx": perpetual.usd_text(oracle),
        "markPx": perpetual.usd_text(mark),
        "midPx": perpetual.mid_text(quote),
        "impactPxs": [perpetual.price_text(quote.bid), perpetual.price_text(quote.ask)],
        "dayBaseVlm": decimal(day.volume, perpetual.size_decimals),
    })
}

pub(super) fn meta(market: &Market) -> Value {
    let universe: Vec<Value> = market.perpetuals().iter().map(asset).collect();
    json!({
        "universe": universe,
        "marginTables": [
            [50, { "description": "", "marginTiers": [{ "lowerBound": "0.0", "maxLeverage": 50 }] }],
            [51, { "description": "tiered 10x", "marginTiers": [
                { "lowerBound": "0.0", "maxLeverage": 10 },
                { "lowerBound": "3000000.0", "maxLeverage": 5 },
            ] }],
            [55, { "description": "tiered 25x", "marginTiers": [
                { "lowerBound": "0.0", "maxLeverage": 25 },
                { "lowerBound": "100000000.0", "maxLeverage": 15 },
            ] }],
            [56, { "description": "tiered 40x", "marginTiers": [
                { "lowerBound": "0.0", "maxLeverage": 40 },
                { "lowerBound": "150000000.0", "maxLeverage": 20 },
            ] }],
        ],
        "collateralToken": 0,
    })
}

fn asset(perpetual: &Perpetual) -> Value {
    let table = match perpetual.max_leverage {
        40 => 56,
        25 => 55,
        10 => 51,
        // A table below 50 is not listed: it is one tier of that leverage.
        other => other,
    };
    let mut asset = json!({
        "szDecimals": perpetual.size_decimals, "name": perpetual.name,
        "maxLeverage": perpetual.max_leverage, "marginTableId": table,
    });
    if perpetual.delisted {
        asset["isDelisted"] = true.into();
    }
    asset
}
