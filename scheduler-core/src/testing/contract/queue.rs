//! Rows of a queue: claimed, renewed, settled.

use std::collections::HashSet;

use super::rows::{claim, enqueue, grants, ids, parcels, progress, queue, request, row, succeeded};
use super::steps::{LEASE_MS, Steps};
use super::{NOON, NewRow, QueueFixture, RowEdit};
use crate::clock::Clock;
use crate::run::InstanceId;
use crate::store::{ClaimRequest, RowGrant, RowId, RowStatus, SettledRow};

/// Rows that are due come by priority, due time and key, and once.
pub async fn rows_are_claimed_once_and_in_order(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 1, 0), (1, 0, 9), (1, 0, 5), (1, 0, NOON), (1, 0, NOON + 1)]).await;
    assert_eq!(ids(&claim(&ours, 2).await), [3, 2]);
    assert_eq!(ids(&claim(&theirs, 9).await), [4, 1], "and not the one that is due later");
    assert!(claim(&ours, 9).await.is_empty());
    assert!(claim(&ours, 0).await.is_empty());
    fixture.advance_ms(1);
    assert_eq!(ids(&claim(&theirs, 9).await), [5]);
}

/// Two hosts that claim at once share the rows; none is claimed twice.
pub async fn two_hosts_that_claim_at_once_share_the_rows(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0); 60]).await;
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

/// A row is renewed and settled by its own grant only, and not at its expiry.
pub async fn a_claim_is_held_until_just_before_its_expiry_by_its_own_grant_only(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    let wrong = [
        ("holder", RowGrant { holder: InstanceId::new(), ..grant.clone() }),
        ("old", RowGrant { token: grant.token - 1, ..grant.clone() }),
        ("new", RowGrant { token: grant.token + 1, ..grant.clone() }),
        ("row", RowGrant { id: RowId::Int(2), ..grant.clone() }),
    ];
    let refused = async |what: &str, grant: &RowGrant| {
        let before = fixture.queue_rows().await;
        let renewed = theirs.renew(&[progress(grant.clone(), 50)], LEASE_MS).await;
        assert_eq!(renewed.expect("renewed"), [], "{what}");
        let settled = theirs.settle(&[succeeded(grant.clone())]).await;
        assert_eq!(settled.expect("settled"), [], "{what}");
        assert_eq!(fixture.queue_rows().await, before, "{what}");
    };
    for (what, grant) in &wrong {
        refused(what, grant).await;
    }
    fixture.advance_ms(29_999);
    assert!(claim(&theirs, 1).await.is_empty());
    fixture.advance_ms(1);
    refused("at its expiry, although nobody took it", &grant).await;
    let again = claim(&theirs, 1).await.remove(0);
    assert_eq!(again.token, grant.token + 1);
    refused("taken by another", &grant).await;
    assert_eq!(theirs.settle(&[succeeded(again.clone())]).await.expect("settled"), [again]);
}

/// A row whose process died comes back until the limit and is dead then; a claim that was no
/// start gives its attempt back.
pub async fn a_row_that_crashed_comes_back_until_its_limit(fixture: &dyn QueueFixture) {
    let (ours, _) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0)]).await;
    for crashes in 0..3 {
        let claimed = ours.claim(&request(1)).await.expect("claimed");
        assert_eq!(claimed.reclaimed, u64::from(crashes > 0));
        let row = &claimed.rows[0];
        assert_eq!((row.attempt_count, row.crash_count), (crashes + 1, crashes));
        fixture.advance_ms(LEASE_MS);
    }
    let claimed = ours.claim(&request(1)).await.expect("claimed");
    assert_eq!((claimed.rows.len(), claimed.reclaimed, claimed.quarantined), (0, 0, 1));
    let dead = row(fixture, 1).await;
    assert_eq!((dead.status, dead.attempt_count, dead.crash_count), (RowStatus::Dead, 3, 3));
    assert_eq!((dead.leased_by, dead.completed_at_ms), (None, Some(fixture.clock().now_ms())));
    let reason = "crashing: its process died 3 times while it ran";
    assert_eq!(dead.last_error.as_deref(), Some(reason));
    // Claimed but never started: no crash, and the attempt is given back.
    enqueue(fixture, &[(1, 0, 0)]).await;
    claim(&ours, 1).await;
    fixture.edit_row(2, RowEdit::NotStarted).await;
    fixture.advance_ms(LEASE_MS);
    let claimed = &ours.claim(&request(1)).await.expect("claimed").rows[0];
    assert_eq!((claimed.attempt_count, claimed.crash_count), (1, 0));
}

