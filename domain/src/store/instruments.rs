//! The table `instruments`.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement};
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::Listing;

/// Something that has candles and can be traded.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct Instrument {
    /// Its name, as in `BTC`.
    pub symbol: String,
    /// Sizes are multiples of this, in the base currency; 1e-8 unless set otherwise.
    pub size_step: f64,
    /// When it was introduced, epoch milliseconds.
    pub created_at_ms: i64,
}

/// Introduces an instrument with the default size step. `false` when it was there already; it is
/// left as it is.
///
/// # Errors
/// The driver's error.
pub async fn introduce(
    txn: &DatabaseTransaction,
    symbol: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO instruments (symbol, created_at_ms) VALUES ($1, $2)
               ON CONFLICT (symbol) DO NOTHING";
    let values = [symbol.into(), now_ms.into()];
    let statement = Statement::from_sql_and_values(txn.get_database_backend(), sql, values);
    let done = txn.execute_raw(statement).await;
    let done = done.map_err(|source| StoreError::database("introduce an instrument", source))?;
    Ok(done.rows_affected() > 0)
}

/// Finds an instrument.
///
/// # Errors
/// The driver's error.
pub async fn find(
    database: &impl ConnectionTrait,
    symbol: &str,
) -> Result<Option<Instrument>, StoreError> {
    let sql = "SELECT symbol, size_step, created_at_ms FROM instruments WHERE symbol = $1";
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [symbol.into()]);
    Instrument::find_by_statement(statement)
        .one(database)
        .await
        .map_err(|source| StoreError::database("find an instrument", source))
}

/// Lists all instruments by symbol.
///
/// # Errors
/// The driver's error.
pub async fn list(database: &impl ConnectionTrait) -> Result<Vec<Instrument>, StoreError> {
    let sql = "SELECT symbol, size_step, created_at_ms FROM instruments ORDER BY symbol";
    Instrument::find_by_statement(Statement::from_string(database.get_database_backend(), sql))
        .all(database)
        .await
        .map_err(|source| StoreError::database("list the instruments", source))
}

/// Keeps what a venue says about its coins, none of which stands twice: introduces those that are
/// new, and changes the others. Answers how many changed.
///
/// # Errors
/// The driver's error.
pub async fn keep_listings(
    txn: &DatabaseTransaction,
    listings: &[Listing],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let sql =
        "INSERT INTO instruments (symbol, size_step, size_decimals, max_leverage, margin_tiers,
            only_isolated, delisted, created_at_ms)
        SELECT symbol, size_step, size_decimals, max_leverage, margin_tiers,
            only_isolated <> 0, delisted <> 0, seen_at_ms
        FROM {rows} WHERE TRUE
        ON CONFLICT (symbol) DO UPDATE SET
            size_step = excluded.size_step, size_decimals = excluded.size_decimals,
            max_leverage = excluded.max_leverage, margin_tiers = excluded.margin_tiers,
            only_isolated = excluded.only_isolated, delisted = excluded.delisted
        WHERE instruments.size_decimals IS DISTINCT FROM excluded.size_decimals
           OR instruments.max_leverage IS DISTINCT FROM excluded.max_leverage
           OR instruments.margin_tiers IS DISTINCT FROM excluded.margin_tiers
           OR instruments.only_isolated <> excluded.only_isolated
           OR instruments.delisted <> excluded.delisted";
    let columns = [
        ("symbol", Column::Text),
        ("size_step", Column::Real),
        ("size_decimals", Column::Int),
        ("max_leverage", Column::Int),
        ("margin_tiers", Column::Text),
        ("only_isolated", Column::Int),
        ("delisted", Column::Int),
        ("seen_at_ms", Column::Int),
    ];
    let row = |listing: &Listing| {
        let size_step = 10_f64.powi(-i32::try_from(listing.size_decimals).unwrap_or(8));
        json!([
            listing.symbol,
            size_step,
            listing.size_decimals,
            listing.max_leverage,
            json!(listing.margin_tiers).to_string(),
            i32::from(listing.only_isolated),
            i32::from(listing.delisted),
            now_ms
        ])
    };
    let rows: Vec<_> = listings.iter().map(row).collect();
    put_rows(txn, "keep instruments", sql, &columns, &rows).await
}

/// Lists the coins that a venue trades now, by name: those that it listed and did not delist.
///
/// # Errors
/// The driver's error.
pub async fn list_tradable(database: &impl ConnectionTrait) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT symbol FROM instruments
               WHERE size_decimals IS NOT NULL AND NOT delisted ORDER BY symbol";
    let failed = |source| StoreError::database("list the tradable coins", source);
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let rows = database.query_all_raw(statement).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get("", "symbol")).collect::<Result<_, _>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use scheduler_core::{Store, StoreError};

    use super::{Instrument, find, introduce, list};

    #[tokio::test]
    async fn an_instrument_is_introduced_once_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("arena.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        migration::up(store.reader()).await.unwrap();
        for (symbol, now_ms, is_new) in [("ETH", 1, true), ("BTC", 2, true), ("ETH", 3, false)] {
            let introduced: Result<_, StoreError> = store
                .write("introduce an instrument", |txn| {
                    Box::pin(async move { introduce(txn, symbol, now_ms).await })
                })
                .await;
            assert_eq!(introduced.unwrap(), is_new, "{symbol}");
        }
        let eth = Instrument { symbol: "ETH".into(), size_step: 1e-8, created_at_ms: 1 };
        let btc = Instrument { symbol: "BTC".into(), size_step: 1e-8, created_at_ms: 2 };
        assert_eq!(find(store.reader(), "ETH").await.unwrap(), Some(eth.clone()));
        assert_eq!(find(store.reader(), "eth").await.unwrap(), None);
        assert_eq!(list(store.reader()).await.unwrap(), [btc, eth]);
    }
}
