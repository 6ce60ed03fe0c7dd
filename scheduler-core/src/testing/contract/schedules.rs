//! What definitions, starts and operators make of a schedule row.

use std::sync::Arc;
use std::time::Duration;

use super::steps::{Broken, DAY_MS, MINUTE_MS, Steps, begin, finish, fire, run, seed, started};
use super::{Fixture, NOON};
use crate::cadence::Cadence;
use crate::run::{InstanceId, RunStatus};
use crate::store::JobSeed;
use crate::testing::JobEdit;

/// A recorder that fails at a start undoes the whole registration.
pub async fn a_recorder_that_fails_at_the_start_registers_nothing(fixture: &dyn Fixture) {
    let seeds = [seed("sound"), JobSeed { recorder: Arc::new(Broken), ..seed("mark") }];
    fixture.store().register_jobs(&seeds).await.expect_err("the recorder failed");
    assert!(fixture.everything().await.is_empty());
}

/// A changed definition starts a new grid; an unchanged one changes nothing.
pub async fn a_definition_that_did_not_change_leaves_its_row_alone(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(fixture.store(), firing.clone()).await);
    finish(fixture.store(), &key, &firing).await;
    let before = fixture.schedule("mark").await;

    fixture.advance_ms(10_000);
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    assert_eq!(format!("{row:?}"), format!("{before:?}"), "it fired less than an interval ago");

    let cadence = Cadence::every(Duration::from_secs(120));
    let changed = JobSeed { definition_hash: "2".into(), cadence, ..seed("mark") };
    fixture.other().register_jobs(&[changed]).await.expect("registered");
    let row = fixture.schedule("mark").await;
    assert_eq!(row.generation, before.generation + 1);
    assert_eq!(row.anchor_ms, NOON + 10_000);
    assert_eq!(row.next_due_at_ms, Some(NOON + 130_000), "it fired less than an interval ago");
    assert_eq!(row.last_fired_for_ms, Some(NOON));
}

/// Starts make a job due at once, one run for all hosts, and only if its last fire is an
/// interval old.
pub async fn a_start_makes_a_job_due_once_for_all_hosts(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let first = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(fixture.store(), first.clone()).await);
    finish(fixture.store(), &key, &first).await;
    fixture.advance_ms(MINUTE_MS - 1);
    fixture.register(&["mark"]).await;
    assert_eq!(fixture.schedule("mark").await.next_due_at_ms, Some(NOON + MINUTE_MS));
    // Everybody was down for a while; three start at once.
    fixture.advance_ms(600_000);
    let now = NOON + MINUTE_MS - 1 + 600_000;
    fixture.edit(JobEdit::Due { job: "mark".into(), at_ms: now + 5_000 }).await;
    for _ in 0..3 {
        fixture.register(&["mark"]).await;
    }
    let row = fixture.schedule("mark").await;
    assert_eq!(row.next_due_at_ms, Some(now));
    started(&begin(fixture.store(), fire(&row, InstanceId::new())).await);
    fixture.register(&["mark"]).await;
    assert_eq!(fixture.schedule("mark").await.next_due_at_ms, Some(now + MINUTE_MS));
}

/// A new job is due as its definition says, on a grid from now.
pub async fn a_new_job_is_due_as_its_start_says(fixture: &dyn Fixture) {
    fixture.advance_ms(123);
    let now_ms = NOON + 123;
    let seeds = [
        seed("at_once"),
        JobSeed { start_immediately: false, ..seed("at_its_slot") },
        JobSeed { cadence: Cadence::Manual, ..seed("by_hand") },
        JobSeed { due_by_row: false, ..seed("by_each_process") },
    ];
    fixture.store().register_jobs(&seeds).await.expect("registered");
    let dues = [Some(now_ms), Some(now_ms + MINUTE_MS), None, None];
    for (JobSeed { job, cadence, .. }, due) in seeds.iter().zip(dues) {
        let row = fixture.schedule(job).await;
        assert_eq!((row.next_due_at_ms, row.anchor_ms), (due, now_ms), "{job}");
        assert_eq!((row.generation, row.paused), (1, false), "{job}");
        assert_eq!((row.last_fired_for_ms, row.buffered_for_ms), (None, None), "{job}");
        let written = (row.cadence, row.cadence_override);
        assert_eq!(written, (cadence.to_string(), None), "{job}");
    }
}

/// A look tells of the jobs asked for and of no other, and what the store's now is.
pub async fn a_look_tells_of_the_jobs_asked_for(fixture: &dyn Fixture) {
    fixture.register(&["a", "b", "c"]).await;
    fixture.advance_ms(5);
    let jobs = ["c", "a", "unknown"].map(str::to_owned);
    let look = fixture.other().look(&jobs).await.expect("a look");
    let mut found: Vec<_> = look.schedules.iter().map(|row| row.job.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["a", "c"]);
    assert_eq!((look.now_ms, look.interrupted.len()), (NOON + 5, 0));
    let nothing = fixture.other().look(&[]).await.expect("a look");
    assert_eq!((nothing.schedules.len(), nothing.interrupted.len()), (0, 0));
}

