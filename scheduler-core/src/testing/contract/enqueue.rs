//! Rows of the library's own table: enqueued, unique, and claimed as they were said.

use std::collections::HashSet;
use std::time::Duration;

use super::rows::{Queue, claim, grants, ids, request, succeeded};
use super::steps::{LEASE_MS, Steps};
use super::{NOON, QueueFixture};
use crate::queue::{EnqueueError, Enqueued, NewJob, QueueTable, Unique};
use crate::store::{RowStatus, SettledRow};

fn mails() -> QueueTable {
    QueueTable::jobs("mails")
}

fn job(kind: &str) -> NewJob {
    NewJob::new(kind, &serde_json::json!({ "to": "ünï ' \" \\ \u{0} ☃" })).expect("a job")
}

fn keyed(key: &str) -> NewJob {
    job("mail").unique(Unique::new(key))
}

async fn put(queue: &Queue, jobs: &[NewJob]) -> Vec<Enqueued> {
    queue.enqueue(jobs).await.expect("enqueued")
}

async fn put_one(queue: &Queue, job: NewJob) -> Enqueued {
    put(queue, &[job]).await.remove(0)
}

fn inserted(row: Enqueued) -> i64 {
    match row {
        Enqueued::Inserted(id) => id,
        Enqueued::Existing(id) => panic!("row {id} was there"),
    }
}

/// A row comes as it was enqueued: by priority, not before its time, with kind, payload and attempts.
pub async fn what_is_enqueued_is_claimed_as_it_was_said(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let jobs = [
        job("last").priority(7),
        job("later").after(Duration::from_secs(20)),
        job("first").priority(-1).version(3).max_attempts(2),
        job("second"),
        job("soon").at_ms(NOON + 1),
    ];
    let rows: Vec<i64> = put(&ours, &jobs).await.into_iter().map(inserted).collect();
    let claimed = theirs.claim(&request(9)).await.expect("claimed").rows;
    let text = |position: usize, column| claimed[position].columns.text(column).expect("a text");
    assert_eq!(claimed.len(), 3);
    for (position, (kind, at)) in [("first", 2), ("second", 3), ("last", 0)].into_iter().enumerate()
    {
        assert_eq!(text(position, "kind").as_deref(), Some(kind));
        assert_eq!(text(position, "payload").as_deref(), Some(jobs[at].payload.as_str()));
        assert_eq!(ids(&[claimed[position].grant.clone()]), [rows[at]]);
        assert_eq!(claimed[position].max_attempts, jobs[at].max_attempts);
    }
    fixture.advance_ms(1);
    assert_eq!(ids(&claim(&ours, 9).await), [rows[4]]);
    fixture.advance_ms(19_998);
    assert!(claim(&ours, 9).await.is_empty());
    fixture.advance_ms(1);
    assert_eq!(ids(&claim(&ours, 9).await), [rows[1]]);
}

