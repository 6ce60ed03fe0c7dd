//! Auditions and the arena: from a request to a slot, on every store.

mod departures;
mod ends;
mod kills;

use std::time::Duration;

use domain::decisions::ProviderKind;
use domain::lifecycle::{self, Audition, AuditionReason, AuditionRules, AuditionStatus};
use domain::services;
use domain::services::arena_entry::{AdmitError, Admitted, Season, admit};
use domain::services::auditions::RequestError;
use domain::store::clones::{self, NewClone, ProfileStatus};
use domain::store::{auditions, promotions};
use domain::workers::arena_entry::{self, ArenaEntryOptions};
use domain::workers::audition_evaluator::{self, AuditionEvaluatorOptions};
use scheduler_core::store::HeartbeatStore;
use scheduler_core::{RunReport, RunStatus, Shutdown, Store, StoreError, WorkerStatus};
use sea_orm::DbBackend;
use serde_json::Value;

use crate::harness::{Database, NOON};

const DAY: Duration = Duration::from_secs(86_400);

/// The database with the arena's tables.
async fn with_arena(database: Database) -> Database {
    migration::up(database.store.reader()).await.expect("migrations apply");
    database
}

async fn evaluate(database: &Database) -> Value {
    let mut scheduler = database.scheduler();
    let options = AuditionEvaluatorOptions::default();
    audition_evaluator::register(&mut scheduler, &database.store, &options).expect("registered");
    let report =
        scheduler.run_once(audition_evaluator::NAME, Duration::ZERO, &Shutdown::default()).await;
    succeeded(report.expect("a cycle"))
}

async fn let_in(database: &Database) -> Value {
    let mut scheduler = database.scheduler();
    let options = ArenaEntryOptions::default();
    arena_entry::register(&mut scheduler, &database.store, &options).expect("registered");
    let report = scheduler.run_once(arena_entry::NAME, Duration::ZERO, &Shutdown::default()).await;
    succeeded(report.expect("a cycle"))
}

fn succeeded(report: RunReport) -> Value {
    assert_eq!(report.status, RunStatus::Succeeded, "{report:?}");
    report.summary.expect("a summary")
}

async fn heartbeat(database: &Database, worker: &str) -> WorkerStatus {
    let health = database.store.health().await.expect("health");
    let row = health.workers.into_iter().find(|row| row.worker == worker);
    row.expect("a heartbeat").status
}

/// A clone with a queued audition; answers both ids.
async fn auditioned(database: &Database, profile: ProfileStatus, rules: AuditionRules) -> [i64; 2] {
    let clone = NewClone {
        user_id: 7,
        name: "Ada".into(),
        graph_hash: None,
        provider: ProviderKind::Noop,
        budget: None,
    };
    let ids: Result<_, StoreError> = database
        .store
        .write("ask for an audition", |txn| {
            Box::pin(async move {
                let clone_id = clones::insert(txn, &clone, NOON).await?;
                clones::set_profile(txn, clone_id, profile, NOON).await?;
                let id = auditions::insert(txn, clone_id, &rules, NOON).await?.expect("a draft");
                let draft = Audition { id, status: AuditionStatus::Draft, version: 1 };
                let (to, why) = (AuditionStatus::Queued, AuditionReason::Requested);
                let queued = draft.transition(to, why, Value::Null).expect("an arrow");
                assert_eq!(auditions::apply(txn, &[queued.into()], NOON).await?, [id]);
                Ok([clone_id, id])
            })
        })
        .await;
    ids.expect("an audition")
}

async fn audition(database: &Database, id: i64) -> String {
    let sql = format!("SELECT status, reason, version FROM audition_runs WHERE id = {id}");
    database.lines(&sql).await.remove(0)
}

async fn workers_run_once_on_an_empty_database(database: Database) {
    let database = with_arena(database).await;
    evaluate(&database).await;
    let admitted = let_in(&database).await;
    assert_eq!(admitted["promoted"], 0);
    assert_eq!(heartbeat(&database, audition_evaluator::NAME).await, WorkerStatus::Succeeded);
    assert_eq!(heartbeat(&database, arena_entry::NAME).await, WorkerStatus::Succeeded);
    let slots: i64 = database.value("SELECT count(*) FROM arena_slots WHERE season_id = 1").await;
    assert_eq!(slots, 10);
}

