//! Claim, renew, settle and fence of a queue's rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use scheduler_core::queue::{QueueTable, RowId, RowStatus};
use scheduler_core::store::{ClaimRequest, Claimed, QueueRows, RowGrant, RowProgress, SettledRow};
use scheduler_core::{InstanceId, Store};

use super::{Fixture, LEASE_MS, NOON, on_sqlite};
use crate::courier::PARCELS;

on_sqlite! {
    rows_are_claimed_once_and_in_order
    two_hosts_that_claim_at_once_share_the_rows
    a_claim_is_held_until_just_before_its_expiry_by_its_own_grant_only
    a_row_that_crashed_comes_back_until_its_limit
    a_row_whose_cancel_was_asked_is_not_run_again
    a_row_that_crashed_is_claimed_alone_and_only_by_an_idle_host
    a_suspect_that_cannot_run_yet_holds_nobody_up
    no_more_rows_run_than_the_limits_allow_over_all_hosts
    a_row_of_a_saturated_key_leaves_the_others_their_turn
    a_batch_settles_what_is_still_held_and_nothing_else
    what_a_row_says_survives_the_way_into_the_database
    the_next_claim_is_known_to_the_millisecond
}

async fn open(store: &Store, table: QueueTable) -> Arc<dyn QueueRows> {
    store.open_queue(table.columns(["label"])).await.expect("a queue")
}

fn parcels() -> QueueTable {
    QueueTable::new("parcels")
}

async fn queue(fixture: &Fixture, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
    fixture.database.execute(PARCELS).await;
    (open(&fixture.store, table.clone()).await, open(&fixture.other, table).await)
}

/// Inserts rows: `(user, priority, run_at_ms)`.
async fn enqueue(fixture: &Fixture, rows: &[(i64, i64, i64)]) {
    for (user, priority, run_at_ms) in rows {
        let insert = format!(
            "INSERT INTO parcels (label, user_id, priority, run_at_ms) VALUES ('x', {user}, {priority}, {run_at_ms})"
        );
        fixture.database.execute(&insert).await;
    }
}

fn request(limit: u32) -> ClaimRequest {
    ClaimRequest { holder: InstanceId::new(), limit, lease_ms: LEASE_MS, idle: true }
}

async fn claim(queue: &Arc<dyn QueueRows>, limit: u32) -> Vec<RowGrant> {
    grants(queue.claim(&request(limit)).await.expect("claimed"))
}

fn grants(claimed: Claimed) -> Vec<RowGrant> {
    claimed.rows.into_iter().map(|row| row.grant).collect()
}

fn ids(grants: &[RowGrant]) -> Vec<i64> {
    let id = |grant: &RowGrant| match &grant.id {
        RowId::Int(id) => *id,
        RowId::Text(id) => panic!("{id} is text"),
    };
    grants.iter().map(id).collect()
}

fn succeeded(grant: RowGrant) -> SettledRow {
    SettledRow {
        grant,
        status: RowStatus::Succeeded,
        delay_ms: None,
        give_attempt_back: false,
        error: None,
        result: None,
    }
}

fn progress(grant: RowGrant, percent: i64) -> RowProgress {
    RowProgress { grant, progress_pct: Some(percent) }
}

async fn fence(store: &Store, queue: &Arc<dyn QueueRows>, grant: RowGrant) -> bool {
    let queue = Arc::clone(queue);
    let fenced =
        store.write("fence", |txn| Box::pin(async move { queue.fence(txn, &grant).await }));
    fenced.await.expect("fenced")
}

async fn rows(fixture: &Fixture, columns: &str) -> Vec<String> {
    fixture.database.lines(&format!("SELECT {columns} FROM parcels ORDER BY id")).await
}

const EVERYTHING: &str = "id, status, run_at_ms, attempt_count, crash_count, leased_by, lease_token, lease_expires_at_ms, started, progress_pct, last_error, result, started_at_ms, completed_at_ms, concurrency_slot, queue_slot";

