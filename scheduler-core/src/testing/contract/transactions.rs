//! Contract B: a caller's own transaction is one with the proof of its lease, its enqueues and
//! its run's rows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::rows::{claim, enqueue, ids, parcels, queue, succeeded};
use super::steps::{LEASE_MS, Steps, begin, ending, firing, manual, started};
use super::{NewRow, SqlFixture};
use crate::error::StoreError;
use crate::lease::{FenceError, Lease, LeaseKey};
use crate::queue::{Enqueued, JobQueue, NewJob, QueueTable, Unique};
use crate::recorder::{RecordTxn, Recorder, RunFinished, RunStarted};
use crate::run::{InstanceId, RunStatus};
use crate::store::{Begun, Ending, Firing, Renewal, RowGrant, RowId, Store};

type Shared = Arc<dyn SqlFixture>;

/// The lease of a grant, as its run has it.
fn lease(store: &Store, key: &LeaseKey) -> Lease {
    Lease::new(key.clone(), i64::MAX, store)
}

/// Writes a note and proves the lease, in one transaction.
async fn book(
    fixture: &Shared,
    store: &Store,
    key: &LeaseKey,
    note: &str,
) -> Result<(), FenceError> {
    let (inside, lease, note) = (Arc::clone(fixture), lease(store, key), note.to_owned());
    let booked = store.write("book", |txn| {
        Box::pin(async move {
            inside.note(txn, &note).await?;
            lease.fence(txn).await
        })
    });
    booked.await
}

/// An effect is there with the proof of its lease, or it is not there.
pub async fn an_effect_under_a_lost_lease_is_rolled_back(fixture: Shared) {
    let (ours, theirs) = fixture.sql();
    let me = InstanceId::new();
    let key = started(&begin(fixture.store(), manual("mark", me)).await);
    book(&fixture, ours, &key, "held").await.expect("booked");
    for (what, key) in [
        ("holder", LeaseKey { holder: InstanceId::new(), ..key.clone() }),
        ("old", LeaseKey { token: key.token - 1, ..key.clone() }),
        ("new", LeaseKey { token: key.token + 1, ..key.clone() }),
        ("name", LeaseKey { name: "clone".into(), ..key.clone() }),
    ] {
        let refused = book(&fixture, theirs, &key, what).await;
        assert!(matches!(refused, Err(FenceError::Lost { .. })), "{what}: {refused:?}");
    }
    fixture.advance_ms(LEASE_MS - 1);
    book(&fixture, theirs, &key, "just before the expiry").await.expect("booked");
    fixture.advance_ms(1);
    let refused = book(&fixture, ours, &key, "at the expiry, although nobody took it").await;
    assert!(matches!(refused, Err(FenceError::Lost { .. })), "{refused:?}");
    let next = started(&begin(fixture.other(), manual("mark", me)).await);
    let refused = book(&fixture, ours, &key, "taken again, by the same host").await;
    assert!(matches!(refused, Err(FenceError::Lost { .. })), "{refused:?}");
    book(&fixture, ours, &next, "granted again").await.expect("booked");
    assert_eq!(fixture.notes().await, ["held", "just before the expiry", "granted again"]);
}

/// A lease that says no stays lost for its run; a fence that failed says so to all who look.
pub async fn a_refused_fence_is_known_to_its_lease(fixture: Shared) {
    let (ours, _) = fixture.sql();
    let key = started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    fixture.advance_ms(LEASE_MS);
    let lease = lease(ours, &key);
    assert!(lease.is_held(), "nobody has asked yet");
    let fenced = lease.clone();
    let refused = ours.write("fence", |txn| Box::pin(async move { fenced.fence(txn).await })).await;
    match refused {
        Err(FenceError::Lost { name, token }) => assert_eq!((name, token), (key.name, key.token)),
        other => panic!("expected a lost lease, got {other:?}"),
    }
    assert!(!lease.is_held());
}

