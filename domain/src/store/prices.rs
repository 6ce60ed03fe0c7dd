//! The newest prices of any number of symbols: tables `marks`, `mids`, `quotes`, `instruments`.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, FromQueryResult};

use super::sql::{Column, Rows, read_rows};
use crate::market::{Dated, Price, Terms};

/// Loads what is known of each symbol, in one statement; a symbol of which nothing is known has
/// [`Price::default`]. A stored number that means nothing counts as unknown.
///
/// # Errors
/// The driver's error.
pub async fn load<S: AsRef<str>>(
    database: &impl ConnectionTrait,
    symbols: impl IntoIterator<Item = S>,
) -> Result<BTreeMap<String, Price>, StoreError> {
    let mut prices: BTreeMap<String, Price> = BTreeMap::new();
    for symbol in symbols {
        prices.entry(symbol.as_ref().to_owned()).or_default();
    }
    if prices.is_empty() {
        return Ok(prices);
    }
    let sql = "
        SELECT v.symbol, marks.mark, marks.oracle, marks.mid AS context_mid, marks.funding_rate,
               marks.open_interest, marks.premium, marks.received_at_ms AS context_at_ms,
               mids.mid, mids.received_at_ms AS mid_at_ms,
               quotes.bid, quotes.bid_size, quotes.ask, quotes.ask_size,
               quotes.received_at_ms AS quote_at_ms,
               instruments.size_step, instruments.size_decimals, instruments.max_leverage,
               instruments.margin_tiers, instruments.only_isolated, instruments.delisted
        FROM {rows}
        LEFT JOIN marks ON marks.symbol = v.symbol
        LEFT JOIN mids ON mids.symbol = v.symbol
        LEFT JOIN quotes ON quotes.symbol = v.symbol
        LEFT JOIN instruments ON instruments.symbol = v.symbol";
    let wanted: Rows = prices.keys().map(|symbol| vec![symbol.as_str().into()]).collect();
    let columns = [("symbol", Column::Text)];
    let found = read_rows::<PriceRow>(database, "load prices", sql, &columns, [], &wanted).await?;
    for row in found {
        prices.insert(row.symbol.clone(), row.into_price());
    }
    Ok(prices)
}

#[derive(FromQueryResult)]
struct PriceRow {
    symbol: String,
    mark: Option<String>,
    oracle: Option<String>,
    context_mid: Option<String>,
    funding_rate: Option<String>,
    open_interest: Option<String>,
    premium: Option<String>,
    context_at_ms: Option<i64>,
    mid: Option<String>,
    mid_at_ms: Option<i64>,
    bid: Option<String>,
    bid_size: Option<String>,
    ask: Option<String>,
    ask_size: Option<String>,
    quote_at_ms: Option<i64>,
    size_step: Option<f64>,
    size_decimals: Option<i32>,
    max_leverage: Option<i32>,
    margin_tiers: Option<String>,
    only_isolated: Option<bool>,
    delisted: Option<bool>,
}

impl PriceRow {
    fn into_price(self) -> Price {
        let context = |text: &Option<String>| dated(number(text.as_deref()), self.context_at_ms);
        let price =
            |text: &Option<String>, at_ms| dated(number(text.as_deref()).filter(positive), at_ms);
        let (bid, ask) = (price(&self.bid, self.quote_at_ms), price(&self.ask, self.quote_at_ms));
        let between = bid.zip(ask).map(|(bid, ask)| Dated {
            value: (bid.value + ask.value) / Decimal::TWO,
            received_at_ms: bid.received_at_ms,
        });
        let mids = [
            price(&self.context_mid, self.context_at_ms),
            between,
            price(&self.mid, self.mid_at_ms),
        ];
        Price {
            mark: price(&self.mark, self.context_at_ms),
            oracle: price(&self.oracle, self.context_at_ms),
            mid: mids.into_iter().flatten().max_by_key(|mid| mid.received_at_ms),
            bid,
            bid_size: number(self.bid_size.as_deref()),
            ask,
            ask_size: number(self.ask_size.as_deref()),
            funding_rate: context(&self.funding_rate),
            open_interest: context(&self.open_interest),
            premium: context(&self.premium),
            terms: self.size_step.map(|step| self.terms(step)),
        }
    }

