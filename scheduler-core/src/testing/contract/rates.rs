//! Starts within a span of time, over all hosts.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;

use super::QueueFixture;
use super::rows::{Queue, claim, grants, ids, parcels, queue, request, succeeded};
use super::steps::{LEASE_MS, Steps};
use crate::queue::{NewJob, NewRow, QueueTable};
use crate::run::InstanceId;
use crate::store::{RowStatus, SettledRow};

const TEN_SECONDS: Duration = Duration::from_secs(10);

async fn put(queue: &Queue, users: &[Option<i64>]) {
    let row = |user: &Option<i64>| NewRow::new(&json!({ "user_id": user })).expect("a row");
    let rows: Vec<NewRow> = users.iter().map(row).collect();
    queue.enqueue_rows(None, &rows).await.expect("enqueued");
}

async fn next(queue: &Queue) -> Option<i64> {
    queue.next_in_ms(InstanceId::new()).await.expect("known")
}

/// So many rows start within any span of the period, whoever claims them, and whether they have ended
/// or not.
pub async fn no_more_rows_start_within_a_period_than_the_rate_allows(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels().rate(3, TEN_SECONDS)).await;
    put(&ours, &[Some(1); 9]).await;
    let held = claim(&ours, 1).await;
    assert_eq!(ids(&held), [1]);
    fixture.advance_ms(6_000);
    assert_eq!(ids(&claim(&theirs, 9).await), [2, 3]);
    ours.settle(&[succeeded(held[0].clone())]).await.expect("settled");
    assert!(claim(&ours, 9).await.is_empty(), "an end makes no room");
    fixture.advance_ms(3_999);
    assert!(claim(&theirs, 9).await.is_empty());
    fixture.advance_ms(1);
    assert_eq!(ids(&claim(&theirs, 9).await), [4], "the first counts no longer, the others do");
    fixture.advance_ms(6_000);
    assert_eq!(ids(&claim(&ours, 9).await), [5, 6]);
}

/// A key has a rate of its own; rows without a key have none.
pub async fn a_key_that_has_started_enough_leaves_the_others_their_turn(
    fixture: &dyn QueueFixture,
) {
    let table = parcels().rate_per_key("user_id", 1, TEN_SECONDS);
    let (ours, theirs) = queue(fixture, table).await;
    put(&ours, &[Some(1), Some(1), Some(2), None, None, Some(1)]).await;
    assert_eq!(ids(&claim(&ours, 9).await), [1, 3, 4, 5]);
    assert!(claim(&theirs, 9).await.is_empty());
    fixture.advance_ms(10_000);
    assert_eq!(ids(&claim(&theirs, 9).await), [2]);
}

/// Both rates and both limits hold at once.
pub async fn rates_and_limits_hold_together(fixture: &dyn QueueFixture) {
    let table = parcels().limit(2).limit_per_key("user_id", 1).rate(3, TEN_SECONDS).rate_per_key(
        "user_id",
        2,
        TEN_SECONDS,
    );
    let (ours, theirs) = queue(fixture, table).await;
    put(&ours, &[Some(1), Some(1), Some(1), Some(2), Some(3), Some(2)]).await;
    let held = claim(&ours, 9).await;
    assert_eq!(ids(&held), [1, 4], "two at once, one of a user");
    let ends: Vec<SettledRow> = held.into_iter().map(succeeded).collect();
    ours.settle(&ends).await.expect("settled");
    let held = claim(&theirs, 9).await;
    assert_eq!(ids(&held), [2], "the third start of the queue");
    theirs.settle(&[succeeded(held[0].clone())]).await.expect("settled");
    assert!(claim(&theirs, 9).await.is_empty());
    fixture.advance_ms(10_000);
    assert_eq!(ids(&claim(&ours, 9).await), [3, 5]);
}

