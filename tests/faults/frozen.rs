//! A host is frozen past its lease and woken while the next one is at the same work: nothing that
//! it writes lands.

use std::time::Duration;

use scheduler_core::{Clock, Store, StoreError, SystemClock};
use sea_orm::ConnectionTrait;

use crate::database::{JOB_TABLES, QUEUE_TABLES, count, execute, lines, prepare, until};
use crate::host::Host;

/// The first run waits to be told; long enough to be frozen in time.
const OPTIONS: [&str; 2] = ["hold=1", "lease=3000"];
const RUNS: &str = "FROM job_runs WHERE trigger <> 'schedule' ORDER BY attempt";
const SUCCEEDED: &str = "SELECT count(*) AS n FROM job_runs WHERE status = 'succeeded'";

pub(crate) async fn job(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let (mut frozen, slot) = frozen_inside(url, &store).await;
    let mut next = Host::start("job", url, &OPTIONS);
    assert_eq!(next.wait_for("inside"), format!("{slot} 2 2"), "it runs the slot again");
    frozen.tell("book");
    frozen.signal("CONT");
    assert_eq!(frozen.answer(), "refused");
    let open = ["start|1|lease_lost", "rerun|2|running"];
    assert_eq!(lines(&store, &["trigger", "attempt", "status"], RUNS).await, open);
    let holder = lines(&store, &["holder", "token"], "FROM leases").await;
    assert_eq!(holder, [format!("{}|2", next.instance().expect("an instance"))]);
    next.tell("book");
    assert_eq!(next.answer(), "booked");
    // Both go on.
    until(&store, SUCCEEDED, 5).await;
    for host in [frozen, next] {
        let log = host.stop();
        assert!(!log.contains("panicked"), "{log}");
    }
    let ended = ["start|1|lease_lost", "rerun|2|succeeded"];
    assert_eq!(lines(&store, &["trigger", "attempt", "status"], RUNS).await, ended);
    let of_slot = format!("FROM effects WHERE slot = {slot}");
    let effects = lines(&store, &["attempt", "token"], &of_slot);
    assert_eq!(effects.await, ["2|2"], "only the second attempt has booked");
    let errors = count(&store, "SELECT total_errors AS n FROM worker_heartbeats").await;
    assert_eq!(errors, 1, "a lost lease is an error, once");
}

pub(crate) async fn job_alone(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let (mut frozen, slot) = frozen_inside(url, &store).await;
    // Nobody takes the lease, and still it is lost.
    let now_ms = SystemClock.now_ms();
    let left_ms = count(&store, "SELECT expires_at_ms AS n FROM leases").await - now_ms;
    crate::database::pause(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0) + 500)).await;
    frozen.tell("book");
    frozen.signal("CONT");
    assert_eq!(frozen.answer(), "refused");
    until(&store, SUCCEEDED, 3).await;
    frozen.stop();
    let ended = ["start|1|lease_lost", "rerun|2|succeeded"];
    assert_eq!(lines(&store, &["trigger", "attempt", "status"], RUNS).await, ended);
    // Under which token depends on whether the slot that was due on waking ran before it.
    let of_slot = format!("FROM effects WHERE slot = {slot} AND token > 1");
    assert_eq!(lines(&store, &["attempt"], &of_slot).await, ["2"], "its second attempt has booked");
    let stale = count(&store, "SELECT count(*) AS n FROM effects WHERE token = 1").await;
    assert_eq!(stale, 0, "nothing was booked under the lost lease");
}

pub(crate) async fn row(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    execute(&store, "INSERT INTO parcels (id, user_id) VALUES (1, 1)").await;
    let mut frozen = Host::start("queue", url, &OPTIONS);
    assert_eq!(frozen.wait_for("inside"), "1 1 1");
    freeze(&frozen, &store, "UPDATE parcels SET priority = priority").await;
    let mut next = Host::start("queue", url, &OPTIONS);
    assert_eq!(next.wait_for("inside"), "1 2 2", "it claims the row again");
    frozen.tell("book");
    frozen.signal("CONT");
    assert_eq!(frozen.answer(), "refused");
    // Ends are written in order: this row's comes after the one that the frozen host offers.
    execute(&store, "INSERT INTO parcels (id, user_id) VALUES (2, 2)").await;
    let second = "SELECT count(*) AS n FROM parcels WHERE id = 2 AND status = 'succeeded'";
    until(&store, second, 1).await;
    let columns = ["status", "leased_by", "lease_token", "attempt_count", "crash_count"];
    let row = lines(&store, &columns, "FROM parcels WHERE id = 1").await;
    assert_eq!(row, [format!("running|{}|2|2|1", next.instance().expect("an instance"))]);
    next.tell("book");
    assert_eq!(next.answer(), "booked");
    until(&store, "SELECT count(*) AS n FROM parcels WHERE status = 'succeeded'", 2).await;
    for host in [frozen, next] {
        let log = host.stop();
        assert!(!log.contains("panicked"), "{log}");
    }
    let row = lines(&store, &columns, "FROM parcels WHERE id = 1").await;
    assert_eq!(row, ["succeeded|-|2|2|1"]);
    let effects = lines(&store, &["lease_token"], "FROM effects WHERE id = 1").await;
    assert_eq!(effects, ["2"], "only the second attempt has booked");
}

/// A host that is frozen inside of the very first run, and the run's slot.
async fn frozen_inside(url: &str, store: &Store) -> (Host, String) {
    let mut frozen = Host::start("job", url, &OPTIONS);
    let inside = frozen.wait_for("inside");
    let slot = inside.strip_suffix(" 1 1").expect("the first attempt").to_owned();
    freeze(&frozen, store, "UPDATE leases SET token = token").await;
    (frozen, slot)
}

/// Freezes a host outside of its write transactions: one that is stopped inside blocks the others
/// as long as it is, which is another story.
async fn freeze(host: &Host, store: &Store, probe: &'static str) {
    loop {
        host.signal("STOP");
        let written = store.write("probe", |txn| {
            Box::pin(async move {
                let written = txn.execute_unprepared(probe).await;
                written.map(|_| ()).map_err(|source| StoreError::database("probe", source))
            })
        });
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), written).await {
            return;
        }
        host.signal("CONT");
    }
}
