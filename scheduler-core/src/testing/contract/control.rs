//! What an operator says about a job at run time.

use std::time::Duration;

use super::steps::{
    MINUTE_MS, Steps, begin, ending, finish, fire, firing, manual, run, run_of, seed, started,
};
use super::{Fixture, NOON};
use crate::cadence::Cadence;
use crate::run::{InstanceId, RunStatus, Trigger};
use crate::store::{Begun, Ending, Firing, JobSeed, NewRun};

/// A paused job moves for nobody; resumed, it goes on at the first slot of its grid after now.
pub async fn a_paused_job_waits_and_a_resumed_one_goes_on_at_its_next_slot(fixture: &dyn Fixture) {
    fixture.register(&["mark", "other"]).await;
    let seen = fixture.schedule("mark").await;
    assert!(fixture.other().set_paused("mark", true).await.expect("paused"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.paused, row.generation), (true, seen.generation + 1));
    assert_eq!((row.next_due_at_ms, row.anchor_ms), (Some(NOON + MINUTE_MS), seen.anchor_ms));
    assert!(fixture.other().set_paused("mark", true).await.expect("paused"));
    assert_eq!(
        fixture.schedule("mark").await.generation,
        seen.generation + 1,
        "it is paused already"
    );
    assert_eq!(begin(fixture.store(), fire(&row, InstanceId::new())).await, Begun::Lost);

    fixture.advance_ms(10 * MINUTE_MS + 1);
    assert!(fixture.other().set_paused("mark", false).await.expect("resumed"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.paused, row.generation), (false, seen.generation + 2));
    assert_eq!(row.next_due_at_ms, Some(NOON + 11 * MINUTE_MS), "what it missed is no miss");
    let lines = fixture.lines("mark").await;
    assert_eq!(lines, ["schedule|0|1|missed|1|0"], "but what was due before the pause is");
    assert_eq!(row.anchor_ms, seen.anchor_ms);

    fixture.advance_ms(2 * MINUTE_MS);
    assert!(fixture.other().set_paused("mark", false).await.expect("resumed"));
    let again = fixture.schedule("mark").await;
    assert_eq!(again.next_due_at_ms, row.next_due_at_ms, "who resumes what goes on drops no slot");
    assert_eq!(again.generation, row.generation);
    let other = fixture.schedule("other").await;
    assert_eq!((other.paused, other.generation), (false, 1), "others are left alone");
    assert!(!fixture.other().set_paused("unknown", true).await.expect("answered"));
}

/// An operator's cadence starts a grid of its own and wins until it is taken back.
pub async fn an_operators_cadence_wins_until_it_is_taken_back(fixture: &dyn Fixture) {
    let by_hand = JobSeed { cadence: Cadence::Manual, ..seed("by_hand") };
    let by_each = JobSeed { due_by_row: false, ..seed("by_each_process") };
    fixture.store().register_jobs(&[seed("mark"), by_hand, by_each]).await.expect("registered");
    fixture.advance_ms(1_234);
    let now_ms = NOON + 1_234;
    let often = Cadence::every(Duration::from_secs(7));
    for (job, due) in [
        ("mark", Some(now_ms + 7_000)),
        ("by_hand", Some(now_ms + 7_000)),
        ("by_each_process", None),
    ] {
        assert!(fixture.other().set_cadence(job, Some(&often)).await.expect("changed"));
        let row = fixture.schedule(job).await;
        assert_eq!(row.cadence_override.as_deref(), Some("every 7s"), "{job}");
        assert_eq!((row.next_due_at_ms, row.anchor_ms, row.generation), (due, now_ms, 2), "{job}");
    }
    fixture.advance_ms(1_000);
    let now_ms = now_ms + 1_000;
    for (job, due) in
        [("mark", Some(now_ms + MINUTE_MS)), ("by_hand", None), ("by_each_process", None)]
    {
        assert!(fixture.other().set_cadence(job, None).await.expect("taken back"));
        let row = fixture.schedule(job).await;
        assert_eq!(
            (row.cadence_override, row.next_due_at_ms, row.generation),
            (None, due, 3),
            "{job}"
        );
    }
    assert!(!fixture.other().set_cadence("unknown", None).await.expect("answered"));
}