async fn rows_are_claimed_once_and_in_order(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 1, 0), (1, 0, 9), (1, 0, 5), (1, 0, NOON), (1, 0, NOON + 1)]).await;
    assert_eq!(ids(&claim(&ours, 2).await), [3, 2]);
    assert_eq!(ids(&claim(&theirs, 9).await), [4, 1], "and not the one that is due later");
    assert!(claim(&ours, 9).await.is_empty());
    assert!(claim(&ours, 0).await.is_empty());
    fixture.advance_ms(1);
    assert_eq!(ids(&claim(&theirs, 9).await), [5]);
}

async fn two_hosts_that_claim_at_once_share_the_rows(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0); 60]).await;
    let mut seen = HashSet::new();
    loop {
        let (mine, other) = tokio::join!(claim(&ours, 3), claim(&theirs, 3));
        if mine.is_empty() && other.is_empty() {
            break;
        }
        for id in ids(&mine).into_iter().chain(ids(&other)) {
            assert!(seen.insert(id), "{id} was claimed twice");
        }
    }
    assert_eq!(seen.len(), 60);
}

async fn a_claim_is_held_until_just_before_its_expiry_by_its_own_grant_only(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    let wrong = [
        ("holder", RowGrant { holder: InstanceId::new(), ..grant.clone() }),
        ("old", RowGrant { token: grant.token - 1, ..grant.clone() }),
        ("new", RowGrant { token: grant.token + 1, ..grant.clone() }),
        ("row", RowGrant { id: RowId::Int(2), ..grant.clone() }),
        ("key", RowGrant { id: RowId::Text("1x".into()), ..grant.clone() }),
    ];
    let refused = async |what: &str, grant: &RowGrant| {
        let before = rows(&fixture, EVERYTHING).await;
        let renewed = theirs.renew(&[progress(grant.clone(), 50)], LEASE_MS).await;
        assert_eq!(renewed.expect("renewed"), [], "{what}");
        let settled = theirs.settle(&[succeeded(grant.clone())]).await;
        assert_eq!(settled.expect("settled"), [], "{what}");
        assert!(!fence(&fixture.other, &theirs, grant.clone()).await, "{what}");
        assert_eq!(rows(&fixture, EVERYTHING).await, before, "{what}");
    };
    for (what, grant) in &wrong {
        refused(what, grant).await;
    }
    fixture.advance_ms(29_999);
    assert!(fence(&fixture.other, &theirs, grant.clone()).await);
    assert!(claim(&theirs, 1).await.is_empty());
    fixture.advance_ms(1);
    refused("at its expiry, although nobody took it", &grant).await;
    let again = claim(&theirs, 1).await.remove(0);
    assert_eq!(again.token, grant.token + 1);
    refused("taken by another", &grant).await;
    assert_eq!(theirs.settle(&[succeeded(again.clone())]).await.expect("settled"), [again]);
}

async fn a_row_that_crashed_comes_back_until_its_limit(fixture: Fixture) {
    let (ours, _) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0)]).await;
    for crashes in 0..3 {
        let claimed = ours.claim(&request(1)).await.expect("claimed");
        assert_eq!(claimed.reclaimed, u64::from(crashes > 0));
        let row = &claimed.rows[0];
        assert_eq!((row.attempt_count, row.crash_count), (crashes + 1, crashes));
        fixture.advance_ms(LEASE_MS.unsigned_abs());
    }
    let claimed = ours.claim(&request(1)).await.expect("claimed");
    assert_eq!((claimed.rows.len(), claimed.reclaimed, claimed.quarantined), (0, 0, 1));
    assert_eq!(
        rows(&fixture, "status, attempt_count, crash_count, leased_by, last_error").await,
        ["dead|3|3|-|crashing: its process died 3 times while it ran"]
    );
    // Claimed but never started: no crash, and the attempt is given back.
    enqueue(&fixture, &[(1, 0, 0)]).await;
    claim(&ours, 1).await;
    fixture.database.execute("UPDATE parcels SET started = FALSE WHERE status = 'running'").await;
    fixture.advance_ms(LEASE_MS.unsigned_abs());
    let row = &ours.claim(&request(1)).await.expect("claimed").rows[0];
    assert_eq!((row.attempt_count, row.crash_count), (1, 0));
}

