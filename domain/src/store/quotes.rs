//! The table `quotes`: the best bid and ask of each coin.

use scheduler_core::StoreError;
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::sql::{Column, put_rows};
use crate::market::Quote;

/// Keeps the newest quote of each coin by the venue's time; none may stand twice. What is older
/// than the stored one changes nothing. Answers how many changed.
///
/// # Errors
/// The driver's error.
pub async fn upsert(txn: &DatabaseTransaction, quotes: &[Quote]) -> Result<u64, StoreError> {
    let sql = "INSERT INTO quotes (symbol, bid, bid_size, ask, ask_size, at_ms, received_at_ms)
        SELECT symbol, bid, bid_size, ask, ask_size, at_ms, received_at_ms FROM {rows} WHERE TRUE
        ON CONFLICT (symbol) DO UPDATE SET
            bid = excluded.bid, bid_size = excluded.bid_size,
            ask = excluded.ask, ask_size = excluded.ask_size,
            at_ms = excluded.at_ms, received_at_ms = excluded.received_at_ms
        WHERE excluded.at_ms >= quotes.at_ms";
    let columns = [
        ("symbol", Column::Text),
        ("bid", Column::Text),
        ("bid_size", Column::Text),
        ("ask", Column::Text),
        ("ask_size", Column::Text),
        ("at_ms", Column::Int),
        ("received_at_ms", Column::Int),
    ];
    let row = |quote: &Quote| {
        let (bid, ask) = (quote.bid.unzip(), quote.ask.unzip());
        json!([quote.symbol, bid.0, bid.1, ask.0, ask.1, quote.at_ms, quote.received_at_ms])
    };
    let rows: Vec<_> = quotes.iter().map(row).collect();
    put_rows(txn, "keep quotes", sql, &columns, &rows).await
}
