//! What prop accounts do at the turn of an hour or a day: funding that comes late, trades of a new day.

use std::time::Duration;

use domain::services::proofs::prove;

use crate::harness::{Database, NOON};
use crate::prop::{
    HOUR_MS, arena, assert_holds, buy, decision, execute, mark, open, rules, set_mid,
};

async fn settle_funding(database: &Database, symbol: &str, hour: i64) {
    database
        .execute(&format!(
            "INSERT INTO funding (symbol, hour_ms, rate, oracle, received_at_ms)
             VALUES ('{symbol}', {}, '0.001', '1000', 0)",
            NOON + hour * HOUR_MS
        ))
        .await;
}

/// What a cycle counted.
async fn counted(database: &Database, what: &str) -> Option<u64> {
    mark(database).await.summary.expect("a summary")[what].as_u64()
}

const FUNDING: &str =
    "SELECT account_id, occurred_at_ms, idempotency_key FROM prop_ledger_transactions
     WHERE kind = 'funding' ORDER BY id";

async fn an_account_that_failed_pays_for_an_hour_whose_rate_comes_later(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 10_000).await;
    set_mid(&database, "BTC", "80000").await;
    execute(&database, decision(account, "a", vec![buy("BTC", "0.2")])).await;
    database.clock.advance(Duration::from_secs(61 * 60));
    set_mid(&database, "BTC", "76800").await;
    assert_eq!(counted(&database, "breached").await, Some(1));
    let cash = "SELECT cash FROM prop_accounts";
    assert_eq!(database.value::<String>(cash).await, "9345.888");
    database.clock.advance(Duration::from_secs(60));
    assert_eq!(counted(&database, "settled").await, Some(0), "the rate is not there");

    settle_funding(&database, "BTC", 1).await;
    database.clock.advance(Duration::from_secs(60));
    assert_eq!(counted(&database, "settled").await, Some(0), "those that live come first");
    database.clock.advance(Duration::from_secs(14 * 60));
    let summary = mark(&database).await.summary.expect("a summary");
    assert_eq!((summary["settled"].as_u64(), summary["marked"].as_u64()), (Some(1), Some(0)));
    // 0.2 × 1,000 × 0.1 %.
    assert_eq!(database.value::<String>(cash).await, "9345.688");
    let hour_ms = NOON + HOUR_MS;
    let booked = format!("{account}|{hour_ms}|funding:BTC:{hour_ms}");
    assert_eq!(database.lines(FUNDING).await, [booked]);
    database.clock.advance(Duration::from_secs(60));
    let looked_at = "SELECT looked_at_ms FROM prop_accounts";
    let before: i64 = database.value(looked_at).await;
    assert_eq!(counted(&database, "settled").await, Some(0), "once");
    assert_eq!(database.value::<i64>(looked_at).await, before, "and it is not looked at any more");
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn an_account_that_failed_gives_up_an_hour_after_a_day(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 10_000).await;
    set_mid(&database, "BTC", "80000").await;
    execute(&database, decision(account, "a", vec![buy("BTC", "0.2")])).await;
    database.clock.advance(Duration::from_secs(61 * 60));
    set_mid(&database, "BTC", "76800").await;
    assert_eq!(counted(&database, "breached").await, Some(1));
    database.clock.advance(Duration::from_secs(23 * 3_600));
    assert_eq!(counted(&database, "settled").await, Some(0));
    database.clock.advance(Duration::from_secs(3_600));
    assert_eq!(counted(&database, "settled").await, Some(1));
    let events = database.lines("SELECT kind FROM prop_account_events ORDER BY id").await;
    assert_eq!(events, ["max_daily_loss", "funding_missing"]);
    settle_funding(&database, "BTC", 1).await;
    assert_eq!(counted(&database, "settled").await, Some(0), "too late");
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn a_trade_after_midnight_and_before_a_mark_counts_to_the_new_day(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 10_000).await;
    set_mid(&database, "BTC", "80000").await;
    execute(&database, decision(account, "a", vec![buy("BTC", "0.1")])).await;
    assert_eq!(counted(&database, "marked").await, Some(1));
    database.clock.advance(Duration::from_secs(12 * 3_600 + 5));
    set_mid(&database, "BTC", "80000").await;
    set_mid(&database, "ETH", "2500").await;
    execute(&database, decision(account, "b", vec![buy("ETH", "1")])).await;
    let days = "SELECT day, orders, fees, closing_balance FROM prop_day_stats ORDER BY day";
    let today = (NOON / HOUR_MS) / 24;
    let expected = [format!("{today}|1|3.6|9996.4"), format!("{}|1|1.125|-", today + 1)];
    assert_eq!(database.lines(days).await, expected);
    database.clock.advance(Duration::from_secs(5));
    assert_eq!(counted(&database, "marked").await, Some(1));
    assert_eq!(database.lines(days).await, expected, "the mark finds the day begun");
    assert_holds(&prove(&database.store).await.expect("proven"));
}

on_every_store! {
    a_trade_after_midnight_and_before_a_mark_counts_to_the_new_day,
    an_account_that_failed_pays_for_an_hour_whose_rate_comes_later,
    an_account_that_failed_gives_up_an_hour_after_a_day,
}
