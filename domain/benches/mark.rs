//! How fast 10,000 accounts with positions are marked in one cycle on SQLite, beside the floor of
//! the same machine in the same run.
//!
//! `cargo bench -p domain --bench mark [-- ACCOUNTS]`
//!
//! The floor writes what a cycle writes, known beforehand: per account an update, a snapshot and a
//! day, as plain statements of one row, 500 accounts to a transaction, `synchronous=FULL`. The cycle
//! also reads accounts, positions, days, fills and prices, plans, and fences.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::time::{Duration, Instant};

use domain::decisions::{Intent, IntentKind, OpenSize};
use domain::prop::{AccountKind, AccountRules, Limits, Proposal};
use domain::services::accounts::{Decision, Planned, plan_decisions};
use domain::store::prop::{NewAccount, open, save};
use domain::strategy::Side;
use domain::workers::mark_to_market::{self, MarkToMarketOptions};
use rust_decimal::Decimal;
use scheduler_core::{Scheduler, Shutdown, Store, StoreError};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

const ROUNDS: usize = 5;
const BATCH: i64 = 500;
const SYMBOLS: [&str; 4] = ["BTC", "ETH", "SOL", "HYPE"];

#[tokio::main]
async fn main() {
    // cargo passes `--bench` itself.
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let accounts: i64 = asked.unwrap_or(10_000);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    prepare(&store, accounts).await;
    let mut scheduler = Scheduler::new(store.clone());
    let options = MarkToMarketOptions {
        limit: u32::try_from(accounts).unwrap(),
        ..MarkToMarketOptions::default()
    };
    mark_to_market::register(&mut scheduler, &store, &options).unwrap();
    let (mut cycles, mut floors) = (vec![], vec![]);
    for round in 0..ROUNDS {
        move_prices(&store, 101 + i64::try_from(round).unwrap()).await;
        let began = Instant::now();
        let name = mark_to_market::NAME;
        let report = scheduler.run_once(name, Duration::ZERO, &Shutdown::default()).await.unwrap();
        cycles.push(began.elapsed());
        let marked = report.summary.unwrap()["marked"].as_i64();
        assert_eq!(marked, Some(accounts), "every account is marked");
        floors.push(write_plainly(&store, accounts).await);
    }
    let [cycle, floor] = [cycles, floors].map(median);
    println!("{accounts} accounts with two positions each, {ROUNDS} rounds");
    println!("one cycle        {:>8.3} s", cycle.as_secs_f64());
    println!("raw statements   {:>8.3} s (the floor)", floor.as_secs_f64());
    println!("cycle / floor    {:>8.2}", cycle.as_secs_f64() / floor.as_secs_f64());
}

async fn write<T: Send>(
    store: &Store,
    body: impl for<'t> FnOnce(
        &'t sea_orm::DatabaseTransaction,
    ) -> scheduler_core::store::WriteFuture<'t, T, StoreError>
    + Send,
) -> T {
    store.write("prepare a benchmark", body).await.unwrap()
}

async fn prepare(store: &Store, accounts: i64) {
    let clone =
        "INSERT INTO clones (user_id, name, created_at_ms, updated_at_ms) VALUES (1, 'c', 0, 0)";
    store.reader().execute_unprepared(clone).await.unwrap();
    for symbol in SYMBOLS {
        let sql = format!(
            "INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage)
             VALUES ('{symbol}', 0, 4, 40)"
        );
        store.reader().execute_unprepared(&sql).await.unwrap();
    }
    move_prices(store, 100).await;
    let now_ms = store.clock().now_ms();
    for first in (1..=accounts).step_by(500) {
        let ids: Vec<i64> = write(store, move |txn| {
            Box::pin(async move {
                let mut ids = Vec::new();
                for _ in first..(first + BATCH).min(accounts + 1) {
                    let new = NewAccount {
                        clone_id: 1,
                        kind: AccountKind::Practice,
                        rules: AccountRules::default(),
                        initial: Decimal::from(10_000),
                        creation_key: None,
                    };
                    ids.push(open(txn, &new, now_ms).await?.id);
                }
                Ok(ids)
            })
        })
        .await;
        move_prices(store, 100).await;
        let decisions: Vec<Decision> = ids.into_iter().map(decision).collect();
        let now_ms = store.clock().now_ms();
        let planned = plan_decisions(store.reader(), &decisions, now_ms).await.unwrap();
        let plans: Vec<_> = planned.into_iter().filter_map(Planned::into_plan).collect();
        assert_eq!(plans.len(), decisions.len(), "every account trades");
        write(store, move |txn| Box::pin(async move { save(txn, &plans, now_ms).await })).await;
    }
}

