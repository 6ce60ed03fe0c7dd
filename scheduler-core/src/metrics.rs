//! Figures through the `metrics` facade, for whatever recorder the program installs.
//!
//! The names are stable; the table of them stands in the crate's README.

use metrics::{counter, histogram};

use crate::events::Event;
use crate::run::{RunStatus, Trigger};

/// Counts what an event says.
pub(crate) fn count(event: &Event) {
    match event {
        Event::RunStarted { job, trigger, late, .. } => {
            counter!("scheduler_runs_started_total", "job" => job.to_string(), "trigger" => trigger.as_str())
                .increment(1);
            if matches!(trigger, Trigger::Schedule | Trigger::Buffered) {
                histogram!("scheduler_run_lateness_seconds", "job" => job.to_string())
                    .record(late.as_secs_f64());
            }
        }
        Event::RunEnded { job, status, took, .. } => {
            counter!("scheduler_runs_ended_total", "job" => job.to_string(), "status" => status.as_str())
                .increment(1);
            histogram!("scheduler_run_duration_seconds", "job" => job.to_string())
                .record(took.as_secs_f64());
            if *status == RunStatus::LeaseLost {
                counter!("scheduler_leases_lost_total", "job" => job.to_string()).increment(1);
            }
        }
        Event::RunCutOff { job, .. } => {
            counter!("scheduler_runs_cut_off_total", "job" => job.to_string()).increment(1);
        }
        Event::SlotsMissed { job, missed } => {
            counter!("scheduler_slots_missed_total", "job" => job.to_string())
                .increment(missed.count.unsigned_abs());
        }
        Event::SlotSkipped { job, .. } => {
            counter!("scheduler_slots_skipped_total", "job" => job.to_string()).increment(1);
        }
        Event::Overrun { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::plan::Missed;
    use crate::run::RunId;

    /// What one event counts, a line per figure.
    fn counted(event: &Event) -> Vec<String> {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || count(event));
        let figures = recorder.snapshotter().snapshot().into_vec();
        let mut lines: Vec<String> = figures
            .into_iter()
            .map(|(key, _, _, value)| {
                let value = match value {
                    DebugValue::Counter(count) => count.to_string(),
                    DebugValue::Gauge(gauge) => gauge.to_string(),
                    DebugValue::Histogram(values) => format!("{values:?}"),
                };
                let labels =
                    key.key().labels().map(|label| format!("{}={}", label.key(), label.value()));
                let labels: Vec<String> = labels.collect();
                format!("{}{{{}}} {value}", key.key().name(), labels.join(","))
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn each_event_has_its_figures() {
        let job: Arc<str> = Arc::from("mark");
        let run_id = RunId::new();
        let started = |trigger| Event::RunStarted {
            job: Arc::clone(&job),
            run_id,
            trigger,
            scheduled_for_ms: 0,
            attempt: 1,
            late: Duration::from_millis(250),
        };
        let ended = |status| Event::RunEnded {
            job: Arc::clone(&job),
            run_id,
            status,
            took: Duration::from_millis(1_500),
            error: None,
        };
        let missed = Missed { from_ms: 0, until_ms: 9, count: 7 };
        let table: [(Event, &[&str]); 7] = [
            (
                started(Trigger::Schedule),
                &[
                    "scheduler_run_lateness_seconds{job=mark} [0.25]",
                    "scheduler_runs_started_total{job=mark,trigger=schedule} 1",
                ],
            ),
            (started(Trigger::Rerun), &["scheduler_runs_started_total{job=mark,trigger=rerun} 1"]),
            (
                ended(RunStatus::Succeeded),
                &[
                    "scheduler_run_duration_seconds{job=mark} [1.5]",
                    "scheduler_runs_ended_total{job=mark,status=succeeded} 1",
                ],
            ),
            (
                ended(RunStatus::LeaseLost),
                &[
                    "scheduler_leases_lost_total{job=mark} 1",
                    "scheduler_run_duration_seconds{job=mark} [1.5]",
                    "scheduler_runs_ended_total{job=mark,status=lease_lost} 1",
                ],
            ),
            (
                Event::RunCutOff { job: Arc::clone(&job), run_id, scheduled_for_ms: 0, attempt: 1 },
                &["scheduler_runs_cut_off_total{job=mark} 1"],
            ),
            (
                Event::SlotsMissed { job: Arc::clone(&job), missed },
                &["scheduler_slots_missed_total{job=mark} 7"],
            ),
            (
                Event::SlotSkipped { job: Arc::clone(&job), scheduled_for_ms: 0 },
                &["scheduler_slots_skipped_total{job=mark} 1"],
            ),
        ];
        for (event, expected) in table {
            assert_eq!(counted(&event), expected, "{event:?}");
        }
    }
}
