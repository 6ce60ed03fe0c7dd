//! What becomes of slots that come together, wait, or are not wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::store::ScheduleControl;
use scheduler_core::{
    Cadence, History, JobContext, JobDefinition, JobResult, Overlap, RunOnceError, RunSummary,
    RunningScheduler, Scheduler, Scope, StartPolicy,
};
use tokio::sync::{Barrier, Notify};

use crate::harness::{Database, NOON, at_once, wait_for};
use crate::scheduler::{ENDED, RUNNING, RUNS, counting, minutely};

const WAITS: &str = "SELECT coalesce(buffered_for_ms, 0) - 1795435200000 FROM schedules";

async fn a_jittered_slot_fires_late_under_its_own_time_on_the_first_host_that_looks(
    database: Database,
) {
    let definition = || JobDefinition {
        jitter: Some(Duration::from_secs(30)),
        start: StartPolicy::NextSlot,
        ..minutely("mark")
    };
    let ran = Arc::new(AtomicU32::new(0));
    let mut hosts = Vec::new();
    for _ in 0..2 {
        let mut host = database.scheduler();
        host.register(definition(), counting(&ran)).expect("registered");
        hosts.push(host.start().await.expect("started"));
    }
    database.clock.set(NOON + 60_000);
    for step in 1..=30 {
        database.clock.set(NOON + 60_000 + step * 1_000);
    }
    database.until(ENDED, 1_i64).await;
    for host in hosts {
        host.stop(&at_once()).await;
    }
    assert_eq!(database.lines(RUNS).await, ["schedule|60000|1|succeeded|-"]);
    let started: i64 = database.value("SELECT started_at_ms FROM job_runs").await;
    assert!((NOON + 60_001..=NOON + 90_000).contains(&started), "{started}");
}

/// A job whose first run goes on until it is told to end; it says so by its summary.
async fn start(
    database: &Database,
    overlap: Overlap,
    job: impl Fn(JobContext) -> std::pin::Pin<Box<dyn Future<Output = JobResult> + Send>>
    + Send
    + Sync
    + 'static,
) -> RunningScheduler {
    let lease = Duration::from_secs(3_600);
    let mut scheduler = database.scheduler();
    let definition = JobDefinition { overlap, lease, ..minutely("mark") };
    scheduler.register(definition, job).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    running
}

async fn a_slot_that_waits_runs_as_soon_as_the_run_before_it_ends(database: Database) {
    let end = Arc::new(Notify::new());
    let ends = Arc::clone(&end);
    let running = start(&database, Overlap::BufferOne, move |context| {
        let ends = Arc::clone(&ends);
        Box::pin(async move {
            if context.scheduled_for_ms() == NOON {
                ends.notified().await;
            }
            Ok(RunSummary::new())
        })
    })
    .await;
    for slot in [60_000, 120_000] {
        database.clock.set(NOON + slot);
        database.until(WAITS, slot).await;
    }
    end.notify_one();
    // The clock stands: nobody waits for a timer.
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 2_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        [
            "start|0|1|succeeded|-",
            "schedule|60000|1|skipped_overlap|1",
            "buffered|120000|1|succeeded|-"
        ]
    );
}

async fn a_slot_that_replaces_runs_when_the_run_before_it_gave_way(database: Database) {
    let beside = Arc::new(AtomicU32::new(0));
    let now_running = Arc::clone(&beside);
    let running = start(&database, Overlap::Replace, move |context| {
        let beside = Arc::clone(&now_running);
        Box::pin(async move {
            assert_eq!(beside.fetch_add(1, Ordering::SeqCst), 0, "never beside each other");
            if context.scheduled_for_ms() == NOON {
                context.cancelled().await;
            }
            beside.fetch_sub(1, Ordering::SeqCst);
            Err("gave way".into())
        })
    })
    .await;
    database.clock.set(NOON + 60_000);
    database.until(WAITS, 60_000_i64).await;
    // The holder learns it with its next renewal, at most five seconds later.
    database.clock.set(NOON + 65_000);
    database.until(ENDED, 2_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database
            .lines("SELECT trigger, status, error FROM job_runs ORDER BY scheduled_for_ms")
            .await,
        ["start|cancelled|cancelled by request: gave way", "buffered|failed|gave way"]
    );
}

async fn runs_beside_each_other_end_and_stop_on_their_own(database: Database) {
    let lease = Duration::from_secs(3_600);
    let definition =
        || JobDefinition { overlap: Overlap::Allow, overlap_limit: 2, lease, ..minutely("mark") };
    let mut scheduler = database.scheduler();
    let held = |context: JobContext| async move {
        context.cancelled().await;
        Err("told to end".into())
    };
    scheduler.register(definition(), held).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    database.clock.set(NOON + 60_000);
    database.until(RUNNING, 2_i64).await;
    database.clock.set(NOON + 120_000);
    database.until("SELECT count(*) FROM job_runs WHERE status = 'skipped_overlap'", 1_i64).await;
    let refused = running.run_now("mark").await.expect_err("as many run as may");
    assert!(matches!(refused, RunOnceError::Busy { .. }), "{refused}");
    running.stop(&at_once()).await;
    database.until("SELECT count(*) FROM leases WHERE expires_at_ms > 0", 0_i64).await;
    // Both were cut off, and both run again beside each other.
    let meet = Arc::new(Barrier::new(2));
    let meeting = Arc::clone(&meet);
    let mut scheduler = database.scheduler();
    let both = move |_: JobContext| {
        let meeting = Arc::clone(&meeting);
        async move {
            meeting.wait().await;
            Ok(RunSummary::new())
        }
    };
    scheduler.register(definition(), both).expect("registered");
    let running = scheduler.start().await.expect("started");
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 2_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(
        database.lines(RUNS).await,
        [
            "start|0|1|cancelled|-",
            "rerun|0|2|succeeded|-",
            "schedule|60000|1|cancelled|-",
            "rerun|60000|2|succeeded|-",
            "schedule|120000|1|skipped_overlap|1"
        ]
    );
}

