//! Prop accounts on every store: marks, decisions, races, and the proofs of the books.

use std::time::Duration;

use domain::decisions::{Intent, IntentKind, OpenSize};
use domain::prop::{AccountKind, AccountRules, AccountStatus, Limits, Proposal};
use domain::services::accounts::{Decision, Planned, close_account, open_account, plan_decisions};
use domain::services::proofs::prove;
use domain::store::prop::{self, NewAccount};
use domain::strategy::Side;
use domain::workers::mark_to_market::{self, MarkToMarketOptions};
use rust_decimal::Decimal;
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{RunReport, RunStatus, Shutdown, StoreError, WorkerStatus};

use crate::harness::{Database, NOON};

pub(crate) const HOUR_MS: i64 = 3_600_000;

pub(crate) async fn arena(database: Database) -> Database {
    migration::up(database.store.reader()).await.expect("migrations apply");
    database
        .execute(
            "INSERT INTO clones (user_id, name, provider, created_at_ms, updated_at_ms)
             VALUES (1, 'c', 'noop', 0, 0)",
        )
        .await;
    for (symbol, decimals, leverage) in [("BTC", 5, 40), ("ETH", 4, 25)] {
        database
            .execute(&format!(
                "INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage)
                 VALUES ('{symbol}', 0, {decimals}, {leverage})"
            ))
            .await;
    }
    database
}

pub(crate) fn d(text: &str) -> Decimal {
    text.parse().expect("a decimal")
}

/// No slippage, so that figures can be followed.
pub(crate) fn rules() -> AccountRules {
    AccountRules { slippage_rate: Decimal::ZERO, ..AccountRules::default() }
}

pub(crate) async fn open(database: &Database, rules: AccountRules, initial: i64) -> i64 {
    let new = NewAccount {
        clone_id: 1,
        kind: AccountKind::Practice,
        rules,
        initial: initial.into(),
        creation_key: None,
    };
    open_account(&database.store, new).await.expect("opened").id
}

pub(crate) async fn set_mid(database: &Database, symbol: &str, mid: &str) {
    let at = database.store.clock().now_ms();
    database
        .execute(&format!(
            "INSERT INTO mids (symbol, mid, received_at_ms) VALUES ('{symbol}', '{mid}', {at})
             ON CONFLICT (symbol) DO UPDATE
             SET mid = excluded.mid, received_at_ms = excluded.received_at_ms"
        ))
        .await;
}

pub(crate) fn buy(symbol: &str, units: &str) -> Proposal {
    open_position(symbol, Side::Long, units, None)
}

fn open_position(symbol: &str, side: Side, units: &str, stop: Option<&str>) -> Proposal {
    let kind = IntentKind::Open {
        side,
        size: OpenSize::Units(d(units)),
        leverage: d("3"),
        stop_loss_pct: stop.map(d),
        take_profit_pct: None,
    };
    propose(symbol, kind)
}

pub(crate) fn propose(symbol: &str, kind: IntentKind) -> Proposal {
    let symbol = symbol.to_owned();
    let intent = Intent { symbol, kind, action_id: None, confidence: None, rationale: None };
    Proposal { intent, cooldown_until_ms: None }
}

pub(crate) fn decision(account_id: i64, run_id: &str, proposals: Vec<Proposal>) -> Decision {
    let limits = Limits {
        max_leverage: d("5"),
        max_position_pct: d("2"),
        max_open_positions: 3,
        max_daily_loss_pct: None,
        max_mark_age_ms: i64::MAX,
    };
    Decision { account_id, run_id: run_id.to_owned(), proposals, limits }
}

/// Plans and saves; answers what was planned and whether the account had moved on.
pub(crate) async fn execute(database: &Database, decision: Decision) -> (Planned, bool) {
    let now_ms = database.store.clock().now_ms();
    let planned = plan_decisions(database.store.reader(), &[decision], now_ms).await;
    let planned = planned.expect("planned").remove(0);
    let plans: Vec<_> = planned.clone().into_plan().into_iter().collect();
    let lost: Result<Vec<i64>, StoreError> = database
        .store
        .write("execute a decision", |txn| {
            Box::pin(async move { prop::save(txn, &plans, now_ms).await })
        })
        .await;
    (planned, !lost.expect("saved").is_empty())
}