    fn terms(&self, size_step: f64) -> Terms {
        let decimals = self.size_decimals.and_then(|decimals| u32::try_from(decimals).ok());
        let told = decimals.filter(|decimals| *decimals <= 8).map(|d| Decimal::new(1, d));
        Terms {
            size_step: told
                .or_else(|| Decimal::try_from(size_step).ok().filter(positive))
                .unwrap_or(SMALLEST_STEP),
            tiers: Terms::tiers(self.margin_tiers.as_deref(), self.max_leverage),
            only_isolated: self.only_isolated.unwrap_or_default(),
            delisted: self.delisted.unwrap_or_default(),
        }
    }
}

/// 1e-8, as `instruments` has it.
const SMALLEST_STEP: Decimal = Decimal::from_parts(1, 0, 0, false, 8);

fn number(text: Option<&str>) -> Option<Decimal> {
    text.and_then(|text| text.parse().ok())
}

fn positive(value: &Decimal) -> bool {
    *value > Decimal::ZERO
}

fn dated(value: Option<Decimal>, received_at_ms: Option<i64>) -> Option<Dated> {
    value.zip(received_at_ms).map(|(value, received_at_ms)| Dated { value, received_at_ms })
}

#[cfg(test)]
mod tests {
    use scheduler_core::Store;
    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::market::MarginTier;

    #[tokio::test]
    async fn what_is_known_of_many_symbols_comes_in_one_read() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        migration::up(store.reader()).await.unwrap();
        let given = "
            INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage, margin_tiers, delisted)
            VALUES ('BTC', 0, 5, 40, '[[\"0\",\"40\"],[\"150000000\",\"20\"]]', TRUE);
            INSERT INTO instruments (symbol, created_at_ms) VALUES ('DOGE', 0);
            INSERT INTO marks (symbol, mark, oracle, mid, funding_rate, open_interest, premium, received_at_ms)
            VALUES ('BTC', '84143.5', '84198', '84143', '0.0000125', '12.5', '-0.0006413454', 7),
                   ('ETH', 'NaN', '-1', NULL, NULL, NULL, NULL, 7);
            INSERT INTO mids (symbol, mid, received_at_ms) VALUES ('BTC', '84150', 9), ('DOGE', '0.1', 3);
            INSERT INTO quotes (symbol, bid, bid_size, ask, ask_size, at_ms, received_at_ms)
            VALUES ('BTC', '84143', '0.5', '84144', NULL, 8, 8), ('DOGE', '0.1', '1', '0.2', '2', 4, 4)";
        store.reader().execute_unprepared(given).await.unwrap();

        let prices = load(store.reader(), ["BTC", "ETH", "DOGE", "BTC", "NONE"]).await.unwrap();

        let at = |text: &str, received_at_ms| {
            Some(Dated { value: text.parse().unwrap(), received_at_ms })
        };
        let btc = &prices["BTC"];
        assert_eq!((btc.mark, btc.oracle), (at("84143.5", 7), at("84198", 7)));
        assert_eq!(btc.mid, at("84150", 9), "the newest of the three");
        assert_eq!((btc.bid, btc.ask), (at("84143", 8), at("84144", 8)));
        assert_eq!((btc.bid_size, btc.ask_size), (Some(Decimal::new(5, 1)), None));
        assert_eq!((btc.funding_rate, btc.premium), (at("0.0000125", 7), at("-0.0006413454", 7)));
        let terms = btc.terms.as_ref().unwrap();
        assert_eq!((terms.size_step, terms.delisted), (Decimal::new(1, 5), true));
        let tier = |bound: i64, leverage: i64| MarginTier {
            lower_bound: bound.into(),
            max_leverage: leverage.into(),
        };
        assert_eq!(terms.tiers, [tier(0, 40), tier(150_000_000, 20)]);
        assert_eq!(prices["ETH"], Price::default(), "numbers that mean nothing are not known");
        assert_eq!(prices["DOGE"].mid, at("0.15", 4));
        assert_eq!(prices["DOGE"].terms.as_ref().unwrap().size_step, SMALLEST_STEP);
        assert_eq!(prices["NONE"], Price::default());
        assert_eq!(load(store.reader(), [""; 0]).await.unwrap(), BTreeMap::new());
    }
}
