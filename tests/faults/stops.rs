//! Hosts are stopped at random moments: while they start, claim, run, renew, take over what a dead
//! one left. Each ends well and within its bound, and leaves nothing that runs.

#![expect(clippy::print_stdout, reason = "each test prints its figures")]

use std::time::{Duration, Instant};

use scheduler_core::{Clock, Store, SystemClock};

use crate::database::{JOB_TABLES, QUEUE_TABLES, count, execute, lines, pause, prepare, scheme};
use crate::host::{Ended, Host};
use crate::torment::seed;

const ROUNDS: usize = 30;
const HOSTS: usize = 3;
/// No run is cut off before it had a little time.
const GRACE: &str = "grace=50";
/// Longer than a busy machine keeps a process waiting, most of the time.
const LEASE: &str = "lease=1200";
/// The grace period, five seconds for what ignores its cancellation, and a busy machine.
const BOUND: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(60);

/// What a host logs that lost a lease.
const LOST: [&str; 2] = ["lease was lost", "lease_lost"];

/// Where it stands what hosts hold, and what is to be done yet.
struct Work {
    held_by: &'static str,
    open: &'static str,
}

const RUNNING: Work = Work {
    held_by: "leases WHERE holder",
    open: "job_runs WHERE status = 'running' AND scope_key = ''",
};
const UNDELIVERED: Work = Work {
    held_by: "parcels WHERE status = 'running' AND leased_by",
    open: "parcels WHERE status IN ('queued', 'running')",
};

/// What a stop cut off has not been tried; what a crash cut off has.
const MISCOUNTED: &str = "FROM parcels WHERE status <> 'running'
    AND attempt_count <> crash_count + (CASE status WHEN 'succeeded' THEN 1 ELSE 0 END)";
const COLUMNS: [&str; 6] =
    ["id", "status", "attempt_count", "crash_count", "lease_token", "last_error"];

pub(crate) async fn of_jobs(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let figures = stop_at_random("job", url, &store, async || (), RUNNING).await;
    let of = async |status: &str| {
        let runs = format!("SELECT count(*) AS n FROM job_runs WHERE status = '{status}'");
        count(&store, &runs).await
    };
    let (succeeded, cut_off) = (of("succeeded").await, of("cancelled").await);
    println!(
        "stops of jobs on {}: {figures}; {succeeded} succeeded, {cut_off} cut off",
        scheme(url)
    );
    assert!(cut_off > 0, "some run is cut off: {figures}");
    // A run that was cut off has not booked; one that a kill cut off may have.
    let cut_off_effects = "SELECT count(*) AS n FROM effects e JOIN job_runs r
        ON r.scheduled_for_ms = e.slot AND r.attempt = e.attempt WHERE r.status NOT IN ('succeeded', 'lease_lost')";
    assert_eq!(count(&store, cut_off_effects).await, 0, "{figures}");
}

pub(crate) async fn of_queues(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    let mut next = 0;
    let fill = async || {
        assert_eq!(lines(&store, &COLUMNS, MISCOUNTED).await, [""; 0]);
        let values: Vec<String> = (next..next + 4).map(|id| format!("({id}, {id}, 99)")).collect();
        next += 4;
        let fill = "INSERT INTO parcels (id, user_id, max_attempts) VALUES ";
        execute(&store, &format!("{fill}{}", values.join(", "))).await;
    };
    let figures = stop_at_random("queue", url, &store, fill, UNDELIVERED).await;
    let of = async |condition: &str| {
        count(&store, &format!("SELECT count(*) AS n FROM parcels WHERE {condition}")).await
    };
    let given_back = of("lease_token > attempt_count").await;
    let (succeeded, crashed) = (of("status = 'succeeded'").await, of("crash_count > 0").await);
    println!(
        "stops of queues on {}: {figures}; {succeeded} delivered, {crashed} had crashed, \
         {given_back} were given back",
        scheme(url)
    );
    assert_eq!(of("leased_by IS NOT NULL OR queue_slot IS NOT NULL").await, 0, "{figures}");
    assert_eq!(of("status IN ('running', 'cancelled')").await, 0, "{figures}");
    assert_eq!(lines(&store, &COLUMNS, MISCOUNTED).await, [""; 0], "{figures}");
    let doubled = "FROM effects e JOIN parcels p ON p.id = e.id WHERE p.crash_count = 0
        AND (SELECT count(*) FROM effects o WHERE o.id = e.id) > 1";
    let columns = ["e.id", "e.lease_token", "p.lease_token", "attempt_count", "last_error"];
    let doubled = lines(&store, &columns, doubled).await;
    assert_eq!(doubled, [""; 0], "only a crash repeats a delivery: {figures}");
    assert!(given_back > 0 && succeeded > 0, "{figures}");
}

