//! A store that is shared by two runtimes of a process, one of which ends.

use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt;
use scheduler_core::StoreError;
use scheduler_core::queue::{EnqueueError, Enqueued, JobQueue, NewJob};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Pair;

#[tokio::test]
async fn who_enqueues_does_not_wait_for_a_runtime_that_ended() {
    let fixture = Pair::sqlite().await;
    let store = fixture.database.store.clone();
    let queue = JobQueue::new(&store, "mails").expect("a queue");
    let job = NewJob::new("mail", &1).expect("a job");

    // While somebody holds the writer, an enqueue of the other runtime is under way and stays so.
    let (inside, entered) = oneshot::channel();
    let (let_go, told) = oneshot::channel::<()>();
    let writer = store.clone();
    let holds = tokio::spawn(async move {
        let write = writer.write("hold the writer", |_| {
            Box::pin(async move {
                let _ = inside.send(());
                let _ = told.await;
                Ok::<_, StoreError>(())
            })
        });
        write.await
    });
    entered.await.expect("inside");
    let (began, other_began) = oneshot::channel();
    let (end, ends) = mpsc::channel::<()>();
    let (theirs, theirs_job) = (queue.clone(), job.clone());
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let mut enqueue = Box::pin(theirs.enqueue(std::slice::from_ref(&theirs_job)));
            assert!((&mut enqueue).now_or_never().is_none());
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        let _ = began.send(());
        let _ = ends.recv();
    });
    other_began.await.expect("begun");

    let mut enqueue = Box::pin(queue.enqueue(std::slice::from_ref(&job)));
    assert!((&mut enqueue).now_or_never().is_none());
    drop(end);
    other.join().expect("it ended");
    let _ = let_go.send(());
    holds.await.expect("no panic").expect("committed");
    let enqueued: Result<_, EnqueueError> =
        timeout(Duration::from_secs(30), enqueue).await.expect("somebody works for it");
    assert!(matches!(enqueued.expect("enqueued")[..], [Enqueued::Inserted(_)]));
}
