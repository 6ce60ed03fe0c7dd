//! A host is frozen past its lease and woken while the next one is at the same work: nothing that
//! it writes lands.

use std::time::{Duration, Instant};

use scheduler_core::{Clock, Store, StoreError, SystemClock};
use sea_orm::DbBackend;
use tokio::time::timeout;

use crate::database::{JOB_TABLES, QUEUE_TABLES, count, execute, lines, pause, prepare, until};
use crate::host::Host;

/// The first run waits to be told; long enough to be frozen in time.
const OPTIONS: [&str; 2] = ["hold=1", "lease=3000"];
const PATIENCE: Duration = Duration::from_secs(60);
/// Sessions of hosts that are inside of a transaction, or of a statement.
const IN_TRANSACTIONS: &str = "SELECT count(*) AS n FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
      AND pid <> pg_backend_pid() AND (state <> 'idle' OR xact_start IS NOT NULL)";
const SUCCEEDED: &str = "SELECT count(*) AS n FROM job_runs WHERE status = 'succeeded'";

pub(crate) async fn job(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let (mut frozen, slot) = frozen_inside(url, &store).await;
    let mut next = Host::start("job", url, &OPTIONS);
    assert_eq!(next.wait_for("inside"), format!("{slot} 2 2"), "it runs the slot again");
    frozen.tell("book");
    frozen.thaw();
    assert_eq!(frozen.answer(), "refused");
    assert_eq!(runs_of(&store, &slot).await, ["1|lease_lost", "2|running"]);
    let holder = lines(&store, &["holder", "token"], "FROM leases").await;
    assert_eq!(holder, [format!("{}|2", next.known_instance())]);
    next.tell("book");
    assert_eq!(next.answer(), "booked");
    // Both go on.
    until(&store, SUCCEEDED, 5).await;
    for host in [frozen, next] {
        let log = host.stop();
        assert!(!log.contains("panicked"), "{log}");
    }
    assert_eq!(runs_of(&store, &slot).await, ["1|lease_lost", "2|succeeded"]);
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
    pause(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0) + 500)).await;
    frozen.tell("book");
    frozen.thaw();
    assert_eq!(frozen.answer(), "refused");
    // It runs the slot again, and goes on.
    let again = format!("{SUCCEEDED} AND scheduled_for_ms = {slot} AND attempt = 2");
    until(&store, &again, 1).await;
    until(&store, SUCCEEDED, 3).await;
    frozen.stop();
    assert_eq!(runs_of(&store, &slot).await, ["1|lease_lost", "2|succeeded"]);
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
    freeze(&frozen, &store).await;
    let mut next = Host::start("queue", url, &OPTIONS);
    assert_eq!(next.wait_for("inside"), "1 2 2", "it claims the row again");
    frozen.tell("book");
    frozen.thaw();
    assert_eq!(frozen.answer(), "refused");
    // It goes on; and once it has stopped, it has offered every end that it knew of.
    execute(&store, "INSERT INTO parcels (id, user_id) VALUES (2, 2)").await;
    let second = "SELECT count(*) AS n FROM parcels WHERE id = 2 AND status = 'succeeded'";
    until(&store, second, 1).await;
    let frozen = frozen.stop();
    let columns = ["status", "leased_by", "lease_token", "attempt_count", "crash_count"];
    let row = lines(&store, &columns, "FROM parcels WHERE id = 1").await;
    assert_eq!(row, [format!("running|{}|2|2|1", next.known_instance())]);
    next.tell("book");
    assert_eq!(next.answer(), "booked");
    until(&store, "SELECT count(*) AS n FROM parcels WHERE status = 'succeeded'", 2).await;
    for log in [frozen, next.stop()] {
        assert!(!log.contains("panicked"), "{log}");
    }
    let row = lines(&store, &columns, "FROM parcels WHERE id = 1").await;
    assert_eq!(row, ["succeeded|-|2|2|1"]);
    let effects = lines(&store, &["lease_token"], "FROM effects WHERE id = 1").await;
    assert_eq!(effects, ["2"], "only the second attempt has booked");
}

async fn runs_of(store: &Store, slot: &str) -> Vec<String> {
    let runs = format!("FROM job_runs WHERE scheduled_for_ms = {slot} ORDER BY attempt");
    lines(store, &["attempt", "status"], &runs).await
}

/// A host that is frozen inside of the very first run, and the run's slot.
async fn frozen_inside(url: &str, store: &Store) -> (Host, String) {
    let mut frozen = Host::start("job", url, &OPTIONS);
    let inside = frozen.wait_for("inside");
    let slot = inside.strip_suffix(" 1 1").expect("the first attempt").to_owned();
    freeze(&frozen, store).await;
    (frozen, slot)
}

/// Freezes a host outside of its transactions: one that is stopped inside blocks the others as long
/// as it is, which is another story.
async fn freeze(host: &Host, store: &Store) {
    let began = Instant::now();
    loop {
        host.freeze();
        if is_outside(store).await {
            return;
        }
        host.thaw();
        assert!(began.elapsed() < PATIENCE, "it is always inside of a transaction");
        pause(Duration::from_millis(50)).await;
    }
}

/// Whether nobody but this test is inside of a transaction.
async fn is_outside(store: &Store) -> bool {
    if store.reader().get_database_backend() == DbBackend::Sqlite {
        // There is one writer. This write has nothing to write, so it waits for nothing else.
        let write = store.write("probe", |_| Box::pin(async { Ok::<_, StoreError>(()) }));
        return matches!(timeout(Duration::from_millis(200), write).await, Ok(Ok(())));
    }
    // A session may still be busy with what the host sent last.
    for _ in 0..5 {
        if count(store, IN_TRANSACTIONS).await > 0 {
            return false;
        }
        pause(Duration::from_millis(20)).await;
    }
    true
}
