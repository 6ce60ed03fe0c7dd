//! What handlers write themselves: how far they are, and that they are done.

use std::sync::Arc;

use super::rows::{Queue, claim, grants, request, succeeded};
use super::steps::{LEASE_MS, Steps};
use super::{NOON, QueueFixture, SqlFixture};
use crate::error::StoreError;
use crate::queue::{NewJob, QueueTable};
use crate::store::{RowGrant, RowStatus, SettledRow, Store};

type Shared = Arc<dyn SqlFixture>;

fn mails() -> QueueTable {
    QueueTable::jobs("mails")
}

async fn put(queue: &Queue, rows: usize) {
    let job = NewJob::new("mail", &1).expect("a job");
    queue.enqueue(&vec![job; rows]).await.expect("enqueued");
}

/// The checkpoint that a claim of one row finds, and the claim.
async fn claim_with(queue: &Queue) -> (RowGrant, Option<String>) {
    let row = queue.claim(&request(1)).await.expect("claimed").rows.remove(0);
    let checkpoint = row.columns.text("checkpoint").expect("a text");
    (row.grant, checkpoint)
}

/// A checkpoint is there for the next attempt, after an error and after a crash; nobody writes it
/// without the claim.
pub async fn a_checkpoint_survives_a_retry_and_needs_its_claim(fixture: &dyn QueueFixture) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    put(&ours, 1).await;
    let keep = async |grant: &RowGrant, text: &str| {
        ours.keep_checkpoint(None, grant, text).await.expect("asked")
    };
    let (grant, none) = claim_with(&ours).await;
    assert_eq!(none, None);
    let text = r#"{"page":7,"of":"ünï ' \" ☃"}"#;
    assert!(keep(&grant, text).await);
    let again = SettledRow { status: RowStatus::Queued, ..succeeded(grant.clone()) };
    ours.settle(&[again]).await.expect("settled");
    assert!(!keep(&grant, "late").await, "its claim has ended");
    let (grant, found) = claim_with(&theirs).await;
    assert_eq!(found.as_deref(), Some(text));
    let wrong = RowGrant { token: grant.token + 1, ..grant.clone() };
    assert!(!keep(&wrong, "not its own").await);
    fixture.advance_ms(LEASE_MS);
    assert!(!keep(&grant, "expired").await);
    let (_, found) = claim_with(&ours).await;
    assert_eq!(found.as_deref(), Some(text));
}

fn refusal() -> StoreError {
    StoreError::Unsupported { operation: "deliver", reason: "something else went wrong" }
}

/// Notes an effect and does the same to the row, in one transaction that commits or not.
async fn deliver(
    fixture: &Shared,
    store: &Store,
    queue: &Queue,
    grant: &RowGrant,
    how: (&'static str, bool, bool),
) -> bool {
    let (inside, queue, grant) = (Arc::clone(fixture), Arc::clone(queue), grant.clone());
    let (note, succeeds, commits) = how;
    let delivered = store.write("deliver", |txn| {
        Box::pin(async move {
            inside.note(txn, note).await?;
            let held = match succeeds {
                true => queue.succeed_in(txn, &grant, Some("{\"n\":1}")).await?,
                false => queue.keep_checkpoint(Some(txn), &grant, note).await?,
            };
            if held && commits { Ok(()) } else { Err(refusal()) }
        })
    });
    delivered.await.is_ok()
}

/// A row is a success with what its handler wrote, or neither is there; and that once.
pub async fn a_row_succeeds_with_its_effects_or_not_at_all(fixture: Shared) {
    let (ours, theirs) = fixture.open_jobs(mails()).await;
    let (store, _) = fixture.sql();
    put(&ours, 1).await;
    let grant = claim(&ours, 1).await.remove(0);
    assert!(!deliver(&fixture, store, &ours, &grant, ("rolled back", true, false)).await);
    let row = fixture.job_rows("mails").await.remove(0);
    assert_eq!((row.status, row.result), (RowStatus::Running, None));
    let stale = RowGrant { token: grant.token - 1, ..grant.clone() };
    assert!(!deliver(&fixture, store, &ours, &stale, ("stale", true, true)).await);
    assert!(deliver(&fixture, store, &ours, &grant, ("done", true, true)).await);
    let row = fixture.job_rows("mails").await.remove(0);
    assert_eq!((row.status, row.completed_at_ms), (RowStatus::Succeeded, Some(NOON)));
    assert_eq!((row.result.as_deref(), row.leased_by), (Some("{\"n\":1}"), None));
    assert!(!deliver(&fixture, store, &ours, &grant, ("twice", true, true)).await);
    fixture.advance_ms(LEASE_MS);
    assert!(grants(theirs.claim(&request(1)).await.expect("claimed")).is_empty());
    assert_eq!(fixture.notes().await, ["done"]);
}

/// How far a handler is agrees with what it did.
pub async fn a_checkpoint_is_kept_with_its_effects_or_not_at_all(fixture: Shared) {
    let (ours, _) = fixture.open_jobs(mails()).await;
    let (store, _) = fixture.sql();
    put(&ours, 1).await;
    let (grant, _) = claim_with(&ours).await;
    assert!(deliver(&fixture, store, &ours, &grant, ("page 1", false, true)).await);
    assert!(!deliver(&fixture, store, &ours, &grant, ("page 2", false, false)).await);
    fixture.advance_ms(LEASE_MS);
    assert!(!deliver(&fixture, store, &ours, &grant, ("page 3", false, true)).await);
    let (_, found) = claim_with(&ours).await;
    assert_eq!(found.as_deref(), Some("page 1"));
    assert_eq!(fixture.notes().await, ["page 1"]);
}