pub(crate) async fn mark(database: &Database) -> RunReport {
    let mut scheduler = database.scheduler();
    let options = MarkToMarketOptions { limit: 1_000, ..MarkToMarketOptions::default() };
    mark_to_market::register(&mut scheduler, &database.store, &options).expect("registered");
    let report =
        scheduler.run_once(mark_to_market::NAME, Duration::ZERO, &Shutdown::default()).await;
    report.expect("a cycle")
}

pub(crate) async fn marked(database: &Database) -> u64 {
    let report = mark(database).await;
    assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
    report.summary.expect("a summary")["marked"].as_u64().expect("a count")
}

#[track_caller]
pub(crate) fn assert_holds(report: &domain::services::proofs::ProofReport) {
    assert!(report.holds(), "{:#?}", report.discrepancies);
}

async fn mark_to_market_runs_once_on_an_empty_database(database: Database) {
    let database = arena(database).await;
    assert_eq!(marked(&database).await, 0);
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].worker, "prop_mark_to_market");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
    assert_eq!(prove(&database.store).await.expect("proven").accounts, 0);
}

async fn an_open_position_is_repriced_at_a_newer_mid(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 100_000).await;
    set_mid(&database, "BTC", "84000").await;
    let (planned, _) = execute(&database, decision(account, "r1", vec![buy("BTC", "0.5")])).await;
    let Planned::Executed(executed) = planned else { panic!("{planned:?}") };
    assert!(!executed.refused, "{:?}", executed.verdicts);
    assert_eq!(marked(&database).await, 1);
    database.clock.advance(Duration::from_secs(60));
    set_mid(&database, "BTC", "85000").await;
    assert_eq!(marked(&database).await, 1);

    // 0.5 × 84,000 × 0.045 % = 18.9 of fees; 500 of profit.
    let snapshots = database
        .lines("SELECT cash, unrealized_pnl, equity, daily_floor, max_floor, marks FROM prop_equity_snapshots ORDER BY at_ms")
        .await;
    assert_eq!(
        snapshots,
        [
            r#"99981.1|0|99981.1|95000|90000|{"BTC":"84000"}"#,
            r#"99981.1|500|100481.1|95000|90000|{"BTC":"85000"}"#,
        ]
    );
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
    let position = database.lines("SELECT symbol, size, entry, leverage FROM prop_positions").await;
    assert_eq!(position, ["BTC|0.5|84000|3"]);
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn an_account_is_not_marked_with_a_stale_price_and_lets_others_pass(database: Database) {
    let database = arena(database).await;
    let [stale, fresh] =
        [open(&database, rules(), 10_000).await, open(&database, rules(), 10_000).await];
    for (account, symbol, run) in [(stale, "ETH", "a"), (fresh, "BTC", "b")] {
        set_mid(&database, symbol, "2500").await;
        execute(&database, decision(account, run, vec![buy(symbol, "1")])).await;
    }
    database.clock.advance(Duration::from_secs(60));
    set_mid(&database, "BTC", "2600").await;
    let report = mark(&database).await;
    let summary = report.summary.expect("a summary");
    assert_eq!((summary["marked"].as_u64(), summary["stale"].as_u64()), (Some(1), Some(1)));
    let looked_at =
        format!("SELECT count(*) FROM prop_accounts WHERE looked_at_ms = {}", NOON + 60_000);
    assert_eq!(database.value::<i64>(&looked_at).await, 2);
    set_mid(&database, "ETH", "2500").await;
    database.clock.advance(Duration::from_secs(1));
    assert_eq!(marked(&database).await, 2);
}

