//! Rows of a table of the user's: enqueued with typed answers, unique, decided about, pruned.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::rows::{Queue, claim, grants, ids, parcels, queue, request, row, succeeded};
use super::steps::Steps;
use super::{NOON, QueueFixture, SqlFixture};
use crate::error::StoreError;
use crate::queue::{EnqueueError, Enqueued, NewJob, NewRow, QueueTable, TableQueue, Unique};
use crate::store::{DeadRows, RowGrant, RowId, RowStatus, SettledRow};
use crate::testing::QueueRow;

fn parcel(label: &str) -> NewRow {
    NewRow::new(&json!({ "label": label, "user_id": 7 })).expect("a row")
}

fn keyed(key: &str) -> NewRow {
    parcel("keyed").unique(Unique::new(key))
}

async fn put(queue: &Queue, rows: &[NewRow]) -> Vec<Enqueued<RowId>> {
    queue.enqueue_rows(None, rows).await.expect("enqueued")
}

async fn put_one(queue: &Queue, row: NewRow) -> Enqueued<RowId> {
    put(queue, &[row]).await.remove(0)
}

fn inserted(row: Enqueued<RowId>) -> i64 {
    match row {
        Enqueued::Inserted(RowId::Int(id)) => id,
        other => panic!("{other:?} instead of a number that was inserted"),
    }
}

fn existing(id: i64) -> Enqueued<RowId> {
    Enqueued::Existing(RowId::Int(id))
}

async fn end(queue: &Queue, grants: Vec<RowGrant>, status: RowStatus) {
    let ends: Vec<SettledRow> =
        grants.into_iter().map(|grant| SettledRow { status, ..succeeded(grant) }).collect();
    assert_eq!(queue.settle(&ends).await.expect("settled").len(), ends.len());
}

/// A row comes with the columns that it was given, by priority, not before its time; answers stand in
/// the order of the rows.
pub async fn what_is_enqueued_into_ones_own_table_is_claimed_as_it_was_said(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    assert_eq!(put(&ours, &[]).await, []);
    let text = "ünï ' \" \\ ☃";
    let rows = [
        parcel("last").priority(7),
        parcel("later").after(Duration::from_secs(20)),
        parcel(text).priority(-1).max_attempts(2),
        NewRow::new(&json!({})).expect("a row"),
        parcel("soon").at_ms(NOON + 1),
    ];
    let keys: Vec<i64> = put(&ours, &rows).await.into_iter().map(inserted).collect();
    assert!(keys.is_sorted());
    let claimed = theirs.claim(&request(9)).await.expect("claimed").rows;
    let found: Vec<_> = claimed
        .iter()
        .map(|row| (row.grant.id.clone(), row.max_attempts, row.attempt_count))
        .collect();
    let expected = [(keys[2], 2, 1), (keys[3], 10, 1), (keys[0], 10, 1)];
    assert_eq!(found, expected.map(|(key, most, attempt)| (RowId::Int(key), most, attempt)));
    assert_eq!(claimed[0].columns.text("label").expect("a text").as_deref(), Some(text));
    fixture.advance_ms(1);
    assert_eq!(ids(&claim(&ours, 9).await), [keys[4]]);
    fixture.advance_ms(19_999);
    assert_eq!(ids(&claim(&ours, 9).await), [keys[1]]);
    let many: Vec<NewRow> = (0..1_000).map(|_| parcel("one of many")).collect();
    let keys: Vec<i64> = put(&ours, &many).await.into_iter().map(inserted).collect();
    assert_eq!(ids(&claim(&theirs, 1_000).await), keys);
    let own = NewRow::new(&json!({ "id": 90_000, "label": "own" })).expect("a row");
    assert_eq!(inserted(put_one(&ours, own).await), 90_000, "a key of the user's");
}

/// Limits count the rows by the user's own column.
pub async fn what_is_enqueued_into_ones_own_table_is_limited_by_its_columns(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = queue(fixture, parcels().limit_per_key("user_id", 1)).await;
    let of = |user: i64| NewRow::new(&json!({ "user_id": user })).expect("a row");
    let keys: Vec<i64> =
        put(&ours, &[of(1), of(1), of(2)]).await.into_iter().map(inserted).collect();
    assert_eq!(ids(&claim(&theirs, 9).await), [keys[0], keys[2]]);
}

