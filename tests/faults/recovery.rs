//! What a dead process left runs again within its lease and a second, although no slot is due and
//! the safety poll is far away.

#![expect(clippy::print_stdout, reason = "the test prints its figures")]

use std::time::{Duration, Instant};

use scheduler_core::Store;

use crate::database::{JOB_TABLES, QUEUE_TABLES, execute, lines, prepare, rows, scheme};
use crate::delays::Watch;
use crate::host::Host;
use crate::torment::{Recoveries, Recovery};

/// Deaths of the process that is inside.
const DEATHS: usize = 6;
/// The promise is one second. The machine that runs the tests may be busy with others.
const LONGEST_MS: i64 = 2_500;
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody looks for an hour by himself.
const OPTIONS: [&str; 4] = ["interval=3600000", "hold=1", "reruns=100", "lease=1500"];

pub(crate) async fn of_a_job(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let expiry = "SELECT expires_at_ms AS n FROM leases WHERE name = 'tick'";
    let start = "SELECT started_at_ms AS n FROM job_runs ORDER BY attempt DESC LIMIT 1";
    // The first host to start runs it at once, and the others see that it is taken.
    die_inside("job", url, &store, "DELETE FROM effects", expiry, start).await;
}

pub(crate) async fn of_a_row(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    let begin = "INSERT INTO parcels (id, user_id) VALUES (1, 1)";
    let expiry = "SELECT lease_expires_at_ms AS n FROM parcels";
    let start = "SELECT started_at_ms AS n FROM parcels";
    die_inside("queue", url, &store, begin, expiry, start).await;
}

/// Kills whoever is inside, again and again, while two others wait that had looked before there was
/// anything to do.
async fn die_inside(kind: &str, url: &str, store: &Store, begin: &str, expiry: &str, start: &str) {
    let host = || {
        let mut host = Host::start(kind, url, &OPTIONS);
        host.wait_for("started");
        host
    };
    let mut hosts: Vec<Host> = (0..2).map(|_| host()).collect();
    execute(store, begin).await;
    hosts.push(host());
    let mut recoveries = Vec::new();
    let watch = Watch::begin();
    let mut inside = whoever_is_inside(&mut hosts, store).await;
    for _ in 0..DEATHS {
        hosts[inside].kill();
        let expired_ms = time(store, expiry).await;
        let dead = inside;
        inside = whoever_is_inside(&mut hosts, store).await;
        recoveries.push(Recovery { expired_ms, began_ms: time(store, start).await });
        hosts[dead] = host();
    }
    let delays = watch.end();
    hosts[inside].tell("book");
    hosts[inside].wait_for("booked");
    for host in hosts {
        host.stop();
    }
    let booked = rows(store, "SELECT * FROM effects").await.len();
    let recoveries = Recoveries::new(recoveries);
    println!("recovery of a {kind} on {}: {}", scheme(url), recoveries.beside(&delays, &[]));
    assert_eq!(booked, 1, "the last attempt has booked");
    assert!(recoveries.longest_ms() <= LONGEST_MS, "{recoveries}");
}

async fn whoever_is_inside(hosts: &mut [Host], store: &Store) -> usize {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        for (index, host) in hosts.iter_mut().enumerate() {
            if host.says("inside", Duration::from_millis(10)).is_some() {
                return index;
            }
        }
    }
    let columns =
        ["trigger", "attempt", "status", "started_at_ms", "finished_at_ms", "instance_id"];
    let runs = lines(store, &columns, "FROM job_runs").await;
    panic!("nobody goes on with the work: {runs:#?}")
}

async fn time(store: &Store, sql: &str) -> i64 {
    rows(store, sql).await[0].try_get("", "n").expect("a time")
}
