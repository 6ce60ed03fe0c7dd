//! What an operator says about a job at run time.

use std::time::Duration;

use super::steps::{MINUTE_MS, Steps, begin, fire, seed, started};
use super::{Fixture, NOON};
use crate::cadence::Cadence;
use crate::run::InstanceId;
use crate::store::{Begun, JobSeed};

/// A paused job moves for nobody; resumed, it goes on at the first slot of its grid after now.
pub async fn a_paused_job_waits_and_a_resumed_one_goes_on_at_its_next_slot(fixture: &dyn Fixture) {
    fixture.register(&["mark", "other"]).await;
    let seen = fixture.schedule("mark").await;
    assert!(fixture.other().set_paused("mark", true).await.expect("paused"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.paused, row.generation), (true, seen.generation + 1));
    assert_eq!((row.next_due_at_ms, row.anchor_ms), (seen.next_due_at_ms, seen.anchor_ms));
    assert_eq!(begin(fixture.store(), fire(&row, InstanceId::new())).await, Begun::Lost);

    fixture.advance_ms(10 * MINUTE_MS + 1);
    assert!(fixture.other().set_paused("mark", false).await.expect("resumed"));
    let row = fixture.schedule("mark").await;
    assert_eq!((row.paused, row.generation), (false, seen.generation + 2));
    assert_eq!(row.next_due_at_ms, Some(NOON + 11 * MINUTE_MS), "what it missed is no miss");
    assert_eq!(row.anchor_ms, seen.anchor_ms);
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