async fn an_operator_pauses_a_job_and_gives_it_another_cadence_on_every_host(database: Database) {
    let (clustered, own) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut hosts = Vec::new();
    for _ in 0..2 {
        let mut host = database.scheduler();
        let job = JobDefinition { start: StartPolicy::NextSlot, ..minutely("mark") };
        host.register(job, counting(&clustered)).expect("registered");
        let job = JobDefinition { scope: Scope::Instance, ..minutely("poll") };
        host.register(job, counting(&own)).expect("registered");
        hosts.push(host.start().await.expect("started"));
    }
    let count = |counter: &Arc<AtomicU32>| counter.load(Ordering::SeqCst);
    wait_for("the start of each host", || (count(&clustered), count(&own)) == (0, 2)).await;
    database.clock.set(NOON + 60_000);
    wait_for("a slot of each", || (count(&clustered), count(&own)) == (1, 4)).await;

    for job in ["mark", "poll"] {
        assert!(hosts[0].set_paused(job, true).await.expect("paused"));
    }
    assert!(!hosts[0].set_paused("unknown", true).await.expect("answered"));
    for minute in 2..=10 {
        database.clock.set(NOON + minute * 60_000);
    }
    assert_eq!((count(&clustered), count(&own)), (1, 4), "nothing runs in the pause");
    let often = Cadence::every(Duration::from_secs(10));
    for job in ["mark", "poll"] {
        assert!(hosts[1].set_cadence(job, Some(&often)).await.expect("changed"));
        assert!(hosts[1].set_paused(job, false).await.expect("resumed"));
    }
    wait_for("both hosts are at the new pace", || {
        database.clock.advance(Duration::from_secs(1));
        count(&clustered) >= 2 && count(&own) >= 6
    })
    .await;
    for host in hosts {
        host.stop(&at_once()).await;
    }
    let paused = "SELECT job, trigger, scheduled_for_ms - 1795435200000, status, missed_count FROM job_runs
        WHERE scheduled_for_ms - 1795435200000 > 60000 AND scheduled_for_ms - 1795435200000 <= 600000";
    let lines = database.lines(paused).await;
    assert!(lines.is_empty(), "neither run nor missed: {lines:?}");
}

/// Asked from a process that does not have the job, as a command or a route does.
async fn a_run_that_another_process_asks_for_begins_where_the_job_is(database: Database) {
    let (clustered, ticking) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut host = Scheduler::new(database.another_store().await);
    let by_hand = JobDefinition::new("report", Cadence::Manual);
    host.register(by_hand, counting(&clustered)).expect("registered");
    let tick = JobDefinition {
        scope: Scope::Instance,
        history: History::None,
        ..JobDefinition::new("tick", Cadence::Manual)
    };
    host.register(tick, counting(&ticking)).expect("registered");
    let running = host.start().await.expect("started");
    running.set_paused("report", true).await.expect("paused");
    let asks = database.another_store().await;
    assert_eq!(asks.request_run("unknown").await.expect("answered"), None);
    let asked = asks.request_run("report").await.expect("asked").expect("an id");
    database.until("SELECT count(*) FROM job_runs WHERE status = 'succeeded'", 1_i64).await;
    assert_eq!(
        database.lines("SELECT id, trigger FROM job_runs").await,
        [format!("{asked}|manual")]
    );
    asks.request_run("tick").await.expect("asked").expect("an id");
    wait_for("a run without history", || ticking.load(Ordering::SeqCst) == 1).await;
    database.until("SELECT count(*) FROM schedules WHERE run_requested IS NOT NULL", 0_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(clustered.load(Ordering::SeqCst), 1);

    // Nobody has it: the request stands until somebody does.
    let asked = asks.request_run("report").await.expect("asked").expect("an id");
    let mut host = database.scheduler();
    let by_hand = JobDefinition::new("report", Cadence::Manual);
    host.register(by_hand, counting(&clustered)).expect("registered");
    let running = host.start().await.expect("started");
    let ran =
        format!("SELECT count(*) FROM job_runs WHERE id = '{asked}' AND status = 'succeeded'");
    database.until(&ran, 1_i64).await;
    running.stop(&at_once()).await;
}

on_every_store! {
    a_jittered_slot_fires_late_under_its_own_time_on_the_first_host_that_looks,
    a_slot_that_waits_runs_as_soon_as_the_run_before_it_ends,
    a_slot_that_replaces_runs_when_the_run_before_it_gave_way,
    runs_beside_each_other_end_and_stop_on_their_own,
    an_operator_pauses_a_job_and_gives_it_another_cadence_on_every_host,
    a_run_that_another_process_asks_for_begins_where_the_job_is,
}
