//! Rows that this version cannot read: a newer one wrote them, or a hand.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::store::ScheduleStore;
use scheduler_core::{Cadence, JobContext, JobDefinition, RunSummary};
use tracing_subscriber::util::SubscriberInitExt;

use crate::harness::{Database, NOON, at_once, wait_for};

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a log").write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().expect("a log")).matches(words).count()
    }
}

async fn a_run_row_that_cannot_be_read_keeps_no_job_from_running(database: Database) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _here = subscriber.set_default();
    // Left by a crash of a version that knows more triggers, and of one with other identities.
    for (id, trigger, instance) in [
        (
            scheduler_core::RunId::new().to_string(),
            "tide",
            scheduler_core::InstanceId::new().to_string(),
        ),
        ("run-7".to_owned(), "schedule", "host-7".to_owned()),
    ] {
        let row = format!(
            "INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, attempt, status, started_at_ms, instance_id, token)
             VALUES ('{id}', 'mark', '{trigger}', {NOON} - 60000, 1, 'running', {NOON} - 60000, '{instance}', 1)"
        );
        database.execute(&row).await;
        database.execute("UPDATE job_runs SET scheduled_for_ms = scheduled_for_ms - 60000").await;
    }
    let ran = Arc::new(AtomicU32::new(0));
    let mut scheduler = database.scheduler();
    for job in ["mark", "other"] {
        let ran = Arc::clone(&ran);
        let count = move |_: JobContext| {
            ran.fetch_add(1, Ordering::SeqCst);
            async { Ok(RunSummary::new()) }
        };
        let definition = JobDefinition::new(job, Cadence::every(Duration::from_secs(60)));
        scheduler.register(definition, count).expect("registered");
    }
    let running = scheduler.start().await.expect("started");
    for minutes in 1..=3 {
        wait_for("both jobs", || ran.load(Ordering::SeqCst) == 2 * minutes).await;
        let done = "SELECT count(*) FROM job_runs WHERE status = 'succeeded'";
        database.until(done, i64::from(2 * minutes)).await;
        database.clock.advance(Duration::from_secs(60));
    }
    running.stop(&at_once()).await;
    let left: i64 = database.value("SELECT count(*) FROM job_runs WHERE status = 'running'").await;
    assert_eq!(left, 2, "what is not understood is left alone");
    assert_eq!(log.count("a row cannot be read"), 2, "each is logged once");
    for reason in ["holds `tide`, expected", "holds `run-7`, expected a UUID"] {
        assert_eq!(log.count(reason), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_schedule_that_cannot_be_read_stops_its_own_job_only() {
    // SQLite keeps what it is given; a server's columns have types.
    let database = Database::new().await;
    for (job, anchor) in [("mark", "'noon'"), ("other", "0")] {
        let row = format!(
            "INSERT INTO schedules (job, cadence, definition_hash, anchor_ms) VALUES ('{job}', 'every 1m', '1', {anchor})"
        );
        database.execute(&row).await;
    }
    let look = database.store.look(&["mark".to_owned(), "other".to_owned()]).await;
    let jobs: Vec<String> =
        look.expect("a look").schedules.into_iter().map(|row| row.job).collect();
    assert_eq!(jobs, ["other"]);
}

on_every_store! {
    a_run_row_that_cannot_be_read_keeps_no_job_from_running,
}
