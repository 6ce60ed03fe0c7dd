//! What operators do to queues: pauses, dead rows, and the retention that nobody has to ask for.

use std::sync::Arc;
use std::time::Duration;

use super::rows::{Queue, claim, grants, ids, parcels, queue, request, row, succeeded};
use super::steps::{LEASE_MS, Steps};
use super::{NOON, QueueFixture, RowEdit};
use crate::queue::{Enqueued, NewJob, QueueTable, Unique};
use crate::store::{DeadRows, QueueControl, RowId, RowStatus, SettledRow};

const DAY_MS: i64 = 86_400_000;

fn mails() -> QueueTable {
    QueueTable::jobs("mails")
}

async fn put(queue: &Queue, rows: usize) {
    let job = NewJob::new("mail", &1).expect("a job");
    queue.enqueue(&vec![job; rows]).await.expect("enqueued");
}

/// The keys of rows that are dead for the reason `no`.
async fn dead(queue: &Queue, rows: u32) -> Vec<RowId> {
    let grants = grants(queue.claim(&request(rows)).await.expect("claimed"));
    let end = |grant| SettledRow {
        status: RowStatus::Dead,
        error: Some("no".into()),
        ..succeeded(grant)
    };
    let keys = grants.iter().map(|grant| grant.id.clone()).collect();
    let ends: Vec<SettledRow> = grants.into_iter().map(end).collect();
    queue.settle(&ends).await.expect("settled");
    keys
}

async fn pause(control: &Arc<dyn QueueControl>, paused: bool) -> bool {
    control.set_paused(paused).await.expect("changed")
}

/// A pause is seen by all hosts, and is about one queue.
pub async fn a_paused_queue_is_claimed_by_nobody_until_it_goes_on(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let (others, _) = fixture.open_jobs(QueueTable::jobs("bills")).await;
    let (table, _) = queue(fixture, parcels()).await;
    let (control, of_table) = (fixture.control(mails()).await, fixture.control(parcels()).await);
    put(&ours, 2).await;
    put(&others, 1).await;
    super::rows::enqueue(fixture, &[(1, 0, 0)]).await;
    assert!(!control.is_paused().await.expect("known"));
    assert!(pause(&control, true).await);
    assert!(!pause(&control, true).await, "it is paused");
    assert!(control.is_paused().await.expect("known"));
    assert!(!others.is_paused().await.expect("known"));
    for queue in [&ours, &theirs] {
        assert!(queue.is_paused().await.expect("known"));
        assert!(claim(queue, 9).await.is_empty());
    }
    assert_eq!(claim(&others, 9).await.len(), 1);
    assert!(pause(&of_table, true).await);
    assert!(claim(&table, 9).await.is_empty());
    assert!(pause(&of_table, false).await);
    assert_eq!(claim(&table, 9).await.len(), 1);
    assert!(pause(&control, false).await);
    assert!(!pause(&control, false).await, "it goes on");
    assert_eq!(claim(&theirs, 9).await.len(), 2);
}

/// What runs goes on, what is enqueued waits, what a dead process held waits too.
pub async fn a_paused_queue_takes_what_is_enqueued_and_ends_what_runs(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    put(&ours, 2).await;
    let held = claim(&ours, 2).await;
    let control = fixture.control(mails()).await;
    pause(&control, true).await;
    put(&ours, 1).await;
    assert_eq!(ours.settle(&[succeeded(held[0].clone())]).await.expect("settled").len(), 1);
    fixture.advance_ms(LEASE_MS);
    let claimed = theirs.claim(&request(9)).await.expect("claimed");
    assert_eq!((claimed.reclaimed, claimed.rows.len()), (1, 0));
    pause(&control, false).await;
    assert_eq!(ids(&claim(&theirs, 9).await), ids(&held[1..]), "the suspect, alone");
}

/// Whoever waits for rows looks when the queue goes on.
pub async fn a_queue_that_goes_on_wakes_who_waits(fixture: &dyn QueueFixture) {
    let control = fixture.control(mails()).await;
    pause(&control, true).await;
    let mut news = fixture.other().changes(&mails().topic());
    pause(&control, false).await;
    let heard = tokio::time::timeout(Duration::from_secs(10), news.changed()).await;
    assert!(heard.is_ok(), "waited in vain");
}

/// A retried row is due at once and has all its attempts; some can be named, or the oldest.
pub async fn dead_rows_are_retried_as_if_they_were_new(fixture: &dyn QueueFixture) {
    let (ours, _) = fixture.open_jobs(mails()).await;
    let control = fixture.control(mails()).await;
    put(&ours, 6).await;
    let keys = dead(&ours, 5).await;
    fixture.advance_ms(9);
    assert_eq!(control.retry_dead(&DeadRows::Oldest(2)).await.expect("retried"), 2);
    let last = DeadRows::Ids(vec![keys[4].clone(), keys[0].clone(), RowId::Int(9_999)]);
    assert_eq!(control.retry_dead(&last).await.expect("retried"), 1, "one was, one never was");
    assert_eq!(control.retry_dead(&DeadRows::Ids(Vec::new())).await.expect("retried"), 0);
    let rows = fixture.job_rows("mails").await;
    let retried: Vec<_> = rows.iter().filter(|row| row.last_error.is_some()).collect();
    let is_queued: Vec<bool> = retried.iter().map(|row| row.status == RowStatus::Queued).collect();
    assert_eq!(is_queued, [true, true, false, false, true]);
    let last = retried[4];
    assert_eq!((last.run_at_ms, last.attempt_count, last.completed_at_ms), (NOON + 9, 0, None));
    assert_eq!(claim(&ours, 9).await.len(), 4);
    // Also what was dead because its processes died.
    let (table, _) = queue(fixture, parcels()).await;
    super::rows::enqueue(fixture, &[(1, 0, 0)]).await;
    fixture.edit_row(1, RowEdit::Crashes(2)).await;
    claim(&table, 1).await;
    fixture.advance_ms(LEASE_MS);
    assert_eq!(table.claim(&request(1)).await.expect("claimed").quarantined, 1);
    let control = fixture.control(parcels()).await;
    assert_eq!(control.retry_dead(&DeadRows::Oldest(9)).await.expect("retried"), 1);
    let row = row(fixture, 1).await;
    assert_eq!((row.status, row.crash_count, row.attempt_count), (RowStatus::Queued, 0, 0));
}

