//! Every async worker of a host is blocked for two lease lengths: its run is lost, no fenced effect
//! is doubled, and the process goes on by itself.

use crate::database::{JOB_TABLES, QUEUE_TABLES, execute, lines, prepare, until};
use crate::host::Host;

/// Longer than a busy machine keeps a process waiting.
const LEASE: &str = "lease=2000";
/// Two leases.
const BLOCK: &str = "block 4000";
const HOLD: [&str; 2] = ["hold=1", LEASE];

pub(crate) async fn job(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let mut blocked = Host::start("job", url, &HOLD);
    let inside = blocked.wait_for("inside");
    let slot = inside.strip_suffix(" 1 1").expect("the first attempt");
    let mut next = Host::start("job", url, &[LEASE]);
    next.wait_for("started");
    blocked.tell(BLOCK);
    blocked.wait_for("unblocked");
    assert_eq!(blocked.answer(), "refused");
    until(&store, &rerun(slot), 1).await;
    next.stop();
    goes_on(&store, &mut blocked).await;
    blocked.stop();
    booked_once(&store, slot).await;
}

pub(crate) async fn job_alone(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let mut blocked = Host::start("job", url, &HOLD);
    let inside = blocked.wait_for("inside");
    let slot = inside.strip_suffix(" 1 1").expect("the first attempt");
    blocked.tell(BLOCK);
    blocked.wait_for("unblocked");
    assert_eq!(blocked.answer(), "refused");
    until(&store, &rerun(slot), 1).await;
    goes_on(&store, &mut blocked).await;
    blocked.stop();
    booked_once(&store, slot).await;
}

pub(crate) async fn row(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    execute(&store, "INSERT INTO parcels (id, user_id) VALUES (1, 1)").await;
    let mut blocked = Host::start("queue", url, &HOLD);
    assert_eq!(blocked.wait_for("inside"), "1 1 1");
    let mut next = Host::start("queue", url, &[LEASE]);
    next.wait_for("started");
    blocked.tell(BLOCK);
    blocked.wait_for("unblocked");
    assert_eq!(blocked.answer(), "refused");
    let delivered = "SELECT count(*) AS n FROM parcels WHERE status = 'succeeded'";
    until(&store, delivered, 1).await;
    next.stop();
    // Who was blocked goes on with the queue.
    let more = "INSERT INTO parcels (id, user_id) VALUES (2, 1), (3, 1), (4, 2)";
    execute(&store, more).await;
    until(&store, delivered, 4).await;
    blocked.stop();
    let columns = ["id", "attempt_count", "crash_count", "lease_token"];
    let found = lines(&store, &columns, "FROM parcels ORDER BY id").await;
    assert_eq!(found, ["1|2|1|2", "2|1|0|1", "3|1|0|1", "4|1|0|1"]);
    let effects = lines(&store, &["id", "lease_token"], "FROM effects ORDER BY id").await;
    assert_eq!(effects, ["1|2", "2|1", "3|1", "4|1"]);
}

fn rerun(slot: &str) -> String {
    format!(
        "SELECT count(*) AS n FROM job_runs
         WHERE scheduled_for_ms = {slot} AND attempt = 2 AND status = 'succeeded'"
    )
}

/// Waits until a host has run slots of its own after what happened to it.
async fn goes_on(store: &scheduler_core::Store, host: &mut Host) {
    let instance = host.instance().expect("an instance");
    let own = format!(
        "SELECT count(*) AS n FROM job_runs WHERE status = 'succeeded' AND instance_id = '{instance}'"
    );
    let before = crate::database::count(store, &own).await;
    until(store, &own, before + 3).await;
}

async fn booked_once(store: &scheduler_core::Store, slot: &str) {
    let of_slot = format!("FROM effects WHERE slot = {slot}");
    assert_eq!(lines(store, &["attempt"], &of_slot).await, ["2"], "only the rerun has booked");
    let runs = format!("FROM job_runs WHERE scheduled_for_ms = {slot} ORDER BY attempt");
    let runs = lines(store, &["attempt", "status"], &runs).await;
    assert_eq!(runs, ["1|lease_lost", "2|succeeded"]);
}
