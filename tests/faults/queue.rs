//! One queue over eight hosts: each row is delivered, no limit is exceeded, not even for an instant.

#![expect(clippy::print_stdout, reason = "each torment prints its figures")]

use scheduler_core::Store;

use crate::database::{QUEUE_TABLES, count, execute, prepare, rows, scheme};
use crate::torment::{Orphans, Recoveries, Recovery, Torment, wanted_kills};

const HOSTS: usize = 8;
const ROWS: i64 = 400;
const USERS: i64 = 8;
const LEFT: &str = "SELECT count(*) AS n FROM parcels WHERE status IN ('queued', 'running')";

pub(crate) async fn torment(url: &str) {
    let store = prepare(url, QUEUE_TABLES).await;
    fill(&store).await;
    let torment = Torment { kind: "queue", url, hosts: HOSTS };
    let enough = async || {
        let left = count(&store, LEFT).await;
        if wanted_kills().is_some() && left < ROWS / 2 {
            fill(&store).await;
        }
        left == 0
    };
    let idle = async || count(&store, LEFT).await == 0;
    let grants = async |instance: &str| grants(&store, instance).await;
    let done = torment.run(enough, idle, grants).await;

    let of = async |condition: &str| {
        count(&store, &format!("SELECT count(*) AS n FROM parcels WHERE {condition}")).await
    };
    let (all, delivered, dead) =
        (of("TRUE").await, of("status = 'succeeded'").await, of("status = 'dead'").await);
    let crashed = of("crash_count > 0").await;
    // A delivered row was delivered by its last claim, once; what an earlier claim booked before
    // its process died was booked under its own token.
    let undelivered =
        "SELECT count(*) AS n FROM parcels p WHERE p.status = 'succeeded' AND NOT EXISTS (
        SELECT 1 FROM effects e WHERE e.id = p.id AND e.lease_token = p.lease_token)";
    let lost = count(&store, undelivered).await;
    let repeated =
        "SELECT count(*) AS n FROM (SELECT id FROM effects GROUP BY id HAVING count(*) > 1) AS r
        JOIN parcels p ON p.id = r.id WHERE p.crash_count = 0";
    let doubled = count(&store, repeated).await;
    let exceeded = count(&store, "SELECT count(*) AS n FROM exceeded").await;
    let recoveries = done.figures_of(&recoveries(&store, &done.orphans).await);
    println!(
        "queue on {}: {done}; {all} rows: {delivered} delivered, {dead} quarantined, {crashed} had \
         crashed; {lost} lost, {doubled} doubled, {exceeded} limits exceeded; {recoveries}",
        scheme(url)
    );

    assert_eq!(done.locked, 0, "{done}");
    assert_eq!(of("status = 'running'").await, 0, "a stop leaves nothing running");
    assert_eq!(of("queue_slot IS NOT NULL OR concurrency_slot IS NOT NULL").await, 0);
    assert_eq!(of("status = 'dead' AND last_error NOT LIKE 'crashing%'").await, 0);
    assert_eq!(delivered + dead, all, "the queue goes on");
    assert!(delivered > all / 2, "the queue goes on");
    assert_eq!((lost, doubled, exceeded), (0, 0, 0), "only a crash repeats a delivery");
}

/// Adds rows of all users.
async fn fill(store: &Store) {
    let next = count(store, "SELECT coalesce(max(id) + 1, 0) AS n FROM parcels").await;
    let values: Vec<String> =
        (next..next + ROWS).map(|id| format!("({id}, {})", id % USERS)).collect();
    let fill = format!("INSERT INTO parcels (id, user_id) VALUES {}", values.join(", "));
    execute(store, &fill).await;
}

async fn grants(store: &Store, instance: &str) -> Orphans {
    let held = format!(
        "SELECT id, lease_token, lease_expires_at_ms FROM parcels
         WHERE status = 'running' AND leased_by = '{instance}'"
    );
    let held = rows(store, &held).await;
    let read = |row: &sea_orm::QueryResult| {
        let id: i64 = row.try_get("", "id").expect("a column");
        let token: i64 = row.try_get("", "lease_token").expect("a column");
        ((id.to_string(), token), row.try_get("", "lease_expires_at_ms").expect("a column"))
    };
    held.iter().map(read).collect()
}

/// How long after the lease of a dead process its row was claimed again.
async fn recoveries(store: &Store, orphans: &Orphans) -> Recoveries {
    let starts = rows(store, "SELECT id, lease_token, started_at_ms FROM starts").await;
    let spans = starts.into_iter().filter_map(|row| {
        let id: i64 = row.try_get("", "id").expect("a column");
        let token: i64 = row.try_get("", "lease_token").expect("a column");
        let began_ms: i64 = row.try_get("", "started_at_ms").expect("a column");
        let expired_ms = *orphans.get(&(id.to_string(), token - 1))?;
        Some(Recovery { expired_ms, began_ms })
    });
    Recoveries::new(spans.collect())
}