/// A discarded row is cancelled; one that is not dead is not discarded.
pub async fn dead_rows_are_discarded_and_only_they(fixture: &dyn QueueFixture) {
    let (ours, _) = fixture.open_jobs(mails()).await;
    let (bills, _) = fixture.open_jobs(QueueTable::jobs("bills")).await;
    let control = fixture.control(mails()).await;
    put(&ours, 4).await;
    put(&bills, 1).await;
    let keys = dead(&ours, 3).await;
    dead(&bills, 1).await;
    let named = DeadRows::Ids(vec![keys[2].clone()]);
    assert_eq!(control.discard_dead(&named).await.expect("discarded"), 1);
    assert_eq!(control.discard_dead(&DeadRows::Oldest(1)).await.expect("discarded"), 1);
    let statuses: Vec<RowStatus> =
        fixture.job_rows("mails").await.into_iter().map(|row| row.status).collect();
    use RowStatus::{Cancelled, Dead, Queued};
    assert_eq!(statuses, [Cancelled, Dead, Cancelled, Queued]);
    assert_eq!(control.discard_dead(&DeadRows::Oldest(9)).await.expect("discarded"), 1);
    assert_eq!(fixture.job_rows("bills").await[0].status, Dead, "of another queue");
}

/// What ended a week ago goes, no more at once than asked for; dead rows wait for somebody.
pub async fn old_jobs_are_pruned_and_dead_ones_stay(fixture: &dyn QueueFixture) {
    let (ours, _) = fixture.open_jobs(mails()).await;
    put(&ours, 6).await;
    dead(&ours, 1).await;
    for status in [RowStatus::Succeeded, RowStatus::Cancelled, RowStatus::Succeeded] {
        let grant = claim(&ours, 1).await.remove(0);
        ours.settle(&[SettledRow { status, ..succeeded(grant) }]).await.expect("settled");
    }
    fixture.advance_ms(7 * DAY_MS);
    fixture.store().prune(1_000).await.expect("pruned");
    assert_eq!(fixture.job_rows("mails").await.len(), 6);
    fixture.advance_ms(1);
    assert_eq!(fixture.store().prune(2).await.expect("pruned"), 2, "no more than it is told");
    fixture.store().prune(1_000).await.expect("pruned");
    let statuses: Vec<RowStatus> =
        fixture.job_rows("mails").await.into_iter().map(|row| row.status).collect();
    assert_eq!(statuses, [RowStatus::Dead, RowStatus::Queued, RowStatus::Queued]);
}

/// A window longer than the time for which rows are kept holds its key to its end.
pub async fn a_row_whose_window_is_open_is_not_pruned(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let window = Duration::from_secs(30 * 24 * 3_600);
    let monthly = || {
        let unique = Unique::new("k").for_at_least(window);
        NewJob::new("mail", &1).expect("a job").unique(unique)
    };
    let first = ours.enqueue(&[monthly()]).await.expect("enqueued")[0];
    let grant = claim(&ours, 1).await.remove(0);
    ours.settle(&[succeeded(grant)]).await.expect("settled");
    fixture.advance_ms(30 * DAY_MS - 1);
    fixture.store().prune(1_000).await.expect("pruned");
    let again = theirs.enqueue(&[monthly()]).await.expect("enqueued");
    assert_eq!(again, [Enqueued::Existing(first.id())]);
    fixture.advance_ms(1);
    fixture.store().prune(1_000).await.expect("pruned");
    assert!(fixture.job_rows("mails").await.is_empty());
}

/// A dead row is in nobody's way; retried, it is the one with its key again, unless another is.
pub async fn a_dead_row_that_is_retried_has_its_key_again(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails().crash_limit(1)).await;
    let control = fixture.control(mails()).await;
    let keyed = || NewJob::new("mail", &1).expect("a job").unique(Unique::new("k"));
    let put = async |queue: &Queue| queue.enqueue(&[keyed()]).await.expect("enqueued")[0];
    let row = put(&ours).await.id();
    for crashes in [false, true] {
        if crashes {
            claim(&ours, 1).await;
            fixture.advance_ms(LEASE_MS);
            assert_eq!(theirs.claim(&request(1)).await.expect("claimed").quarantined, 1);
        } else {
            dead(&ours, 1).await;
        }
        assert_eq!(control.retry_dead(&DeadRows::Oldest(9)).await.expect("retried"), 1);
        assert_eq!(put(&theirs).await, Enqueued::Existing(row));
    }
    dead(&ours, 1).await;
    let other = put(&theirs).await;
    assert!(matches!(other, Enqueued::Inserted(id) if id != row), "{other:?}");
    assert_eq!(control.retry_dead(&DeadRows::Oldest(9)).await.expect("retried"), 1);
    assert_eq!(put(&ours).await, Enqueued::Existing(other.id()));
    assert_eq!(claim(&ours, 9).await.len(), 2);
}