/// A row whose cancel was asked is told so by its renewal and does not run again.
pub async fn a_row_whose_cancel_was_asked_is_not_run_again(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    fixture.edit_row(1, RowEdit::Cancel).await;
    let renewed = ours.renew(&[progress(grant, 7)], LEASE_MS).await.expect("renewed");
    assert!(renewed[0].cancel_requested);
    fixture.advance_ms(LEASE_MS);
    assert!(claim(&theirs, 1).await.is_empty());
    let ended = row(fixture, 1).await;
    assert_eq!((ended.status, ended.progress_pct), (RowStatus::Cancelled, 7));
    assert_eq!((ended.leased_by, ended.completed_at_ms), (None, Some(NOON + LEASE_MS)));
}

/// A row whose process died is claimed alone, by a host that runs nothing.
pub async fn a_row_that_crashed_is_claimed_alone_and_only_by_an_idle_host(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0), (1, 9, 0), (1, 0, 0)]).await;
    fixture.edit_row(2, RowEdit::Crashes(1)).await;
    let busy = ClaimRequest { idle: false, ..request(9) };
    assert!(grants(ours.claim(&busy).await.expect("claimed")).is_empty());
    assert_eq!(ids(&claim(&theirs, 9).await), [2]);
    assert_eq!(ids(&grants(ours.claim(&busy).await.expect("claimed"))), [1, 3]);
}

/// Of a batch of successes, too: what is held ends, what is lost does not, and nothing ends twice.
pub async fn a_batch_of_successes_ends_what_is_still_held_and_nothing_else(
    fixture: &dyn QueueFixture,
) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0); 4]).await;
    let held = grants(ours.claim(&request(4)).await.expect("claimed"));
    fixture.advance_ms(10_000);
    let renewed: Vec<_> = held[..2].iter().map(|grant| progress(grant.clone(), 10)).collect();
    assert_eq!(ours.renew(&renewed, LEASE_MS).await.expect("renewed").len(), 2);
    fixture.advance_ms(20_000);
    assert_eq!(ids(&claim(&theirs, 1).await), [3]);
    let batch: Vec<_> = held.iter().map(|grant| succeeded(grant.clone())).collect();
    let mut settled = ours.settle(&batch).await.expect("settled");
    settled.sort();
    assert_eq!(settled, held[..2]);
    let statuses: Vec<_> = fixture.queue_rows().await.into_iter().map(|row| row.status).collect();
    assert_eq!(
        statuses,
        [RowStatus::Succeeded, RowStatus::Succeeded, RowStatus::Running, RowStatus::Queued]
    );
    assert_eq!(ours.settle(&batch).await.expect("settled"), []);
}

/// Of a batch of ends those are written whose claim is held; the others are lost.
pub async fn a_batch_settles_what_is_still_held_and_nothing_else(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0); 4]).await;
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
    let seen: Vec<_> = fixture
        .queue_rows()
        .await
        .into_iter()
        .map(|row| {
            let counts = (row.attempt_count, row.crash_count, row.run_at_ms);
            (row.status, counts, row.last_error, row.leased_by.is_some())
        })
        .collect();
    let not_now = || Some("not now".to_owned());
    assert_eq!(
        seen,
        [
            (RowStatus::Queued, (0, 0, due), not_now(), false),
            (RowStatus::Queued, (0, 0, due), not_now(), false),
            (RowStatus::Running, (2, 1, 0), None, true),
            (RowStatus::Queued, (1, 1, 0), None, false),
        ]
    );
    assert_eq!(ours.settle(&[]).await.expect("nothing to settle"), []);
    assert_eq!(ours.renew(&[], LEASE_MS).await.expect("nothing to renew"), []);
}

/// Texts come back as they were written; an error that is too long is cut.
pub async fn what_a_row_says_survives_the_way_into_the_database(fixture: &dyn QueueFixture) {
    let (ours, _) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0); 2]).await;
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
    let (dead, done) = (row(fixture, 1).await, row(fixture, 2).await);
    assert_eq!((dead.status, dead.last_error.as_deref()), (RowStatus::Dead, Some(error)));
    assert_eq!((dead.result, dead.progress_pct), (None, 0));
    assert_eq!((done.status, done.last_error), (RowStatus::Succeeded, None));
    assert_eq!((done.result.as_deref(), done.progress_pct), (Some(result), 100));
    // Long errors are cut between characters, not refused.
    enqueue(fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    let error = Some("ü".repeat(10_000));
    let dead = SettledRow { status: RowStatus::Dead, error, ..succeeded(grant) };
    assert_eq!(ours.settle(&[dead]).await.expect("settled").len(), 1);
    let kept = row(fixture, 3).await.last_error.expect("an error");
    assert_eq!(kept, "ü".repeat(2_000));
}

