//! One job over six hosts: each slot has one run, a rerun after an interruption, or is inside a
//! recorded miss or skip.

#![expect(clippy::print_stdout, reason = "each torment prints its figures")]

use std::collections::BTreeSet;

use scheduler_core::Store;

use crate::database::{JOB_TABLES, count, prepare, rows, scheme};
use crate::torment::{Orphans, Recoveries, Recovery, Torment};

const HOSTS: usize = 6;
const SLOTS: i64 = 200;
const INTERVAL_MS: i64 = 200;
const PASSED: &str = "SELECT coalesce(max(last_fired_for_ms - anchor_ms), 0) AS n FROM schedules";
const SUCCEEDED: &str = "SELECT count(*) AS n FROM job_runs WHERE status = 'succeeded'";
const RUNNING: &str = "SELECT count(*) AS n FROM job_runs WHERE status = 'running'";

pub(crate) async fn torment(url: &str) {
    let store = prepare(url, JOB_TABLES).await;
    let torment = Torment { kind: "job", url, hosts: HOSTS };
    let enough = async || {
        let passed = count(&store, PASSED).await >= SLOTS * INTERVAL_MS;
        passed && count(&store, SUCCEEDED).await >= 30
    };
    let grants = async |instance: &str| grants(&store, instance).await;
    // Slots go on: what is left is what the end of the hosts leaves.
    let done = torment.run(enough, async || true, grants).await;
    let recoveries = recoveries(&store, &done.orphans).await;
    let found = Found::read(&store, INTERVAL_MS).await;
    let recoveries = done.figures_of(&recoveries);
    println!("slots on {}: {done}; {}; {recoveries}", scheme(url), found.figures());
    assert_eq!(done.locked, 0, "{done}");
    assert!(found.slots() >= SLOTS, "the job goes on: {}", found.figures());
    assert!(found.of("succeeded") >= 30, "the job goes on: {}", found.figures());
    found.check();
}

async fn grants(store: &Store, instance: &str) -> Orphans {
    let held = format!("SELECT token, expires_at_ms FROM leases WHERE holder = '{instance}'");
    let held = rows(store, &held).await;
    let read = |row: &sea_orm::QueryResult| {
        let token: i64 = row.try_get("", "token").expect("a column");
        (("tick".to_owned(), token), row.try_get("", "expires_at_ms").expect("a column"))
    };
    held.iter().map(read).collect()
}

/// How long after the lease of an interrupted run its slot ran again.
async fn recoveries(store: &Store, orphans: &Orphans) -> Recoveries {
    let reruns = "SELECT r.token, n.started_at_ms FROM job_runs r JOIN job_runs n
        ON n.job = r.job AND n.scheduled_for_ms = r.scheduled_for_ms AND n.attempt = r.attempt + 1
        WHERE r.status = 'lease_lost' AND n.started_at_ms IS NOT NULL";
    let spans = rows(store, reruns).await.into_iter().filter_map(|row| {
        let token: i64 = row.try_get("", "token").expect("a column");
        let began_ms: i64 = row.try_get("", "started_at_ms").expect("a column");
        let expired_ms = *orphans.get(&("tick".to_owned(), token))?;
        Some(Recovery { expired_ms, began_ms })
    });
    Recoveries::new(spans.collect())
}

struct Run {
    slot_ms: i64,
    status: String,
    missed: Option<(i64, i64)>,
}

/// What the hosts left in the database.
pub(crate) struct Found {
    interval_ms: i64,
    runs: Vec<Run>,
    last_fired_ms: i64,
    anchor_ms: i64,
    running: i64,
    effects: i64,
    effects_without_run: i64,
}

impl Found {
    pub(crate) async fn read(store: &Store, interval_ms: i64) -> Self {
        let found = rows(store, "SELECT scheduled_for_ms, status, missed_until_ms, missed_count FROM job_runs ORDER BY scheduled_for_ms, attempt").await;
        let runs = found.iter().map(|row| {
            let until: Option<i64> = row.try_get("", "missed_until_ms").expect("a column");
            let count: Option<i64> = row.try_get("", "missed_count").expect("a column");
            Run {
                slot_ms: row.try_get("", "scheduled_for_ms").expect("a column"),
                status: row.try_get("", "status").expect("a column"),
                missed: until.zip(count),
            }
        });
        let schedule = "SELECT last_fired_for_ms, anchor_ms FROM schedules";
        let schedule = rows(store, schedule).await;
        Self {
            interval_ms,
            runs: runs.collect(),
            last_fired_ms: schedule[0].try_get("", "last_fired_for_ms").expect("a column"),
            anchor_ms: schedule[0].try_get("", "anchor_ms").expect("a column"),
            running: count(store, RUNNING).await,
            effects: count(store, "SELECT count(*) AS n FROM effects").await,
            effects_without_run: count(
                store,
                "SELECT count(*) AS n FROM effects e WHERE NOT EXISTS (SELECT 1 FROM job_runs r
                 WHERE r.scheduled_for_ms = e.slot AND r.attempt = e.attempt AND r.token = e.token)",
            )
            .await,
        }
    }

    fn of(&self, status: &str) -> usize {
        self.runs.iter().filter(|run| run.status == status).count()
    }

    fn slots(&self) -> i64 {
        (self.last_fired_ms - self.anchor_ms) / self.interval_ms
    }

    pub(crate) fn figures(&self) -> String {
        format!(
            "{} slots, {} rows: {} succeeded, {} lease_lost, {} missed, {} skipped, {} cut off; \
             {} effects; {} lost, {} doubled",
            self.slots(),
            self.runs.len(),
            self.of("succeeded"),
            self.of("lease_lost"),
            self.of("missed"),
            self.of("skipped_overlap"),
            self.of("cancelled"),
            self.effects,
            self.lost().len(),
            self.doubled().len(),
        )
    }

    /// Slots that succeeded twice.
    fn doubled(&self) -> Vec<i64> {
        let mut succeeded = BTreeSet::new();
        let successes = self.runs.iter().filter(|run| run.status == "succeeded");
        successes.map(|run| run.slot_ms).filter(|slot_ms| !succeeded.insert(*slot_ms)).collect()
    }

    /// Slots that have no run and are inside of no recorded miss or skip.
    fn lost(&self) -> Vec<i64> {
        let mut covered: BTreeSet<i64> = BTreeSet::new();
        for run in &self.runs {
            covered.insert(run.slot_ms);
            if let Some((until_ms, _)) = run.missed {
                covered.extend((run.slot_ms..=until_ms).filter(|slot| self.on_grid(*slot)));
            }
        }
        let expected = (self.anchor_ms..=self.last_fired_ms).filter(|slot| self.on_grid(*slot));
        expected.filter(|slot| !covered.contains(slot)).collect()
    }

    /// What must hold whatever was done to the hosts.
    pub(crate) fn check(&self) {
        assert_eq!(self.running, 0, "nothing is left running");
        assert_eq!(self.effects_without_run, 0);
        assert_eq!(self.doubled(), Vec::<i64>::new(), "slots that succeeded twice");
        assert_eq!(self.lost(), Vec::<i64>::new(), "slots without a trace");
    }

    fn on_grid(&self, slot_ms: i64) -> bool {
        (slot_ms - self.anchor_ms) % self.interval_ms == 0
    }
}
