//! The table `pm_quotes`: the newest best prices of each token, and its last trade.

use std::collections::HashMap;

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use serde_json::json;

use super::sql::{Column, Rows, put_rows, read_rows};
use crate::market::{PredictionQuote, PredictionTrade};

/// Keeps the newest quote of each token by the venue's time; none may stand twice. What is older
/// than the stored one changes nothing. Answers how many changed.
///
/// # Errors
/// The driver's error.
pub async fn upsert(
    txn: &DatabaseTransaction,
    quotes: &[PredictionQuote],
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO pm_quotes (token_id, bid, ask, at_ms, book_hash, received_at_ms)
        SELECT token_id, bid, ask, at_ms, book_hash, received_at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (token_id) DO UPDATE SET
            bid = excluded.bid, ask = excluded.ask, at_ms = excluded.at_ms,
            book_hash = excluded.book_hash, received_at_ms = excluded.received_at_ms
        WHERE excluded.at_ms >= pm_quotes.at_ms";
    let columns = [
        ("token_id", Column::Text),
        ("bid", Column::Text),
        ("ask", Column::Text),
        ("at_ms", Column::Int),
        ("book_hash", Column::Text),
        ("received_at_ms", Column::Int),
    ];
    let row = |quote: &PredictionQuote| {
        let PredictionQuote { token_id, bid, ask, at_ms, book_hash, received_at_ms } = quote;
        json!([token_id, bid, ask, at_ms, book_hash, received_at_ms])
    };
    let rows: Vec<_> = quotes.iter().map(row).collect();
    put_rows(txn, "keep quotes of tokens", sql, &columns, &rows).await
}

/// Finds when the books of tokens last changed, by token; one without a quote is absent.
///
/// # Errors
/// The driver's error.
pub async fn list_times(
    database: &impl ConnectionTrait,
    tokens: &[String],
) -> Result<HashMap<String, i64>, StoreError> {
    let sql = "SELECT v.token_id, pm_quotes.at_ms
        FROM {rows} JOIN pm_quotes ON pm_quotes.token_id = v.token_id";
    let wanted: Rows = tokens.iter().map(|token| vec![token.as_str().into()]).collect();
    let columns = [("token_id", Column::Text)];
    let rows: Vec<TokenTime> =
        read_rows(database, "find the times of quotes", sql, &columns, [], &wanted).await?;
    Ok(rows.into_iter().map(|row| (row.token_id, row.at_ms)).collect())
}

#[derive(FromQueryResult)]
struct TokenTime {
    token_id: String,
    at_ms: i64,
}

/// Keeps the last trade of each token; none may stand twice.
///
/// # Errors
/// The driver's error.
pub async fn keep_last_trades(
    txn: &DatabaseTransaction,
    trades: &[PredictionTrade],
) -> Result<u64, StoreError> {
    let sql =
        "INSERT INTO pm_quotes (token_id, last_trade, last_trade_at_ms, at_ms, received_at_ms)
        SELECT token_id, price, at_ms, 0, at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (token_id) DO UPDATE SET
            last_trade = excluded.last_trade, last_trade_at_ms = excluded.last_trade_at_ms
        WHERE pm_quotes.last_trade_at_ms IS NULL
           OR excluded.last_trade_at_ms >= pm_quotes.last_trade_at_ms";
    let columns = [("token_id", Column::Text), ("price", Column::Text), ("at_ms", Column::Int)];
    let rows: Vec<_> =
        trades.iter().map(|trade| json!([trade.token_id, trade.price, trade.at_ms])).collect();
    put_rows(txn, "keep last trades", sql, &columns, &rows).await
}
