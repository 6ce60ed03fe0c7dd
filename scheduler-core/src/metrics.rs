//! Figures through the `metrics` facade, for whatever recorder the program installs.
//!
//! The names are stable; the table of them stands in the crate's README.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};

use crate::events::Event;
use crate::queue::Outcome;
use crate::run::{RunStatus, Trigger};
use crate::store::{Claimed, RowGrant, SettledRow};

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

/// Counts what a queue's claim found.
pub(crate) fn count_claim(queue: &Arc<str>, claimed: &Claimed) {
    let Claimed { rows, reclaimed, quarantined } = claimed;
    if !rows.is_empty() {
        counter!("scheduler_rows_claimed_total", "queue" => Arc::clone(queue))
            .increment(rows.len() as u64);
        histogram!("scheduler_claim_batch_rows", "queue" => Arc::clone(queue))
            .record(rows.len() as f64);
    }
    let others = [
        ("scheduler_rows_reclaimed_total", *reclaimed),
        ("scheduler_rows_quarantined_total", *quarantined),
    ];
    for (name, count) in others.into_iter().filter(|(_, count)| *count > 0) {
        counter!(name, "queue" => Arc::clone(queue)).increment(count);
    }
}

/// Counts how rows of a queue ended, of which these were still held.
pub(crate) fn count_ends(queue: &Arc<str>, ends: &[SettledRow], held: impl Fn(&RowGrant) -> bool) {
    let mut outcomes: Vec<(&'static str, u64)> = Vec::new();
    for row in ends {
        let outcome = if held(&row.grant) { Outcome::of(row).as_str() } else { "lost" };
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => outcomes.push((outcome, 1)),
        }
    }
    for (outcome, count) in outcomes {
        counter!("scheduler_rows_ended_total", "queue" => Arc::clone(queue), "outcome" => outcome)
            .increment(count);
    }
    if !ends.is_empty() {
        histogram!("scheduler_finish_batch_rows", "queue" => Arc::clone(queue))
            .record(ends.len() as f64);
    }
}

/// Notes how long a row's handler took.
pub(crate) fn time_row(queue: &Arc<str>, took: Duration) {
    histogram!("scheduler_row_duration_seconds", "queue" => Arc::clone(queue))
        .record(took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::plan::Missed;
    use crate::run::{InstanceId, RunId};
    use crate::store::{RowId, RowStatus};

    /// What one event counts.
    fn counted(event: &Event) -> Vec<String> {
        figures(|| count(event))
    }

    /// What is counted, a line per figure.
    fn figures(counts: impl FnOnce()) -> Vec<String> {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, counts);
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
    fn rows_are_counted_as_claimed_and_as_they_ended() {
        let queue: Arc<str> = Arc::from("mails");
        let row = |id, status| SettledRow {
            grant: RowGrant { id: RowId::Int(id), token: 1, holder: InstanceId::new() },
            status,
            delay_ms: None,
            give_attempt_back: false,
            error: None,
            result: None,
        };
        let ends = [
            row(1, RowStatus::Succeeded),
            row(2, RowStatus::Queued),
            row(3, RowStatus::Succeeded),
            row(4, RowStatus::Succeeded),
        ];
        let is_held = |grant: &RowGrant| grant.id != RowId::Int(4);
        assert_eq!(
            figures(|| count_ends(&queue, &ends, is_held)),
            [
                "scheduler_finish_batch_rows{queue=mails} [4.0]",
                "scheduler_rows_ended_total{queue=mails,outcome=lost} 1",
                "scheduler_rows_ended_total{queue=mails,outcome=retried} 1",
                "scheduler_rows_ended_total{queue=mails,outcome=succeeded} 2",
            ]
        );
        assert!(figures(|| count_claim(&queue, &Claimed::default())).is_empty());
        let claimed = Claimed { reclaimed: 2, quarantined: 1, ..Claimed::default() };
        assert_eq!(
            figures(|| count_claim(&queue, &claimed)),
            [
                "scheduler_rows_quarantined_total{queue=mails} 1",
                "scheduler_rows_reclaimed_total{queue=mails} 2",
            ]
        );
        let took = Duration::from_millis(250);
        let expected = ["scheduler_row_duration_seconds{queue=mails} [0.25]"];
        assert_eq!(figures(|| time_row(&queue, took)), expected);
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
