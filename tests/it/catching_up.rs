//! Slots that passed while nobody ran, and run one after another.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    InstanceId, JobContext, JobDefinition, JobResult, Misfire, RunId, RunSummary, Scheduler,
    Shutdown, StartPolicy,
};
use tokio::sync::Semaphore;

use crate::harness::{Database, NOON, at_once, wait_for};
use crate::scheduler::{RUNNING, RUNS, minutely};

const SUCCEEDED: &str = "SELECT count(*) FROM job_runs WHERE status = 'succeeded'";
const WAITING: &str = "SELECT coalesce(waiting_slots, '-') FROM schedules";

fn all(at_most: u32) -> JobDefinition {
    JobDefinition {
        misfire: Misfire::FireAll { at_most },
        start: StartPolicy::NextSlot,
        lease: Duration::from_secs(3_600),
        ..minutely("mark")
    }
}

/// A job whose runs end when they are let, and that notes their slots as minutes after noon.
#[derive(Clone)]
struct Turns {
    may_end: Arc<Semaphore>,
    began: Arc<Mutex<Vec<i64>>>,
    beside: Arc<AtomicI64>,
}

impl Turns {
    fn free() -> Self {
        Self { may_end: Arc::new(Semaphore::new(1_000)), ..Self::held() }
    }

    fn held() -> Self {
        let may_end = Arc::new(Semaphore::new(0));
        Self { may_end, began: Arc::default(), beside: Arc::default() }
    }

    async fn run(self, context: JobContext) -> JobResult {
        assert_eq!(self.beside.fetch_add(1, Ordering::SeqCst), 0, "one after another");
        let minute = (context.scheduled_for_ms() - NOON) / 60_000;
        self.began.lock().expect("no panic").push(minute);
        tokio::select! {
            permit = self.may_end.acquire() => permit.expect("open").forget(),
            () = context.cancelled() => {}
        }
        self.beside.fetch_sub(1, Ordering::SeqCst);
        if context.cancellation().is_cancelled() {
            Err("cut off".into())
        } else {
            Ok(RunSummary::new())
        }
    }

    fn register(&self, scheduler: &mut Scheduler, definition: JobDefinition) {
        let turns = self.clone();
        let job = move |context: JobContext| turns.clone().run(context);
        scheduler.register(definition, job).expect("registered");
    }

    fn began(&self) -> Vec<i64> {
        self.began.lock().expect("no panic").clone()
    }
}

/// A job that was known an hour ago and that nobody has run since.
async fn an_hour_later(database: &Database) {
    let mut scheduler = database.scheduler();
    Turns::free().register(&mut scheduler, all(3));
    scheduler.start().await.expect("started").stop(&at_once()).await;
    database.clock.set(NOON + 3_600_000);
}

async fn slots_that_nobody_ran_run_one_after_another_over_all_hosts(database: Database) {
    an_hour_later(&database).await;
    let turns = Turns::free();
    let mut hosts = Vec::new();
    for _ in 0..2 {
        let mut host = Scheduler::new(database.another_store().await);
        turns.register(&mut host, all(3));
        hosts.push(host.start().await.expect("started"));
    }
    // The clock stands: whoever ends a run begins the next.
    database.until(SUCCEEDED, 3_i64).await;
    database.clock.set(NOON + 3_660_000);
    database.until(SUCCEEDED, 4_i64).await;
    for host in hosts {
        host.stop(&at_once()).await;
    }
    assert_eq!(turns.began(), [1, 2, 3, 61]);
    assert_eq!(
        database.lines(RUNS).await,
        [
            "schedule|60000|1|succeeded|-",
            "buffered|120000|1|succeeded|-",
            "buffered|180000|1|succeeded|-",
            "schedule|240000|1|missed|57",
            "schedule|3660000|1|succeeded|-"
        ]
    );
}