/// A row's fence is its claim's: held until just before the expiry, by its own grant only.
pub async fn a_row_is_fenced_until_just_before_its_expiry_by_its_own_grant_only(fixture: Shared) {
    let (ours, theirs) = queue(&*fixture, parcels()).await;
    enqueue(&*fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    let (_, other) = fixture.sql();
    let fence = async |grant: &RowGrant, note: &'static str| {
        let (inside, queue, grant) = (Arc::clone(&fixture), Arc::clone(&theirs), grant.clone());
        let fenced = other.write("book", |txn| {
            Box::pin(async move {
                inside.note(txn, note).await?;
                if queue.fence(txn, &grant).await? { Ok(()) } else { Err(refusal()) }
            })
        });
        fenced.await.is_ok()
    };
    let wrong = [
        ("holder", RowGrant { holder: InstanceId::new(), ..grant.clone() }),
        ("old", RowGrant { token: grant.token - 1, ..grant.clone() }),
        ("new", RowGrant { token: grant.token + 1, ..grant.clone() }),
        ("row", RowGrant { id: RowId::Int(2), ..grant.clone() }),
    ];
    for (what, grant) in &wrong {
        let before = fixture.queue_rows().await;
        assert!(!fence(grant, what).await, "{what}");
        assert_eq!(fixture.queue_rows().await, before, "{what}");
    }
    fixture.advance_ms(LEASE_MS - 1);
    let before = fixture.queue_rows().await;
    assert!(fence(&grant, "held").await);
    assert_eq!(fixture.queue_rows().await, before, "a proof changes nothing");
    fixture.advance_ms(1);
    assert!(!fence(&grant, "at its expiry, although nobody took it").await);
    let again = claim(&theirs, 1).await.remove(0);
    assert!(!fence(&grant, "taken by another").await);
    assert!(fence(&again, "its own").await);
    theirs.settle(&[succeeded(again.clone())]).await.expect("settled");
    assert!(!fence(&again, "settled").await);
    assert_eq!(fixture.notes().await, ["held", "its own"]);
}

fn refusal() -> StoreError {
    StoreError::Unsupported { operation: "book", reason: "the lease is lost" }
}

/// A write that is under way: its transaction is open until it is told to commit.
struct Open {
    commit: oneshot::Sender<()>,
    written: tokio::task::JoinHandle<Result<(), FenceError>>,
}

impl Open {
    /// Notes and fences in a transaction that stays open; answers when both are done.
    async fn fenced(fixture: &Shared, store: &Store, key: &LeaseKey, note: &'static str) -> Self {
        let (commit, told) = oneshot::channel();
        let (done, inside) = oneshot::channel();
        let (fixture, lease, store) = (Arc::clone(fixture), lease(store, key), store.clone());
        let written = tokio::spawn(async move {
            let write = store.write("book", |txn| {
                Box::pin(async move {
                    fixture.note(txn, note).await?;
                    lease.fence(txn).await?;
                    let _ = done.send(());
                    let _ = told.await;
                    Ok(())
                })
            });
            write.await
        });
        inside.await.expect("noted and fenced");
        Self { commit, written }
    }

    async fn commit(self) {
        self.commit.send(()).expect("it waits for this");
        self.written.await.expect("no panic").expect("committed");
    }
}

/// Long enough to see that something waits, short enough for a writer's patience.
const A_MOMENT: Duration = Duration::from_millis(200);

/// A proof holds until its transaction ends: whoever would take the lease meanwhile waits.
pub async fn a_fence_keeps_the_lease_until_its_transaction_ends(fixture: Shared) {
    let (ours, _) = fixture.sql();
    let key = started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    let open = Open::fenced(&fixture, ours, &key, "effect").await;
    assert!(fixture.notes().await.is_empty(), "others do not see it yet");
    fixture.advance_ms(LEASE_MS);
    let mut taken = std::pin::pin!(begin(fixture.other(), manual("mark", InstanceId::new())));
    let early = tokio::time::timeout(A_MOMENT, &mut taken).await;
    assert!(early.is_err(), "{early:?}");
    open.commit().await;
    assert_eq!(started(&taken.await).token, key.token + 1);
    assert_eq!(fixture.notes().await, ["effect"]);
}

/// A renewal that waits behind one's own fence is not a loss.
pub async fn a_renewal_behind_ones_own_fence_is_not_a_loss(fixture: Shared) {
    let (ours, _) = fixture.sql();
    let key = started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    let open = Open::fenced(&fixture, ours, &key, "effect").await;
    let mut renewed = std::pin::pin!(fixture.store().renew(&key, LEASE_MS));
    let early = tokio::time::timeout(A_MOMENT, &mut renewed).await;
    assert!(early.is_err(), "{early:?}");
    open.commit().await;
    let renewed = renewed.await.expect("renewed");
    assert!(matches!(renewed, Renewal::Kept { .. }), "{renewed:?}");
}

