//! What piles up goes when it is old; the books and what is still needed stay.

use std::time::Duration;

use domain::services::proofs::prove;
use domain::workers::retention::{self, RetentionOptions};
use scheduler_core::{RunStatus, Shutdown};
use serde_json::{Value, json};

use crate::harness::{Database, NOON};
use crate::prop::{arena, assert_holds, buy, decision, execute, mark, open, rules, set_mid};

const DAY_MS: i64 = 86_400_000;

async fn sweep(database: &Database, options: &RetentionOptions) -> Value {
    let mut scheduler = database.scheduler();
    retention::register(&mut scheduler, &database.store, options).expect("registered");
    let report = scheduler.run_once(retention::NAME, Duration::ZERO, &Shutdown::default()).await;
    let report = report.expect("a cycle");
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    report.summary.expect("a summary")
}

/// A decision of an account in a slot so many days ago.
async fn decided(database: &Database, table: &str, account: i64, days_ago: i64, status: &str) {
    let (slot_ms, reason) =
        (NOON - days_ago * DAY_MS, if status == "skipped" { "'hold'" } else { "NULL" });
    database
        .execute(&format!(
            "INSERT INTO {table} (id, clone_id, account_id, scheduled_for_ms, as_of_ms,
                 started_at_ms, provider, status, skip_reason)
             VALUES ('{account}-{days_ago}', 1, {account}, {slot_ms}, 0, 0, 'noop', '{status}', {reason})"
        ))
        .await;
}

async fn back_test(database: &Database, id: &str, status: &str, ended_days_ago: Option<i64>) {
    let ended = ended_days_ago.map_or("NULL".to_owned(), |days| (NOON - days * DAY_MS).to_string());
    database
        .execute(&format!(
            "INSERT INTO backtest_jobs (id, user_id, graph, graph_hash, symbol, interval,
                 created_at_ms, status, completed_at_ms)
             VALUES ('{id}', 1, '{{}}', 'h', 'BTC', '1h', 0, '{status}', {ended})"
        ))
        .await;
}

async fn what_is_old_goes_and_the_books_stay(database: Database) {
    let database = arena(database).await;
    let [plain, auditions] =
        [open(&database, rules(), 10_000).await, open(&database, rules(), 10_000).await];
    // A year and a month ago an account traded and was marked.
    set_mid(&database, "BTC", "80000").await;
    execute(&database, decision(plain, "a", vec![buy("BTC", "0.1")])).await;
    mark(&database).await;
    database.execute("UPDATE prop_fills SET filled_at_ms = 0").await;
    database.execute("UPDATE prop_equity_snapshots SET at_ms = account_id").await;
    for days_ago in [400, 364] {
        let at_ms = NOON - days_ago * DAY_MS;
        let event = format!(
            "INSERT INTO prop_account_events (account_id, at_ms, kind, detail)
             VALUES ({plain}, {at_ms}, 'halted', '{{}}')"
        );
        database.execute(&event).await;
    }
    database.clock.advance(Duration::from_secs(60));
    set_mid(&database, "BTC", "80000").await;
    mark(&database).await;
    database
        .execute(&format!(
            "INSERT INTO audition_runs (clone_id, account_id, status, rules, created_at_ms, started_at_ms)
             VALUES (1, {auditions}, 'running', '{{}}', 0, {})",
            NOON - 48 * DAY_MS
        ))
        .await;
    for (account, days_ago, status) in [
        (plain, 50, "skipped"),
        (plain, 49, "rejected"),
        (plain, 400, "executed"),
        (plain, 47, "running"),
        (plain, 44, "skipped"),
        (auditions, 47, "skipped"),
    ] {
        decided(&database, "prop_decision_runs", account, days_ago, status).await;
    }
    decided(&database, "clone_decision_runs", 0, 15, "skipped").await;
    decided(&database, "clone_decision_runs", 0, 13, "skipped").await;
    back_test(&database, "old", "succeeded", Some(91)).await;
    back_test(&database, "older", "dead", Some(100)).await;
    back_test(&database, "called off", "cancelled", Some(92)).await;
    back_test(&database, "of late", "succeeded", Some(89)).await;
    back_test(&database, "waits", "queued", None).await;
    let books = async || {
        let mut counted = Vec::new();
        for table in [
            "prop_ledger_transactions",
            "prop_ledger_postings",
            "prop_fills",
            "prop_positions",
            "prop_day_stats",
            "prop_accounts",
        ] {
            let rows: i64 = database.value(&format!("SELECT count(*) FROM {table}")).await;
            counted.push((table, rows));
        }
        counted
    };
    let before = books().await;

    let summary = sweep(&database, &RetentionOptions::default()).await;
    for (table, deleted) in [
        ("prop_decision_runs", 2),
        ("clone_decision_runs", 1),
        ("prop_equity_snapshots", 2),
        ("prop_account_events", 1),
        ("backtest_jobs", 3),
    ] {
        assert_eq!(summary[table], json!(deleted), "{table}: {summary}");
    }
    let left = database.lines("SELECT id FROM prop_decision_runs ORDER BY id").await;
    let kept = [(plain, 400), (plain, 44), (plain, 47), (auditions, 47)];
    assert_eq!(left, kept.map(|(account, days_ago)| format!("{account}-{days_ago}")));
    let left = database.lines("SELECT id FROM backtest_jobs ORDER BY id").await;
    assert_eq!(left, ["of late", "waits"]);
    assert_eq!(books().await, before);
    assert_holds(&prove(&database.store).await.expect("proven"));
    let again = sweep(&database, &RetentionOptions::default()).await;
    assert_eq!(again["prop_decision_runs"], 0);

    // The audition has ended: its decisions are as old as others'.
    database.execute("UPDATE audition_runs SET status = 'cancelled'").await;
    let after = sweep(&database, &RetentionOptions::default()).await;
    assert_eq!(after["prop_decision_runs"], 1);
}

async fn a_cycle_takes_more_than_one_step(database: Database) {
    let database = arena(database).await;
    let event = "INSERT INTO prop_account_events (account_id, at_ms, kind, detail)
                 SELECT 1, 0, 'halted', '{}' FROM";
    let doubled = "prop_account_events";
    database.execute(&format!("{event} clones")).await;
    for _ in 0..13 {
        database.execute(&format!("{event} {doubled}")).await;
    }
    let summary = sweep(&database, &RetentionOptions::default()).await;
    assert_eq!(summary["prop_account_events"], 1 << 13);
}

on_every_store! {
    what_is_old_goes_and_the_books_stay,
    a_cycle_takes_more_than_one_step,
}
