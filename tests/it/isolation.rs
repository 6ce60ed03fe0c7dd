//! Cycles over many items: one that fails does not stop the others, and is given up in the end.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::store::{DeadLetter, DeadLetterStore, LetterFilter, LetterStatus};
use scheduler_core::{
    Backoff, Cadence, Held, Isolated, Isolation, IsolationError, ItemPolicy, JobContext,
    JobDefinition, JobResult, RunReport, RunStatus, RunSummary, Shutdown,
};
use serde_json::json;

use crate::harness::Database;

/// What each item of a cycle came to, by key.
type Outcomes = Arc<Mutex<BTreeMap<u32, String>>>;

/// Two attempts, a minute between them.
fn policy() -> ItemPolicy {
    let minute = Duration::from_secs(60);
    let backoff = Backoff { first: minute, factor: 1.0, longest: minute, jitter: 0.0 };
    ItemPolicy { max_attempts: 2, backoff }
}

async fn cycle<F, Fut>(database: &Database, job: F) -> RunReport
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = JobResult> + Send,
{
    let mut scheduler = database.scheduler();
    scheduler.register(JobDefinition::new("mark", Cadence::Manual), job).expect("registered");
    let report = scheduler.run_once("mark", Duration::ZERO, &Shutdown::default()).await;
    report.expect("it ran")
}

/// Runs items 1 … `items`; those of which `fails` says so fail with its words.
async fn mark(
    database: &Database,
    items: u32,
    fails: fn(u32) -> Option<&'static str>,
) -> (RunReport, BTreeMap<u32, String>) {
    let outcomes = Outcomes::default();
    let noted = Arc::clone(&outcomes);
    let report = cycle(database, move |context: JobContext| {
        let noted = Arc::clone(&noted);
        async move {
            let isolation = context.isolation(policy()).await?;
            for item in 1..=items {
                let outcome = isolation.isolate(item, mark_one(item, fails)).await;
                noted.lock().expect("outcomes").insert(item, word(&outcome));
            }
            Ok(isolation.finish(RunSummary::new()).await?)
        }
    })
    .await;
    let outcomes = outcomes.lock().expect("outcomes").clone();
    (report, outcomes)
}

async fn mark_one(item: u32, fails: fn(u32) -> Option<&'static str>) -> Result<u32, String> {
    match fails(item) {
        Some("panic") => panic!("item {item} is poison"),
        Some(error) => Err(format!("item {item}: {error}")),
        None => Ok(item),
    }
}

fn word(outcome: &Isolated<u32>) -> String {
    match outcome {
        Isolated::Done(_) => "done".to_owned(),
        Isolated::Failed(error) => error.clone(),
        Isolated::Held(Held::BackingOff { .. }) => "backing off".to_owned(),
        Isolated::Held(held) => format!("{held:?}"),
    }
}

async fn letters(database: &Database) -> Vec<DeadLetter> {
    database.store.dead_letters(&LetterFilter::default()).await.expect("letters")
}

fn counts(ran: u64, failed: u64, skipped: u64, dead: u64) -> Option<serde_json::Value> {
    Some(json!({
        "items_ran": ran, "items_failed": failed, "items_skipped": skipped, "items_dead": dead
    }))
}

async fn a_poison_item_is_given_up_while_the_others_go_on(database: Database) {
    let poison = |item| (item == 2).then_some("no price");
    let (report, outcomes) = mark(&database, 3, poison).await;
    assert_eq!((report.status, report.summary), (RunStatus::Succeeded, counts(3, 1, 0, 0)));
    assert_eq!(outcomes[&2], "item 2: no price");

    let (report, outcomes) = mark(&database, 3, poison).await;
    assert_eq!(report.summary, counts(2, 0, 1, 0));
    assert_eq!((&*outcomes[&1], &*outcomes[&2]), ("done", "backing off"));

    database.clock.advance(Duration::from_secs(60));
    let (report, _) = mark(&database, 3, poison).await;
    assert_eq!(report.summary, counts(3, 1, 0, 1));
    database.clock.advance(Duration::from_secs(86_400));
    let (report, outcomes) = mark(&database, 3, poison).await;
    assert_eq!(report.summary, counts(2, 0, 1, 1));
    assert_eq!((&*outcomes[&2], &*outcomes[&3]), ("Dead", "done"));

    let letter = &letters(&database).await[0];
    assert_eq!((&*letter.job, &*letter.item_key, letter.attempts), ("mark", "2", 2));
    assert_eq!((letter.status, &*letter.last_error), (LetterStatus::Dead, "item 2: no price"));
}

async fn a_panic_of_one_item_is_caught_and_charged(database: Database) {
    let (report, outcomes) = mark(&database, 3, |item| (item == 1).then_some("panic")).await;
    assert_eq!((report.status, report.summary), (RunStatus::Succeeded, counts(3, 1, 0, 0)));
    assert_eq!(outcomes[&1], "panicked: item 1 is poison");
    assert_eq!(outcomes[&3], "done");
    assert_eq!(letters(&database).await[0].last_error, "panicked: item 1 is poison");
}