/// Starts hosts and stops them, round by round; now and then one is killed first, so that the
/// others are stopped while they take over.
async fn stop_at_random(
    kind: &'static str,
    url: &str,
    store: &Store,
    mut before: impl AsyncFnMut(),
    work: Work,
) -> String {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut stops, mut kills, mut starved, mut longest) = (0, 0, 0, Duration::ZERO);
    let began = Instant::now();
    for round in 0..ROUNDS {
        before().await;
        let mut hosts: Vec<Host> = Vec::new();
        for _ in 0..HOSTS {
            let work = ["work=10", "work=200", "work=1000"][random.usize(..3)];
            let obeys = ["obeys=0", "obeys=1", "obeys=1"][random.usize(..3)];
            hosts.push(Host::start(kind, url, &[GRACE, LEASE, work, obeys]));
        }
        // Before it has said so, a signal would end it like any program.
        hosts.iter_mut().for_each(|host| drop(host.wait_for("instance")));
        if random.u8(..3) == 0 {
            pause(Duration::from_millis(random.u64(..400))).await;
            hosts.swap_remove(random.usize(..HOSTS)).kill();
            kills += 1;
        }
        for host in &hosts {
            pause(Duration::from_millis(random.u64(..500))).await;
            host.signal("TERM");
            stops += 1;
        }
        let asked = Instant::now();
        for host in hosts {
            let instance = host.known_instance();
            let Ended { status, log } = host.ended();
            assert!(status.success(), "seed {seed}, round {round}: {status}: {log}");
            assert!(!log.contains("panicked"), "seed {seed}, round {round}: {log}");
            let left = format!(
                "SELECT (SELECT count(*) FROM job_runs WHERE status = 'running' AND instance_id = '{instance}')
                 + (SELECT count(*) FROM leases WHERE holder = '{instance}')
                 + (SELECT count(*) FROM {} = '{instance}') AS n",
                work.held_by
            );
            // A starved host whose lease expired writes nothing any more: others close what it left.
            if LOST.iter().any(|word| log.contains(word)) {
                starved += 1;
            } else {
                assert_eq!(count(store, &left).await, 0, "seed {seed}, round {round}: {log}");
            }
        }
        longest = longest.max(asked.elapsed());
        assert!(asked.elapsed() < BOUND, "seed {seed}, round {round}: {:?}", asked.elapsed());
    }
    // Whoever comes last closes what the killed ones left, and ends well, too.
    let mut last = Host::start(kind, url, &[GRACE, LEASE, "work=10"]);
    last.wait_for("started");
    let last_began = Instant::now();
    let open = format!("SELECT count(*) AS n FROM {}", work.open);
    while count(store, &open).await > 0 {
        assert!(last_began.elapsed() < LONGEST, "seed {seed}: something is left");
        pause(Duration::from_millis(20)).await;
    }
    last.stop();
    let now_ms = SystemClock.now_ms();
    let held = format!(
        "SELECT count(*) AS n FROM leases WHERE name NOT LIKE '%@%' AND expires_at_ms > {now_ms}"
    );
    assert_eq!(count(store, &held).await, 0, "seed {seed}");
    format!(
        "seed {seed}: {stops} stops, {kills} kills, {starved} starved in {} s, the longest took {} ms",
        began.elapsed().as_secs(),
        longest.as_millis()
    )
}
