//! The read model of heartbeats: what each worker did last, and whether it is well.
//!
//! The rule of staleness is pure; the store loads the facts. See the example of
//! [`store`](crate::store).

use serde_json::Value;

use crate::cadence::Cadence;
use crate::run::words;

words! {
    /// What a worker's heartbeat says.
    WorkerStatus {
        /// Registered, no run yet.
        NeverRun = "never_run",
        /// A run is under way.
        Running = "running",
        /// The last run ended well.
        Succeeded = "succeeded",
        /// The last run did not.
        Failed = "failed",
    }
}

words! {
    /// How the whole stands.
    HealthStatus {
        /// Every worker is well.
        Ok = "ok",
        /// A worker failed or is stale.
        Degraded = "degraded",
        /// No instance is alive.
        Down = "down",
    }
}

/// The health of all workers at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthReport {
    /// How the whole stands.
    pub status: HealthStatus,
    /// When this was read, epoch milliseconds.
    pub generated_at_ms: i64,
    /// One entry per worker, by name.
    pub workers: Vec<WorkerHealth>,
}

/// The health of one worker. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerHealth {
    /// The worker: its job's name.
    pub worker: String,
    /// What its heartbeat says.
    pub status: WorkerStatus,
    /// Whether it should have succeeded by now.
    pub stale: bool,
    /// The interval of its cadence, or the span between the next two slots of a cron expression;
    /// `None` for a manual job.
    pub expected_interval_ms: Option<i64>,
    /// When the last run began.
    pub last_started_at_ms: Option<i64>,
    /// When the last run ended.
    pub last_completed_at_ms: Option<i64>,
    /// When a run last ended well.
    pub last_success_at_ms: Option<i64>,
    /// When a run last failed.
    pub last_error_at_ms: Option<i64>,
    /// Why it last failed.
    pub last_error: Option<String>,
    /// What the last run did.
    pub summary: Option<Value>,
    /// How long the last run took, milliseconds.
    pub latency_ms: Option<i64>,
    /// Errors since the last success: the worst of the live instances.
    pub consecutive_errors: i64,
    /// Runs that ended, over all instances.
    pub total_runs: i64,
    /// Runs that failed, over all instances.
    pub total_errors: i64,
    /// When the job is due next.
    pub next_due_at_ms: Option<i64>,
    /// The instance that runs it now.
    pub lease_holder: Option<String>,
}

/// What a heartbeat's row and its job's schedule and lease say, before it is judged.
#[derive(Debug, Clone)]
pub(crate) struct WorkerFacts {
    /// The row, with `stale` and `expected_interval_ms` not yet decided.
    pub(crate) row: WorkerHealth,
    pub(crate) registered_at_ms: i64,
    pub(crate) cadence: Option<Cadence>,
    pub(crate) paused: bool,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) lease_expires_at_ms: Option<i64>,
}

/// A worker is never stale before this, however short its interval.
const SHORTEST_PATIENCE_MS: i64 = 60_000;

impl WorkerFacts {
    /// Judges the worker at `now_ms`.
    pub(crate) fn health(self, now_ms: i64) -> WorkerHealth {
        let expected_interval_ms = self.cadence.as_ref().and_then(|c| c.spacing_ms(now_ms));
        let stale = self.is_stale(now_ms);
        let leased = self.lease_expires_at_ms.is_some_and(|at_ms| at_ms > now_ms);
        let lease_holder = self.row.lease_holder.filter(|_| leased);
        WorkerHealth { stale, expected_interval_ms, lease_holder, ..self.row }
    }

    fn is_stale(&self, now_ms: i64) -> bool {
        if self.paused {
            return false;
        }
        let leased = self.lease_expires_at_ms.is_some_and(|at_ms| at_ms > now_ms);
        if self.row.status == WorkerStatus::Running && !leased {
            return true;
        }
        let inside_its_timeout = leased
            && self.row.status == WorkerStatus::Running
            && self.timeout_ms.is_none_or(|timeout_ms| {
                let started_at_ms = self.row.last_started_at_ms.unwrap_or(now_ms);
                now_ms.saturating_sub(started_at_ms) <= timeout_ms
            });
        let since_ms = self.row.last_success_at_ms.unwrap_or(self.registered_at_ms);
        let Some(third_fire_ms) = self.third_fire_after(since_ms) else {
            return false;
        };
        let patience_ms = SHORTEST_PATIENCE_MS.max(third_fire_ms - since_ms);
        now_ms.saturating_sub(since_ms) > patience_ms && !inside_its_timeout
    }

    /// When a worker that succeeded at `since_ms` has had three more chances to.
    fn third_fire_after(&self, since_ms: i64) -> Option<i64> {
        let cadence = self.cadence.as_ref()?;
        (0..3).try_fold(since_ms, |at_ms, _| cadence.next_after(since_ms, at_ms))
    }
}

