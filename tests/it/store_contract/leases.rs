//! Grant, renew and release: an expired lease is lost even if nobody took it.

use scheduler_core::store::{Begun, Holder, Renewal};
use scheduler_core::{InstanceId, LeaseKey};

use super::{Fixture, LEASE_MS, NOON, begin, ending, manual, on_sqlite, started, store};

on_sqlite! {
    a_lease_is_held_until_just_before_its_expiry_by_its_own_grant_only
    a_lease_is_granted_again_at_its_expiry_and_not_before
    tokens_only_grow_over_ends_expiries_and_hosts
    a_released_lease_has_no_holder_and_cannot_be_renewed
    a_renewal_tells_of_a_cancel_request_and_a_new_grant_forgets_it
    two_hosts_that_grasp_at_once_are_one_holder
}

async fn a_lease_is_held_until_just_before_its_expiry_by_its_own_grant_only(fixture: Fixture) {
    let me = InstanceId::new();
    let key = started(&begin(&fixture.store, manual("mark", me)).await);
    let stranger = LeaseKey { holder: InstanceId::new(), ..key.clone() };
    let older = LeaseKey { token: key.token - 1, ..key.clone() };
    let newer = LeaseKey { token: key.token + 1, ..key.clone() };
    let misnamed = LeaseKey { name: "Mark".into(), ..key.clone() };
    for (what, key) in [("holder", stranger), ("old", older), ("new", newer), ("name", misnamed)] {
        let renewal = store(&fixture.other).renew(&key, LEASE_MS).await.expect("renewed");
        assert_eq!(renewal, Renewal::Lost, "{what}");
    }
    let held = Some(Holder { instance: me.to_string(), until_ms: NOON + LEASE_MS });
    assert_eq!(store(&fixture.other).holder("mark").await.expect("holder"), held);

    fixture.advance_ms(29_999);
    let renewal = store(&fixture.store).renew(&key, LEASE_MS).await.expect("renewed");
    let expires_at_ms = NOON + 29_999 + LEASE_MS;
    assert_eq!(renewal, Renewal::Kept { expires_at_ms, cancel_requested: false });
    // A shorter renewal is obeyed too: the length is the caller's.
    let renewal = store(&fixture.store).renew(&key, 1).await.expect("renewed");
    assert_eq!(renewal, Renewal::Kept { expires_at_ms: NOON + 30_000, cancel_requested: false });

    fixture.advance_ms(1);
    let renewal = store(&fixture.store).renew(&key, LEASE_MS).await.expect("renewed");
    assert_eq!(renewal, Renewal::Lost, "at its expiry, although nobody took it");
    assert_eq!(store(&fixture.other).holder("mark").await.expect("holder"), None);
}

async fn a_lease_is_granted_again_at_its_expiry_and_not_before(fixture: Fixture) {
    let me = InstanceId::new();
    started(&begin(&fixture.store, manual("mark", me)).await);
    fixture.advance_ms(29_999);
    let busy = begin(&fixture.other, manual("mark", InstanceId::new())).await;
    let holder = Holder { instance: me.to_string(), until_ms: NOON + LEASE_MS };
    assert_eq!(busy, Begun::Busy(holder));
    fixture.advance_ms(1);
    started(&begin(&fixture.other, manual("mark", InstanceId::new())).await);
}

async fn tokens_only_grow_over_ends_expiries_and_hosts(fixture: Fixture) {
    let mut last = 0;
    for round in 0..12 {
        let host = if round % 2 == 0 { &fixture.store } else { &fixture.other };
        let firing = manual("mark", InstanceId::new());
        let run_id = firing.run.expect("a run").id;
        let key = started(&begin(host, firing).await);
        assert!(key.token > last, "{} after {last}", key.token);
        last = key.token;
        if round % 3 == 0 {
            fixture.advance_ms(LEASE_MS.unsigned_abs());
        } else {
            assert!(store(host).finish(&ending(&key, run_id)).await.expect("finished"));
        }
    }
}

async fn a_released_lease_has_no_holder_and_cannot_be_renewed(fixture: Fixture) {
    let firing = manual("mark", InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(&fixture.store, firing).await);
    assert!(store(&fixture.store).finish(&ending(&key, run_id)).await.expect("finished"));
    assert_eq!(store(&fixture.other).holder("mark").await.expect("holder"), None);
    let renewal = store(&fixture.store).renew(&key, LEASE_MS).await.expect("renewed");
    assert_eq!(renewal, Renewal::Lost);
}

async fn a_renewal_tells_of_a_cancel_request_and_a_new_grant_forgets_it(fixture: Fixture) {
    let key = started(&begin(&fixture.store, manual("mark", InstanceId::new())).await);
    fixture.database.execute("UPDATE leases SET cancel_requested = TRUE").await;
    let renewal = store(&fixture.store).renew(&key, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { cancel_requested: true, .. }), "{renewal:?}");
    fixture.advance_ms(LEASE_MS.unsigned_abs());
    let key = started(&begin(&fixture.other, manual("mark", InstanceId::new())).await);
    let renewal = store(&fixture.other).renew(&key, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { cancel_requested: false, .. }), "{renewal:?}");
}

async fn two_hosts_that_grasp_at_once_are_one_holder(fixture: Fixture) {
    for round in 0..30 {
        let job = format!("mark-{round}");
        let (ours, theirs) = tokio::join!(
            begin(&fixture.store, manual(&job, InstanceId::new())),
            begin(&fixture.other, manual(&job, InstanceId::new())),
        );
        match (&ours, &theirs) {
            (Begun::Started { key, .. }, Begun::Busy(holder))
            | (Begun::Busy(holder), Begun::Started { key, .. }) => {
                assert_eq!(holder.instance, key.holder.to_string());
            }
            both => panic!("round {round}: {both:?}"),
        }
        assert_eq!(fixture.runs(&job).await.len(), 1);
    }
}