/// Who waits for the rate knows to the millisecond when to ask again, and does not ask when nothing
/// waits.
pub async fn a_row_over_the_rate_says_when_it_can_start(fixture: &dyn QueueFixture) {
    let table = parcels().rate(3, TEN_SECONDS).rate_per_key("user_id", 1, 2 * TEN_SECONDS);
    let (ours, theirs) = queue(fixture, table).await;
    put(&ours, &[Some(1), Some(2)]).await;
    assert_eq!(claim(&ours, 9).await.len(), 2);
    let lease = Some(LEASE_MS);
    assert_eq!(next(&theirs).await, lease, "nothing waits but for the leases");
    fixture.advance_ms(1_000);
    put(&ours, &[Some(1), Some(3), Some(4)]).await;
    assert_eq!(claim(&ours, 9).await.len(), 1, "of user 3");
    assert_eq!(next(&ours).await, Some(9_000.min(LEASE_MS - 1_000)), "the queue's rate");
    fixture.advance_ms(9_000);
    assert_eq!(ids(&claim(&ours, 9).await), [5], "of user 4");
}

/// Each start counts: that of a retry, and that of a row whose process died.
pub async fn each_start_of_a_row_counts(fixture: &dyn QueueFixture) {
    let period = Duration::from_millis(LEASE_MS.unsigned_abs() * 3);
    let (ours, theirs) = queue(fixture, parcels().rate(3, period)).await;
    put(&ours, &[None]).await;
    let held = claim(&ours, 1).await;
    let again = SettledRow { status: RowStatus::Queued, ..succeeded(held[0].clone()) };
    ours.settle(&[again]).await.expect("settled");
    assert_eq!(claim(&theirs, 1).await.len(), 1);
    fixture.advance_ms(LEASE_MS);
    let claimed = ours.claim(&request(1)).await.expect("claimed");
    assert_eq!((claimed.reclaimed, claimed.rows.len()), (1, 1));
    fixture.advance_ms(LEASE_MS);
    let claimed = theirs.claim(&request(1)).await.expect("claimed");
    assert_eq!((claimed.reclaimed, claimed.rows.len()), (1, 0), "it would be the fourth");
    fixture.advance_ms(LEASE_MS);
    assert_eq!(claim(&theirs, 1).await.len(), 1);
}

/// Hosts that claim at once share one rate.
pub async fn hosts_that_claim_at_once_do_not_exceed_the_rate(fixture: &dyn QueueFixture) {
    const STARTS: usize = 5;
    let table = parcels().rate(STARTS as u32, TEN_SECONDS);
    let (ours, theirs) = queue(fixture, table).await;
    put(&ours, &vec![Some(1); 40]).await;
    let mut recent: VecDeque<usize> = VecDeque::new();
    let mut started = 0;
    for _ in 0..100 {
        let (mine, other) = tokio::join!(claim(&ours, 3), claim(&theirs, 3));
        recent.push_back(mine.len() + other.len());
        started += mine.len() + other.len();
        let ends: Vec<SettledRow> = mine.into_iter().chain(other).map(succeeded).collect();
        ours.settle(&ends).await.expect("settled");
        if recent.len() > 10 {
            recent.pop_front();
        }
        assert!(recent.iter().sum::<usize>() <= STARTS, "{recent:?}");
        if started == 40 {
            return;
        }
        fixture.advance_ms(1_000);
    }
    panic!("{started} of 40 started: the rate is not used up");
}

/// Queues of the library's table have rates of their own, per `concurrency_key` too.
pub async fn rates_of_one_queue_are_not_those_of_another(fixture: &dyn QueueFixture) {
    let rated = |queue| QueueTable::jobs(queue).rate_per_key("concurrency_key", 1, TEN_SECONDS);
    let (mails, _) = fixture.open_jobs(rated("mails")).await;
    let (bills, _) = fixture.open_jobs(rated("bills")).await;
    let job = |key: &str| NewJob::new("job", &1).expect("a job").concurrency_key(key);
    for queue in [&mails, &bills] {
        queue.enqueue(&[job("a"), job("a"), job("b")]).await.expect("enqueued");
    }
    for queue in [&mails, &bills] {
        assert_eq!(grants(queue.claim(&request(9)).await.expect("claimed")).len(), 2);
        assert!(claim(queue, 9).await.is_empty());
    }
}
