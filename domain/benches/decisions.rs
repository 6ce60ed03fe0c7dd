//! How long a cycle of decisions for 100 accounts takes on SQLite, each with a strategy graph,
//! beside the floor of the same machine in the same run.
//!
//! `cargo bench -p domain --bench decisions [-- ACCOUNTS]`
//!
//! The floor writes what a cycle writes, known beforehand: per account a run that is begun and one
//! that is concluded, as plain statements of one row, each half in one transaction,
//! `synchronous=FULL`. The cycle also reads accounts, strategies, bars and prices, evaluates the
//! graphs, checks, plans and fences. Each round is a slot of its own; the medians are compared.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::market::{Interval, RandomWalk};
use domain::prop::{AccountKind, AccountRules};
use domain::store::candles;
use domain::store::prop::{NewAccount, open};
use domain::strategy::default_graph;
use domain::workers::prop_decisions::{self, PropDecisionsOptions};
use rust_decimal::Decimal;
use scheduler_core::testing::ManualClock;
use scheduler_core::{Scheduler, Shutdown, SqliteOptions, Store, StoreError};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

const ROUNDS: usize = 9;
const NOON_MS: i64 = 1_795_435_200_000;

#[tokio::main]
async fn main() {
    // cargo passes `--bench` itself.
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let accounts: u32 = asked.unwrap_or(100);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("arena.db").display());
    let clock = ManualClock::at(NOON_MS);
    let options = SqliteOptions::default();
    let store = Store::sqlite_with(&url, options, Arc::new(clock.clone())).await.unwrap();
    migration::up(store.reader()).await.unwrap();
    prepare(&store, accounts).await;
    let mut scheduler = Scheduler::new(store.clone());
    let options = PropDecisionsOptions { limit: accounts, ..PropDecisionsOptions::default() };
    prop_decisions::register(&mut scheduler, &store, &options).unwrap();
    let (mut cycles, mut floors) = (vec![], vec![]);
    for round in 0..ROUNDS {
        clock.advance(Duration::from_secs(60));
        set_prices(&store).await;
        let began = Instant::now();
        let name = prop_decisions::NAME;
        let report = scheduler.run_once(name, Duration::ZERO, &Shutdown::default()).await.unwrap();
        cycles.push(began.elapsed());
        let summary = report.summary.unwrap();
        let reasons = &summary["skip_reasons"];
        let held = reasons["hold"].as_u64().unwrap_or(0);
        let traded = summary["executed"].as_u64().unwrap_or(0);
        assert_eq!(held + traded, u64::from(accounts), "every account is decided for: {summary}");
        floors.push(write_plainly(&store, round, accounts).await);
    }
    let [cycle, floor] = [cycles, floors].map(median);
    println!("{accounts} accounts with the default strategy, {ROUNDS} rounds");
    println!("one cycle        {:>8.1} ms", cycle.as_secs_f64() * 1e3);
    println!("raw statements   {:>8.1} ms (the floor)", floor.as_secs_f64() * 1e3);
    println!("cycle / floor    {:>8.2}", cycle.as_secs_f64() / floor.as_secs_f64());
}

async fn prepare(store: &Store, accounts: u32) {
    let instrument = |symbol: &str| {
        format!(
            "INSERT INTO instruments (symbol, created_at_ms, size_decimals, max_leverage)
             VALUES ('{symbol}', 0, 5, 40)"
        )
    };
    let first_ms = NOON_MS - 500 * 3_600_000;
    let bars: Vec<_> =
        RandomWalk::new(7, Interval::H1, first_ms, 30_000.0, 0.01).take(500).collect();
    let universe = default_graph().graph().universe.clone();
    let prepared: Result<(), StoreError> = store
        .write("prepare a benchmark", move |txn| {
            Box::pin(async move {
                for symbol in &universe {
                    txn.execute_unprepared(&instrument(symbol)).await.unwrap();
                    candles::upsert(txn, symbol, Interval::H1, &bars).await?;
                }
                for number in 1..=accounts {
                    let clone = format!(
                        "INSERT INTO clones (id, user_id, name, provider, created_at_ms, updated_at_ms)
                         VALUES ({number}, 1, 'c', 'rule_graph', 0, 0)"
                    );
                    txn.execute_unprepared(&clone).await.unwrap();
                    let new = NewAccount {
                        clone_id: i64::from(number),
                        kind: AccountKind::Practice,
                        rules: AccountRules::default(),
                        initial: Decimal::from(10_000),
                        creation_key: None,
                    };
                    open(txn, &new, NOON_MS).await?;
                }
                Ok(())
            })
        })
        .await;
    prepared.unwrap();
}

async fn set_prices(store: &Store) {
    let now_ms = store.clock().now_ms();
    for symbol in default_graph().graph().universe.clone() {
        let sql = format!(
            "INSERT INTO mids (symbol, mid, received_at_ms) VALUES ('{symbol}', '30000', {now_ms})
             ON CONFLICT (symbol) DO UPDATE SET received_at_ms = excluded.received_at_ms"
        );
        store.reader().execute_unprepared(&sql).await.unwrap();
    }
}

async fn write_plainly(store: &Store, round: usize, accounts: u32) -> Duration {
    let insert = "INSERT INTO clone_decision_runs (id, clone_id, account_id, scheduled_for_ms,
        as_of_ms, started_at_ms, provider, status) VALUES ($1, $2, $3, $4, $4, $4, 'rule_graph', 'running')";
    let update = "UPDATE clone_decision_runs SET status = 'skipped', skip_reason = 'hold',
        action = 'hold', note = 'no signal', completed_at_ms = $2 WHERE id = $1";
    let now_ms = store.clock().now_ms();
    let id = move |account: u32| format!("{round}:{account}");
    let began = Instant::now();
    for sql in [insert, update] {
        let written: Result<(), StoreError> = store
            .write("write runs plainly", move |txn| {
                Box::pin(async move {
                    for account in 1..=accounts {
                        let number = i64::from(account);
                        let values = match sql == insert {
                            true => {
                                vec![
                                    id(account).into(),
                                    number.into(),
                                    number.into(),
                                    now_ms.into(),
                                ]
                            }
                            false => vec![id(account).into(), now_ms.into()],
                        };
                        let statement =
                            Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
                        txn.execute_raw(statement).await.unwrap();
                    }
                    Ok(())
                })
            })
            .await;
        written.unwrap();
    }
    began.elapsed()
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort();
    spans[spans.len() / 2]
}