/// How the whole stands: `down` without a live instance, `degraded` with a stale or failed worker.
pub(crate) fn overall(workers: &[WorkerHealth], live_instances: i64) -> HealthStatus {
    if live_instances == 0 {
        HealthStatus::Down
    } else if workers.iter().any(|worker| worker.stale || worker.status == WorkerStatus::Failed) {
        HealthStatus::Degraded
    } else {
        HealthStatus::Ok
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: i64 = 10_000_000;

    fn facts(status: WorkerStatus) -> WorkerFacts {
        let row = WorkerHealth {
            worker: "prop_decisions".into(),
            status,
            stale: false,
            expected_interval_ms: None,
            last_started_at_ms: None,
            last_completed_at_ms: None,
            last_success_at_ms: None,
            last_error_at_ms: None,
            last_error: None,
            summary: None,
            latency_ms: None,
            consecutive_errors: 0,
            total_runs: 0,
            total_errors: 0,
            next_due_at_ms: None,
            lease_holder: Some("me".into()),
        };
        WorkerFacts {
            row,
            registered_at_ms: NOW,
            cadence: Some(Cadence::every(Duration::from_secs(60))),
            paused: false,
            timeout_ms: None,
            lease_expires_at_ms: None,
        }
    }

    fn check(name: &str, stale: bool, change: impl FnOnce(&mut WorkerFacts)) {
        let mut facts = facts(WorkerStatus::Succeeded);
        change(&mut facts);
        assert_eq!(facts.health(NOW).stale, stale, "{name}");
    }

    #[test]
    fn a_worker_is_stale_when_it_should_have_succeeded_by_now() {
        use WorkerStatus::{NeverRun, Running};
        check("just registered", false, |f| f.row.status = NeverRun);
        check("never ran", true, |f| {
            f.row.status = NeverRun;
            f.registered_at_ms = NOW - 180_001;
        });
        check("at three intervals", false, |f| f.row.last_success_at_ms = Some(NOW - 180_000));
        check("after three intervals", true, |f| f.row.last_success_at_ms = Some(NOW - 180_001));
        check("a short interval has a minute", false, |f| {
            f.cadence = Some(Cadence::every(Duration::from_secs(1)));
            f.row.last_success_at_ms = Some(NOW - 60_000);
        });
        check("paused", false, |f| {
            f.paused = true;
            f.row.last_success_at_ms = Some(0);
        });
        check("manual", false, |f| {
            f.cadence = Some(Cadence::Manual);
            f.row.last_success_at_ms = Some(0);
        });
        // Nine o'clock of every day, in a world that is a few hours old.
        let daily = Cadence::cron("0 9 * * *", "UTC").unwrap();
        let (nine, day) = (32_400_000, 86_400_000);
        for (name, since, now, stale) in [
            ("cron: two fires are missed", nine + 1_000, nine + 3 * day, false),
            ("cron: three fires are missed", nine + 1_000, nine + 3 * day + 1, true),
        ] {
            let mut facts = facts(WorkerStatus::Succeeded);
            facts.cadence = Some(daily.clone());
            facts.row.last_success_at_ms = Some(since);
            assert_eq!(facts.health(now).stale, stale, "{name}");
        }
        check("a long run inside its timeout", false, |f| {
            f.row.status = Running;
            f.row.last_success_at_ms = Some(0);
            f.row.last_started_at_ms = Some(NOW - 500_000);
            f.lease_expires_at_ms = Some(NOW + 1);
            f.timeout_ms = Some(500_000);
        });
        check("a long run outside its timeout", true, |f| {
            f.row.status = Running;
            f.row.last_success_at_ms = Some(0);
            f.row.last_started_at_ms = Some(NOW - 500_001);
            f.lease_expires_at_ms = Some(NOW + 1);
            f.timeout_ms = Some(500_000);
        });
        check("running with an expired lease", true, |f| {
            f.row.status = Running;
            f.row.last_success_at_ms = Some(NOW);
            f.lease_expires_at_ms = Some(NOW);
        });
        check("a manual job that crashed", true, |f| {
            f.cadence = Some(Cadence::Manual);
            f.row.status = Running;
        });
    }

    #[test]
    fn the_whole_is_as_well_as_its_worst_worker() {
        let well = facts(WorkerStatus::Succeeded).health(NOW);
        let failed = facts(WorkerStatus::Failed).health(NOW);
        let stale = WorkerHealth { stale: true, ..well.clone() };
        assert_eq!(overall(std::slice::from_ref(&well), 1), HealthStatus::Ok);
        assert_eq!(overall(&[well.clone(), failed], 1), HealthStatus::Degraded);
        assert_eq!(overall(&[stale], 2), HealthStatus::Degraded);
        assert_eq!(overall(&[well], 0), HealthStatus::Down);
    }

    #[test]
    fn an_expired_lease_has_no_holder() {
        let mut facts = facts(WorkerStatus::Succeeded);
        facts.lease_expires_at_ms = Some(NOW);
        assert_eq!(facts.health(NOW).lease_holder, None);
    }
}
