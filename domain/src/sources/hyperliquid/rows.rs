//! Rows as the venue writes them.

use rust_decimal::Decimal;
use serde_json::Value;

use crate::ingestion::{
    Reject, decimal, name, not_in_the_future, positive_decimal, statistic, whole,
};
use crate::market::{
    AssetContext, Candle, Interval, Listing, Quote, SettledFunding, Side, Trade, start_of,
};

/// The venue's clock may be this much ahead of ours.
pub(super) const AHEAD_MS: i64 = 5_000;

/// What a field that is missing holds.
const ABSENT: Value = Value::Null;

pub(super) fn field<'v>(row: &'v Value, name: &str) -> &'v Value {
    row.get(name).unwrap_or(&ABSENT)
}

/// A context. `None` for a coin that is dead: what stands there is frozen, and its zeros are none.
pub(super) fn context(
    symbol: &str,
    ctx: &Value,
    received_at_ms: i64,
) -> Result<Option<AssetContext>, Reject> {
    if !ctx.is_object() {
        return Err(Reject::new("bad_row", format!("the context of {symbol} is no object")));
    }
    let is_dead = ["midPx", "impactPxs", "premium"].iter().all(|name| field(ctx, name).is_null());
    if is_dead {
        return Ok(None);
    }
    Ok(Some(AssetContext {
        symbol: symbol.to_owned(),
        mark: Some(positive_decimal("markPx", field(ctx, "markPx"))?),
        oracle: optional(ctx, "oraclePx", positive_decimal)?,
        mid: optional(ctx, "midPx", positive_decimal)?,
        funding_rate: optional(ctx, "funding", decimal)?,
        open_interest: optional(ctx, "openInterest", decimal)?,
        premium: optional(ctx, "premium", decimal)?,
        day_volume: optional(ctx, "dayNtlVlm", decimal)?,
        received_at_ms,
    }))
}