async fn a_row_whose_cancel_was_asked_is_not_run_again(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    fixture.database.execute("UPDATE parcels SET cancel_requested = TRUE").await;
    let renewed = ours.renew(&[progress(grant, 7)], LEASE_MS).await.expect("renewed");
    assert!(renewed[0].cancel_requested);
    fixture.advance_ms(LEASE_MS.unsigned_abs());
    assert!(claim(&theirs, 1).await.is_empty());
    let now = NOON + LEASE_MS;
    assert_eq!(
        rows(&fixture, "status, progress_pct, leased_by, completed_at_ms").await,
        [format!("cancelled|7|-|{now}")]
    );
}

async fn a_row_that_crashed_is_claimed_alone_and_only_by_an_idle_host(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0), (1, 9, 0), (1, 0, 0)]).await;
    fixture.database.execute("UPDATE parcels SET crash_count = 1 WHERE id = 2").await;
    let busy = ClaimRequest { idle: false, ..request(9) };
    assert!(grants(ours.claim(&busy).await.expect("claimed")).is_empty());
    assert_eq!(ids(&claim(&theirs, 9).await), [2]);
    assert_eq!(ids(&grants(ours.claim(&busy).await.expect("claimed"))), [1, 3]);
}

async fn a_suspect_that_cannot_run_yet_holds_nobody_up(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels().limit_per_key("user_id", 1)).await;
    enqueue(&fixture, &[(1, 0, 0), (1, 0, 0), (2, 0, 0)]).await;
    assert_eq!(ids(&claim(&ours, 1).await), [1]);
    fixture.database.execute("UPDATE parcels SET crash_count = 1 WHERE id = 2").await;
    assert_eq!(ids(&claim(&theirs, 9).await), [3], "user 1 is busy, user 2 is not");
}

async fn no_more_rows_run_than_the_limits_allow_over_all_hosts(fixture: Fixture) {
    let table = parcels().limit(5).limit_per_key("user_id", 2);
    let (ours, theirs) = queue(&fixture, table).await;
    for user in 0..4 {
        enqueue(&fixture, &[(user, 0, 0); 10]).await;
    }
    let (mut done, mut most, mut held) = (0, 0, Vec::new());
    loop {
        let (mine, other) = tokio::join!(claim(&ours, 4), claim(&theirs, 4));
        let mut of_user: HashMap<String, usize> = HashMap::new();
        for row in rows(&fixture, "user_id, status").await {
            if let Some((user, "running")) = row.split_once('|') {
                *of_user.entry(user.to_owned()).or_default() += 1;
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
    let slots = rows(&fixture, "status, concurrency_slot, queue_slot").await;
    assert!(slots.iter().all(|row| row == "succeeded|-|-"), "{slots:?}");
}

async fn a_row_of_a_saturated_key_leaves_the_others_their_turn(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels().limit_per_key("user_id", 1)).await;
    enqueue(&fixture, &[(1, 0, 0), (1, 0, 0), (1, 0, 0), (2, 5, 0)]).await;
    fixture.database.execute("INSERT INTO parcels (label) VALUES ('free'), ('free')").await;
    assert_eq!(ids(&claim(&ours, 9).await), [1, 5, 6, 4], "rows without a key are not limited");
    assert!(claim(&theirs, 9).await.is_empty());
}

async fn a_batch_settles_what_is_still_held_and_nothing_else(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0); 4]).await;
    let me = request(4);
    let mut held = grants(ours.claim(&me).await.expect("claimed"));
    // The first two are renewed, the others expire and are taken by another host.
    fixture.advance_ms(10_000);
    let renewed: Vec<_> = held[..2].iter().map(|grant| progress(grant.clone(), 10)).collect();
    assert_eq!(ours.renew(&renewed, LEASE_MS).await.expect("renewed").len(), 2);
    fixture.advance_ms(20_000);
    let taken = claim(&theirs, 1).await;
    assert_eq!(ids(&taken), [3]);
    let batch: Vec<_> = held
        .iter()
        .map(|grant| SettledRow {
            status: RowStatus::Queued,
            delay_ms: Some(5_000),
            give_attempt_back: true,
            error: Some("not now".into()),
            ..succeeded(grant.clone())
        })
        .collect();
    let mut settled = ours.settle(&batch).await.expect("settled");
    settled.sort_by_key(|grant| grant.id.clone());
    held.truncate(2);
    assert_eq!(settled, held);
    let due = NOON + 35_000;
    assert_eq!(
        rows(
            &fixture,
            "status, attempt_count, crash_count, run_at_ms, last_error, leased_by IS NULL"
        )
        .await,
        [
            format!("queued|0|0|{due}|not now|1"),
            format!("queued|0|0|{due}|not now|1"),
            "running|2|1|0|-|0".to_owned(),
            "queued|1|1|0|-|1".to_owned(),
        ]
    );
    assert_eq!(ours.settle(&[]).await.expect("nothing to settle"), []);
    assert_eq!(ours.renew(&[], LEASE_MS).await.expect("nothing to renew"), []);
}