/// A caller's transaction is all or nothing: an error rolls it back, and so does its being
/// dropped; the next one is not disturbed.
pub async fn a_callers_transaction_is_all_or_nothing(fixture: Shared) {
    let (ours, theirs) = fixture.sql();
    let note = |store: &Store, note: &'static str, end: Result<(), StoreError>| {
        let (inside, store) = (Arc::clone(&fixture), store.clone());
        async move {
            let written = store.write("note", |txn| {
                Box::pin(async move {
                    inside.note(txn, note).await?;
                    inside.note(txn, note).await?;
                    end
                })
            });
            written.await
        }
    };
    note(ours, "kept", Ok(())).await.expect("written");
    let failed = note(ours, "failed", Err(refusal())).await.expect_err("its body failed");
    assert!(matches!(failed, StoreError::Unsupported { .. }), "{failed:?}");
    let key = started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    let open = Open::fenced(&fixture, ours, &key, "dropped").await;
    open.written.abort();
    assert!(open.written.await.is_err_and(|error| error.is_cancelled()));
    note(theirs, "other", Ok(())).await.expect("written");
    note(ours, "next", Ok(())).await.expect("written");
    assert_eq!(fixture.notes().await, ["kept", "kept", "other", "other", "next", "next"]);
}

/// A row that is enqueued in the caller's transaction is there after its commit, and never if
/// it is rolled back.
pub async fn a_row_is_there_after_the_commit_of_its_enqueue_only(fixture: Shared) {
    let (_, theirs) = queue(&*fixture, parcels()).await;
    let (ours, _) = fixture.sql();
    let row = NewRow { label: "x".into(), ..NewRow::default() };
    for commits in [false, true] {
        let (inside, row, store) = (Arc::clone(&fixture), row.clone(), ours.clone());
        let (decide, decided) = oneshot::channel();
        let (done, enqueued) = oneshot::channel();
        let written = tokio::spawn(async move {
            let write = store.write("order", |txn| {
                Box::pin(async move {
                    inside.enqueue_in(txn, &row).await?;
                    inside.note(txn, "order").await?;
                    let _ = done.send(());
                    if decided.await.unwrap_or(false) { Ok(()) } else { Err(refusal()) }
                })
            });
            write.await
        });
        enqueued.await.expect("enqueued");
        assert!(fixture.queue_rows().await.is_empty(), "not committed yet");
        assert_eq!(theirs.next_in_ms(InstanceId::new()).await.expect("known"), None);
        decide.send(commits).expect("it waits for this");
        assert_eq!(written.await.expect("no panic").is_ok(), commits);
        let claimed = claim(&theirs, 9).await;
        assert_eq!(claimed.len(), usize::from(commits), "committed: {commits}");
    }
    assert_eq!(fixture.notes().await, ["order"]);
}

/// The library's own rows too are enqueued with what they are about, unique keys among them.
pub async fn a_job_is_there_after_the_commit_of_its_enqueue_only(fixture: Shared) {
    let (ours, theirs) = fixture.sql();
    let (rows, _) = fixture.open_jobs(QueueTable::jobs("mails")).await;
    let mails = JobQueue::new(ours, "mails").expect("a queue");
    let job = |key: &str| NewJob::new("order", &1).expect("a job").unique(Unique::new(key));
    for commits in [false, true] {
        let (inside, mails) = (Arc::clone(&fixture), mails.clone());
        let jobs = [job("a"), NewJob::new("plain", &2).expect("a job")];
        let written = ours.write("order", |txn| {
            Box::pin(async move {
                let receipt = mails.enqueue_in(txn, &jobs).await.expect("enqueued");
                inside.note(txn, "order").await?;
                if commits { Ok(receipt) } else { Err(refusal()) }
            })
        });
        let written = written.await;
        assert_eq!(written.is_ok(), commits);
        if let Ok(receipt) = written {
            assert!(receipt.rows.iter().all(|row| matches!(row, Enqueued::Inserted(_))));
            receipt.wake.send();
        }
        assert_eq!(fixture.job_rows("mails").await.len(), if commits { 2 } else { 0 });
    }
    assert_eq!(fixture.notes().await, ["order"]);
    // On a connection that is in no transaction of the caller's.
    let theirs = JobQueue::new(theirs, "mails").expect("a queue");
    let connection = fixture.sql().1.reader();
    let receipt = theirs.enqueue_in(connection, &[job("a"), job("b")]).await.expect("enqueued");
    receipt.wake.send();
    let fresh: Vec<bool> =
        receipt.rows.iter().map(|row| matches!(row, Enqueued::Inserted(_))).collect();
    assert_eq!(fresh, [false, true]);
    assert_eq!(claim(&rows, 9).await.len(), 3);
}

/// Notes a run's begin and end in the transactions that write them.
struct Noting {
    fixture: Shared,
    fails_at_the_end: bool,
}

