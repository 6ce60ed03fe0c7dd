//! Rows of a queue that a long transaction has locked, on a server.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::queue::{NewJob, QueueTable};
use scheduler_core::store::{ClaimRequest, RowGrant, RowProgress};
use scheduler_core::testing::contract::{Fixture, QueueFixture};
use scheduler_core::{InstanceId, StoreError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Pair;
use crate::harness::NOON;

/// Far less than a server's patience, far more than a renewal takes.
const BOUND: Duration = Duration::from_secs(10);
const LEASE_MS: i64 = 60_000;
const TICK: Duration = Duration::from_secs(15);
const TICK_MS: i64 = 15_000;

#[tokio::test]
async fn a_row_that_its_handler_has_locked_costs_no_other_its_lease() {
    let Some(fixture) = Pair::postgres().await else { return };
    let (queue, _) = fixture.open_jobs(QueueTable::jobs("mails")).await;
    let job = NewJob::new("mail", &1).expect("a job");
    queue.enqueue(&vec![job; 3]).await.expect("enqueued");
    let request =
        ClaimRequest { holder: InstanceId::new(), limit: 3, lease_ms: LEASE_MS, idle: true };
    let claimed = queue.claim(&request).await.expect("claimed").rows;
    let grants: Vec<RowGrant> = claimed.into_iter().map(|row| row.grant).collect();
    let asked: Vec<RowProgress> = grants
        .iter()
        .map(|grant| RowProgress { grant: grant.clone(), progress_pct: Some(7) })
        .collect();

    let (inside, entered) = oneshot::channel();
    let (let_go, told) = oneshot::channel::<()>();
    let (store, rows, locked) =
        (fixture.database.store.clone(), Arc::clone(&queue), grants[1].clone());
    let handler = tokio::spawn(async move {
        let write = store.write("work under a fence", |txn| {
            Box::pin(async move {
                assert!(rows.fence(txn, &locked).await?);
                let _ = inside.send(());
                let _ = told.await;
                Ok::<_, StoreError>(())
            })
        });
        write.await
    });
    entered.await.expect("the row is locked");
    let expiries = async || {
        let rows = fixture.job_rows("mails").await;
        rows.iter().map(|row| row.lease_expires_at_ms.expect("leased") - NOON).collect::<Vec<_>>()
    };
    for tick in 1..=3 {
        fixture.clock().advance(TICK);
        let renewed = timeout(BOUND, queue.renew(&asked, LEASE_MS)).await;
        let renewed = renewed.expect("nobody waits for the handler").expect("renewed");
        let of = |at: usize| renewed.iter().find(|row| row.grant == grants[at]);
        let is_renewed = [0, 1, 2].map(|at| of(at).map(|row| row.is_renewed));
        assert_eq!(is_renewed, [Some(true), Some(false), Some(true)], "it is locked, not lost");
        let until_ms = tick * TICK_MS + LEASE_MS;
        assert_eq!(expiries().await, [until_ms, LEASE_MS, until_ms]);
        timeout(BOUND, queue.mark_started(&grants)).await.expect("in time").expect("noted");
    }
    let _ = let_go.send(());
    handler.await.expect("no panic").expect("committed");
    let renewed = queue.renew(&asked, LEASE_MS).await.expect("renewed");
    assert!(renewed.len() == 3 && renewed.iter().all(|row| row.is_renewed), "{renewed:?}");
    assert_eq!(expiries().await, [3 * TICK_MS + LEASE_MS; 3]);
}

#[tokio::test]
async fn a_row_that_is_locked_and_another_ones_is_lost() {
    let Some(fixture) = Pair::postgres().await else { return };
    let (queue, theirs) = fixture.open_jobs(QueueTable::jobs("mails")).await;
    queue.enqueue(&[NewJob::new("mail", &1).expect("a job")]).await.expect("enqueued");
    let request =
        ClaimRequest { holder: InstanceId::new(), limit: 1, lease_ms: LEASE_MS, idle: true };
    let old = queue.claim(&request).await.expect("claimed").rows.remove(0).grant;
    fixture.clock().advance(4 * TICK);
    let request = ClaimRequest { holder: InstanceId::new(), ..request };
    theirs.claim(&request).await.expect("reclaimed");
    let new = theirs.claim(&request).await.expect("claimed").rows;
    let locks = new.into_iter().map(|row| row.grant).next();
    let written = fixture.database.store.write("lock it", |txn| {
        let (queue, theirs) = (Arc::clone(&queue), Arc::clone(&theirs));
        Box::pin(async move {
            if let Some(grant) = &locks {
                assert!(theirs.fence(txn, grant).await?);
            }
            let asked = [RowProgress { grant: old, progress_pct: None }];
            queue.renew(&asked, LEASE_MS).await
        })
    });
    assert_eq!(written.await.expect("asked"), []);
}
