//! The table `instruments`.

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement};

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