async fn what_a_row_says_survives_the_way_into_the_database(fixture: Fixture) {
    let (ours, _) = queue(&fixture, parcels()).await;
    enqueue(&fixture, &[(1, 0, 0); 2]).await;
    let grants = claim(&ours, 2).await;
    let error = "ünï ' \" \\ \n\t {table} $1 ☃ end";
    let result = r#"{"a":[1,2.5,null],"b":"\"x\"","c":9007199254740993}"#;
    let batch = [
        SettledRow {
            status: RowStatus::Dead,
            error: Some(error.into()),
            ..succeeded(grants[0].clone())
        },
        SettledRow { result: Some(result.into()), ..succeeded(grants[1].clone()) },
    ];
    assert_eq!(ours.settle(&batch).await.expect("settled").len(), 2);
    assert_eq!(
        rows(&fixture, "status, last_error, result, progress_pct").await,
        [format!("dead|{error}|-|0"), format!("succeeded|-|{result}|100")]
    );
    // Long errors are cut between characters, not refused.
    enqueue(&fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    let row =
        SettledRow {
            status: RowStatus::Dead, error: Some("ü".repeat(10_000)), ..succeeded(grant)
        };
    assert_eq!(ours.settle(&[row]).await.expect("settled").len(), 1);
    let length: i64 =
        fixture.database.value("SELECT length(last_error) FROM parcels WHERE id = 3").await;
    assert_eq!(length, 2_000);
}

async fn the_next_claim_is_known_to_the_millisecond(fixture: Fixture) {
    let (ours, theirs) = queue(&fixture, parcels()).await;
    let me = InstanceId::new();
    let next = async || ours.next_in_ms(me).await.expect("known");
    assert_eq!(next().await, None);
    enqueue(&fixture, &[(1, 0, NOON + 900), (1, 7, NOON + 500), (1, 3, NOON + 700)]).await;
    assert_eq!(next().await, Some(500));
    fixture.advance_ms(600);
    assert_eq!(next().await, Some(100), "what is due already is not waited for");
    assert_eq!(ids(&claim(&theirs, 1).await), [2]);
    fixture.advance_ms(1_000);
    claim(&theirs, 9).await;
    assert_eq!(next().await, Some(LEASE_MS - 1_000), "the earliest lease of another host");
}