async fn an_audition_whose_window_has_elapsed_passes_and_its_clone_enters(database: Database) {
    let database = with_arena(database).await;
    let [clone_id, id] =
        auditioned(&database, ProfileStatus::Approved, AuditionRules::default()).await;
    assert_eq!(evaluate(&database).await["started"], 1);
    assert_eq!(audition(&database, id).await, "running|account_opened|3");
    assert_eq!(
        database.lines("SELECT kind, status, initial, cash FROM prop_accounts").await,
        ["audition|active|10000|10000"]
    );
    database.clock.advance(30 * DAY - Duration::from_millis(1));
    assert_eq!(evaluate(&database).await["evaluated"], 1);
    assert_eq!(audition(&database, id).await, "running|account_opened|3");
    database.clock.advance(Duration::from_millis(1));
    let summary = evaluate(&database).await;
    assert_eq!((&summary["passed"], &summary["queued_for_promotion"]), (&1.into(), &1.into()));
    assert_eq!(audition(&database, id).await, "passed|window_survived|4");
    assert_eq!(heartbeat(&database, audition_evaluator::NAME).await, WorkerStatus::Succeeded);
    assert_eq!(
        database
            .lines("SELECT version, from_status, to_status, reason FROM audition_events ORDER BY version")
            .await,
        [
            "2|draft|queued|requested",
            "3|queued|running|account_opened",
            "4|running|passed|window_survived",
        ]
    );
    let evidence: String =
        database.value("SELECT evidence FROM audition_events WHERE version = 4").await;
    let evidence: Value = serde_json::from_str(&evidence).expect("JSON");
    assert_eq!(evidence["progress"]["balance"], "10000");
    assert_eq!(database.lines("SELECT status FROM prop_accounts").await, ["passed"]);

    assert_eq!(let_in(&database).await["promoted"], 1);
    assert_eq!(
        database.lines("SELECT season_id, clone_id, slot_no FROM arena_clone_memberships").await,
        [format!("1|{clone_id}|1")]
    );
    let arena = "SELECT a.kind, a.status, a.creation_key, s.slot_no FROM prop_accounts a JOIN arena_slots s ON s.account_id = a.id";
    assert_eq!(database.lines(arena).await, ["arena|active|promo:1|1"]);
    assert_eq!(heartbeat(&database, arena_entry::NAME).await, WorkerStatus::Succeeded);
    // Nobody enters twice.
    assert_eq!(let_in(&database).await["promoted"], 0);

    // A breach of the arena's account frees the slot.
    database.execute("UPDATE prop_accounts SET status = 'breached' WHERE kind = 'arena'").await;
    assert_eq!(let_in(&database).await["departed"], 1);
    assert_eq!(
        database.lines("SELECT left_reason FROM arena_clone_memberships").await,
        ["breached"]
    );
    let taken: i64 =
        database.value("SELECT count(*) FROM arena_slots WHERE clone_id IS NOT NULL").await;
    assert_eq!(taken, 0);
}

/// Changes auditions at the moment in which an account is opened, as somebody else might, until the
/// trigger of this name is dropped.
async fn disturb(database: &Database, name: &str, change: &str) {
    let update = format!("UPDATE audition_runs SET {change}, version = version + 1");
    let trigger = format!("CREATE TRIGGER {name} AFTER INSERT ON prop_accounts");
    match database.backend() {
        DbBackend::Postgres => {
            database
                .execute(&format!(
                    "CREATE OR REPLACE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN {update}; RETURN NULL; END $$"
                ))
                .await;
            database.execute(&format!("{trigger} FOR EACH ROW EXECUTE FUNCTION disturb()")).await;
        }
        _ => database.execute(&format!("{trigger} BEGIN {update}; END")).await,
    }
}