async fn a_decision_that_is_executed_again_is_filled_once(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 100_000).await;
    set_mid(&database, "BTC", "84000").await;
    let again = || decision(account, "run", vec![buy("BTC", "0.1")]);
    let (first, _) = execute(&database, again()).await;
    assert!(matches!(first, Planned::Executed(_)));
    let (second, _) = execute(&database, again()).await;
    assert!(matches!(second, Planned::AlreadyFilled(ids) if ids.len() == 1));
    assert_eq!(database.value::<i64>("SELECT count(*) FROM prop_fills").await, 1);

    // Also when both were planned before either was saved.
    let now_ms = database.store.clock().now_ms();
    let racing = [decision(account, "race", vec![propose("BTC", IntentKind::Close)])];
    let planned = plan_decisions(database.store.reader(), &racing, now_ms).await.expect("planned");
    let plan = planned[0].clone().into_plan().expect("fills");
    for expected in [vec![], vec![account]] {
        let plans = [plan.clone()];
        let lost: Result<Vec<i64>, StoreError> = database
            .store
            .write("race", |txn| Box::pin(async move { prop::save(txn, &plans, now_ms).await }))
            .await;
        assert_eq!(lost.expect("saved"), expected);
    }
    assert_eq!(database.value::<i64>("SELECT count(*) FROM prop_fills").await, 2);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM prop_positions").await, 0);
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn a_mark_and_a_decision_that_race_lose_no_update(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 100_000).await;
    set_mid(&database, "BTC", "84000").await;
    let now_ms = database.store.clock().now_ms();
    let late = [decision(account, "late", vec![buy("BTC", "0.1")])];
    let planned = plan_decisions(database.store.reader(), &late, now_ms).await.expect("planned");
    assert_eq!(marked(&database).await, 1);
    let plans: Vec<_> = planned.into_iter().filter_map(Planned::into_plan).collect();
    let lost: Result<Vec<i64>, StoreError> = database
        .store
        .write("come late", |txn| Box::pin(async move { prop::save(txn, &plans, now_ms).await }))
        .await;
    assert_eq!(lost.expect("saved"), [account], "the mark was first: nothing is written");
    assert_eq!(database.value::<i64>("SELECT count(*) FROM prop_fills").await, 0);
    let (_, lost) = execute(&database, decision(account, "late", vec![buy("BTC", "0.1")])).await;
    assert!(!lost, "planned anew it is filled");
    assert_eq!(database.value::<i64>("SELECT count(*) FROM prop_fills").await, 1);
}

async fn hours_of_funding_missed_in_a_downtime_are_booked_in_order(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 100_000).await;
    set_mid(&database, "ETH", "2500").await;
    execute(&database, decision(account, "a", vec![buy("ETH", "2")])).await;
    // Down for three hours and a half; the position grows in the second hour.
    database.clock.advance(Duration::from_secs(90 * 60));
    set_mid(&database, "ETH", "2500").await;
    execute(&database, decision(account, "b", vec![propose("ETH", IntentKind::Close)])).await;
    execute(&database, decision(account, "c", vec![open_position("ETH", Side::Short, "3", None)]))
        .await;
    database.clock.advance(Duration::from_secs(120 * 60));
    for (hour, rate, oracle) in
        [(1, "0.0000125", "2548"), (2, "-0.00002", "2610"), (3, "0.00001", "2600")]
    {
        database
            .execute(&format!(
                "INSERT INTO funding (symbol, hour_ms, rate, oracle, received_at_ms)
                 VALUES ('ETH', {}, '{rate}', '{oracle}', 0)",
                NOON + hour * HOUR_MS
            ))
            .await;
    }
    set_mid(&database, "ETH", "2500").await;
    assert_eq!(marked(&database).await, 1);
    let booked =
        "SELECT t.idempotency_key, t.occurred_at_ms, p.amount FROM prop_ledger_transactions AS t
         JOIN prop_ledger_postings AS p ON p.transaction_id = t.id AND p.ledger_account = 'cash'
         WHERE t.kind = 'funding' ORDER BY t.occurred_at_ms";
    let hour = |hour: i64| NOON + hour * HOUR_MS;
    assert_eq!(
        database.lines(booked).await,
        [
            format!("funding:ETH:{0}|{0}|-0.0637", hour(1)),
            format!("funding:ETH:{0}|{0}|-0.1566", hour(2)),
            format!("funding:ETH:{0}|{0}|0.078", hour(3)),
        ]
    );
    assert_eq!(marked(&database).await, 1, "and once");
    assert_eq!(database.lines(booked).await.len(), 3);
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn a_breach_closes_everything_and_ends_the_account(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 10_000).await;
    set_mid(&database, "BTC", "80000").await;
    execute(&database, decision(account, "a", vec![buy("BTC", "0.2")])).await;
    database.clock.advance(Duration::from_secs(60));
    // 16,000 of notional lose 4 %: more than 5 % of 10,000.
    set_mid(&database, "BTC", "76800").await;
    let report = mark(&database).await;
    assert_eq!(report.summary.expect("a summary")["breached"].as_u64(), Some(1));
    let ended = database.lines("SELECT status, breach, cash FROM prop_accounts").await;
    assert_eq!(ended, ["breached|max_daily_loss|9345.888"]);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM prop_positions").await, 0);
    let events = database.lines("SELECT kind FROM prop_account_events").await;
    assert_eq!(events, ["max_daily_loss"]);
    assert_eq!(marked(&database).await, 0, "what has ended is not marked");
    assert_holds(&prove(&database.store).await.expect("proven"));
}

