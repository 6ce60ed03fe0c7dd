//! Decisions of clones: one run per slot, whatever is asked, whoever crashes.

use std::sync::Arc;
use std::time::Duration;

use domain::decisions::{Budget, ProviderKind};
use domain::market::{Interval, RandomWalk};
use domain::sources::{LanguageModel, LanguageModelOptions, Prices};
use domain::store::clones::{self, NewClone};
use domain::store::{candles, instruments};
use domain::strategy::default_graph;
use domain::workers::clone_decisions::{self, CloneDecisionsOptions};
use domain::workers::{DecidingOptions, Providers};
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{RunReport, RunStatus, Shutdown, StoreError, SystemClock, WorkerStatus};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Database, NOON};

const MINUTE: Duration = Duration::from_secs(60);

/// The database with the arena's tables.
async fn with_arena(database: Database) -> Database {
    migration::up(database.store.reader()).await.expect("migrations apply");
    database
}

/// Fresh bars of each symbol that the default draft trades.
pub(crate) async fn with_market(database: Database) -> Database {
    let database = with_arena(database).await;
    let bars = 200;
    let first_ms = NOON - bars * 3_600_000;
    for symbol in default_graph().graph().universe.clone() {
        let walk = RandomWalk::new(7, Interval::H1, first_ms, 30_000.0, 0.01);
        let bars: Vec<_> = walk.take(usize::try_from(bars).expect("a count")).collect();
        let stored: Result<_, StoreError> = database
            .store
            .write("store bars", |txn| {
                Box::pin(async move {
                    instruments::introduce(txn, &symbol, NOON).await?;
                    candles::upsert(txn, &symbol, Interval::H1, &bars).await
                })
            })
            .await;
        stored.expect("bars");
    }
    database
}

async fn clone(database: &Database, provider: ProviderKind, budget: Option<Budget>) -> i64 {
    let clone = NewClone { user_id: 7, name: "Ada".into(), graph_hash: None, provider, budget };
    let id: Result<i64, StoreError> = database
        .store
        .write("make a clone", |txn| {
            Box::pin(async move { clones::insert(txn, &clone, NOON).await })
        })
        .await;
    id.expect("a clone")
}

async fn decide_with(database: &Database, options: &CloneDecisionsOptions) -> RunReport {
    let mut scheduler = database.scheduler();
    clone_decisions::register(&mut scheduler, &database.store, options).expect("registered");
    let report =
        scheduler.run_once(clone_decisions::NAME, Duration::ZERO, &Shutdown::default()).await;
    report.expect("a cycle")
}

async fn decide(database: &Database, options: &CloneDecisionsOptions) -> Value {
    let report = decide_with(database, options).await;
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    report.summary.expect("a summary")
}

async fn decisions(database: &Database) -> Vec<String> {
    database
        .lines("SELECT clone_id, action, status, skip_reason FROM clone_decision_runs ORDER BY scheduled_for_ms, clone_id")
        .await
}

async fn clone_decisions_run_once_on_an_empty_database(database: Database) {
    let database = with_arena(database).await;
    let summary = decide(&database, &CloneDecisionsOptions::default()).await;
    assert_eq!(summary["subjects"], 0);
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].worker, "clone_decisions");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
}

async fn a_rule_graph_with_fresh_data_decides_once_per_slot(database: Database) {
    let database = with_market(database).await;
    let id = clone(&database, ProviderKind::RuleGraph, None).await;
    let options = CloneDecisionsOptions::default();
    let forced = CloneDecisionsOptions { force: true, clone_ids: vec![id], ..options.clone() };
    for (options, duplicates) in [(&options, 0), (&options, 1), (&forced, 1)] {
        assert_eq!(decide(&database, options).await["duplicates"], duplicates);
        database.clock.advance(Duration::from_secs(1));
    }
    let decided = database
        .lines("SELECT provider, status, scheduled_for_ms, attempt FROM clone_decision_runs")
        .await;
    assert_eq!(decided, [format!("rule_graph|skipped|{NOON}|1")]);
    // What was proposed is kept with all that it was proposed with.
    let line = database
        .lines("SELECT action, skip_reason, length(snapshot_hash), (snapshot IS NULL) FROM clone_decision_runs")
        .await
        .remove(0);
    assert!(
        line.starts_with("hold|hold|64|") || line.starts_with("open_long|no_account|64|"),
        "{line}"
    );
    database.clock.advance(MINUTE);
    assert_eq!(decide(&database, &options).await["duplicates"], 0);
    assert_eq!(decisions(&database).await.len(), 2);
    let health = database.store.health().await.expect("health");
    assert_eq!(health.workers[0].status, WorkerStatus::Succeeded);
}