/// Answers stand in the order of the rows; rows that are equal are claimed in that order.
pub async fn answers_are_in_the_order_of_the_rows(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    assert_eq!(put(&ours, &[]).await, []);
    let many: Vec<NewJob> = (0..1_000).map(|_| job("mail")).collect();
    let rows: Vec<i64> = put(&ours, &many).await.into_iter().map(inserted).collect();
    assert!(rows.is_sorted() && rows.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(ids(&claim(&theirs, 1_000).await), rows);
    let taken = inserted(put_one(&ours, keyed("k")).await);
    let mixed = [job("mail"), keyed("z"), keyed("k"), job("mail"), keyed("a")];
    let answers = put(&theirs, &mixed).await;
    assert_eq!(answers[2], Enqueued::Existing(taken));
    let fresh: HashSet<i64> =
        [0, 1, 3, 4].into_iter().map(|position| inserted(answers[position])).collect();
    assert_eq!(fresh.len(), 4);
    let again = put(&ours, &[keyed("a"), keyed("z")]).await;
    let existing = |answer: Enqueued| Enqueued::Existing(answer.id());
    assert_eq!(again, [existing(answers[4]), existing(answers[1])]);
}

/// Rows that differ in their payloads alone keep these, in their order, and what they have in common.
pub async fn rows_that_are_alike_keep_their_payloads(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    for count in [1, 15, 16, 200] {
        let alike = |number: i64| {
            let payload = serde_json::json!([number, "ünï ' \" \\ \u{0} ☃ {,}", null]);
            let job = NewJob::new("mail", &payload).expect("a job");
            job.version(2).priority(-3).max_attempts(4).concurrency_key("k{,}")
        };
        let jobs: Vec<NewJob> = (0..count).map(alike).collect();
        let between = inserted(put_one(&theirs, job("other").after(Duration::from_secs(9))).await);
        let rows: Vec<i64> = put(&ours, &jobs).await.into_iter().map(inserted).collect();
        assert!(!rows.contains(&between));
        let claimed = theirs.claim(&request(1_000)).await.expect("claimed").rows;
        let text = |column: &'static str| {
            claimed.iter().map(move |row| row.columns.text(column).expect("a text"))
        };
        let payloads: Vec<_> = jobs.iter().map(|job| Some(job.payload.clone())).collect();
        assert_eq!(text("payload").collect::<Vec<_>>(), payloads);
        assert!(text("kind").all(|kind| kind.as_deref() == Some("mail")));
        assert!(claimed.iter().all(|row| row.max_attempts == 4));
        assert_eq!(ids(&claimed.into_iter().map(|row| row.grant).collect::<Vec<_>>()), rows);
    }
}

/// Queues of one table share neither rows nor keys.
pub async fn queues_of_one_table_know_nothing_of_each_other(fixture: &dyn QueueFixture) {
    let (mails, _) = fixture.open_jobs(mails()).await;
    let (bills, _) = fixture.open_jobs(QueueTable::jobs("bills")).await;
    let mail = inserted(put_one(&mails, keyed("k")).await);
    let bill = inserted(put_one(&bills, keyed("k").after(Duration::from_secs(9))).await);
    assert_ne!(mail, bill);
    let holder = request(1).holder;
    assert_eq!(mails.next_in_ms(holder).await.expect("known"), None);
    assert_eq!(bills.next_in_ms(holder).await.expect("known"), Some(9_000));
    assert!(claim(&bills, 9).await.is_empty());
    assert_eq!(ids(&claim(&mails, 9).await), [mail]);
    // Neither does one reclaim what the other's dead process left.
    fixture.advance_ms(LEASE_MS);
    let claimed = bills.claim(&request(9)).await.expect("claimed");
    assert_eq!((claimed.reclaimed, ids(&grants(claimed))), (0, vec![bill]));
    assert_eq!(mails.claim(&request(0)).await.expect("claimed").reclaimed, 1);
    assert_eq!(fixture.job_rows("mails").await.len(), 1);
}

/// What a host does not know it leaves alone: another kind, a newer version.
pub async fn kinds_and_versions_that_a_host_does_not_know_are_left_to_others(
    fixture: &dyn QueueFixture,
) {
    let (old, _) = fixture.open_jobs(mails().kind("welcome", 1).kind("goodbye", 2)).await;
    let (any, _) = fixture.open_jobs(mails()).await;
    let jobs = [job("welcome"), job("welcome").version(2), job("goodbye").version(2), job("news")];
    let rows: Vec<i64> = put(&old, &jobs).await.into_iter().map(inserted).collect();
    assert_eq!(ids(&claim(&old, 9).await), [rows[0], rows[2]]);
    assert_eq!(ids(&claim(&any, 9).await), [rows[1], rows[3]]);
}