async fn an_account_that_cannot_be_read_stops_nobody_else(database: Database) {
    let database = arena(database).await;
    let [broken, well] =
        [open(&database, rules(), 10_000).await, open(&database, rules(), 10_000).await];
    database.execute(&format!("UPDATE prop_accounts SET rules = '{{' WHERE id = {broken}")).await;
    let report = mark(&database).await;
    let summary = report.summary.expect("a summary");
    assert_eq!((summary["marked"].as_u64(), summary["failed"].as_u64()), (Some(1), Some(1)));
    let events = database.lines("SELECT account_id, kind FROM prop_account_events").await;
    assert_eq!(events, [format!("{broken}|mark_failed")]);
    let letters = database.lines("SELECT item_key, status FROM dead_letters").await;
    assert_eq!(letters, [format!("{broken}|backing_off")]);
    let marked =
        database.lines("SELECT id FROM prop_accounts WHERE marked_at_ms IS NOT NULL").await;
    assert_eq!(marked, [well.to_string()]);
}

async fn an_order_that_collides_with_a_stored_one_fails_its_own_account_only(database: Database) {
    let database = arena(database).await;
    let [one, two] =
        [open(&database, rules(), 10_000).await, open(&database, rules(), 10_000).await];
    set_mid(&database, "BTC", "80000").await;
    for (account, run) in [(one, "a"), (two, "b")] {
        let stopped = open_position("BTC", Side::Long, "0.01", Some("0.01"));
        execute(&database, decision(account, run, vec![stopped])).await;
    }
    // The id that the first account's stop will have.
    let version: i64 =
        database.value(&format!("SELECT version FROM prop_accounts WHERE id = {one}")).await;
    database
        .execute(&format!(
            "UPDATE prop_fills SET client_order_id = 'stop:{one}:{}:BTC' WHERE account_id = {one}",
            version + 1
        ))
        .await;
    set_mid(&database, "BTC", "79000").await;
    let report = mark(&database).await;
    let summary = report.summary.expect("a summary");
    assert_eq!((summary["marked"].as_u64(), summary["failed"].as_u64()), (Some(1), Some(1)));
    let held = database.lines("SELECT account_id FROM prop_positions").await;
    assert_eq!(held, [one.to_string()], "the other's stop was filled");
}

async fn a_ledger_is_only_added_to_and_an_account_is_opened_once(database: Database) {
    let database = arena(database).await;
    let new = NewAccount {
        clone_id: 1,
        kind: AccountKind::Arena,
        rules: rules(),
        initial: d("5000"),
        creation_key: Some("promo:7".into()),
    };
    let first = open_account(&database.store, new.clone()).await.expect("opened");
    let second = open_account(&database.store, new).await.expect("found");
    assert_eq!((first.id, first.is_new, second.is_new), (second.id, true, false));
    let postings = database
        .lines("SELECT ledger_account, amount FROM prop_ledger_postings ORDER BY line")
        .await;
    assert_eq!(postings, ["cash|5000", "house|-5000"]);
    for forbidden in
        ["UPDATE prop_ledger_postings SET amount = '1'", "DELETE FROM prop_ledger_transactions"]
    {
        use sea_orm::ConnectionTrait as _;
        let refused = database.store.reader().execute_unprepared(forbidden).await;
        assert!(refused.expect_err(forbidden).to_string().contains("only added to"));
    }
}

