//! Decisions that another takes over while they are made, and whose clock says so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::decisions::{Answered, DecisionProvider, DecisionRequest, Output, ProviderKind};
use domain::store::decision_runs::{self, DecisionTable, NewRun};
use domain::workers::clone_decisions::{self, CloneDecisionsOptions};
use domain::workers::prop_decisions::{self, PropDecisionsOptions};
use domain::workers::{DecidingOptions, Providers};
use scheduler_core::testing::SkewedClock;
use scheduler_core::{
    Clock, InstanceId, LeaseKey, RunStatus, Scheduler, Shutdown, Store, StoreError, SystemClock,
};
use sea_orm::{ConnectionTrait, DbBackend};
use serde_json::Value;

use crate::decisions::with_market;
use crate::harness::Database;
use crate::prop::{arena, open, rules};

/// A model that takes its time: meanwhile another host has the run.
struct Slow {
    store: Store,
    table: &'static str,
}

#[async_trait]
impl DecisionProvider for Slow {
    fn kind(&self) -> ProviderKind {
        ProviderKind::HttpLlm
    }

    async fn decide(&self, _: &DecisionRequest, _: Duration) -> Answered {
        let sql = format!(
            "UPDATE {} SET lease_name = 'of another' WHERE provider = 'http_llm'",
            self.table
        );
        self.store.reader().execute_unprepared(&sql).await.expect("taken over");
        Answered::free(Ok(Output::Hold { reason: "slowly".to_owned() }))
    }
}

fn deciding(database: &Database, table: &'static str) -> DecidingOptions {
    let slow = Slow { store: database.store.clone(), table };
    let providers = Providers::with_model(Arc::new(slow));
    DecidingOptions { providers, ..DecidingOptions::default() }
}

/// One clone that asks the model, beside one that holds.
async fn with_a_slow_clone(database: Database) -> Database {
    let database = with_market(database).await;
    for provider in ["noop", "http_llm"] {
        database
            .execute(&format!(
                "INSERT INTO clones (user_id, name, provider, created_at_ms, updated_at_ms)
                 VALUES (1, 'c', '{provider}', 0, 0)"
            ))
            .await;
    }
    database
}

/// One cycle: the slow one's run is another's, the other's is recorded.
async fn check(database: &Database, scheduler: Scheduler, table: &str) {
    let name = scheduler.definitions().next().expect("a job").name.clone();
    let report = scheduler.run_once(&name, Duration::ZERO, &Shutdown::default()).await;
    let report = report.expect("a cycle");
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    let summary: Value = report.summary.expect("a summary");
    assert_eq!((&summary["lost"], &summary["skipped"]), (&1.into(), &1.into()), "{summary}");
    let runs = format!("SELECT provider, status, lease_name FROM {table} ORDER BY provider");
    let runs = database.lines(&runs).await;
    assert_eq!(runs, ["http_llm|running|of another".to_owned(), format!("noop|skipped|{name}")]);
}

async fn a_clones_decision_that_was_taken_over_is_counted_as_lost(database: Database) {
    let database = with_a_slow_clone(database).await;
    let mut scheduler = database.scheduler();
    let options = CloneDecisionsOptions {
        deciding: deciding(&database, "clone_decision_runs"),
        ..CloneDecisionsOptions::default()
    };
    clone_decisions::register(&mut scheduler, &database.store, &options).expect("registered");
    check(&database, scheduler, "clone_decision_runs").await;
}

async fn an_accounts_decision_that_was_taken_over_holds_up_no_other(database: Database) {
    let database = with_a_slow_clone(database).await;
    for clone in [1, 2] {
        let account = open(&database, rules(), 10_000).await;
        let owner = format!("UPDATE prop_accounts SET clone_id = {clone} WHERE id = {account}");
        database.execute(&owner).await;
    }
    let mut scheduler = database.scheduler();
    let options = PropDecisionsOptions {
        deciding: deciding(&database, "prop_decision_runs"),
        ..PropDecisionsOptions::default()
    };
    prop_decisions::register(&mut scheduler, &database.store, &options).expect("registered");
    check(&database, scheduler, "prop_decision_runs").await;
}

/// A host whose clock is ten minutes fast sees every lease expired; with a server the leases are
/// the server's.
async fn a_fast_host_takes_no_run_whose_lease_the_server_calls_held(database: Database) {
    let database = arena(database).await;
    let now_ms = SystemClock.now_ms();
    database
        .execute(&format!(
            "INSERT INTO leases (name, holder, token, acquired_at_ms, expires_at_ms, cancel_requested)
             VALUES ('clone_decisions', 'other', 3, 0, {}, FALSE)",
            now_ms + 120_000
        ))
        .await;
    for (id, clone_id, slot_ms) in [("taken", 1, now_ms), ("late", 2, now_ms - 600_000)] {
        database
            .execute(&format!(
                "INSERT INTO clone_decision_runs (id, clone_id, scheduled_for_ms, as_of_ms,
                     started_at_ms, provider, status, lease_name, instance_id, lease_token)
                 VALUES ('{id}', {clone_id}, {slot_ms}, 0, 0, 'noop', 'running', 'clone_decisions',
                     'other', 3)"
            ))
            .await;
    }
    let run = NewRun {
        id: "mine".to_owned(),
        clone_id: 1,
        account_id: 0,
        provider: "noop".to_owned(),
        graph_hash: None,
    };
    let lease = LeaseKey { name: "mine".to_owned(), holder: InstanceId::new(), token: 1 };
    let fast = SkewedClock::ahead_by_ms(600_000);
    let done: Result<(u64, usize), StoreError> = database
        .store
        .write("take decisions", |txn| {
            Box::pin(async move {
                let table = DecisionTable::Clones;
                let closed = decision_runs::close_late(txn, table, now_ms - 1, &fast).await?;
                let taken = decision_runs::take(txn, table, &lease, now_ms, &fast, &[run]).await?;
                Ok((closed, taken.len()))
            })
        })
        .await;
    // Without a server there is one clock, the process's.
    let is_server = database.backend() == DbBackend::Postgres;
    assert_eq!(done.expect("asked"), if is_server { (0, 0) } else { (1, 1) });
}

on_every_store! {
    a_clones_decision_that_was_taken_over_is_counted_as_lost,
    an_accounts_decision_that_was_taken_over_holds_up_no_other,
    a_fast_host_takes_no_run_whose_lease_the_server_calls_held,
}