/// A key is taken until its row has ended, runs, or its window is over, as it was said.
pub async fn a_key_is_unique_in_ones_own_table(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    let first = inserted(put_one(&ours, keyed("k")).await);
    let mixed = put(&theirs, &[parcel("x"), keyed("k"), keyed("z"), keyed("z")]).await;
    let (plain, other) = (inserted(mixed[0].clone()), inserted(mixed[2].clone()));
    assert_eq!(mixed[1..2], [existing(first)]);
    assert_eq!(mixed[3], existing(other), "rows of one call with one key are one row");
    let held = claim(&ours, 1).await;
    assert_eq!(put_one(&theirs, keyed("k")).await, existing(first), "it runs");
    end(&ours, held, RowStatus::Succeeded).await;
    let second = inserted(put_one(&theirs, keyed("k")).await);
    assert!(second > first);
    let rest = claim(&ours, 9).await;
    let mut taken = [plain, other, second];
    taken.sort_unstable();
    assert_eq!(ids(&rest), taken);
    end(&ours, rest, RowStatus::Dead).await;
    // Among what waits only.
    let waiting = || parcel("waits").unique(Unique::new("w").until_started());
    let first = inserted(put_one(&ours, waiting()).await);
    assert_eq!(put_one(&theirs, waiting()).await, existing(first));
    let held = claim(&ours, 1).await;
    let second = inserted(put_one(&theirs, waiting()).await);
    end(&ours, held, RowStatus::Succeeded).await;
    assert_eq!(put_one(&theirs, waiting()).await, existing(second));
    end(&ours, claim(&ours, 1).await, RowStatus::Succeeded).await;
    // For a window.
    let hourly =
        || parcel("hourly").unique(Unique::new("h").for_at_least(Duration::from_secs(3_600)));
    let first = inserted(put_one(&ours, hourly()).await);
    end(&ours, claim(&ours, 1).await, RowStatus::Succeeded).await;
    fixture.advance_ms(3_599_999);
    assert_eq!(put_one(&theirs, hourly()).await, existing(first));
    fixture.advance_ms(1);
    assert!(inserted(put_one(&theirs, hourly()).await) > first);
}

/// Several hosts, one key, one row.
pub async fn hosts_that_enqueue_one_key_at_once_into_ones_own_table_enqueue_one_row(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    for round in 0..10 {
        let key = format!("k{round}");
        let (mine, other) =
            tokio::join!(put_one(&ours, keyed(&key)), put_one(&theirs, keyed(&key)));
        assert_eq!(mine.clone().id(), other.clone().id());
        let is_new = |row: &Enqueued<RowId>| matches!(row, Enqueued::Inserted(_));
        assert!(is_new(&mine) != is_new(&other), "{mine:?} {other:?}");
    }
    assert_eq!(fixture.queue_rows().await.len(), 10);
}

/// All rows of a call or none; and each kind of table has its own kind of rows.
pub async fn what_does_not_fit_ones_own_table_leaves_nothing(fixture: &dyn QueueFixture) {
    let (ours, _) = queue(fixture, parcels()).await;
    let wrong = NewRow::new(&json!({ "status": "succeeded" })).expect("a row");
    let refused = ours.enqueue_rows(None, &[parcel("a"), wrong]).await;
    assert!(matches!(refused, Err(EnqueueError::Row { .. })), "{refused:?}");
    let job = NewJob::new("mail", &1).expect("a job");
    let is_unsupported =
        |error| matches!(error, EnqueueError::Store(StoreError::Unsupported { .. }));
    assert!(ours.enqueue(&[job]).await.is_err_and(is_unsupported));
    let (mails, _) = fixture.open_jobs(QueueTable::jobs("mails")).await;
    assert!(mails.enqueue_rows(None, &[parcel("a")]).await.is_err_and(is_unsupported));
    assert!(fixture.queue_rows().await.is_empty());
    assert!(fixture.job_rows("mails").await.is_empty());
    // A key that is taken, among rows that are not.
    let own = || NewRow::new(&json!({ "id": 7, "label": "own" })).expect("a row");
    put_one(&ours, own()).await;
    ours.enqueue_rows(None, &[parcel("a"), own()]).await.expect_err("the key is taken");
    assert_eq!(fixture.queue_rows().await.len(), 1);
}

/// Dead rows wait for a person, who retries them or discards them, named or the oldest.
pub async fn dead_rows_of_ones_own_table_are_retried_or_discarded(fixture: &dyn QueueFixture) {
    use RowStatus::{Cancelled, Dead, Queued};
    let (ours, theirs) = queue(fixture, parcels()).await;
    let control = fixture.control(parcels()).await;
    put(&ours, &[keyed("a"), parcel("b"), parcel("c"), parcel("d")]).await;
    let dead = claim(&ours, 3).await;
    let keys: Vec<RowId> = dead.iter().map(|grant| grant.id.clone()).collect();
    end(&ours, dead, Dead).await;
    let named = DeadRows::Ids(vec![keys[1].clone(), RowId::Int(9_999)]);
    assert_eq!(control.discard_dead(&named).await.expect("discarded"), 1);
    assert_eq!(control.retry_dead(&DeadRows::Oldest(1)).await.expect("retried"), 1);
    let statuses: Vec<RowStatus> =
        fixture.queue_rows().await.into_iter().map(|row| row.status).collect();
    assert_eq!(statuses, [Queued, Cancelled, Dead, Queued]);
    assert_eq!(claim(&theirs, 9).await.len(), 2);
    assert_eq!(row(fixture, 1).await.attempt_count, 1, "as if it had never been tried");
}

