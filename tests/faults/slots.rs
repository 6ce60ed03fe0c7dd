//! One job over six hosts: each slot has one run, a rerun after an interruption, or is inside a
//! recorded miss.

#![expect(clippy::print_stdout, reason = "each torment prints its figures")]

use std::collections::BTreeSet;
use std::time::Duration;

use scheduler_core::Store;

use crate::hosts::{self, count, rows};

const HOSTS: usize = 6;
const DURATION: Duration = Duration::from_secs(20);
const INTERVAL_MS: i64 = 200;
const TABLES: &str = "CREATE TABLE effects (slot BIGINT NOT NULL, attempt BIGINT NOT NULL, token BIGINT NOT NULL, UNIQUE (slot, attempt))";

pub(crate) async fn torment(url: &str) {
    let store = hosts::prepare(url, TABLES).await;
    let figures = hosts::torment("job", url, HOSTS, DURATION, async || false).await;
    let found = Found::read(&store).await;
    println!("slots: {figures}; {}", found.figures());
    found.check();
}

struct Run {
    slot_ms: i64,
    status: String,
    missed: Option<(i64, i64)>,
}

/// What the hosts left in the database.
struct Found {
    runs: Vec<Run>,
    last_fired_ms: i64,
    anchor_ms: i64,
    effects: i64,
    effects_without_run: i64,
}

impl Found {
    async fn read(store: &Store) -> Self {
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
            runs: runs.collect(),
            last_fired_ms: schedule[0].try_get("", "last_fired_for_ms").expect("a column"),
            anchor_ms: schedule[0].try_get("", "anchor_ms").expect("a column"),
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

    fn figures(&self) -> String {
        format!(
            "{} rows: {} succeeded, {} lease_lost, {} missed, {} skipped; {} effects",
            self.runs.len(),
            self.of("succeeded"),
            self.of("lease_lost"),
            self.of("missed"),
            self.of("skipped_overlap"),
            self.effects
        )
    }

    fn check(&self) {
        assert_eq!(self.of("running"), 0, "nothing is left running");
        assert_eq!(self.effects_without_run, 0);
        assert!(self.of("succeeded") >= 30, "the job goes on: {}", self.figures());
        // No slot succeeded twice.
        let mut succeeded = BTreeSet::new();
        for run in self.runs.iter().filter(|run| run.status == "succeeded") {
            assert!(succeeded.insert(run.slot_ms), "slot {} succeeded twice", run.slot_ms);
        }
        // No slot is lost: it has a run, or is inside a recorded miss or skip.
        let mut covered: BTreeSet<i64> = BTreeSet::new();
        for run in &self.runs {
            covered.insert(run.slot_ms);
            if let Some((until_ms, _)) = run.missed {
                covered.extend((run.slot_ms..=until_ms).filter(|slot| self.on_grid(*slot)));
            }
        }
        let expected = (self.anchor_ms..=self.last_fired_ms).filter(|slot| self.on_grid(*slot));
        let lost: Vec<i64> = expected.filter(|slot| !covered.contains(slot)).collect();
        assert!(lost.is_empty(), "slots without a trace: {lost:?}");
    }

    fn on_grid(&self, slot_ms: i64) -> bool {
        (slot_ms - self.anchor_ms) % INTERVAL_MS == 0
    }
}
