//! Rows that are claimed before there is a place for them, and ends and claims at once.

use super::QueueFixture;
use super::rows::{Queue, ids, request, succeeded};
use super::steps::{LEASE_MS, Steps};
use crate::queue::{NewJob, QueueTable};
use crate::store::{Claimed, Exchange, RowGrant, RowStatus, SettledRow};
use crate::testing::QueueRow;

fn mails() -> QueueTable {
    QueueTable::jobs("mails")
}

async fn put(queue: &Queue, rows: usize) {
    let job = NewJob::new("mail", &1).expect("a job");
    queue.enqueue(&vec![job; rows]).await.expect("enqueued");
}

async fn exchange(queue: &Queue, ends: &[SettledRow], limit: u32) -> (Vec<RowGrant>, Claimed) {
    let exchange = Exchange { ends, claim: Some(request(limit)), ahead: true };
    let exchanged = queue.exchange(&exchange).await.expect("exchanged");
    (exchanged.settled, exchanged.claimed.expect("claimed"))
}

async fn claim_ahead(queue: &Queue, limit: u32) -> Vec<RowGrant> {
    let (_, claimed) = exchange(queue, &[], limit).await;
    claimed.rows.into_iter().map(|row| row.grant).collect()
}

async fn only_row(fixture: &dyn QueueFixture) -> QueueRow {
    fixture.job_rows("mails").await.remove(0)
}

/// A row that is claimed ahead has not begun: its attempt comes back when its process dies, and it has
/// not crashed.
pub async fn what_is_claimed_ahead_has_not_begun(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    put(&ours, 1).await;
    assert_eq!(claim_ahead(&ours, 9).await.len(), 1);
    let row = only_row(fixture).await;
    assert_eq!((row.status, row.started, row.attempt_count), (RowStatus::Running, false, 1));
    fixture.advance_ms(LEASE_MS);
    let claimed = theirs.claim(&request(0)).await.expect("claimed");
    assert_eq!((claimed.reclaimed, claimed.quarantined), (1, 0));
    let row = only_row(fixture).await;
    assert_eq!((row.status, row.attempt_count, row.crash_count), (RowStatus::Queued, 0, 0));
}

/// It may have been what killed its process in the moment of its begin: the next claim counts as one.
pub async fn what_was_lost_before_it_began_begins_with_its_next_claim(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails().crash_limit(1)).await;
    put(&ours, 1).await;
    for started in [false, true] {
        assert_eq!(claim_ahead(&ours, 9).await.len(), 1);
        assert_eq!(only_row(fixture).await.started, started);
        fixture.advance_ms(LEASE_MS);
    }
    assert_eq!(theirs.claim(&request(9)).await.expect("claimed").quarantined, 1);
    assert_eq!(only_row(fixture).await.status, RowStatus::Dead);
}

/// A begin that is noted counts, if its claim is still held.
pub async fn what_was_claimed_ahead_and_has_begun_can_crash(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    put(&ours, 1).await;
    let grant = claim_ahead(&ours, 9).await.remove(0);
    let stale = RowGrant { token: grant.token - 1, ..grant.clone() };
    ours.mark_started(&[stale]).await.expect("asked");
    assert!(!only_row(fixture).await.started);
    ours.mark_started(std::slice::from_ref(&grant)).await.expect("noted");
    assert!(only_row(fixture).await.started);
    fixture.advance_ms(LEASE_MS);
    ours.mark_started(&[grant]).await.expect("asked");
    assert_eq!(theirs.claim(&request(0)).await.expect("claimed").reclaimed, 1);
    let row = only_row(fixture).await;
    assert_eq!((row.started, row.attempt_count, row.crash_count), (false, 1, 1));
}

/// Ends are written before the claim, so that what they make room for is found; what is lost is told.
pub async fn ends_and_claims_are_one_exchange(fixture: &dyn QueueFixture) {
    let (ours, _) = fixture.open_jobs(mails().limit(2)).await;
    put(&ours, 4).await;
    let (_, claimed) = exchange(&ours, &[], 9).await;
    let held: Vec<RowGrant> = claimed.rows.into_iter().map(|row| row.grant).collect();
    let rows = ids(&held);
    assert_eq!(held.len(), 2);
    let (settled, claimed) = exchange(&ours, &[], 9).await;
    assert_eq!((settled.len(), claimed.rows.len()), (0, 0));
    let lost = RowGrant { token: held[1].token + 1, ..held[1].clone() };
    let ends = [succeeded(held[0].clone()), succeeded(lost)];
    let (settled, claimed) = exchange(&ours, &ends, 9).await;
    assert_eq!(settled, held[..1]);
    let found: Vec<RowGrant> = claimed.rows.into_iter().map(|row| row.grant).collect();
    assert_eq!(ids(&found), [rows[0] + 2]);
    let nothing = Exchange { ends: &[], claim: None, ahead: false };
    let nothing = ours.exchange(&nothing).await.expect("nothing");
    assert_eq!((nothing.settled.len(), nothing.claimed.expect("nothing").rows.len()), (0, 0));
}

/// A row that occupies a slot and waits would keep others from running.
pub async fn nothing_is_claimed_ahead_where_there_are_limits(fixture: &dyn QueueFixture) {
    let (free, _) = fixture.open_jobs(mails()).await;
    assert!(free.ahead().claims);
    for table in [mails().limit(2), mails().limit_per_key("concurrency_key", 1)] {
        let (limited, _) = fixture.open_jobs(table).await;
        assert!(!limited.ahead().claims);
        put(&limited, 1).await;
        assert_eq!(claim_ahead(&limited, 1).await.len(), 1);
    }
    let rows = fixture.job_rows("mails").await;
    assert!(rows.iter().all(|row| row.started));
}