async fn a_slot_that_comes_meanwhile_waits_behind_them(database: Database) {
    an_hour_later(&database).await;
    let turns = Turns::held();
    let mut scheduler = database.scheduler();
    turns.register(&mut scheduler, all(2));
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    for minute in [61, 62] {
        database.clock.set(NOON + minute * 60_000);
        running.poke();
        let decided = format!(
            "SELECT count(*) FROM schedules WHERE next_due_at_ms = {}",
            NOON + (minute + 1) * 60_000
        );
        database.until(&decided, 1_i64).await;
    }
    let waiting: String = database.value(WAITING).await;
    assert_eq!(waiting, format!("[[{},0],[{},0]]", NOON + 120_000, NOON + 61 * 60_000));
    turns.may_end.add_permits(3);
    database.until(SUCCEEDED, 3_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(turns.began(), [1, 2, 61], "and 62 is one too many");
    assert_eq!(database.value::<String>(WAITING).await, "-");
    let missed: i64 = database
        .value("SELECT CAST(sum(missed_count) AS BIGINT) FROM job_runs WHERE status = 'missed'")
        .await;
    assert_eq!(missed, 58 + 1);
}

async fn a_crash_and_a_stop_lose_none_of_them(database: Database) {
    an_hour_later(&database).await;
    // What a killed process leaves: a run that says that it goes on, and no lease that lives.
    let (run, instance, due) = (RunId::new(), InstanceId::new(), NOON + 3_660_000);
    database
        .execute(&format!(
            "INSERT INTO job_runs (id, job, trigger, scheduled_for_ms, attempt, status, started_at_ms, instance_id, token)
             VALUES ('{run}', 'mark', 'schedule', {NOON} + 60000, 1, 'running', {NOON}, '{instance}', 1)"
        ))
        .await;
    let waiting = format!("[[{},0],[{},0]]", NOON + 120_000, NOON + 180_000);
    database
        .execute(&format!(
            "UPDATE schedules SET next_due_at_ms = {due}, waiting_slots = '{waiting}'"
        ))
        .await;
    let mut second = database.scheduler();
    let heir = Turns::held();
    heir.register(&mut second, all(3));
    let second = second.start().await.expect("started");
    wait_for("the slot that was cut off", || heir.began() == [1]).await;
    heir.may_end.add_permits(1);
    wait_for("the second slot", || heir.began() == [1, 2]).await;
    // A stop cuts it off; it goes before the one that waits.
    second.stop(&Shutdown::new(Duration::ZERO)).await;
    let mut third = database.scheduler();
    let last = Turns::free();
    last.register(&mut third, all(3));
    let third = third.start().await.expect("started");
    database.until(SUCCEEDED, 3_i64).await;
    third.stop(&at_once()).await;
    assert_eq!(last.began(), [2, 3]);
    assert_eq!(
        database.lines(RUNS).await,
        [
            "schedule|60000|1|lease_lost|-",
            "rerun|60000|2|succeeded|-",
            "buffered|120000|1|cancelled|-",
            "rerun|120000|2|succeeded|-",
            "buffered|180000|1|succeeded|-"
        ]
    );
}

async fn a_pause_holds_them_and_a_lateness_limit_gives_them_up(database: Database) {
    an_hour_later(&database).await;
    let turns = Turns::held();
    let mut scheduler = database.scheduler();
    let limit = Some(Duration::from_secs(3_600));
    turns.register(&mut scheduler, JobDefinition { lateness_limit: limit, ..all(3) });
    let running = scheduler.start().await.expect("started");
    database.until(RUNNING, 1_i64).await;
    running.set_paused("mark", true).await.expect("paused");
    // Before the end of the run, whose look is the last before the resume: it sees this time.
    database.clock.set(NOON + 3_750_000);
    turns.may_end.add_permits(1);
    database.until(SUCCEEDED, 1_i64).await;
    assert_eq!(turns.began(), [1]);
    running.set_paused("mark", false).await.expect("resumed");
    turns.may_end.add_permits(2);
    database.until(SUCCEEDED, 2_i64).await;
    running.stop(&at_once()).await;
    assert_eq!(turns.began(), [1, 3], "the second is too late by then");
    assert_eq!(
        database.lines(RUNS).await,
        [
            "schedule|60000|1|succeeded|-",
            "schedule|120000|1|missed|1",
            "buffered|180000|1|succeeded|-",
            "schedule|240000|1|missed|57"
        ]
    );
}

/// A start and what is caught up at it are one run.
async fn a_start_takes_the_place_of_a_catch_up(database: Database) {
    for hour in [0, 1] {
        database.clock.set(NOON + hour * 3_600_000);
        let turns = Turns::free();
        let mut scheduler = database.scheduler();
        let definition = JobDefinition { misfire: Misfire::FireOnce, ..minutely("mark") };
        turns.register(&mut scheduler, definition);
        let running = scheduler.start().await.expect("started");
        database.until(SUCCEEDED, hour + 1).await;
        running.stop(&at_once()).await;
    }
    assert_eq!(
        database.lines(RUNS).await,
        ["start|0|1|succeeded|-", "schedule|60000|1|missed|59", "schedule|3600000|1|succeeded|-"]
    );
}

on_every_store! {
    a_start_takes_the_place_of_a_catch_up,
    slots_that_nobody_ran_run_one_after_another_over_all_hosts,
    a_slot_that_comes_meanwhile_waits_behind_them,
    a_crash_and_a_stop_lose_none_of_them,
    a_pause_holds_them_and_a_lateness_limit_gives_them_up,
}
