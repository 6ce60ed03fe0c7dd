//! What runs without rows did since it was written last: pure.

use serde_json::Value;

use crate::executor::RunReport;
use crate::heartbeat::WorkerStatus;
use crate::run::{InstanceId, RunStatus};
use crate::store::HeartbeatRollUp;

/// Counts of one job in one process. Instants are epoch milliseconds of this process's clock.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tally {
    runs: i64,
    errors: i64,
    /// Since the last success among these runs, or the first of them.
    errors_in_a_row: i64,
    started_at_ms: Option<i64>,
    ended_at_ms: Option<i64>,
    success_at_ms: Option<i64>,
    error_at_ms: Option<i64>,
    error: Option<String>,
    summary: Option<Value>,
    latency_ms: i64,
    status: Option<WorkerStatus>,
}

impl Tally {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Counts a run that ended. One that a stop cut off is neither a success nor an error.
    pub(crate) fn count(&mut self, report: &RunReport, started_at_ms: i64, ended_at_ms: i64) {
        self.runs += 1;
        self.started_at_ms = Some(started_at_ms);
        self.ended_at_ms = Some(ended_at_ms);
        self.latency_ms = ended_at_ms.saturating_sub(started_at_ms);
        if report.status == RunStatus::Succeeded {
            self.errors_in_a_row = 0;
            self.success_at_ms = Some(ended_at_ms);
            self.error = None;
            self.summary.clone_from(&report.summary);
            self.status = Some(WorkerStatus::Succeeded);
        } else if report.status.is_error() {
            self.errors += 1;
            self.errors_in_a_row += 1;
            self.error_at_ms = Some(ended_at_ms);
            self.error.clone_from(&report.error);
            self.status = Some(WorkerStatus::Failed);
        }
    }

    /// Puts back what could not be written, before what was counted since.
    pub(crate) fn put_back(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        self.runs += newer.runs;
        self.errors += newer.errors;
        if newer.success_at_ms.is_some() {
            (self.errors_in_a_row, self.error) = (0, None);
        }
        self.errors_in_a_row += newer.errors_in_a_row;
        if !newer.is_empty() {
            self.latency_ms = newer.latency_ms;
        }
        self.started_at_ms = newer.started_at_ms.or(self.started_at_ms);
        self.ended_at_ms = newer.ended_at_ms.or(self.ended_at_ms);
        self.success_at_ms = newer.success_at_ms.or(self.success_at_ms);
        self.error_at_ms = newer.error_at_ms.or(self.error_at_ms);
        self.error = newer.error.or(self.error.take());
        self.summary = newer.summary.or(self.summary.take());
        self.status = newer.status.or(self.status);
    }

    /// The same as a store takes it.
    pub(crate) fn to_row(
        &self,
        job: &str,
        instance_id: InstanceId,
        now_ms: i64,
    ) -> HeartbeatRollUp {
        let age = |at_ms: Option<i64>| at_ms.map(|at_ms| now_ms.saturating_sub(at_ms).max(0));
        HeartbeatRollUp {
            worker: job.to_owned(),
            instance_id,
            runs: self.runs,
            errors: self.errors,
            errors_in_a_row: self.errors_in_a_row,
            started_ago_ms: age(self.started_at_ms),
            ended_ago_ms: age(self.ended_at_ms),
            success_ago_ms: age(self.success_at_ms),
            error_ago_ms: age(self.error_at_ms),
            last_error: self.error.clone(),
            summary: self.summary.clone(),
            latency_ms: self.latency_ms,
            status: self.status,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::RunId;

    fn tally(ends: &[(RunStatus, i64)]) -> Tally {
        let mut tally = Tally::default();
        for (status, at_ms) in ends {
            let succeeded = *status == RunStatus::Succeeded;
            let report = RunReport {
                run_id: RunId::new(),
                status: *status,
                summary: succeeded.then(|| json!({ "at": at_ms })),
                error: (!succeeded).then(|| format!("{status} at {at_ms}")),
            };
            tally.count(&report, at_ms - 3, *at_ms);
        }
        tally
    }

    #[test]
    fn what_could_not_be_written_counts_before_what_came_since() {
        use RunStatus::{Cancelled, Failed, Succeeded, TimedOut};
        let ends = [
            (Succeeded, 10),
            (Failed, 20),
            (TimedOut, 30),
            (Cancelled, 40),
            (Succeeded, 50),
            (Failed, 60),
            (Cancelled, 70),
        ];
        for cut in 0..=ends.len() {
            let mut parts = tally(&ends[cut..]);
            parts.put_back(tally(&ends[..cut]));
            assert_eq!(parts, tally(&ends), "cut at {cut}");
        }
        let row = tally(&ends).to_row("tick", InstanceId::new(), 100);
        assert_eq!((row.runs, row.errors, row.errors_in_a_row), (7, 3, 1));
        assert_eq!((row.started_ago_ms, row.ended_ago_ms), (Some(33), Some(30)));
        assert_eq!((row.success_ago_ms, row.error_ago_ms), (Some(50), Some(40)));
        assert_eq!(row.last_error.as_deref(), Some("failed at 60"));
        assert_eq!((row.status, row.latency_ms), (Some(WorkerStatus::Failed), 3));
        assert!(Tally::default().is_empty() && !tally(&ends).is_empty());
    }
}