#[async_trait]
impl Recorder for Noting {
    async fn registered(&self, txn: &RecordTxn<'_>, job: &str) -> Result<(), StoreError> {
        self.note(txn, format!("registered {job}")).await
    }

    async fn started(&self, txn: &RecordTxn<'_>, run: &RunStarted) -> Result<(), StoreError> {
        self.note(txn, format!("started {}", run.job)).await
    }

    async fn finished(&self, txn: &RecordTxn<'_>, run: &RunFinished) -> Result<(), StoreError> {
        self.note(txn, format!("{} {}", run.status, run.job)).await?;
        if self.fails_at_the_end { Err(refusal()) } else { Ok(()) }
    }
}

impl Noting {
    async fn note(&self, txn: &RecordTxn<'_>, note: String) -> Result<(), StoreError> {
        let txn = txn.sql.expect("a store with SQL gives its transaction");
        self.fixture.note(txn, &note).await
    }
}

/// A recorder's own rows and the run's agree: written together, undone together, and not
/// written by a host that has lost the run.
pub async fn a_recorders_own_rows_agree_with_the_run(fixture: Shared) {
    let recorder = |fails_at_the_end| -> Arc<dyn Recorder> {
        Arc::new(Noting { fixture: Arc::clone(&fixture), fails_at_the_end })
    };
    let mut seed = super::steps::seed("fetch");
    seed.recorder = recorder(false);
    fixture.store().register_jobs(&[seed]).await.expect("registered");
    let by_hand = |id| Firing { recorder: recorder(false), ..manual("fetch", id) };
    let first = by_hand(InstanceId::new());
    let run_id = first.run.expect("a run").id;
    let key = started(&begin(fixture.store(), first).await);
    let busy = begin(fixture.other(), by_hand(InstanceId::new())).await;
    assert!(matches!(busy, Begun::Busy(_)), "{busy:?}");
    let mut failed = ending(&key, run_id);
    failed.run.status = RunStatus::Failed;
    let broken = Ending { recorder: recorder(true), ..failed.clone() };
    fixture.store().finish(&broken).await.expect_err("the recorder failed");
    assert_eq!(fixture.notes().await, ["registered fetch", "started fetch"]);
    let sound = Ending { recorder: recorder(false), ..failed };
    assert!(fixture.store().finish(&sound).await.expect("finished"));
    assert!(!fixture.other().finish(&sound).await.expect("answered"), "once");
    let written = ["registered fetch", "started fetch", "failed fetch"];
    assert_eq!(fixture.notes().await, written);

    // Cut off: the recorder hears of it from whoever closes the run.
    started(&begin(fixture.store(), by_hand(InstanceId::new())).await);
    fixture.advance_ms(LEASE_MS);
    let cut = fixture.interrupted("fetch").await.remove(0);
    let close = Firing {
        interrupted: Some(cut),
        recorder: recorder(false),
        ..firing("fetch", InstanceId::new())
    };
    assert_eq!(begin(fixture.other(), close).await, Begun::Recorded);
    assert_eq!(fixture.notes().await[3..], ["started fetch", "lease_lost fetch"]);
}

/// Many transactions of several processes at once: none is refused, none is lost, and no other
/// than its own.
pub async fn transactions_of_several_processes_at_once_are_all_there(fixture: Shared) {
    const WRITES: usize = 40;
    let (ours, theirs) = fixture.sql();
    let (rows, _) = queue(&*fixture, parcels()).await;
    let writes = (0..WRITES).map(|number| {
        let store = if number % 2 == 0 { ours.clone() } else { theirs.clone() };
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            let fails = number % 4 == 3;
            let inside = Arc::clone(&fixture);
            let written = store.write("order", |txn| {
                Box::pin(async move {
                    inside.note(txn, &format!("{number:02}")).await?;
                    inside.enqueue_in(txn, &NewRow::default()).await?;
                    if fails { Err(refusal()) } else { Ok(()) }
                })
            });
            match written.await {
                Ok(()) => !fails,
                Err(error) if fails => matches!(error, StoreError::Unsupported { .. }),
                Err(error) => panic!("{number}: {error:?}"),
            }
        })
    });
    for (number, write) in writes.collect::<Vec<_>>().into_iter().enumerate() {
        assert!(write.await.expect("no panic"), "{number}: an outcome that is not its own");
    }
    let mut notes = fixture.notes().await;
    notes.sort();
    let expected: Vec<_> =
        (0..WRITES).filter(|n| n % 4 != 3).map(|number| format!("{number:02}")).collect();
    assert_eq!(notes, expected);
    assert_eq!(ids(&claim(&rows, 100).await).len(), expected.len());
}