/// Two positions.
fn decision(account_id: i64) -> Decision {
    let at = usize::try_from(account_id).unwrap();
    let buy = |symbol: &str| {
        let kind = IntentKind::Open {
            side: Side::Long,
            size: OpenSize::Units(Decimal::new(15, 1)),
            leverage: Decimal::from(3),
            stop_loss_pct: None,
            take_profit_pct: None,
        };
        let symbol = symbol.to_owned();
        let intent = Intent { symbol, kind, action_id: None, confidence: None, rationale: None };
        Proposal { intent, cooldown_until_ms: None }
    };
    let limits = Limits {
        max_leverage: Decimal::from(5),
        max_position_pct: Decimal::ONE,
        max_open_positions: 2,
        max_daily_loss_pct: None,
        max_mark_age_ms: i64::MAX,
    };
    let proposals = vec![buy(SYMBOLS[at % 4]), buy(SYMBOLS[(at + 1) % 4])];
    Decision { account_id, run_id: format!("run {account_id}"), proposals, limits }
}

async fn move_prices(store: &Store, price: i64) {
    let now_ms = store.clock().now_ms();
    for symbol in SYMBOLS {
        let sql = format!(
            "INSERT INTO mids (symbol, mid, received_at_ms) VALUES ('{symbol}', '{price}', {now_ms})
             ON CONFLICT (symbol) DO UPDATE
             SET mid = excluded.mid, received_at_ms = excluded.received_at_ms"
        );
        store.reader().execute_unprepared(&sql).await.unwrap();
    }
}

/// The floor.
async fn write_plainly(store: &Store, accounts: i64) -> Duration {
    let began = Instant::now();
    let now_ms = store.clock().now_ms() + 1_000_000;
    for first in (1..=accounts).step_by(500) {
        write(store, move |txn| {
            Box::pin(async move {
                for id in first..(first + BATCH).min(accounts + 1) {
                    let update = "UPDATE prop_accounts SET peak_equity = $2, marked_at_ms = $3 WHERE id = $1";
                    let money: Value = "10012.34567891".into();
                    run(txn, update, vec![id.into(), money.clone(), now_ms.into()]).await;
                    let snapshot = "INSERT INTO prop_equity_snapshots (account_id, at_ms, cash,
                        unrealized_pnl, equity, margin_used, maintenance_margin, daily_floor,
                        max_floor, marks) VALUES ($1, $2, $3, $3, $3, $3, $3, $3, $3, $4)";
                    let marks: Value = r#"{"BTC":"101","ETH":"101"}"#.into();
                    let values = vec![id.into(), now_ms.into(), money.clone(), marks];
                    run(txn, snapshot, values).await;
                    let day = "UPDATE prop_day_stats SET high_equity = $2, low_equity = $2
                               WHERE account_id = $1";
                    run(txn, day, vec![id.into(), money]).await;
                }
                Ok(())
            })
        })
        .await;
    }
    began.elapsed()
}

async fn run(txn: &sea_orm::DatabaseTransaction, sql: &str, values: Vec<Value>) {
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    txn.execute_raw(statement).await.unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