async fn an_audition_that_somebody_else_moved_starts_without_leaving_an_account(
    database: Database,
) {
    let database = with_arena(database).await;
    let [_, id] = auditioned(&database, ProfileStatus::Approved, AuditionRules::default()).await;
    // Called off, or started by another.
    for (name, change) in [("calls_off", "status = 'cancelled'"), ("starts", "status = 'running'")]
    {
        disturb(&database, name, change).await;
        database.clock.advance(DAY);
        assert_eq!(evaluate(&database).await["started"], 0);
        for table in ["prop_accounts", "prop_ledger_transactions", "prop_ledger_postings"] {
            let rows: i64 = database.value(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(rows, 0, "{table}");
        }
        let days: i64 = database.value("SELECT count(*) FROM prop_day_stats").await;
        assert_eq!(days, 0);
        assert_eq!(audition(&database, id).await, "queued|requested|2");
        let of_table = match database.backend() {
            DbBackend::Postgres => " ON prop_accounts",
            _ => "",
        };
        database.execute(&format!("DROP TRIGGER {name}{of_table}")).await;
    }
    database.clock.advance(DAY);
    assert_eq!(evaluate(&database).await["started"], 1);
    let accounts: i64 = database.value("SELECT count(*) FROM prop_accounts").await;
    assert_eq!(accounts, 1);
}

async fn a_clone_that_failed_or_left_the_arena_cools_down_for_a_day(database: Database) {
    let database = with_arena(database).await;
    let [clone_id, id] =
        auditioned(&database, ProfileStatus::Approved, AuditionRules::default()).await;
    let ask = || services::auditions::request(&database.store, clone_id, AuditionRules::default());
    evaluate(&database).await;
    database.execute("UPDATE prop_accounts SET status = 'breached', breach = 'liquidated'").await;
    database.clock.advance(DAY);
    assert_eq!(evaluate(&database).await["failed"], 1);
    let until_ms = database.store.clock().now_ms() + lifecycle::COOL_DOWN_MS;
    database.clock.advance(DAY - Duration::from_millis(1));
    let refused = ask().await.expect_err("too early");
    assert!(matches!(refused, RequestError::CoolingDown { until_ms: at, .. } if at == until_ms));
    let drafts: i64 = database.value("SELECT count(*) FROM audition_runs").await;
    assert_eq!(drafts, 1, "nothing is written");
    database.clock.advance(Duration::from_millis(1));
    let again = ask().await.expect("it has cooled down");
    assert!(again > id);
    // What was called off is no failure.
    let called_off =
        "UPDATE audition_runs SET status = 'cancelled', decided_at_ms = 9000000000000 WHERE id > 1";
    database.execute(called_off).await;
    database
        .execute(&format!(
        "INSERT INTO promotion_queue_entries (clone_id, audition_id, score, status, enqueued_at_ms)
         VALUES ({clone_id}, {id}, 0, 'promoted', 0)"
    ))
        .await;
    let now_ms = database.store.clock().now_ms();
    database.execute(&format!(
        "INSERT INTO arena_clone_memberships (season_id, clone_id, account_id, slot_no, promotion_id,
             joined_at_ms, left_at_ms) VALUES (1, {clone_id}, 1, 1, 1, 0, {now_ms})"
    ))
    .await;
    let refused = ask().await.expect_err("it left the arena just now");
    assert!(matches!(refused, RequestError::CoolingDown { .. }), "{refused}");
    database.clock.advance(DAY);
    ask().await.expect("a day later");
    let nobody = services::auditions::request(&database.store, 999, AuditionRules::default()).await;
    assert!(matches!(nobody, Err(RequestError::NoClone(999))), "{nobody:?}");
}

async fn a_breach_fails_an_audition_although_its_target_is_reached(database: Database) {
    let database = with_arena(database).await;
    let target = Some("0.1".parse().expect("a number"));
    let rules = AuditionRules { target, ..AuditionRules::default() };
    let [_, id] = auditioned(&database, ProfileStatus::Approved, rules).await;
    evaluate(&database).await;
    database
        .execute("UPDATE prop_accounts SET cash = '12000', status = 'breached', breach = 'max_daily_loss'")
        .await;
    database.clock.advance(DAY);
    assert_eq!(evaluate(&database).await["failed"], 1);
    assert_eq!(audition(&database, id).await, "failed|max_daily_loss|4");
    assert_eq!(database.lines("SELECT status FROM prop_accounts").await, ["breached"]);
}