/// A key is taken while its row waits, runs and waits again, and free when it has ended.
pub async fn a_key_is_unique_until_its_row_is_finished(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    for status in [RowStatus::Succeeded, RowStatus::Dead, RowStatus::Cancelled] {
        let row = inserted(put_one(&ours, keyed("k")).await);
        let taken = Enqueued::Existing(row);
        assert_eq!(put_one(&theirs, keyed("k")).await, taken, "it waits");
        let grant = claim(&ours, 1).await.remove(0);
        assert_eq!(put_one(&theirs, keyed("k")).await, taken, "it runs");
        let again = SettledRow { status: RowStatus::Queued, ..succeeded(grant) };
        ours.settle(&[again]).await.expect("settled");
        assert_eq!(put_one(&theirs, keyed("k")).await, taken, "it waits again");
        let grant = claim(&ours, 1).await.remove(0);
        ours.settle(&[SettledRow { status, ..succeeded(grant) }]).await.expect("settled");
    }
    assert_eq!(fixture.job_rows("mails").await.len(), 3);
}

/// A key that is unique among what waits is free as soon as its row runs, and the row may come back
/// beside the next one.
pub async fn a_key_can_be_unique_among_what_waits(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let newest = || job("mail").unique(Unique::new("k").until_started());
    let first = inserted(put_one(&ours, newest()).await);
    assert_eq!(put_one(&theirs, newest()).await, Enqueued::Existing(first));
    let grant = claim(&ours, 1).await.remove(0);
    let second = inserted(put_one(&theirs, newest()).await);
    let again = SettledRow { status: RowStatus::Queued, ..succeeded(grant) };
    assert_eq!(ours.settle(&[again]).await.expect("settled").len(), 1);
    assert_eq!(put_one(&ours, newest()).await, Enqueued::Existing(second));
    assert_eq!(ids(&claim(&theirs, 9).await), [first, second]);
}

/// A window keeps a key although its row has ended, and does not free one whose row has not.
pub async fn a_key_is_unique_for_its_window(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let unique = || Unique::new("k").for_at_least(Duration::from_secs(60));
    let hourly = || job("mail").unique(unique());
    let newest = || job("mail").unique(unique().until_started());
    for keyed in [&hourly as &dyn Fn() -> NewJob, &newest] {
        let row = inserted(put_one(&ours, keyed()).await);
        let grant = claim(&ours, 1).await.remove(0);
        ours.settle(&[succeeded(grant)]).await.expect("settled");
        fixture.advance_ms(59_999);
        assert_eq!(put_one(&theirs, keyed()).await, Enqueued::Existing(row));
        fixture.advance_ms(1);
        let next = inserted(put_one(&theirs, keyed()).await);
        assert_ne!(row, next);
        fixture.advance_ms(60_000);
        assert_eq!(put_one(&ours, keyed()).await, Enqueued::Existing(next), "it waits yet");
        let grant = claim(&ours, 1).await.remove(0);
        ours.settle(&[succeeded(grant)]).await.expect("settled");
    }
}

/// A row that is dead because its processes died gives its key back, too.
pub async fn a_key_that_a_dead_process_left_is_free_when_its_row_is_dead(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = fixture.open_jobs(mails().crash_limit(1)).await;
    let row = inserted(put_one(&ours, keyed("k")).await);
    assert_eq!(ids(&claim(&ours, 1).await), [row]);
    fixture.advance_ms(LEASE_MS);
    assert_eq!(put_one(&theirs, keyed("k")).await, Enqueued::Existing(row));
    assert_eq!(theirs.claim(&request(1)).await.expect("claimed").quarantined, 1);
    inserted(put_one(&theirs, keyed("k")).await);
}

/// A span that no clock can be asked to add is a very long one.
pub async fn spans_without_end_are_very_long_ones(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let unique = || Unique::new("k").for_at_least(Duration::MAX);
    let once = inserted(put_one(&ours, job("once").unique(unique())).await);
    let never = inserted(put_one(&ours, job("never").after(Duration::MAX)).await);
    let grant = claim(&ours, 9).await.remove(0);
    assert_eq!(ids(std::slice::from_ref(&grant)), [once]);
    ours.settle(&[succeeded(grant)]).await.expect("settled");
    let years_ms = 90 * 365 * 86_400_000;
    let next_ms = theirs.next_in_ms(request(1).holder).await.expect("known").expect("it waits");
    assert!(next_ms > years_ms, "{next_ms}");
    fixture.advance_ms(years_ms);
    assert_eq!(put_one(&theirs, job("once").unique(unique())).await, Enqueued::Existing(once));
    assert!(claim(&theirs, 9).await.is_empty());
    assert_ne!(never, once);
}