async fn who_is_named_decides_when_due_and_by_force_before(database: Database) {
    let database = with_arena(database).await;
    let ada = clone(&database, ProviderKind::Noop, None).await;
    let bob = clone(&database, ProviderKind::Noop, None).await;
    // Half a minute into a slot, everybody decides; at the next slot nobody named is due yet.
    database.clock.advance(Duration::from_secs(30));
    decide(&database, &CloneDecisionsOptions::default()).await;
    database.clock.advance(Duration::from_secs(35));
    let named = CloneDecisionsOptions { clone_ids: vec![ada], ..CloneDecisionsOptions::default() };
    assert_eq!(decide(&database, &named).await["subjects"], 0);
    let forced = CloneDecisionsOptions { force: true, ..named.clone() };
    assert_eq!(decide(&database, &forced).await["subjects"], 1);
    database.clock.advance(MINUTE);
    assert_eq!(decide(&database, &named).await["subjects"], 1);
    let held = |id| format!("{id}|hold|skipped|hold");
    assert_eq!(decisions(&database).await, [held(ada), held(bob), held(ada), held(ada)]);
}

async fn why_nobody_decided_is_recorded(database: Database) {
    let database = with_arena(database).await;
    let noop = clone(&database, ProviderKind::Noop, None).await;
    let blind = clone(&database, ProviderKind::RuleGraph, None).await;
    let broken = clone(&database, ProviderKind::RuleGraph, None).await;
    database
        .execute("INSERT INTO strategy_graphs (graph_hash, name, graph, created_at_ms) VALUES ('bad', 'bad', '{', 0)")
        .await;
    database.execute(&format!("UPDATE clones SET graph_hash = 'bad' WHERE id = {broken}")).await;
    let summary = decide(&database, &CloneDecisionsOptions::default()).await;
    assert_eq!((&summary["skipped"], &summary["error"]), (&2.into(), &1.into()));
    assert_eq!(summary["items_failed"], 1);
    assert_eq!(
        decisions(&database).await,
        [
            format!("{noop}|hold|skipped|hold"),
            format!("{blind}|none|skipped|missing_feature"),
            format!("{broken}|none|error|-"),
        ]
    );
    let error: String =
        database.value("SELECT error FROM clone_decision_runs WHERE status = 'error'").await;
    assert!(error.starts_with("strategy bad cannot be read: "), "{error}");
    // It is left alone for a while; the others go on.
    database.clock.advance(MINUTE);
    decide(&database, &CloneDecisionsOptions::default()).await;
    assert!(decisions(&database).await.len() >= 5);
}

async fn a_run_that_was_cut_off_is_taken_over_when_its_lease_is_gone(database: Database) {
    let database = with_arena(database).await;
    let ids = [(); 3].map(|()| clone(&database, ProviderKind::Noop, None));
    let [held, gone, late] = futures(ids).await;
    let row = |id: i64, slot_ms: i64, lease: &str| {
        format!(
            "INSERT INTO clone_decision_runs (id, clone_id, scheduled_for_ms, as_of_ms, started_at_ms,
                 provider, status, lease_name, instance_id, lease_token)
             VALUES ('run-{id}', {id}, {slot_ms}, 0, {slot_ms}, 'noop', 'running', '{lease}', 'other', 3)"
        )
    };
    database
        .execute(&format!(
            "INSERT INTO leases (name, holder, token, acquired_at_ms, expires_at_ms, cancel_requested)
             VALUES ('clone_decisions@other', 'other', 3, 0, {}, FALSE)",
            NOON + 30_000
        ))
        .await;
    database.execute(&row(held, NOON, "clone_decisions@other")).await;
    database.execute(&row(gone, NOON, "clone_decisions@dead")).await;
    database.execute(&row(late, NOON - 120_000, "clone_decisions@dead")).await;
    let summary = decide(&database, &CloneDecisionsOptions::default()).await;
    assert_eq!(summary["duplicates"], 1);
    let rows = database
        .lines("SELECT id, status, skip_reason, attempt FROM clone_decision_runs WHERE id LIKE 'run-%' ORDER BY clone_id")
        .await;
    assert_eq!(
        rows,
        [
            format!("run-{held}|running|-|1"),
            format!("run-{gone}|skipped|hold|2"),
            format!("run-{late}|skipped|late|1"),
        ]
    );
}

async fn futures<const N: usize>(all: [impl Future<Output = i64>; N]) -> [i64; N] {
    let mut values = [0; N];
    for (value, future) in values.iter_mut().zip(all) {
        *value = future.await;
    }
    values
}

/// A model's host that gives each question the next of these answers: status line, extra headers,
/// body. An empty status is silence.
pub(crate) async fn model(answers: Vec<(&'static str, &'static str, String)>) -> LanguageModel {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            let Some(answer) = answers.next() else { return };
            tokio::spawn(serve(stream, answer));
        }
    });
    let options = LanguageModelOptions {
        base_url,
        model: "m-1".into(),
        key: None,
        prices: Prices { tokens_in: 3.into(), tokens_out: 15.into() },
        per_minute: 6_000,
    };
    LanguageModel::new(options, Arc::new(SystemClock)).expect("a client")
}

