//! What becomes of the accounts of clones that are archived, on every store.

use std::time::Duration;

use domain::lifecycle::AuditionRules;
use domain::prop::AccountKind;
use domain::services::accounts::open_account;
use domain::services::proofs::prove;
use domain::store::clones::ProfileStatus;
use domain::store::prop::NewAccount;
use serde_json::Value;

use super::{auditioned, evaluate, let_in, with_arena};
use crate::harness::Database;
use crate::prop::{assert_holds, buy, decision, execute, mark, rules, set_mid};

/// A clone in the arena whose account holds a tenth of a bitcoin; answers its account.
async fn member(database: &Database) -> i64 {
    let rules = AuditionRules { window_ms: 1_000, ..AuditionRules::default() };
    let [clone_id, _] = auditioned(database, ProfileStatus::Approved, rules).await;
    evaluate(database).await;
    database.clock.advance(Duration::from_secs(1));
    assert_eq!(evaluate(database).await["passed"], 1);
    assert_eq!(let_in(database).await["promoted"], 1);
    let account = database
        .value(&format!(
            "SELECT account_id FROM arena_clone_memberships WHERE clone_id = {clone_id}"
        ))
        .await;
    set_mid(database, "BTC", "50000").await;
    execute(database, decision(account, &format!("of {account}"), vec![buy("BTC", "0.1")])).await;
    let held = format!("SELECT size FROM prop_positions WHERE account_id = {account}");
    assert_eq!(database.value::<String>(&held).await, "0.1");
    account
}

async fn archive_all(database: &Database) {
    database.execute("UPDATE clones SET status = 'archived'").await;
}

async fn with_bitcoin(database: Database) -> Database {
    let database = with_arena(database).await;
    let btc = "INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage)
               VALUES ('BTC', 0, 5, 40)";
    database.execute(btc).await;
    database
}

const HELD: &str = "SELECT count(*) FROM prop_positions";

async fn the_account_of_an_archived_clone_is_closed_at_its_mark(database: Database) {
    let database = with_bitcoin(database).await;
    let account = member(&database).await;
    let account_of = format!("SELECT status FROM prop_accounts WHERE id = {account}");
    assert_eq!(let_in(&database).await["closed"], 0, "it competes");
    archive_all(&database).await;
    // Its slot is free at once; its position waits for a mark.
    database.clock.advance(Duration::from_secs(60));
    let summary = let_in(&database).await;
    assert_eq!((&summary["departed"], &summary["waiting_for_marks"]), (&1.into(), &1.into()));
    let left = database.lines("SELECT left_reason FROM arena_clone_memberships").await;
    assert_eq!(left, ["archived"]);
    assert_eq!(database.lines(&account_of).await, ["active"]);

    set_mid(&database, "BTC", "51000").await;
    let summary = let_in(&database).await;
    assert_eq!((&summary["departed"], &summary["closed"]), (&0.into(), &1.into()));
    assert_eq!(database.lines(&account_of).await, ["closed"]);
    assert_eq!(database.value::<i64>(HELD).await, 0);
    let fills = database.lines("SELECT size, price, fee, reason FROM prop_fills ORDER BY id").await;
    assert_eq!(fills[1..], ["-0.1|51000|2.295|close"]);
    // Once, and nobody marks it any more.
    assert_eq!(let_in(&database).await["closed"], 0);
    database.clock.advance(Duration::from_secs(60));
    assert_eq!(mark(&database).await.summary.expect("a summary")["marked"], 0);
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn an_archived_account_that_breaks_its_rules_at_its_last_mark_has_broken_them(
    database: Database,
) {
    let database = with_bitcoin(database).await;
    let account = member(&database).await;
    archive_all(&database).await;
    // 2,000 of 10,000 are lost, and nobody has looked.
    set_mid(&database, "BTC", "30000").await;
    assert_eq!(let_in(&database).await["closed"], 1);
    let ended = format!("SELECT status FROM prop_accounts WHERE id = {account}");
    assert_eq!(database.lines(&ended).await, ["breached"]);
    assert_eq!(database.value::<i64>(HELD).await, 0);
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn one_abandoned_account_that_cannot_be_read_stops_no_other(database: Database) {
    let database = with_bitcoin(database).await;
    let bad = member(&database).await;
    let good = member(&database).await;
    let clone_id: i64 = database.value("SELECT max(id) FROM clones").await;
    let new = NewAccount {
        clone_id,
        kind: AccountKind::Practice,
        rules: rules(),
        initial: 1_000.into(),
        creation_key: None,
    };
    let practice = open_account(&database.store, new).await.expect("opened").id;
    archive_all(&database).await;
    let spoil = format!("UPDATE prop_accounts SET rules = '[' WHERE id = {bad}");
    database.execute(&spoil).await;
    let summary = let_in(&database).await;
    assert_eq!((&summary["closed"], &summary["items_failed"]), (&2.into(), &1.into()));
    assert_eq!(summary["departed"], Value::from(2), "both slots are free");
    let open = "SELECT id FROM prop_accounts WHERE status = 'active'";
    assert_eq!(database.lines(open).await, [bad.to_string()]);
    assert!(good < practice);
}

on_every_store! {
    the_account_of_an_archived_clone_is_closed_at_its_mark,
    an_archived_account_that_breaks_its_rules_at_its_last_mark_has_broken_them,
    one_abandoned_account_that_cannot_be_read_stops_no_other,
}