/// When something can be claimed next is known to the millisecond.
pub async fn the_next_claim_is_known_to_the_millisecond(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    let me = InstanceId::new();
    let next = async || ours.next_in_ms(me).await.expect("known");
    assert_eq!(next().await, None);
    enqueue(fixture, &[(1, 0, NOON + 900), (1, 7, NOON + 500), (1, 3, NOON + 700)]).await;
    assert_eq!(next().await, Some(500));
    fixture.advance_ms(600);
    assert_eq!(next().await, Some(100), "what is due already is not waited for");
    assert_eq!(ids(&claim(&theirs, 1).await), [2]);
    fixture.advance_ms(1_000);
    claim(&theirs, 9).await;
    assert_eq!(next().await, Some(LEASE_MS - 1_000), "the earliest lease of another host");
}

/// A claimed row says what it is and what it was told, and who has it until when.
pub async fn a_claimed_row_says_what_it_is(fixture: &dyn QueueFixture) {
    let (ours, _) = queue(fixture, parcels()).await;
    let labelled = |label: &str| NewRow { label: label.into(), ..NewRow::default() };
    fixture.enqueue(&[labelled("a"), labelled("ünï ' \" ☃")]).await;
    let me = request(2);
    let claimed = ours.claim(&me).await.expect("claimed").rows;
    assert_eq!(claimed.len(), 2);
    for (claimed, (id, label)) in claimed.iter().zip([(1, "a"), (2, "ünï ' \" ☃")]) {
        let grant = RowGrant { id: RowId::Int(id), token: 1, holder: me.holder };
        assert_eq!(claimed.grant, grant);
        let counts = (claimed.attempt_count, claimed.crash_count, claimed.max_attempts);
        assert_eq!(counts, (1, 0, 3));
        assert_eq!(claimed.columns.text("label").expect("text").as_deref(), Some(label));
        assert!(claimed.columns.text("no_such_column").is_err());
        let row = row(fixture, id).await;
        assert_eq!((row.status, row.leased_by), (RowStatus::Running, Some(me.holder)));
        assert_eq!((row.lease_token, row.lease_expires_at_ms), (1, Some(NOON + LEASE_MS)));
        assert_eq!((row.started, row.started_at_ms), (true, Some(NOON)));
        assert_eq!((row.concurrency_slot, row.queue_slot), (None, None), "nothing is limited");
    }
}

/// A row is settled once; what ended and what is dead is not claimed again.
pub async fn a_row_is_settled_once(fixture: &dyn QueueFixture) {
    let (ours, theirs) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0); 3]).await;
    let held = claim(&ours, 3).await;
    let ends = [RowStatus::Succeeded, RowStatus::Dead, RowStatus::Cancelled];
    let batch: Vec<_> = held
        .iter()
        .zip(ends)
        .map(|(grant, status)| SettledRow { status, ..succeeded(grant.clone()) })
        .collect();
    let (first, second) = tokio::join!(ours.settle(&batch), theirs.settle(&batch));
    let mut settled = first.expect("settled");
    settled.extend(second.expect("settled"));
    settled.sort_by_key(|grant| grant.id.clone());
    assert_eq!(settled, held, "each once");
    fixture.advance_ms(10 * LEASE_MS);
    assert!(claim(&theirs, 9).await.is_empty());
    for (id, status) in (1..).zip(ends) {
        let row = row(fixture, id).await;
        assert_eq!((row.status, row.completed_at_ms), (status, Some(NOON)));
        assert_eq!((row.leased_by, row.lease_expires_at_ms), (None, None));
    }
}

/// A renewal without news leaves the progress as it is; a later error does not erase the first
/// unless it says something.
pub async fn what_has_no_news_is_left_as_it_is(fixture: &dyn QueueFixture) {
    let (ours, _) = queue(fixture, parcels()).await;
    enqueue(fixture, &[(1, 0, 0)]).await;
    let grant = claim(&ours, 1).await.remove(0);
    for (progress_pct, stands) in [(None, 0), (Some(40), 40), (None, 40), (Some(0), 0)] {
        let news = crate::store::RowProgress { grant: grant.clone(), progress_pct };
        assert_eq!(ours.renew(&[news], LEASE_MS).await.expect("renewed").len(), 1);
        assert_eq!(row(fixture, 1).await.progress_pct, stands);
    }
    let again = |grant, error: Option<&str>, result: Option<&str>| SettledRow {
        status: RowStatus::Queued,
        error: error.map(str::to_owned),
        result: result.map(str::to_owned),
        ..succeeded(grant)
    };
    ours.settle(&[again(grant, Some("first"), Some("1"))]).await.expect("settled");
    let grant = claim(&ours, 1).await.remove(0);
    ours.settle(&[again(grant, None, None)]).await.expect("settled");
    let row = row(fixture, 1).await;
    assert_eq!((row.last_error.as_deref(), row.result.as_deref()), (Some("first"), Some("1")));
    assert_eq!((row.attempt_count, row.lease_token, row.completed_at_ms), (2, 2, None));
}
