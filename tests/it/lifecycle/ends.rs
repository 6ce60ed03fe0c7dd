//! What an audition is judged by when it ends: what is booked at the last moment, and what happened
//! within its window.

use std::time::Duration;

use domain::decisions::IntentKind;
use domain::lifecycle::AuditionRules;
use domain::prop::AccountRules;
use domain::store::clones::ProfileStatus;
use rust_decimal::Decimal;
use serde_json::Value;

use super::{audition, auditioned, evaluate, with_arena};
use crate::harness::{Database, NOON};
use crate::prop::{HOUR_MS, buy, d, decision, execute, mark, propose, rules, set_mid};

const MINUTE_MS: i64 = 60_000;

/// An audition that asks for 1 %, without fees or slippage; answers its id and its account's.
async fn running(database: &Database, window_ms: i64) -> [i64; 2] {
    let account = AccountRules { taker_fee_rate: Decimal::ZERO, ..rules() };
    let target = Some(d("0.01"));
    let rules = AuditionRules { account, target, window_ms, ..AuditionRules::default() };
    let [_, id] = auditioned(database, ProfileStatus::Approved, rules).await;
    let btc = "INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage)
               VALUES ('BTC', 0, 5, 40)";
    database.execute(btc).await;
    assert_eq!(evaluate(database).await["started"], 1);
    [id, database.value("SELECT account_id FROM audition_runs").await]
}

/// Sets the clock.
fn at(database: &Database, ms: i64) {
    let left = u64::try_from(ms - database.store.clock().now_ms()).expect("later than now");
    database.clock.advance(Duration::from_millis(left));
}

async fn buy_a_tenth(database: &Database, account: i64, run: &str, mid: &str) {
    set_mid(database, "BTC", mid).await;
    execute(database, decision(account, run, vec![buy("BTC", "0.1")])).await;
}

async fn close(database: &Database, account: i64, run: &str, mid: &str) {
    set_mid(database, "BTC", mid).await;
    let close = propose("BTC", IntentKind::Close);
    execute(database, decision(account, run, vec![close])).await;
}

async fn evidence(database: &Database) -> Value {
    let evidence: String = database.value("SELECT evidence FROM audition_runs").await;
    serde_json::from_str(&evidence).expect("JSON")
}

/// The rate of an hour, by which a tenth of a bitcoin pays half a dollar.
async fn settle_hour(database: &Database, hour_ms: i64) {
    database
        .execute(&format!(
            "INSERT INTO funding (symbol, hour_ms, rate, oracle, received_at_ms)
             VALUES ('BTC', {hour_ms}, '0.0001', '50000', {hour_ms})"
        ))
        .await;
}

async fn funding_that_comes_after_the_last_mark_may_take_the_target_away(database: Database) {
    let database = with_arena(database).await;
    let [id, account] = running(&database, 24 * HOUR_MS).await;
    let hour_ms = NOON + HOUR_MS;
    at(&database, hour_ms - 60_000);
    buy_a_tenth(&database, account, "a", "50000").await;
    // Held over the hour, sold for a dime more than the target.
    at(&database, hour_ms + 30_000);
    close(&database, account, "b", "51001").await;
    mark(&database).await;
    let cash = "SELECT cash FROM prop_accounts";
    assert_eq!(database.value::<String>(cash).await, "10100.1");
    at(&database, hour_ms + 60_000);
    assert_eq!(evaluate(&database).await["waiting_for_marks"], 1, "the rate is not there");

    settle_hour(&database, hour_ms).await;
    at(&database, hour_ms + 100_000);
    let summary = evaluate(&database).await;
    assert_eq!(summary["passed"], Value::Null, "{summary}");
    assert_eq!(audition(&database, id).await, "running|account_opened|3");
    assert_eq!(database.value::<String>(cash).await, "10099.6");

    // Two dollars later it has it.
    buy_a_tenth(&database, account, "c", "50000").await;
    close(&database, account, "d", "50020").await;
    at(&database, hour_ms + 400_000);
    assert_eq!(evaluate(&database).await["passed"], 1);
    assert_eq!(database.value::<String>(cash).await, "10101.6");
    assert_eq!(evidence(&database).await["progress"]["balance"], "10101.6");
}

async fn funding_that_comes_after_the_last_mark_and_leaves_the_target_is_judged_at_once(
    database: Database,
) {
    let database = with_arena(database).await;
    let [id, account] = running(&database, 24 * HOUR_MS).await;
    let hour_ms = NOON + HOUR_MS;
    at(&database, hour_ms - 60_000);
    buy_a_tenth(&database, account, "a", "50000").await;
    at(&database, hour_ms + 30_000);
    close(&database, account, "b", "51010").await;
    settle_hour(&database, hour_ms).await;
    at(&database, hour_ms + 100_000);
    assert_eq!(evaluate(&database).await["passed"], 1);
    assert_eq!(audition(&database, id).await, "passed|target_reached|4");
    // The verdict has the figures that the account ends with.
    assert_eq!(evidence(&database).await["progress"]["balance"], "10100.5");
    let ended = database.lines("SELECT status, cash FROM prop_accounts").await;
    assert_eq!(ended, ["passed|10100.5"]);
}

async fn a_target_that_is_reached_after_the_window_is_not_reached(database: Database) {
    let database = with_arena(database).await;
    let [id, account] = running(&database, 30 * MINUTE_MS).await;
    at(&database, NOON + 20 * MINUTE_MS);
    buy_a_tenth(&database, account, "a", "50000").await;
    // Nobody judges, and the account trades on.
    at(&database, NOON + 31 * MINUTE_MS);
    close(&database, account, "b", "51010").await;
    assert_eq!(evaluate(&database).await["expired"], 1);
    assert_eq!(audition(&database, id).await, "expired|time_limit|4");
    let evidence = evidence(&database).await;
    assert_eq!(evidence["missing"], serde_json::json!(["target", "flat"]));
    let progress = &evidence["progress"];
    assert_eq!((&progress["balance"], &progress["closed_trades"]), (&"10000".into(), &0.into()));
    let ended = database.lines("SELECT status, cash FROM prop_accounts").await;
    assert_eq!(ended, ["closed|10101"]);
}

async fn a_target_that_was_reached_within_the_window_stays_reached(database: Database) {
    let database = with_arena(database).await;
    let [id, account] = running(&database, 30 * MINUTE_MS).await;
    at(&database, NOON + 10 * MINUTE_MS);
    buy_a_tenth(&database, account, "a", "50000").await;
    at(&database, NOON + 20 * MINUTE_MS);
    close(&database, account, "b", "51010").await;
    // Nobody judges, and the account trades on.
    at(&database, NOON + 31 * MINUTE_MS);
    buy_a_tenth(&database, account, "c", "50000").await;
    close(&database, account, "d", "49900").await;
    assert_eq!(evaluate(&database).await["passed"], 1);
    assert_eq!(audition(&database, id).await, "passed|target_reached|4");
    let evidence = evidence(&database).await;
    let progress = &evidence["progress"];
    assert_eq!((&progress["balance"], &progress["closed_trades"]), (&"10101".into(), &1.into()));
    let ended = database.lines("SELECT status, cash FROM prop_accounts").await;
    assert_eq!(ended, ["passed|10091"]);
}

on_every_store! {
    a_target_that_is_reached_after_the_window_is_not_reached,
    a_target_that_was_reached_within_the_window_stays_reached,
    funding_that_comes_after_the_last_mark_may_take_the_target_away,
    funding_that_comes_after_the_last_mark_and_leaves_the_target_is_judged_at_once,
}