/// Two rows of one call with one key are one row.
pub async fn rows_of_one_call_with_one_key_are_one_row(fixture: &dyn QueueFixture) {
    let (ours, _) = fixture.open_jobs(mails()).await;
    let answers = put(&ours, &[keyed("a"), keyed("b"), keyed("a"), job("mail"), keyed("a")]).await;
    let first = inserted(answers[0]);
    assert_eq!(answers[2], Enqueued::Existing(first));
    assert_eq!(answers[4], Enqueued::Existing(first));
    assert_eq!(fixture.job_rows("mails").await.len(), 3);
}

/// Whoever enqueues a key at the same time: one row, and all are told of it.
pub async fn hosts_that_enqueue_one_key_at_once_enqueue_one_row(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    for round in 0..10 {
        let forth = [keyed(&format!("a{round}")), keyed(&format!("b{round}")), job("mail")];
        let back = [forth[1].clone(), forth[0].clone(), job("mail")];
        let (mine, mine_too, other, other_too) = tokio::join!(
            put(&ours, &forth),
            put(&ours, &back),
            put(&theirs, &back),
            put(&theirs, &forth)
        );
        for (position, key) in [(0, "a"), (1, "b")] {
            let answers =
                [mine[position], mine_too[1 - position], other[1 - position], other_too[position]];
            let fresh = answers.iter().filter(|row| matches!(row, Enqueued::Inserted(_))).count();
            assert_eq!(fresh, 1, "{key}{round}: {answers:?}");
            assert!(answers.iter().all(|row| row.id() == answers[0].id()), "{answers:?}");
        }
    }
    assert_eq!(fixture.job_rows("mails").await.len(), 10 * (2 + 4));
}

/// Of a call with a row that is refused, nothing is enqueued; nor into a table that is the user's.
pub async fn what_cannot_be_enqueued_leaves_nothing(fixture: &dyn QueueFixture) {
    let (ours, _) = fixture.open_jobs(mails()).await;
    let refused = ours.enqueue(&[job("mail"), keyed(&"k".repeat(256))]).await;
    assert!(matches!(refused, Err(EnqueueError::TooLarge { field: "unique_key", .. })));
    let refused = ours.enqueue(&[job("mail"), job("a kind is no sentence")]).await;
    assert!(matches!(refused, Err(EnqueueError::Name(_))), "{refused:?}");
    assert!(fixture.job_rows("mails").await.is_empty());
    let (theirs, _) = fixture.open(super::rows::parcels()).await;
    assert!(matches!(theirs.enqueue(&[job("mail")]).await, Err(EnqueueError::Store(_))));
}

/// Limits are counted within a queue, and per key of it.
pub async fn limits_of_one_queue_are_not_those_of_another(fixture: &dyn QueueFixture) {
    let limited = |queue| QueueTable::jobs(queue).limit(3).limit_per_key("concurrency_key", 2);
    let (mails, _) = fixture.open_jobs(limited("mails")).await;
    let (bills, _) = fixture.open_jobs(limited("bills")).await;
    let of = |key: &str| job("mail").concurrency_key(key);
    let jobs = [of("a"), of("a"), of("a"), of("b"), of("c")];
    let first: Vec<i64> = put(&mails, &jobs).await.into_iter().map(inserted).collect();
    let second: Vec<i64> = put(&bills, &jobs).await.into_iter().map(inserted).collect();
    assert_eq!(ids(&claim(&mails, 9).await), [first[0], first[1], first[3]]);
    assert_eq!(ids(&claim(&bills, 9).await), [second[0], second[1], second[3]]);
    assert!(claim(&mails, 9).await.is_empty());
}