/// The account of the one audition holds a tenth of a bitcoin, bought at 50,000, that is worth `mid`
/// at the end of the window; nobody has marked it.
async fn at_the_end_of_its_window(database: &Database, mid: u32) {
    database
        .execute(&format!(
            "INSERT INTO prop_positions (account_id, symbol, size, entry, leverage, opened_at_ms,
                updated_at_ms, version) SELECT id, 'BTC', '0.1', '50000', '2', {NOON}, {NOON}, 1
             FROM prop_accounts"
        ))
        .await;
    database.clock.advance(30 * DAY);
    let now_ms = database.store.clock().now_ms();
    database
        .execute(&format!(
            "INSERT INTO mids (symbol, mid, received_at_ms) VALUES ('BTC', '{mid}', {now_ms})"
        ))
        .await;
}

async fn an_account_that_breaks_its_rules_at_the_marks_of_its_end_has_failed(database: Database) {
    let database = with_arena(database).await;
    let [_, id] = auditioned(&database, ProfileStatus::Approved, AuditionRules::default()).await;
    evaluate(&database).await;
    // 2,000 of 10,000 are lost, and nobody has looked.
    at_the_end_of_its_window(&database, 30_000).await;
    let summary = evaluate(&database).await;
    assert_eq!((&summary["failed"], &summary["passed"]), (&1.into(), &Value::Null), "{summary}");
    assert!(audition(&database, id).await.starts_with("failed|max_"));
    let accounts = database.lines("SELECT status FROM prop_accounts").await;
    assert_eq!(accounts, ["breached"]);
    // What it was worth and at which marks is kept with the verdict.
    let evidence: String = database.value("SELECT evidence FROM audition_runs").await;
    let snapshot = &serde_json::from_str::<Value>(&evidence).expect("JSON")["snapshot"];
    assert_eq!((&snapshot["equity"], &snapshot["daily_floor"]), (&"8000".into(), &"9500".into()));
    assert_eq!(snapshot["marks"], r#"{"BTC":"30000"}"#);
    assert_eq!(let_in(&database).await["promoted"], 0);
}

async fn an_audition_waits_for_the_funding_of_the_hours_that_it_held_through(database: Database) {
    let database = with_arena(database).await;
    let [_, id] = auditioned(&database, ProfileStatus::Approved, AuditionRules::default()).await;
    evaluate(&database).await;
    at_the_end_of_its_window(&database, 50_000).await;
    assert_eq!(evaluate(&database).await["waiting_for_marks"], 1);
    assert_eq!(audition(&database, id).await, "running|account_opened|3");
    let hour_ms = 3_600_000;
    let last_ms = database.store.clock().now_ms() / hour_ms * hour_ms;
    for hour in 0..=24 {
        let at_ms = last_ms - hour * hour_ms;
        database
            .execute(&format!(
                "INSERT INTO funding (symbol, hour_ms, rate, oracle, received_at_ms)
                 VALUES ('BTC', {at_ms}, '0.00001', '50000', {at_ms})"
            ))
            .await;
    }
    database.clock.advance(Duration::from_secs(1));
    assert_eq!(evaluate(&database).await["passed"], 1);
    let paid: i64 = database
        .value("SELECT count(*) FROM prop_ledger_transactions WHERE kind = 'funding'")
        .await;
    assert!(paid >= 24, "{paid} hours were paid");
}

async fn a_passed_audition_waits_for_the_profile_and_is_asked_again_at_the_door(
    database: Database,
) {
    let database = with_arena(database).await;
    let target = Some("0.1".parse().expect("a number"));
    let rules = AuditionRules { target, ..AuditionRules::default() };
    let [clone_id, id] = auditioned(&database, ProfileStatus::Submitted, rules).await;
    evaluate(&database).await;
    database.execute("UPDATE prop_accounts SET cash = '11000'").await;
    database.clock.advance(DAY);
    assert_eq!(evaluate(&database).await["passed"], 1);
    assert_eq!(audition(&database, id).await, "passed|target_reached|4");
    assert_eq!(let_in(&database).await["queued"], 0, "its profile waits for a judgement");
    let approve = async |status| {
        let done: Result<_, StoreError> = database
            .store
            .write("judge", |txn| {
                Box::pin(async move {
                    clones::set_profile(txn, clone_id, status, NOON).await?;
                    promotions::enqueue_passed(txn, NOON).await
                })
            })
            .await;
        done.expect("judged")
    };
    assert_eq!(approve(ProfileStatus::Approved).await, 1);
    assert_eq!(approve(ProfileStatus::Rejected).await, 0);
    let summary = let_in(&database).await;
    assert_eq!((&summary["promoted"], &summary["rejected"]), (&0.into(), &1.into()));
    assert_eq!(
        database.lines("SELECT status, reason FROM promotion_queue_entries").await,
        ["rejected|profile_not_approved"]
    );
}

async fn one_unreadable_audition_stops_no_other(database: Database) {
    let database = with_arena(database).await;
    let [_, bad] = auditioned(&database, ProfileStatus::None, AuditionRules::default()).await;
    let [_, good] = auditioned(&database, ProfileStatus::None, AuditionRules::default()).await;
    database.execute(&format!("UPDATE audition_runs SET rules = '[' WHERE id = {bad}")).await;
    let summary = evaluate(&database).await;
    assert_eq!((&summary["started"], &summary["items_failed"]), (&1.into(), &1.into()));
    assert_eq!(audition(&database, bad).await, "queued|requested|2");
    assert_eq!(audition(&database, good).await, "running|account_opened|3");
}

/// So many clones wait, the later the better they are.
async fn queued_promotions(database: &Database, count: i64) {
    let clones = "INSERT INTO clones (id, user_id, name, profile_status, created_at_ms, updated_at_ms) VALUES ";
    let runs = "INSERT INTO audition_runs (id, clone_id, status, rules, score, created_at_ms, decided_at_ms) VALUES ";
    let rows = |row: &dyn Fn(i64) -> String| (1..=count).map(row).collect::<Vec<_>>().join(", ");
    let each = rows(&|n| format!("({n}, 1, 'clone {n}', 'approved', 0, 0)"));
    database.execute(&format!("{clones}{each}")).await;
    let each = rows(&|n| format!("({n}, {n}, 'passed', '{{}}', {}, 0, {n})", n as f64 / 1_000.0));
    database.execute(&format!("{runs}{each}")).await;
}

async fn admit_once(store: &Store) -> Result<Admitted, AdmitError> {
    store
        .write("let clones in", |txn| {
            Box::pin(async move { admit(txn, &Season::default(), NOON).await })
        })
        .await
}

/// Exactly the ten best are in, each once, each with its own account.
async fn ten_are_in(database: &Database) {
    let members = database
        .lines("SELECT clone_id, slot_no FROM arena_clone_memberships ORDER BY slot_no")
        .await;
    let best: Vec<String> = (1..=10).map(|slot| format!("{}|{slot}", 101 - slot)).collect();
    assert_eq!(members, best);
    let counts = database
        .lines(
            "SELECT status, count(*) FROM promotion_queue_entries GROUP BY status ORDER BY status",
        )
        .await;
    assert_eq!(counts, ["promoted|10", "queued|90"]);
    let accounts = "SELECT count(*), count(DISTINCT clone_id) FROM prop_accounts";
    assert_eq!(database.lines(accounts).await, ["10|10"]);
    let taken: i64 = database.value("SELECT count(DISTINCT account_id) FROM arena_slots").await;
    assert_eq!(taken, 10);
}

async fn two_workers_promote_exactly_ten_of_a_hundred(database: Database) {
    let database = with_arena(database).await;
    queued_promotions(&database, 100).await;
    let other = database.another_store().await;
    let run = async |store: Store| {
        for _ in 0..4 {
            match admit_once(&store).await {
                Ok(_) | Err(AdmitError::Contended | AdmitError::Store(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(run(database.store.clone()), run(other.clone()));
    admit_once(&other).await.expect("nobody is in the way");
    ten_are_in(&database).await;
}

on_every_store! {
    an_audition_that_somebody_else_moved_starts_without_leaving_an_account,
    a_clone_that_failed_or_left_the_arena_cools_down_for_a_day,
    workers_run_once_on_an_empty_database,
    an_audition_whose_window_has_elapsed_passes_and_its_clone_enters,
    a_breach_fails_an_audition_although_its_target_is_reached,
    an_account_that_breaks_its_rules_at_the_marks_of_its_end_has_failed,
    an_audition_waits_for_the_funding_of_the_hours_that_it_held_through,
    a_passed_audition_waits_for_the_profile_and_is_asked_again_at_the_door,
    one_unreadable_audition_stops_no_other,
    two_workers_promote_exactly_ten_of_a_hundred,
}