async fn an_outage_fails_the_cycle_and_charges_nobody(database: Database) {
    // One of them backs off from before.
    mark(&database, 1, |_| Some("no price")).await;
    let before = letters(&database).await;
    database.clock.advance(Duration::from_secs(60));
    for _ in 0..5 {
        let outage = |item| (item % 10 != 0).then_some("the model refused the connection");
        let (report, outcomes) = mark(&database, 20, outage).await;
        assert_eq!(report.status, RunStatus::Failed);
        let error = report.error.expect("an error");
        assert!(
            error.starts_with("18 of 20 items failed alike, none of them is charged"),
            "{error}"
        );
        assert_eq!(outcomes[&10], "done");
        assert_eq!(letters(&database).await, before);
    }
    let (report, _) = mark(&database, 20, |_| None).await;
    assert_eq!((report.status, report.summary), (RunStatus::Succeeded, counts(20, 0, 0, 0)));
    assert_eq!(letters(&database).await, []);
}

async fn different_failures_of_many_items_are_charged_to_each(database: Database) {
    let each_its_own = |item| Some(if item % 2 == 0 { "no price" } else { "no account" });
    let (report, _) = mark(&database, 12, each_its_own).await;
    assert_eq!(report.summary, counts(12, 12, 0, 0));
    assert_eq!(letters(&database).await.len(), 12);
}

async fn a_person_retries_and_discards(database: Database) {
    let poison = |item| (item <= 2).then_some("no price");
    for _ in 0..2 {
        mark(&database, 3, poison).await;
        database.clock.advance(Duration::from_secs(60));
    }
    let mut dead = letters(&database).await;
    dead.sort_by_key(|letter| letter.item_key.clone());
    assert!(dead.iter().all(|letter| letter.status == LetterStatus::Dead), "{dead:?}");
    assert!(database.store.retry_letter(dead[0].id).await.expect("retried"));
    assert!(database.store.discard_letter(dead[1].id).await.expect("discarded"));

    let (report, outcomes) = mark(&database, 3, |_| None).await;
    assert_eq!(report.summary, counts(2, 0, 1, 0));
    assert_eq!((&*outcomes[&1], &*outcomes[&2]), ("done", "Discarded"));
    let left = letters(&database).await;
    assert_eq!(left.len(), 1);
    assert_eq!((&*left[0].item_key, left[0].status), ("2", LetterStatus::Discarded));
}

async fn what_a_frozen_host_charges_does_not_land(database: Database) {
    mark(&database, 1, |_| Some("no price")).await;
    database.clock.advance(Duration::from_secs(60));
    let before = letters(&database).await;
    let clock = database.clock.clone();
    let ends = Arc::new(Mutex::new(None));
    let end = Arc::clone(&ends);
    let report = cycle(&database, move |context: JobContext| {
        let (clock, end) = (clock.clone(), Arc::clone(&end));
        async move {
            let isolation = context.isolation(policy()).await?;
            isolation.succeeded(1);
            isolation.failed(2, "no price");
            // As if the process had stood still for longer than its lease.
            clock.advance(Duration::from_secs(3_600));
            *end.lock().expect("end") = Some(settled(isolation).await);
            Ok(RunSummary::new())
        }
    })
    .await;
    assert_eq!(report.status, RunStatus::LeaseLost);
    assert_eq!(*ends.lock().expect("end"), Some(false));
    assert_eq!(letters(&database).await, before);
}

/// Whether the items were settled; any end but a lost lease fails the test.
async fn settled(isolation: Isolation) -> bool {
    match isolation.finish(RunSummary::new()).await {
        Ok(_) => true,
        Err(IsolationError::Lost) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn an_item_that_a_stop_cuts_off_is_not_charged(database: Database) {
    let shutdown = crate::harness::at_once();
    let stop = shutdown.stop.clone();
    let mut scheduler = database.scheduler();
    let job = move |context: JobContext| {
        let stop = stop.clone();
        async move {
            let isolation = context.isolation(policy()).await?;
            stop.cancel();
            let cut_off = isolation
                .isolate(1, async {
                    context.cancelled().await;
                    Err::<u32, _>("cut off")
                })
                .await;
            assert_eq!(cut_off, Isolated::Held(Held::Cancelled));
            let next = isolation.isolate(2, async { Ok::<u32, String>(2) }).await;
            assert_eq!(next, Isolated::Held(Held::Cancelled), "nothing begins any more");
            Ok(isolation.finish(RunSummary::new()).await?)
        }
    };
    scheduler.register(JobDefinition::new("mark", Cadence::Manual), job).expect("registered");
    let report = scheduler.run_once("mark", Duration::ZERO, &shutdown).await.expect("it ran");
    assert_eq!(report.summary, counts(0, 0, 2, 0));
    assert_eq!(letters(&database).await, []);
}

async fn ten_thousand_items_are_settled_in_one_go(database: Database) {
    let poison = |item| (item % 3 == 0).then_some("no price");
    let (report, _) = mark(&database, 10_000, poison).await;
    assert_eq!(report.summary, counts(10_000, 3_333, 0, 0));
    let (report, _) = mark(&database, 10_000, poison).await;
    assert_eq!(report.summary, counts(6_667, 0, 3_333, 0));
}

on_every_store! {
    a_poison_item_is_given_up_while_the_others_go_on,
    a_panic_of_one_item_is_caught_and_charged,
    an_outage_fails_the_cycle_and_charges_nobody,
    different_failures_of_many_items_are_charged_to_each,
    a_person_retries_and_discards,
    what_a_frozen_host_charges_does_not_land,
    an_item_that_a_stop_cuts_off_is_not_charged,
    ten_thousand_items_are_settled_in_one_go,
}