async fn serve(mut stream: TcpStream, answer: (&'static str, &'static str, String)) {
    let mut request = Vec::new();
    let mut chunk = [0; 65_536];
    let is_whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
        (body.len() >= length.parse().ok()?).then_some(())
    };
    while is_whole(&request).is_none() {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let (status, headers, body) = answer;
    if status.is_empty() {
        std::future::pending::<()>().await;
    }
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

pub(crate) fn completion(message: &Value) -> (&'static str, &'static str, String) {
    let body = json!({
        "model": "m-1-2026", "choices": [{ "finish_reason": "stop", "message": message }],
        "usage": { "prompt_tokens": 1_000, "completion_tokens": 100 },
    });
    ("200 OK", "", body.to_string())
}

async fn what_a_model_answers_is_recorded_and_paid_for(database: Database) {
    let database = with_market(database).await;
    let symbol = default_graph().graph().universe[0].clone();
    let says = |text: &str| completion(&json!({ "content": text }));
    let hold = r#"{"action":"hold","rationale":"calm"}"#;
    let open = format!(
        r#"{{"action":"open_long","symbol":"{symbol}","size_pct":0.1,"leverage":1,"rationale":"up"}}"#
    );
    let script = vec![
        says(hold),
        says(&open),
        says(r#"{"action":"hold","rationale":"so\u0000so"}"#),
        says("buy!"),
        completion(&json!({ "content": null, "refusal": "I cannot" })),
        ("200 OK", "", " ".repeat(300 << 10)),
        ("", "", String::new()),
        ("429 Too Many Requests", "retry-after: 30\r\n", "null".to_owned()),
    ];
    let expected = [
        "hold|skipped|hold|1100|0.0045",
        "open_long|skipped|no_account|1100|0.0045",
        "hold|skipped|hold|1100|0.0045",
        "none|skipped|provider_malformed|1100|0.0045",
        "none|skipped|provider_error|1100|0.0045",
        "none|skipped|provider_malformed|0|0",
        "none|skipped|provider_timeout|0|0",
        "none|skipped|rate_limited|0|0",
        "none|skipped|budget_exceeded|0|0",
    ];
    let limited = |tokens| Some(Budget { tokens: Some(tokens), cost_usd: None });
    for budget in [limited(1_000), None, None, None, None, None, None, None, limited(0)] {
        clone(&database, ProviderKind::HttpLlm, budget).await;
    }
    let providers = Providers::with_model(Arc::new(model(script).await));
    let deciding = DecidingOptions {
        // In order, so that each gets its answer.
        concurrency: 1,
        provider_timeout: Duration::from_secs(3),
        providers,
        ..DecidingOptions::default()
    };
    let options = CloneDecisionsOptions { deciding, ..CloneDecisionsOptions::default() };
    decide(&database, &options).await;
    let decided = database
        .lines("SELECT action, status, skip_reason, (tokens_in + tokens_out), cost_usd FROM clone_decision_runs ORDER BY clone_id")
        .await;
    assert_eq!(decided, expected);
    let notes = database
        .lines("SELECT note, model, raw_response FROM clone_decision_runs ORDER BY clone_id")
        .await;
    assert_eq!(notes[0], format!("calm|m-1-2026|{hold}"));
    // The first has used up its day: it is not asked again before midnight.
    database.clock.advance(MINUTE);
    let named = CloneDecisionsOptions { clone_ids: vec![1], ..options };
    decide(&database, &named).await;
    assert_eq!(
        decisions(&database).await.last().map(String::as_str),
        Some("1|none|skipped|budget_exceeded")
    );
}

async fn a_decision_that_cannot_be_stored_stops_no_other(database: Database) {
    let database = with_arena(database).await;
    for _ in 0..2 {
        clone(&database, ProviderKind::Noop, None).await;
    }
    decide(&database, &CloneDecisionsOptions::default()).await;
    database
        .execute("CREATE UNIQUE INDEX of_this_test ON clone_decision_runs (clone_id) WHERE clone_id = 1 AND skip_reason = 'hold'")
        .await;
    database.clock.advance(MINUTE);
    let summary = decide(&database, &CloneDecisionsOptions::default()).await;
    assert_eq!((&summary["error"], &summary["items_failed"]), (&1.into(), &1.into()), "{summary}");
    let decided = decisions(&database).await;
    assert_eq!(decided[2..], ["1|none|error|-", "2|hold|skipped|hold"]);
}

on_every_store! {
    a_decision_that_cannot_be_stored_stops_no_other,
    clone_decisions_run_once_on_an_empty_database,
    a_rule_graph_with_fresh_data_decides_once_per_slot,
    who_is_named_decides_when_due_and_by_force_before,
    why_nobody_decided_is_recorded,
    a_run_that_was_cut_off_is_taken_over_when_its_lease_is_gone,
    what_a_model_answers_is_recorded_and_paid_for,
}