async fn a_closed_account_has_sold_everything(database: Database) {
    let database = arena(database).await;
    let account = open(&database, rules(), 10_000).await;
    set_mid(&database, "ETH", "2500").await;
    execute(&database, decision(account, "a", vec![buy("ETH", "2")])).await;
    set_mid(&database, "ETH", "2600").await;
    close_account(&database.store, account, AccountStatus::Passed, None).await.expect("closed");
    close_account(&database.store, account, AccountStatus::Closed, None).await.expect("once");
    let ended = database.lines("SELECT status, cash, breach FROM prop_accounts").await;
    // 200 of profit, 2.25 and 2.34 of fees.
    assert_eq!(ended, ["passed|10195.41|-"]);
    assert_holds(&prove(&database.store).await.expect("proven"));
    database.execute("UPDATE prop_accounts SET cash = '1'").await;
    let broken = prove(&database.store).await.expect("proven");
    assert_eq!(broken.discrepancy_count, 1);
    assert_eq!(
        broken.discrepancies[0].to_string(),
        format!("account {account}: cash is 1, its postings sum to 10195.41")
    );
}

async fn random_histories_keep_every_proof(database: Database) {
    let database = arena(database).await;
    let mut random = fastrand::Rng::with_seed(7);
    let modes = ["static", "eod_trail", "intraday_trail"];
    let mut accounts = Vec::new();
    for at in 0..12 {
        let mut chosen = rules();
        chosen.max_loss_mode =
            serde_json::from_str(&format!("\"{}\"", modes[at % 3])).expect("a mode");
        chosen.max_total_loss_pct = d("0.5");
        chosen.max_daily_loss_pct = (at % 2 == 0).then(|| d("0.2"));
        accounts.push(open(&database, chosen, 10_000).await);
    }
    let mut mids = [("BTC", 80_000_i64), ("ETH", 2_500_i64)];
    for step in 0..40 {
        database.clock.advance(Duration::from_secs(random.u64(60..8_000)));
        for (symbol, mid) in &mut mids {
            *mid = (*mid * random.i64(900..1_110) / 1_000).max(100);
            set_mid(&database, symbol, &mid.to_string()).await;
        }
        let hour = database.store.clock().now_ms() / HOUR_MS * HOUR_MS;
        for (symbol, mid) in mids {
            let rate = random.i64(-50..50);
            database
                .execute(&format!(
                    "INSERT INTO funding (symbol, hour_ms, rate, oracle, received_at_ms)
                     VALUES ('{symbol}', {hour}, '{}', '{mid}', 0) ON CONFLICT DO NOTHING",
                    Decimal::new(rate, 6)
                ))
                .await;
        }
        for account in &accounts {
            let symbol = mids[random.usize(0..2)].0;
            let proposal = match random.u32(0..4) {
                0 => propose(symbol, IntentKind::Close),
                1 => open_position(symbol, Side::Short, "0.3", Some("0.05")),
                2 => open_position(symbol, Side::Long, "5", None),
                _ => continue,
            };
            let run = format!("{account}:{step}");
            execute(&database, decision(*account, &run, vec![proposal])).await;
        }
        mark(&database).await;
    }
    let report = prove(&database.store).await.expect("proven");
    assert_holds(&report);
    assert_eq!(report.accounts, 12);
    assert!(report.fills > 50, "{report:?}");
    let ended: i64 =
        database.value("SELECT count(*) FROM prop_accounts WHERE status = 'breached'").await;
    assert!(ended > 0, "some fail");
}

on_every_store! {
    mark_to_market_runs_once_on_an_empty_database,
    an_open_position_is_repriced_at_a_newer_mid,
    an_account_is_not_marked_with_a_stale_price_and_lets_others_pass,
    a_decision_that_is_executed_again_is_filled_once,
    a_mark_and_a_decision_that_race_lose_no_update,
    hours_of_funding_missed_in_a_downtime_are_booked_in_order,
    a_breach_closes_everything_and_ends_the_account,
    an_account_that_cannot_be_read_stops_nobody_else,
    an_order_that_collides_with_a_stored_one_fails_its_own_account_only,
    a_ledger_is_only_added_to_and_an_account_is_opened_once,
    a_closed_account_has_sold_everything,
    random_histories_keep_every_proof,
}