type ReadDecimal = fn(&'static str, &Value) -> Result<Decimal, crate::ingestion::NumberError>;

/// A number that may be missing, but not be nonsense.
fn optional(row: &Value, name: &'static str, read: ReadDecimal) -> Result<Option<Decimal>, Reject> {
    match field(row, name) {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        value => Ok(Some(read(name, value)?)),
    }
}

pub(super) fn trade(row: &Value, now_ms: i64) -> Result<Trade, Reject> {
    let side = match field(row, "side").as_str() {
        Some("B") => Side::Buy,
        Some("A") => Side::Sell,
        other => return Err(Reject::new("bad_side", format!("side is {other:?}"))),
    };
    Ok(Trade {
        symbol: name("coin", field(row, "coin"))?,
        time_ms: not_in_the_future(whole("time", field(row, "time"))?, now_ms, AHEAD_MS)?,
        tid: whole("tid", field(row, "tid"))?,
        side,
        price: positive_decimal("px", field(row, "px"))?,
        size: positive_decimal("sz", field(row, "sz"))?,
    })
}

pub(super) fn quote(row: &Value, received_at_ms: i64) -> Result<Quote, Reject> {
    let at_ms = whole("time", field(row, "time"))?;
    let side = |index: usize| match field(row, "bbo").get(index) {
        None | Some(Value::Null) => Ok(None),
        Some(level) => level_of(level).map(Some),
    };
    if !field(row, "bbo").is_array() {
        return Err(Reject::new("bad_row", "bbo is no list"));
    }
    let (bid, ask) = (side(0)?, side(1)?);
    if let (Some((bid, _)), Some((ask, _))) = (bid, ask)
        && bid > ask
    {
        return Err(Reject::new("crossed", format!("bid {bid} is above ask {ask}")));
    }
    Ok(Quote {
        symbol: name("coin", field(row, "coin"))?,
        bid,
        ask,
        at_ms: not_in_the_future(at_ms, received_at_ms, AHEAD_MS)?,
        received_at_ms,
    })
}

fn level_of(level: &Value) -> Result<(Decimal, Decimal), Reject> {
    let price = positive_decimal("px", field(level, "px"))?;
    Ok((price, decimal("sz", field(level, "sz"))?))
}

/// A bar with its coin.
pub(super) fn candle(
    row: &Value,
    interval: Interval,
    now_ms: i64,
) -> Result<(String, Candle), Reject> {
    let symbol = name("s", field(row, "s"))?;
    if let Some(found) = field(row, "i").as_str()
        && found != interval.as_str()
    {
        return Err(Reject::new("bad_interval", format!("i is `{found}`, expected {interval}")));
    }
    let open_time_ms = not_in_the_future(whole("t", field(row, "t"))?, now_ms, AHEAD_MS)?;
    if open_time_ms < 0 || open_time_ms != start_of(open_time_ms, interval) {
        return Err(Reject::new(
            "off_grid",
            format!("t is {open_time_ms}, no start of {interval}"),
        ));
    }
    let candle = Candle {
        open_time_ms,
        open: statistic("o", field(row, "o"))?,
        high: statistic("h", field(row, "h"))?,
        low: statistic("l", field(row, "l"))?,
        close: statistic("c", field(row, "c"))?,
        volume: statistic("v", field(row, "v"))?,
    };
    if !candle.is_sound() {
        return Err(Reject::new("unsound_bar", format!("{symbol} {candle:?}")));
    }
    Ok((symbol, candle))
}

pub(super) fn funding(row: &Value, now_ms: i64) -> Result<SettledFunding, Reject> {
    let time_ms = not_in_the_future(whole("time", field(row, "time"))?, now_ms, AHEAD_MS)?;
    Ok(SettledFunding {
        symbol: name("coin", field(row, "coin"))?,
        // Settled some milliseconds after the hour.
        hour_ms: start_of(time_ms, Interval::H1),
        rate: decimal("fundingRate", field(row, "fundingRate"))?,
        premium: optional(row, "premium", decimal)?,
    })
}

/// A coin of the universe, with its tiers from the tables beside it.
pub(super) fn listing(row: &Value, tables: &Value) -> Result<Listing, Reject> {
    let symbol = name("name", field(row, "name"))?;
    let size_decimals = small("szDecimals", field(row, "szDecimals"))?;
    let max_leverage = small("maxLeverage", field(row, "maxLeverage"))?;
    let is = |name| field(row, name).as_bool() == Some(true);
    Ok(Listing {
        margin_tiers: tiers(row, tables, max_leverage)?,
        only_isolated: is("onlyIsolated"),
        delisted: is("isDelisted"),
        symbol,
        size_decimals,
        max_leverage,
    })
}

/// The tiers of the table that the coin names. An unknown table is one tier.
fn tiers(row: &Value, tables: &Value, max_leverage: u32) -> Result<Vec<(Decimal, u32)>, Reject> {
    let one = || vec![(Decimal::ZERO, max_leverage)];
    let Ok(id) = whole("marginTableId", field(row, "marginTableId")) else { return Ok(one()) };
    let found = tables.as_array().into_iter().flatten().find_map(|table| {
        let number = whole("id", table.get(0)?).ok()?;
        (number == id).then(|| table.get(1)?.get("marginTiers")?.as_array()).flatten()
    });
    let Some(found) = found.filter(|found| !found.is_empty()) else { return Ok(one()) };
    let mut tiers = found
        .iter()
        .map(|tier| {
            let lower_bound = decimal("lowerBound", field(tier, "lowerBound"))?;
            Ok((lower_bound, small("maxLeverage", field(tier, "maxLeverage"))?))
        })
        .collect::<Result<Vec<_>, Reject>>()?;
    tiers.sort();
    Ok(tiers)
}

fn small(field: &'static str, value: &Value) -> Result<u32, Reject> {
    let number = whole(field, value)?;
    let small = u32::try_from(number).ok().filter(|number| *number <= 1_000);
    small.ok_or_else(|| Reject::new("out_of_range", format!("{field} is {number}")))
}