/// What an operator says survives starts and changed definitions: a pause, and a cadence.
pub async fn what_an_operator_says_survives_a_changed_definition(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let faster = Some("every 5s".to_owned());
    fixture.edit(JobEdit::Override { job: "mark".into(), cadence: faster.clone() }).await;
    fixture.edit(JobEdit::Pause { job: "mark".into() }).await;
    fixture.advance_ms(10 * MINUTE_MS);
    fixture.edit(JobEdit::Due { job: "mark".into(), at_ms: NOON + 11 * MINUTE_MS }).await;
    fixture.register(&["mark"]).await;
    let row = fixture.schedule("mark").await;
    let due = (row.paused, row.next_due_at_ms);
    assert_eq!(due, (true, Some(NOON + 11 * MINUTE_MS)), "a start does not wake it");
    let changed = JobSeed {
        definition_hash: "2".into(),
        cadence: Cadence::every(Duration::from_secs(420)),
        ..seed("mark")
    };
    fixture.other().register_jobs(&[changed]).await.expect("registered");
    let row = fixture.schedule("mark").await;
    assert_eq!((row.paused, row.generation), (true, 2));
    assert_eq!((row.cadence.as_str(), row.cadence_override), ("every 7m", faster));
    fixture.edit(JobEdit::Override { job: "mark".into(), cadence: None }).await;
    assert_eq!(fixture.schedule("mark").await.cadence_override, None);
}

/// Slots that are due when a definition changes are missed, but for the one that starts with it.
pub async fn what_is_due_when_a_definition_changes_is_missed(fixture: &dyn Fixture) {
    fixture.register(&["mark", "same", "paused"]).await;
    fixture.edit(JobEdit::Pause { job: "paused".into() }).await;
    fixture.advance_ms(3 * MINUTE_MS);
    let changed = |job: &str| JobSeed {
        definition_hash: "2".into(),
        cadence: Cadence::every(Duration::from_secs(420)),
        ..seed(job)
    };
    let seeds = [changed("mark"), changed("new"), seed("same"), changed("paused")];
    fixture.other().register_jobs(&seeds).await.expect("registered");
    assert_eq!(fixture.lines("mark").await, ["schedule|0|1|missed|3|120"]);
    let row = fixture.schedule("mark").await;
    assert_eq!(row.next_due_at_ms, Some(NOON + 3 * MINUTE_MS), "it starts at once");
    started(&begin(fixture.store(), fire(&row, InstanceId::new())).await);
    for job in ["new", "same", "paused"] {
        assert!(fixture.lines(job).await.is_empty(), "{job}");
    }
    assert_eq!(fixture.schedule("same").await.next_due_at_ms, Some(NOON), "it is still due");
}

/// A job that becomes one that is never due by itself is not due any more, and the other way.
pub async fn a_job_that_becomes_manual_is_not_due_any_more(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    run(
        fixture.store(),
        fire(&fixture.schedule("mark").await, InstanceId::new()),
        RunStatus::Succeeded,
    )
    .await;
    let manual = JobSeed {
        definition_hash: "2".into(),
        cadence: Cadence::Manual,
        start_immediately: false,
        ..seed("mark")
    };
    fixture.store().register_jobs(&[manual]).await.expect("registered");
    let row = fixture.schedule("mark").await;
    assert_eq!((row.next_due_at_ms, row.last_fired_for_ms), (None, Some(NOON)));
    fixture.advance_ms(2 * MINUTE_MS);
    fixture.register(&["mark"]).await;
    assert_eq!(fixture.schedule("mark").await.next_due_at_ms, Some(NOON + 2 * MINUTE_MS));
}

/// A cron job is due at its slot, on the wall clock of its zone; one that is to start at once is due
/// at once, if it did not fire since the slot before.
pub async fn a_cron_job_is_due_at_its_slot(fixture: &dyn Fixture) {
    let daily = Cadence::cron("30 14 * * *", "Europe/Berlin").expect("a cadence");
    let at_its_slot = JobSeed { cadence: daily, start_immediately: false, ..seed("report") };
    let at_once = JobSeed { job: "at_once".into(), start_immediately: true, ..at_its_slot.clone() };
    fixture
        .store()
        .register_jobs(&[at_its_slot.clone(), at_once.clone()])
        .await
        .expect("registered");
    let row = fixture.schedule("report").await;
    assert_eq!(row.cadence, "cron 30 14 * * * in Europe/Berlin");
    // Noon in UTC is one o'clock in Berlin.
    assert_eq!(row.next_due_at_ms, Some(NOON + 90 * MINUTE_MS));
    assert_eq!(fixture.schedule("at_once").await.next_due_at_ms, Some(NOON));

    fixture.advance_ms(90 * MINUTE_MS);
    let row = fixture.schedule("report").await;
    run(fixture.store(), fire(&row, InstanceId::new()), RunStatus::Succeeded).await;
    fixture.advance_ms(MINUTE_MS);
    let changed = JobSeed { definition_hash: "2".into(), start_immediately: true, ..at_its_slot };
    fixture.other().register_jobs(&[changed]).await.expect("registered");
    let row = fixture.schedule("report").await;
    assert_eq!(row.next_due_at_ms, Some(NOON + 90 * MINUTE_MS + DAY_MS), "it fired a minute ago");
}
