//! News: whoever waits hears soon of what others wrote, and finds it without having heard, too.

use std::time::Duration;

use super::rows::{claim, enqueue, ids, parcels, queue, succeeded};
use super::steps::{Steps, begin, ending, fire, seed, started};
use super::{QUEUE, QueueFixture};
use crate::run::InstanceId;
use crate::store::{Changes, Ending, JobSeed, RowStatus, SettledRow, Topic};

/// Real time, whatever the fixture's clock says: far more than it takes, far less than a safety poll.
const SOON: Duration = Duration::from_secs(10);

fn rows() -> Topic {
    Topic::Queue(QUEUE.to_owned())
}

async fn heard(news: &mut Changes, what: &str) {
    let heard = tokio::time::timeout(SOON, news.changed()).await;
    assert!(heard.is_ok(), "waited in vain for news of {what}");
}

/// A wake is heard by everybody who waits in its own process; one that came before anybody looked is
/// kept, and several are one.
pub async fn a_wake_is_heard_in_its_own_process(fixture: &dyn QueueFixture) {
    let mut first = fixture.store().changes(&rows());
    let mut second = fixture.store().changes(&rows());
    for _ in 0..3 {
        fixture.store().wake(&rows());
    }
    heard(&mut first, "the rows").await;
    heard(&mut second, "the rows").await;
}

/// What one process writes and tells of is heard by the other, each time.
pub async fn a_wake_is_heard_in_other_processes(fixture: &dyn QueueFixture) {
    let _queue = queue(fixture, parcels()).await;
    let mut news = fixture.other().changes(&rows());
    // Once more than the beginning of the listening can account for.
    for _ in 0..3 {
        enqueue(fixture, &[(1, 0, 0)]).await;
        fixture.store().wake(&rows());
        heard(&mut news, "the rows").await;
    }
}

/// A wake that was lost loses nothing: the row is there for whoever looks.
pub async fn a_row_that_nobody_was_told_of_is_found_by_a_look(fixture: &dyn QueueFixture) {
    let (_, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0)]).await;
    assert_eq!(ids(&claim(&theirs, 9).await), [1]);
}

/// The end of a limited row makes room: the other processes hear of it.
pub async fn the_end_of_a_limited_row_is_heard_in_other_processes(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels().limit(1)).await;
    enqueue(fixture, &[(1, 0, 0); 4]).await;
    let mut news = fixture.other().changes(&rows());
    for _ in 0..3 {
        let grant = claim(&ours, 1).await.remove(0);
        assert!(claim(&theirs, 1).await.is_empty(), "at the limit");
        ours.settle(&[succeeded(grant)]).await.expect("settled");
        heard(&mut news, "a slot").await;
    }
    assert_eq!(claim(&theirs, 1).await.len(), 1);
}

/// A row that is given back untouched is there for the other processes at once: they hear of it.
pub async fn a_row_that_is_given_back_is_heard_of_in_other_processes(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0)]).await;
    for _ in 0..3 {
        let grant = claim(&ours, 1).await.remove(0);
        let mut news = fixture.other().changes(&rows());
        let status = RowStatus::Queued;
        let back = SettledRow { status, give_attempt_back: true, ..succeeded(grant) };
        ours.settle(&[back]).await.expect("settled");
        heard(&mut news, "a row").await;
    }
    assert_eq!(ids(&claim(&theirs, 9).await), [1]);
}

/// A definition that was changed, a pause, and a slot that a stop cut off are heard of by the drivers
/// of the other processes.
pub async fn what_a_process_does_to_a_schedule_is_heard_in_others(fixture: &dyn QueueFixture) {
    let mut news = fixture.other().changes(&Topic::Schedules);
    for hash in ["1", "2", "3"] {
        let changed = JobSeed { definition_hash: hash.into(), ..seed("mark") };
        fixture.store().register_jobs(&[changed]).await.expect("registered");
        heard(&mut news, "a definition").await;
    }
    for paused in [true, false] {
        assert!(fixture.store().set_paused("mark", paused).await.expect("changed"));
        heard(&mut news, "a pause").await;
    }
    let firing = fire(&fixture.schedule("mark").await, InstanceId::new());
    let key = started(&begin(fixture.store(), firing.clone()).await);
    // What was written before is heard of, or is not news any more.
    let mut news = fixture.other().changes(&Topic::Schedules);
    let run = firing.run.expect("a run");
    let cut_off = Ending { rerun: true, ..ending(&key, run.id) };
    assert!(fixture.store().finish(&cut_off).await.expect("finished"));
    heard(&mut news, "a slot that waits").await;
}
