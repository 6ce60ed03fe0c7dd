//! Decisions for prop accounts: from a strategy to fills that the books prove.

use std::sync::Arc;
use std::time::Duration;

use domain::market::{Interval, RandomWalk};
use domain::prop::{AccountKind, AccountRules};
use domain::services::accounts::open_account;
use domain::services::proofs::prove;
use domain::store::candles;
use domain::store::prop::NewAccount;
use domain::store::strategy_graphs::{self, StrategyGraph};
use domain::strategy::ValidGraph;
use domain::workers::prop_decisions::{self, PropDecisionsOptions};
use domain::workers::{DecidingOptions, Providers};
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{RunStatus, Shutdown, StoreError, WorkerStatus};
use serde_json::{Value, json};

use crate::harness::{Database, NOON};
use crate::{decisions, prop};

const MINUTE: Duration = Duration::from_secs(60);

/// Long at three times leverage, whatever happens.
const ALWAYS_LONG: &str = r#"{"schema_version":1,"name":"always","universe":["BTC"],"timeframe":"1h","warmup_bars":10,
    "nodes":[{"id":"px","type":"input","feature":"price","params":{"field":"close"}},
        {"id":"zero","type":"const","value":"0"},
        {"id":"go","type":"compare","op":"gt","inputs":["px","zero"]}],
    "actions":[{"id":"long","when":"go","do":"open_long","sizing":{"mode":"pct_equity","value":"0.10"},
        "leverage":"3","stop_loss":{"mode":"pct","value":"0.02"}}],
    "risk":{"max_leverage":"5","max_position_pct":"0.5","max_open_positions":3}}"#;

pub(crate) async fn with_arena(database: Database) -> Database {
    migration::up(database.store.reader()).await.expect("migrations apply");
    database
}

/// Bars up to now, a price of now, and the strategy on record; answers its hash.
pub(crate) async fn with_market(database: &Database) -> String {
    let graph = ValidGraph::parse(ALWAYS_LONG).expect("valid");
    let version = StrategyGraph {
        graph_hash: graph.hash().to_owned(),
        name: "always".into(),
        graph: graph.canonical_json().to_owned(),
        created_at_ms: NOON,
    };
    let first_ms = NOON - 200 * 3_600_000;
    let bars: Vec<_> =
        RandomWalk::new(7, Interval::H1, first_ms, 30_000.0, 0.01).take(200).collect();
    let stored: Result<_, StoreError> = database
        .store
        .write("store a market", |txn| {
            Box::pin(async move {
                strategy_graphs::record(txn, &version).await?;
                candles::upsert(txn, "BTC", Interval::H1, &bars).await
            })
        })
        .await;
    stored.expect("bars");
    database
        .execute("INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage) VALUES ('BTC', 0, 5, 40)")
        .await;
    set_mid(database).await;
    graph.hash().to_owned()
}

pub(crate) async fn set_mid(database: &Database) {
    let at = database.store.clock().now_ms();
    database
        .execute(&format!(
            "INSERT INTO mids (symbol, mid, received_at_ms) VALUES ('BTC', '30000', {at})
             ON CONFLICT (symbol) DO UPDATE SET received_at_ms = excluded.received_at_ms"
        ))
        .await;
}

/// An account of a new clone that decides by this provider and strategy.
pub(crate) async fn account(
    database: &Database,
    provider: &str,
    graph: Option<&str>,
    rules: AccountRules,
) -> i64 {
    let graph = graph.map_or("NULL".to_owned(), |hash| format!("'{hash}'"));
    database
        .execute(&format!(
            "INSERT INTO clones (user_id, name, provider, graph_hash, created_at_ms, updated_at_ms)
             VALUES (1, 'c', '{provider}', {graph}, 0, 0)"
        ))
        .await;
    let clone_id = database.value("SELECT max(id) FROM clones").await;
    let kind = AccountKind::Practice;
    let new = NewAccount { clone_id, kind, rules, initial: 10_000.into(), creation_key: None };
    open_account(&database.store, new).await.expect("opened").id
}

async fn decide_at_most(database: &Database, limit: u32) -> Value {
    let mut scheduler = database.scheduler();
    let options = PropDecisionsOptions { limit, ..PropDecisionsOptions::default() };
    prop_decisions::register(&mut scheduler, &database.store, &options).expect("registered");
    let report =
        scheduler.run_once(prop_decisions::NAME, Duration::ZERO, &Shutdown::default()).await;
    let report = report.expect("a cycle");
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    report.summary.expect("a summary")
}

async fn decide(database: &Database) -> Value {
    decide_at_most(database, 100).await
}

async fn heartbeat(database: &Database) -> WorkerStatus {
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].worker, "prop_decisions");
    health.workers[0].status
}

