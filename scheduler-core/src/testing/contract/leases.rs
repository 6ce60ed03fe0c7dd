//! Grant, renew and release: an expired lease is lost even if nobody took it.

use super::steps::{LEASE_MS, Steps, begin, ending, manual, started};
use super::{Fixture, NOON};
use crate::lease::LeaseKey;
use crate::run::InstanceId;
use crate::store::{Begun, Firing, Holder, Renewal};
use crate::testing::JobEdit;

/// A lease is renewed by its own grant only, and not at its expiry.
pub async fn a_lease_is_held_until_just_before_its_expiry_by_its_own_grant_only(
    fixture: &dyn Fixture,
) {
    let me = InstanceId::new();
    let key = started(&begin(fixture.store(), manual("mark", me)).await);
    let stranger = LeaseKey { holder: InstanceId::new(), ..key.clone() };
    let older = LeaseKey { token: key.token - 1, ..key.clone() };
    let newer = LeaseKey { token: key.token + 1, ..key.clone() };
    let misnamed = LeaseKey { name: "Mark".into(), ..key.clone() };
    for (what, key) in [("holder", stranger), ("old", older), ("new", newer), ("name", misnamed)] {
        let renewal = fixture.other().renew(&key, LEASE_MS).await.expect("renewed");
        assert_eq!(renewal, Renewal::Lost, "{what}");
    }
    let held = Some(Holder { instance: me.to_string(), until_ms: NOON + LEASE_MS });
    assert_eq!(fixture.other().holder("mark").await.expect("holder"), held);

    fixture.advance_ms(29_999);
    let renewal = fixture.store().renew(&key, LEASE_MS).await.expect("renewed");
    let expires_at_ms = NOON + 29_999 + LEASE_MS;
    assert_eq!(renewal, Renewal::Kept { expires_at_ms, cancel_requested: false });
    // A shorter renewal is obeyed too: the length is the caller's.
    let renewal = fixture.store().renew(&key, 1).await.expect("renewed");
    assert_eq!(renewal, Renewal::Kept { expires_at_ms: NOON + 30_000, cancel_requested: false });

    fixture.advance_ms(1);
    let renewal = fixture.store().renew(&key, LEASE_MS).await.expect("renewed");
    assert_eq!(renewal, Renewal::Lost, "at its expiry, although nobody took it");
    assert_eq!(fixture.other().holder("mark").await.expect("holder"), None);
}

/// A held lease is refused, with its holder, until it expires.
pub async fn a_lease_is_granted_again_at_its_expiry_and_not_before(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    started(&begin(fixture.store(), manual("mark", me)).await);
    fixture.advance_ms(29_999);
    let busy = begin(fixture.other(), manual("mark", InstanceId::new())).await;
    let holder = Holder { instance: me.to_string(), until_ms: NOON + LEASE_MS };
    assert_eq!(busy, Begun::Busy(holder));
    fixture.advance_ms(1);
    started(&begin(fixture.other(), manual("mark", InstanceId::new())).await);
}

/// Each grant of a name has a greater token than all before.
pub async fn tokens_only_grow_over_ends_expiries_and_hosts(fixture: &dyn Fixture) {
    let mut last = 0;
    for round in 0..12 {
        let host = if round % 2 == 0 { fixture.store() } else { fixture.other() };
        let firing = manual("mark", InstanceId::new());
        let run_id = firing.run.expect("a run").id;
        let key = started(&begin(host, firing).await);
        assert!(key.token > last, "{} after {last}", key.token);
        last = key.token;
        if round % 3 == 0 {
            fixture.advance_ms(LEASE_MS);
        } else {
            assert!(host.finish(&ending(&key, run_id)).await.expect("finished"));
        }
    }
}

/// A released lease is nobody's.
pub async fn a_released_lease_has_no_holder_and_cannot_be_renewed(fixture: &dyn Fixture) {
    let firing = manual("mark", InstanceId::new());
    let run_id = firing.run.expect("a run").id;
    let key = started(&begin(fixture.store(), firing).await);
    assert!(fixture.store().finish(&ending(&key, run_id)).await.expect("finished"));
    assert_eq!(fixture.other().holder("mark").await.expect("holder"), None);
    let renewal = fixture.store().renew(&key, LEASE_MS).await.expect("renewed");
    assert_eq!(renewal, Renewal::Lost);
}

/// A cancel request reaches the holder by its renewal, and no later holder.
pub async fn a_renewal_tells_of_a_cancel_request_and_a_new_grant_forgets_it(fixture: &dyn Fixture) {
    let key = started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    fixture.edit(JobEdit::Cancel { lease: "mark".into() }).await;
    let renewal = fixture.store().renew(&key, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { cancel_requested: true, .. }), "{renewal:?}");
    fixture.advance_ms(LEASE_MS);
    let key = started(&begin(fixture.other(), manual("mark", InstanceId::new())).await);
    let renewal = fixture.other().renew(&key, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewal, Renewal::Kept { cancel_requested: false, .. }), "{renewal:?}");
}

/// Two hosts that grasp at once: one has it, the other is told who.
pub async fn two_hosts_that_grasp_at_once_are_one_holder(fixture: &dyn Fixture) {
    for round in 0..30 {
        let job = format!("mark-{round}");
        let (ours, theirs) = tokio::join!(
            begin(fixture.store(), manual(&job, InstanceId::new())),
            begin(fixture.other(), manual(&job, InstanceId::new())),
        );
        match (&ours, &theirs) {
            (Begun::Started { key, .. }, Begun::Busy(holder))
            | (Begun::Busy(holder), Begun::Started { key, .. }) => {
                assert_eq!(holder.instance, key.holder.to_string());
            }
            both => panic!("round {round}: {both:?}"),
        }
        assert_eq!(fixture.lines(&job).await.len(), 1);
    }
}

/// A lease is as long as its firing asks, and names do not share.
pub async fn a_grant_is_as_long_as_it_was_asked_for(fixture: &dyn Fixture) {
    let me = InstanceId::new();
    for (job, lease_ms) in [("mark", 300), ("mark.2", 86_400_000), ("Mark", 1)] {
        let key = started(&begin(fixture.store(), Firing { lease_ms, ..manual(job, me) }).await);
        assert_eq!(key.token, 1);
        let held = Some(Holder { instance: me.to_string(), until_ms: NOON + lease_ms });
        assert_eq!(fixture.other().holder(job).await.expect("holder"), held);
    }
    fixture.advance_ms(300);
    assert_eq!(fixture.other().holder("mark").await.expect("holder"), None);
    assert!(fixture.other().holder("mark.2").await.expect("holder").is_some());
}

/// Renewals that go on while another host looks: it never finds the lease free in between.
pub async fn a_lease_that_is_renewed_in_time_is_never_free(fixture: &dyn Fixture) {
    let key = started(&begin(fixture.store(), manual("mark", InstanceId::new())).await);
    for _ in 0..10 {
        fixture.advance_ms(LEASE_MS / 3);
        let (renewed, taken) = tokio::join!(
            fixture.store().renew(&key, LEASE_MS),
            begin(fixture.other(), manual("mark", InstanceId::new())),
        );
        assert!(matches!(renewed, Ok(Renewal::Kept { .. })), "{renewed:?}");
        assert!(matches!(&taken, Begun::Busy(holder) if holder.instance == key.holder.to_string()));
    }
}
