//! What a cycle over accounts costs: as many statements for a hundred as for ten.

use std::sync::Arc;
use std::time::Duration;

use domain::prop::AccountRules;
use domain::workers::mark_to_market::{self, MarkToMarketOptions};
use domain::workers::prop_decisions::{self, PropDecisionsOptions};
use scheduler_core::{RunStatus, Scheduler, Shutdown, Store};
use serde_json::Value;

use crate::costs::Meter;
use crate::harness::{Database, NOON};
use crate::prop_decisions::{account, set_mid, with_arena, with_market};

const MINUTE: Duration = Duration::from_secs(60);

/// A database with a market, and a store through which statements are counted.
struct Scene {
    database: Database,
    store: Store,
    meter: Meter,
    graph: String,
}

impl Scene {
    async fn new(database: Database) -> Self {
        let database = with_arena(database).await;
        let graph = with_market(&database).await;
        let meter = Meter::default();
        let pool = meter.pool(&database).await;
        let store = Store::from_connection_with(pool, Arc::new(database.clock.clone()));
        Self { database, store, meter, graph }
    }

    /// Opens accounts of clones with a strategy.
    async fn open(&self, accounts: usize) {
        for _ in 0..accounts {
            let rules = AccountRules::default();
            account(&self.database, "rule_graph", Some(&self.graph), rules).await;
        }
    }

    /// Runs one cycle, a minute later and at fresh prices. Answers its statements and its summary.
    async fn cycle(&self, register: impl FnOnce(&mut Scheduler, &Store)) -> (u32, Value) {
        self.database.clock.advance(MINUTE);
        set_mid(&self.database).await;
        let mut scheduler = Scheduler::new(self.store.clone());
        register(&mut scheduler, &self.store);
        let name = scheduler.definitions().next().expect("a job").name.clone();
        self.meter.take();
        let report = scheduler.run_once(&name, Duration::ZERO, &Shutdown::default()).await;
        let report = report.expect("a cycle");
        let (statements, _) = self.meter.take();
        assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
        (statements, report.summary.expect("a summary"))
    }
}

async fn a_hundred_accounts_are_marked_with_the_statements_of_ten(database: Database) {
    let scene = Scene::new(database).await;
    let mark = async |accounts: u64| {
        let position = format!(
            "INSERT INTO prop_positions (account_id, symbol, size, entry, leverage, opened_at_ms,
                updated_at_ms, version) SELECT id, 'BTC', '0.1', '30000', '2', {NOON}, {NOON}, 1
             FROM prop_accounts WHERE TRUE ON CONFLICT DO NOTHING"
        );
        scene.database.execute(&position).await;
        let (statements, summary) = scene
            .cycle(|scheduler, store| {
                let options = MarkToMarketOptions { limit: 1_000, ..Default::default() };
                mark_to_market::register(scheduler, store, &options).expect("registered");
            })
            .await;
        assert_eq!(summary["marked"], accounts);
        statements
    };
    scene.open(1).await;
    // The first makes the rows of the job.
    mark(1).await;
    scene.open(9).await;
    let of_ten = mark(10).await;
    scene.open(90).await;
    assert_eq!(mark(100).await, of_ten);
}

async fn a_hundred_accounts_decide_and_trade_with_the_statements_of_ten(database: Database) {
    let scene = Scene::new(database).await;
    let decide = async |executed: u64| {
        let (statements, summary) = scene
            .cycle(|scheduler, store| {
                let options = PropDecisionsOptions { limit: 1_000, ..Default::default() };
                prop_decisions::register(scheduler, store, &options).expect("registered");
            })
            .await;
        assert_eq!(summary["executed"], executed, "{summary}");
        // What has traded rests.
        scene.database.execute("UPDATE prop_accounts SET status = 'closed'").await;
        statements
    };
    scene.open(1).await;
    decide(1).await;
    scene.open(10).await;
    let of_ten = decide(10).await;
    scene.open(100).await;
    assert_eq!(decide(100).await, of_ten);
}

on_every_store! {
    a_hundred_accounts_are_marked_with_the_statements_of_ten,
    a_hundred_accounts_decide_and_trade_with_the_statements_of_ten,
}
