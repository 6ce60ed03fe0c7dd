//! Limits over all hosts, and rows that are claimed alone.

use std::collections::HashMap;

use super::rows::{claim, enqueue, grants, ids, parcels, queue, request, succeeded};
use super::steps::{LEASE_MS, Steps};
use super::{NewRow, QueueFixture, RowEdit};
use crate::store::{RowId, RowStatus};
use crate::testing::QueueRow;

const USERS: i64 = 4;
/// Of each user, in the order of their keys.
const ROWS: i64 = 10;

/// A row whose process died and whose key is saturated holds nobody up.
pub async fn a_suspect_that_cannot_run_yet_holds_nobody_up(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels().limit_per_key("user_id", 1)).await;
    enqueue(fixture, &[(1, 0, 0), (1, 0, 0), (2, 0, 0)]).await;
    assert_eq!(ids(&claim(&ours, 1).await), [1]);
    fixture.edit_row(2, RowEdit::Crashes(1)).await;
    assert_eq!(ids(&claim(&theirs, 9).await), [3], "user 1 is busy, user 2 is not");
}

/// Limits of the queue and of a key hold over all hosts, and are used up.
pub async fn no_more_rows_run_than_the_limits_allow_over_all_hosts(fixture: &dyn QueueFixture) {
    let table = parcels().limit(5).limit_per_key("user_id", 2);
    let (ours, theirs) = queue(fixture, table).await;
    for user in 0..USERS {
        enqueue(fixture, &[(user, 0, 0); ROWS as usize]).await;
    }
    let user_of = |row: &QueueRow| match row.id {
        RowId::Int(id) => (id - 1) / ROWS,
        RowId::Text(_) => panic!("the key is text"),
    };
    let (mut done, mut most, mut held) = (0, 0, Vec::new());
    loop {
        let (mine, other) = tokio::join!(claim(&ours, 4), claim(&theirs, 4));
        let mut of_user: HashMap<i64, usize> = HashMap::new();
        for row in fixture.queue_rows().await {
            if row.status == RowStatus::Running {
                *of_user.entry(user_of(&row)).or_default() += 1;
            }
        }
        let running = of_user.values().sum::<usize>();
        assert!(running <= 5 && of_user.values().all(|running| *running <= 2), "{of_user:?}");
        most = most.max(running);
        // What was claimed goes on beside the next claim and ends then.
        let ended: Vec<_> = held.drain(..).map(succeeded).collect();
        done += ours.settle(&ended).await.expect("settled").len();
        held.extend(mine);
        held.extend(other);
        if held.is_empty() && done == 40 {
            break;
        }
        assert!(!held.is_empty() || !ended.is_empty(), "{done} are done, nobody claims the rest");
    }
    assert_eq!(most, 5, "the limit is used");
    for row in fixture.queue_rows().await {
        let slots = (row.status, row.concurrency_slot, row.queue_slot);
        assert_eq!(slots, (RowStatus::Succeeded, None, None));
    }
}

/// Rows of a saturated key leave the others their turn; rows without a key are not limited.
pub async fn a_row_of_a_saturated_key_leaves_the_others_their_turn(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels().limit_per_key("user_id", 1)).await;
    enqueue(fixture, &[(1, 0, 0), (1, 0, 0), (1, 0, 0), (2, 5, 0)]).await;
    let free = NewRow { label: "free".into(), ..NewRow::default() };
    fixture.enqueue(&[free.clone(), free]).await;
    assert_eq!(ids(&claim(&ours, 9).await), [1, 5, 6, 4], "rows without a key are not limited");
    assert!(claim(&theirs, 9).await.is_empty());
}

/// A row that runs occupies the lowest free slot of its key and of the queue, and gives both
/// back at its end.
pub async fn a_row_takes_the_lowest_slots_that_are_free(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels().limit(3).limit_per_key("user_id", 2)).await;
    enqueue(fixture, &[(1, 0, 0), (1, 0, 0), (2, 0, 0), (1, 0, 0)]).await;
    let held = claim(&ours, 9).await;
    assert_eq!(ids(&held), [1, 2, 3]);
    let slots = async || -> Vec<_> {
        let rows = fixture.queue_rows().await;
        rows.into_iter().map(|row| (row.concurrency_slot, row.queue_slot)).collect()
    };
    let running = [(Some(0), Some(0)), (Some(1), Some(1)), (Some(0), Some(2)), (None, None)];
    assert_eq!(slots().await, running);
    assert!(claim(&theirs, 9).await.is_empty(), "the queue is full");
    ours.settle(&[succeeded(held[0].clone())]).await.expect("settled");
    assert_eq!(ids(&claim(&theirs, 9).await), [4]);
    let running = [(None, None), (Some(1), Some(1)), (Some(0), Some(2)), (Some(0), Some(0))];
    assert_eq!(slots().await, running);
}

/// The limits speak of unexpired leases: what an expired one occupied is free at once.
pub async fn an_expired_row_occupies_nothing(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels().limit(1).limit_per_key("user_id", 1)).await;
    enqueue(fixture, &[(1, 0, 0), (1, 0, 0)]).await;
    assert_eq!(ids(&claim(&ours, 9).await), [1]);
    fixture.advance_ms(LEASE_MS - 1);
    assert!(claim(&theirs, 9).await.is_empty());
    fixture.advance_ms(1);
    let claimed = theirs.claim(&request(9)).await.expect("claimed");
    assert_eq!(claimed.reclaimed, 1);
    assert_eq!(ids(&grants(claimed)), [1], "the row whose process died, alone");
}