/// Finished rows stay, unless their table says for how long; dead ones and keys in their window stay
/// anyway, and no more go at once than asked for.
pub async fn finished_rows_go_when_their_table_says_so(fixture: &dyn QueueFixture) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (ours, _) = queue(fixture, parcels().keep_finished_for(HOUR)).await;
    let daily = parcel("f").unique(Unique::new("f").for_at_least(24 * HOUR));
    put(&ours, &["a", "b", "c", "d", "e"].map(parcel)).await;
    put_one(&ours, daily).await;
    use RowStatus::{Cancelled, Dead, Succeeded};
    for status in [Dead, Succeeded, Cancelled, Succeeded] {
        end(&ours, claim(&ours, 1).await, status).await;
        fixture.advance_ms(1);
    }
    let held = grants(ours.claim(&request(2)).await.expect("claimed"));
    end(&ours, vec![held[1].clone()], Succeeded).await;
    fixture.advance_ms(3_599_997);
    assert_eq!(ours.prune(1_000).await.expect("pruned"), 0, "an hour is not over");
    fixture.advance_ms(1);
    assert_eq!(ours.prune(1_000).await.expect("pruned"), 1);
    fixture.advance_ms(9);
    assert_eq!(ours.prune(1).await.expect("pruned"), 1, "no more than it is told");
    assert_eq!(ours.prune(1_000).await.expect("pruned"), 1);
    let left = |rows: Vec<QueueRow>| -> Vec<RowId> { rows.into_iter().map(|row| row.id).collect() };
    assert_eq!(left(fixture.queue_rows().await), [1, 5, 6].map(RowId::Int));
    // Where nothing was said, nothing goes.
    let (mails, _) = fixture.open_jobs(QueueTable::jobs("mails")).await;
    mails.enqueue(&[NewJob::new("mail", &1).expect("a job")]).await.expect("enqueued");
    end(&mails, claim(&mails, 1).await, Succeeded).await;
    fixture.advance_ms(48 * 3_600_000);
    assert_eq!(mails.prune(1_000).await.expect("pruned"), 0);
    assert_eq!(ours.prune(1_000).await.expect("pruned"), 1, "its window is over");
    assert_eq!(left(fixture.queue_rows().await), [1, 5].map(RowId::Int));
}

/// Rows that are enqueued in the caller's transaction are there after its commit, and never if it is
/// rolled back; who waits for them hears of the commit.
pub async fn a_row_of_ones_own_is_there_after_the_commit_of_its_enqueue_only(
    fixture: Arc<dyn SqlFixture>,
) {
    queue(&*fixture, parcels()).await;
    let (ours, theirs) = fixture.sql();
    let table = TableQueue::open(ours, parcels()).await.expect("a queue");
    let mut news = fixture.other().changes(&table.topic());
    for commits in [false, true] {
        let (inside, table) = (Arc::clone(&fixture), table.clone());
        let rows = [keyed("a"), parcel("plain")];
        let written = ours.write("order", |txn| {
            Box::pin(async move {
                let receipt = table.enqueue_in(txn, &rows).await.expect("enqueued");
                inside.note(txn, "order").await?;
                let refusal = StoreError::Unsupported { operation: "order", reason: "refused" };
                if commits { Ok(receipt) } else { Err(refusal) }
            })
        });
        let written = written.await;
        assert_eq!(written.is_ok(), commits);
        if let Ok(receipt) = written {
            assert!(receipt.rows.iter().all(|row| matches!(row, Enqueued::Inserted(_))));
            receipt.wake.send();
        }
        assert_eq!(fixture.queue_rows().await.len(), if commits { 2 } else { 0 });
    }
    assert_eq!(fixture.notes().await, ["order"]);
    let heard = tokio::time::timeout(Duration::from_secs(10), news.changed()).await;
    assert!(heard.is_ok(), "waited in vain");
    let theirs = TableQueue::open(theirs, parcels()).await.expect("a queue");
    let answers = theirs.enqueue(&[keyed("a"), keyed("b")]).await.expect("enqueued");
    assert!(matches!(answers[..], [Enqueued::Existing(_), Enqueued::Inserted(_)]));
}