/// Slots that are due when an operator pauses a job or gives it another cadence fire no more, and are
/// recorded as missed, with those that were missed just before.
pub async fn what_is_due_when_an_operator_speaks_is_missed(fixture: &dyn Fixture) {
    let by_each = JobSeed { due_by_row: false, ..seed("by_each_process") };
    fixture.store().register_jobs(&[seed("paused"), seed("re-timed"), by_each]).await.expect("ok");
    for job in ["paused", "re-timed"] {
        let row = fixture.schedule(job).await;
        run(fixture.store(), fire(&row, InstanceId::new()), RunStatus::Succeeded).await;
    }
    fixture.advance_ms(3 * MINUTE_MS + 1_234);
    let often = Cadence::every(Duration::from_secs(7));
    fixture.other().set_paused("paused", true).await.expect("paused");
    fixture.other().set_cadence("re-timed", Some(&often)).await.expect("changed");
    fixture.other().set_paused("by_each_process", true).await.expect("paused");
    let ran = "schedule|0|1|succeeded|-|-";
    for job in ["paused", "re-timed"] {
        assert_eq!(fixture.lines(job).await, [ran, "schedule|60|1|missed|3|180"], "{job}");
    }
    assert!(fixture.lines("by_each_process").await.is_empty(), "each process has its own slots");

    // Nothing more of what comes in the pause; one run of misses is one row.
    fixture.advance_ms(MINUTE_MS);
    fixture.other().set_cadence("paused", Some(&often)).await.expect("changed");
    fixture.other().set_paused("paused", false).await.expect("resumed");
    fixture.other().set_cadence("re-timed", None).await.expect("taken back");
    assert_eq!(fixture.lines("paused").await, [ran, "schedule|60|1|missed|3|180"]);
    assert_eq!(fixture.lines("re-timed").await, [ran, "schedule|60|1|missed|11|237"]);
}

/// A host that decided before the operator spoke fires nothing.
pub async fn a_host_that_saw_a_row_before_its_operator_spoke_loses(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let seen = fixture.schedule("mark").await;
    let often = Cadence::every(Duration::from_secs(7));
    fixture.other().set_cadence("mark", Some(&often)).await.expect("changed");
    assert_eq!(begin(fixture.store(), fire(&seen, InstanceId::new())).await, Begun::Lost);
    fixture.advance_ms(7_000);
    let row = fixture.schedule("mark").await;
    started(&begin(fixture.store(), fire(&row, InstanceId::new())).await);
}

/// A run that somebody asks for begins once, on one of the hosts that see it; asking twice is asking
/// once until then.
pub async fn a_requested_run_begins_once_over_all_hosts(fixture: &dyn Fixture) {
    fixture.register(&["mark", "other"]).await;
    assert_eq!(fixture.store().request_run("unknown").await.expect("answered"), None);
    let asked = fixture.store().request_run("mark").await.expect("asked").expect("an id");
    let again = fixture.other().request_run("mark").await.expect("asked");
    assert_eq!(again, Some(asked), "it was not taken up yet");
    let row = fixture.schedule("mark").await;
    assert_eq!((row.run_requested, row.generation), (Some(asked), 1));
    assert_eq!(fixture.schedule("other").await.run_requested, None);
    let run = NewRun { id: asked, ..run_of(Trigger::Manual, NOON) };
    let takes_up =
        |instance| Firing { run: Some(run), requested: true, ..firing("mark", instance) };
    let ours = takes_up(InstanceId::new());
    let (first, second) = tokio::join!(
        fixture.store().begin(std::slice::from_ref(&ours)),
        fixture.other().begin(std::slice::from_ref(&ours)),
    );
    let mut begun = [first.expect("begun").remove(0), second.expect("begun").remove(0)];
    begun.sort_by_key(|begun| *begun == Begun::Lost);
    let key = started(&begun[0]);
    assert_eq!(begun[1], Begun::Lost);
    assert_eq!(fixture.schedule("mark").await.run_requested, None);
    // It ends and leaves no row; who saw the request late does not begin it again.
    let forgotten = Ending { keep_row: false, ..ending(&key, asked) };
    assert!(fixture.store().finish(&forgotten).await.expect("finished"));
    assert_eq!(begin(fixture.other(), takes_up(InstanceId::new())).await, Begun::Lost);
    assert!(fixture.lines("mark").await.is_empty());
    let next = fixture.store().request_run("mark").await.expect("asked").expect("an id");
    assert_ne!(next, asked);
}

/// A request ignores a pause, outlives a changed definition, and waits while a run is under way.
pub async fn a_request_stands_until_it_is_taken_up(fixture: &dyn Fixture) {
    fixture.register(&["mark"]).await;
    let by_hand = manual("mark", InstanceId::new());
    let key = started(&begin(fixture.store(), by_hand.clone()).await);
    let asked = fixture.other().request_run("mark").await.expect("asked").expect("an id");
    fixture.other().set_paused("mark", true).await.expect("paused");
    let cadence = Cadence::every(Duration::from_secs(120));
    let changed = JobSeed { definition_hash: "2".into(), cadence, ..seed("mark") };
    fixture.store().register_jobs(&[changed]).await.expect("registered");
    let run = NewRun { id: asked, ..run_of(Trigger::Manual, NOON) };
    let firing = Firing { run: Some(run), requested: true, ..firing("mark", InstanceId::new()) };
    assert!(matches!(begin(fixture.other(), firing.clone()).await, Begun::Busy(_)));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.run_requested, row.paused), (Some(asked), true), "it was put back");
    finish(fixture.store(), &key, &by_hand).await;
    started(&begin(fixture.other(), firing).await);
    assert_eq!(fixture.schedule("mark").await.run_requested, None);
    assert_eq!(
        fixture.runs("mark").await.iter().filter(|run| run.id == asked).count(),
        1,
        "under the id that was promised"
    );
}
