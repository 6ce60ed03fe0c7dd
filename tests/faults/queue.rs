//! One queue over eight hosts: each row is delivered, no limit is exceeded, not even for an instant.

#![expect(clippy::print_stdout, reason = "each torment prints its figures")]

use std::time::Duration;

use crate::hosts::{self, count, rows};

const HOSTS: usize = 8;
const LONGEST: Duration = Duration::from_secs(30);
const ROWS: i64 = 400;
const USERS: i64 = 8;
const TABLES: &str = "
CREATE TABLE parcels (
  id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT, concurrency_slot INTEGER, queue_slot INTEGER);
CREATE INDEX parcels_ready ON parcels (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX parcels_suspect ON parcels (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX parcels_leases ON parcels (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_user ON parcels (user_id, concurrency_slot) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_slot ON parcels (queue_slot) WHERE status = 'running';
CREATE TABLE inside (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, user_id BIGINT NOT NULL);
CREATE TABLE exceeded (id BIGINT NOT NULL, inside BIGINT NOT NULL);
CREATE TABLE effects (id BIGINT NOT NULL, lease_token BIGINT NOT NULL, UNIQUE (id, lease_token));
";

pub(crate) async fn torment(url: &str) {
    let values: Vec<String> = (0..ROWS).map(|id| format!("({id}, {})", id % USERS)).collect();
    let fill = format!("INSERT INTO parcels (id, user_id) VALUES {}", values.join(", "));
    let store = hosts::prepare(url, &format!("{TABLES}{fill}")).await;
    let left = "SELECT count(*) AS n FROM parcels WHERE status IN ('queued', 'running')";
    let enough = async || count(&store, left).await == 0;
    let figures = hosts::torment("queue", url, HOSTS, LONGEST, enough).await;

    let of = async |condition: &str| {
        count(&store, &format!("SELECT count(*) AS n FROM parcels WHERE {condition}")).await
    };
    let (done, dead) = (of("status = 'succeeded'").await, of("status = 'dead'").await);
    let crashed = of("crash_count > 0").await;
    println!("queue: {figures}; {done} delivered, {dead} quarantined, {crashed} had crashed");

    assert_eq!(of("status = 'running'").await, 0, "a stop leaves nothing running");
    assert_eq!(of("queue_slot IS NOT NULL OR concurrency_slot IS NOT NULL").await, 0);
    assert_eq!(of("status = 'dead' AND last_error NOT LIKE 'crashing%'").await, 0);
    assert!(done > ROWS / 2, "the queue goes on");
    let overlaps = rows(&store, "SELECT id, inside FROM exceeded").await.len();
    assert_eq!(overlaps, 0, "a limit was exceeded");
    // A delivered row was delivered by its last claim, once; what an earlier claim booked before
    // its process died was booked under its own token.
    let undelivered =
        "SELECT count(*) AS n FROM parcels p WHERE p.status = 'succeeded' AND NOT EXISTS (
        SELECT 1 FROM effects e WHERE e.id = p.id AND e.lease_token = p.lease_token)";
    assert_eq!(count(&store, undelivered).await, 0);
    let repeated =
        "SELECT count(*) AS n FROM (SELECT id FROM effects GROUP BY id HAVING count(*) > 1) AS r
        JOIN parcels p ON p.id = r.id WHERE p.crash_count = 0";
    assert_eq!(count(&store, repeated).await, 0, "only a crash repeats a delivery");
}