async fn runs(database: &Database) -> Vec<String> {
    database
        .lines("SELECT account_id, action, status, skip_reason FROM prop_decision_runs ORDER BY scheduled_for_ms, account_id")
        .await
}

async fn the_books_hold(database: &Database) {
    let report = prove(&database.store).await.expect("proved");
    assert!(report.holds(), "{:#?}", report.discrepancies);
}

async fn prop_decisions_run_once_on_an_empty_database(database: Database) {
    let database = with_arena(database).await;
    assert_eq!(decide(&database).await["subjects"], 0);
    assert_eq!(heartbeat(&database).await, WorkerStatus::Succeeded);
}

async fn the_default_draft_of_a_noop_provider_is_held(database: Database) {
    let database = with_arena(database).await;
    let id = account(&database, "noop", None, AccountRules::default()).await;
    decide(&database).await;
    assert_eq!(runs(&database).await, [format!("{id}|hold|skipped|hold")]);
    assert_eq!(heartbeat(&database).await, WorkerStatus::Succeeded);
    // The slot is decided.
    assert_eq!(decide(&database).await["duplicates"], 1);
    assert_eq!(runs(&database).await.len(), 1);
}

async fn a_proposal_is_checked_and_filled_once(database: Database) {
    let database = with_arena(database).await;
    let hash = with_market(&database).await;
    let trades = account(&database, "rule_graph", Some(&hash), AccountRules::default()).await;
    let careful = AccountRules { max_leverage: 2.into(), ..AccountRules::default() };
    let refused = account(&database, "rule_graph", Some(&hash), careful).await;
    let summary = decide(&database).await;
    assert_eq!((&summary["executed"], &summary["rejected"]), (&1.into(), &1.into()));
    assert_eq!(
        runs(&database).await,
        [format!("{trades}|open_long|executed|-"), format!("{refused}|open_long|rejected|-")]
    );
    let fills =
        database.lines("SELECT account_id, symbol, size, leverage, reason FROM prop_fills").await;
    assert_eq!(fills.len(), 1);
    assert!(fills[0].starts_with(&format!("{trades}|BTC|0.03")), "{fills:?}");
    let verdicts: String = database
        .value("SELECT risk_verdicts FROM prop_decision_runs WHERE status = 'rejected'")
        .await;
    assert!(
        verdicts.contains(r#"{"actual":"3","check":"leverage","limit":"2","ok":false}"#),
        "{verdicts}"
    );
    let orders: String = database
        .value("SELECT client_order_ids FROM prop_decision_runs WHERE status = 'executed'")
        .await;
    let order: String = database.value("SELECT client_order_id FROM prop_fills").await;
    assert_eq!(orders, format!("[\"{order}\"]"));
    the_books_hold(&database).await;
    // What is held already is held.
    database.clock.advance(MINUTE);
    set_mid(&database).await;
    decide(&database).await;
    assert_eq!(
        runs(&database).await[2..],
        [format!("{trades}|hold|skipped|hold"), format!("{refused}|open_long|rejected|-"),]
    );
    the_books_hold(&database).await;
}

async fn a_crash_between_the_fills_and_the_next_try_trades_once(database: Database) {
    let database = with_arena(database).await;
    let hash = with_market(&database).await;
    account(&database, "rule_graph", Some(&hash), AccountRules::default()).await;
    decide(&database).await;
    // As a host leaves it that died after another had seen its fills: under way, its lease gone.
    database
        .execute("UPDATE prop_decision_runs SET status = 'running', instance_id = 'dead', lease_token = 0, lease_name = 'x'")
        .await;
    database.execute("DELETE FROM prop_positions").await;
    decide(&database).await;
    let decided = database.lines("SELECT status, attempt FROM prop_decision_runs").await;
    assert_eq!(decided, ["executed|2"]);
    let fills: i64 = database.value("SELECT count(*) FROM prop_fills").await;
    assert_eq!(fills, 1);
}

async fn one_bad_account_stops_no_other(database: Database) {
    let database = with_arena(database).await;
    let hash = with_market(&database).await;
    let bad = account(&database, "rule_graph", Some(&hash), AccountRules::default()).await;
    let good = account(&database, "rule_graph", Some(&hash), AccountRules::default()).await;
    database.execute(&format!("UPDATE prop_accounts SET rules = '[' WHERE id = {bad}")).await;
    let halted = account(&database, "noop", None, AccountRules::default()).await;
    database
        .execute(&format!(
            "UPDATE prop_accounts SET status = 'halted_until_roll' WHERE id = {halted}"
        ))
        .await;
    let summary = decide(&database).await;
    assert_eq!((&summary["error"], &summary["items_failed"]), (&1.into(), &1.into()));
    assert_eq!(
        runs(&database).await,
        [
            format!("{bad}|none|error|-"),
            format!("{good}|open_long|executed|-"),
            format!("{halted}|none|skipped|daily_halt"),
        ]
    );
}

async fn a_decision_that_cannot_be_stored_is_charged_to_its_account(database: Database) {
    let database = with_arena(database).await;
    let id = account(&database, "noop", None, AccountRules::default()).await;
    decide(&database).await;
    database
        .execute("CREATE UNIQUE INDEX of_this_test ON prop_decision_runs (account_id) WHERE skip_reason = 'hold'")
        .await;
    database.clock.advance(MINUTE);
    // The only one of its batch.
    let summary = decide(&database).await;
    assert_eq!((&summary["error"], &summary["items_failed"]), (&1.into(), &1.into()), "{summary}");
    assert_eq!(runs(&database).await[1], format!("{id}|none|error|-"));
}

async fn accounts_of_a_clone_share_its_budget_within_a_cycle(database: Database) {
    let database = with_arena(database).await;
    let hash = with_market(&database).await;
    let hold = || decisions::completion(&json!({ "content": r#"{"action":"hold"}"# }));
    let model = decisions::model(vec![hold(), hold()]).await;
    for _ in 0..2 {
        account(&database, "http_llm", Some(&hash), AccountRules::default()).await;
    }
    // Each answer is 1,100 tokens.
    database.execute("UPDATE clones SET tokens_per_day = 1000").await;
    database.execute("UPDATE prop_accounts SET clone_id = (SELECT min(id) FROM clones)").await;
    let deciding = DecidingOptions {
        concurrency: 1,
        providers: Providers::with_model(Arc::new(model)),
        ..DecidingOptions::default()
    };
    let options = PropDecisionsOptions { deciding, ..PropDecisionsOptions::default() };
    let mut scheduler = database.scheduler();
    prop_decisions::register(&mut scheduler, &database.store, &options).expect("registered");
    let report =
        scheduler.run_once(prop_decisions::NAME, Duration::ZERO, &Shutdown::default()).await;
    assert_eq!(report.expect("a cycle").status, RunStatus::Succeeded);
    let mut reasons = database.lines("SELECT skip_reason FROM prop_decision_runs").await;
    reasons.sort_unstable();
    assert_eq!(reasons, ["budget_exceeded", "hold"]);
}

async fn an_account_that_nobody_marks_opens_nothing_more(database: Database) {
    let database = with_arena(database).await;
    let hash = with_market(&database).await;
    let id = account(&database, "rule_graph", Some(&hash), AccountRules::default()).await;
    database
        .execute("INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage) VALUES ('ETH', 0, 4, 25)")
        .await;
    prop::set_mid(&database, "ETH", "2500").await;
    prop::execute(&database, prop::decision(id, "by hand", vec![prop::buy("ETH", "1")])).await;

    database.clock.advance(4 * MINUTE);
    set_mid(&database).await;
    prop::set_mid(&database, "ETH", "2500").await;
    assert_eq!(decide(&database).await["rejected"], 1);
    let verdicts: String = database.value("SELECT risk_verdicts FROM prop_decision_runs").await;
    let refusal = r#"{"actual":"240000 ms ago","check":"account_marked","limit":"marked 180000 ms ago","ok":false}"#;
    assert!(verdicts.contains(refusal), "{verdicts}");
    assert_eq!(prop::marked(&database).await, 1);
    database.clock.advance(MINUTE);
    set_mid(&database).await;
    prop::set_mid(&database, "ETH", "2500").await;
    assert_eq!(decide(&database).await["executed"], 1);
    the_books_hold(&database).await;
}

async fn accounts_beyond_the_limit_take_turns(database: Database) {
    let database = with_arena(database).await;
    for _ in 0..3 {
        account(&database, "noop", None, AccountRules::default()).await;
    }
    for _ in 0..3 {
        assert_eq!(decide_at_most(&database, 2).await["subjects"], 2);
        database.clock.advance(MINUTE);
    }
    let turns = database
        .lines("SELECT account_id, count(*) FROM prop_decision_runs GROUP BY account_id ORDER BY account_id")
        .await;
    // The longest ago first; of equals the first.
    assert_eq!(turns, ["1|3", "2|2", "3|1"]);
}

on_every_store! {
    prop_decisions_run_once_on_an_empty_database,
    the_default_draft_of_a_noop_provider_is_held,
    a_proposal_is_checked_and_filled_once,
    a_crash_between_the_fills_and_the_next_try_trades_once,
    one_bad_account_stops_no_other,
    an_account_that_nobody_marks_opens_nothing_more,
    accounts_beyond_the_limit_take_turns,
    a_decision_that_cannot_be_stored_is_charged_to_its_account,
    accounts_of_a_clone_share_its_budget_within_a_cycle,
}
