//! What was measured wrong with tokio-cron-scheduler, which is our pulse, is not wrong with us: the
//! driver fires on its own timer, and the pulse only makes it look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::testing::{ManualClock, MemoryStore};
use scheduler_core::{
    Cadence, History, JobContext, JobDefinition, RunStatus, RunSummary, RunningScheduler,
    Scheduler, Scope, Shutdown,
};
use tokio::sync::Notify;

use crate::harness::{NOON, at_once, wait_for};
use crate::scheduler::counting;

struct Host {
    clock: ManualClock,
    store: MemoryStore,
    scheduler: Scheduler,
}

impl Host {
    fn at(now_ms: i64) -> Self {
        let clock = ManualClock::at(now_ms);
        let store = MemoryStore::new(Arc::new(clock.clone()));
        let scheduler = Scheduler::new(store.clone());
        Self { clock, store, scheduler }
    }

    async fn start(&mut self) -> RunningScheduler {
        let started = std::mem::replace(&mut self.scheduler, Scheduler::new(self.store.clone()));
        started.start().await.expect("started")
    }

    /// The slots of a job that ended in this way, in milliseconds after noon.
    async fn slots(&self, job: &str, status: RunStatus) -> Vec<i64> {
        let runs = self.store.runs(job).await.into_iter().filter(|run| run.status == status);
        runs.map(|run| run.scheduled_for_ms - NOON).collect()
    }
}

fn all(name: &str, cadence: Cadence) -> JobDefinition {
    JobDefinition { history: History::All, ..JobDefinition::new(name, cadence) }
}

/// There, intervals are whole seconds looked at every 500 ms: 200 ms fired twice in nine seconds.
#[tokio::test]
async fn an_interval_below_a_second_fires_at_each_of_its_slots() {
    let mut host = Host::at(NOON);
    let intervals = [200_u64, 900, 1_500];
    let counters: Vec<Arc<AtomicU32>> = intervals.iter().map(|_| Arc::default()).collect();
    for (interval, counter) in intervals.iter().zip(&counters) {
        let cadence = Cadence::every(Duration::from_millis(*interval));
        host.scheduler
            .register(all(&format!("every_{interval}"), cadence), counting(counter))
            .unwrap();
    }
    let running = host.start().await;
    let due = |now_ms: u64| intervals.map(|interval| u32::try_from(now_ms / interval + 1).unwrap());
    let count = || [0, 1, 2].map(|at: usize| counters[at].load(Ordering::SeqCst));
    wait_for("the starts", || count() == due(0)).await;
    for step in 1..=90 {
        host.clock.advance(Duration::from_millis(100));
        wait_for("each slot", || count() == due(step * 100)).await;
    }
    running.stop(&at_once()).await;
    assert_eq!(count(), [46, 11, 7]);
    let slots = host.slots("every_1500", RunStatus::Succeeded).await;
    assert_eq!(slots, [0, 1_500, 3_000, 4_500, 6_000, 7_500, 9_000]);
}

/// There, a job that repeats never fires again after one stall longer than its period.
#[tokio::test]
async fn a_stall_longer_than_the_period_is_a_recorded_miss_and_the_job_goes_on() {
    let mut host = Host::at(NOON);
    let ran = Arc::new(AtomicU32::new(0));
    let count = || ran.load(Ordering::SeqCst);
    host.scheduler
        .register(all("mark", Cadence::every(Duration::from_secs(2))), counting(&ran))
        .unwrap();
    let running = host.start().await;
    wait_for("the start", || count() == 1).await;
    host.clock.advance(Duration::from_millis(9_300));
    wait_for("one run for the stall", || count() == 2).await;
    for slot in 1..=10 {
        host.clock.advance(Duration::from_secs(2));
        wait_for("the slots after it", || count() == 2 + slot).await;
    }
    running.stop(&at_once()).await;
    let expected: Vec<i64> = std::iter::once(0).chain((4..=14).map(|slot| slot * 2_000)).collect();
    assert_eq!(host.slots("mark", RunStatus::Succeeded).await, expected, "all on the grid");
    let runs = host.store.runs("mark").await;
    let missed: Vec<_> = runs.iter().filter_map(|run| run.missed_count).collect();
    assert_eq!(missed, [3], "nothing is lost silently");
}

/// There, a zone's offset is the one of the day on which the job was made.
#[tokio::test]
async fn a_time_of_day_stays_itself_when_clocks_change() {
    // 2026-10-30 12:00 UTC; New York's clocks go back on 11-01.
    let day = 86_400_000;
    let mut host = Host::at(NOON - 24 * day);
    let ran = Arc::new(AtomicU32::new(0));
    let count = || ran.load(Ordering::SeqCst);
    let daily = Cadence::cron("30 9 * * *", "America/New_York").unwrap();
    host.scheduler.register(all("open", daily), counting(&ran)).unwrap();
    let running = host.start().await;
    for days in 1..=4 {
        for _ in 0..24 {
            host.clock.advance(Duration::from_secs(3_600));
        }
        wait_for("one run a day", || count() == days).await;
    }
    running.stop(&at_once()).await;
    let minute = |slot: &i64| (slot + 24 * day).rem_euclid(day) / 60_000;
    let utc: Vec<i64> = host.slots("open", RunStatus::Succeeded).await.iter().map(minute).collect();
    // Minutes after 12:00 UTC: half past nine is 13:30 in summer and 14:30 in winter.
    assert_eq!(utc, [90, 90, 150, 150]);
}

/// There, 256 of 1,000 jobs that are due together on one thread ever fired.
#[tokio::test]
async fn a_thousand_jobs_that_are_due_together_all_fire_on_one_thread() {
    let mut host = Host::at(NOON);
    let (rows, none) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    for number in 0..1_000 {
        let cadence = || Cadence::every(Duration::from_secs(60));
        let named = |kind: &str| format!("{kind}_{number}");
        host.scheduler.register(all(&named("rows"), cadence()), counting(&rows)).unwrap();
        let definition = JobDefinition {
            scope: Scope::Instance,
            history: History::None,
            ..JobDefinition::new(named("none"), cadence())
        };
        host.scheduler.register(definition, counting(&none)).unwrap();
    }
    let running = host.start().await;
    let count = || (rows.load(Ordering::SeqCst), none.load(Ordering::SeqCst));
    for rounds in 1..=3 {
        wait_for("every job of the round", || count() == (rounds * 1_000, rounds * 1_000)).await;
        host.clock.advance(Duration::from_secs(60));
    }
    running.stop(&at_once()).await;
}

/// There, a job of five seconds that is due each second runs five times at once.
#[tokio::test]
async fn a_job_that_is_slower_than_its_period_does_not_run_beside_itself() {
    let (mut host, end) = (Host::at(NOON), Arc::new(Notify::new()));
    let (beside, ends) = (Arc::new(AtomicU32::new(0)), Arc::clone(&end));
    let going_on = Arc::clone(&beside);
    let slow = move |_: JobContext| {
        let (going_on, ends) = (Arc::clone(&going_on), Arc::clone(&ends));
        async move {
            assert_eq!(going_on.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            ends.notified().await;
            going_on.fetch_sub(1, Ordering::SeqCst);
            Ok(RunSummary::new())
        }
    };
    host.scheduler.register(all("slow", Cadence::every(Duration::from_secs(1))), slow).unwrap();
    let running = host.start().await;
    wait_for("the first run", || beside.load(Ordering::SeqCst) == 1).await;
    let skipped = async |count| loop {
        let runs = host.store.runs("slow").await;
        let sum: i64 = runs.iter().filter_map(|run| run.missed_count).sum();
        if sum == count {
            return;
        }
        tokio::task::yield_now().await;
    };
    for second in 1..=4 {
        host.clock.advance(Duration::from_secs(1));
        tokio::time::timeout(Duration::from_secs(60), skipped(second)).await.expect("a skip");
    }
    end.notify_one();
    wait_for("its end", || beside.load(Ordering::SeqCst) == 0).await;
    host.clock.advance(Duration::from_secs(1));
    wait_for("the next slot", || beside.load(Ordering::SeqCst) == 1).await;
    end.notify_one();
    running.stop(&Shutdown::default()).await;
    assert_eq!(host.slots("slow", RunStatus::Succeeded).await, [0, 5_000]);
    assert_eq!(host.slots("slow", RunStatus::SkippedOverlap).await, [1_000], "one row of four");
}

/// There, a shutdown returned at once with five jobs running.
#[tokio::test]
async fn a_stop_returns_when_nothing_runs_any_more() {
    let mut host = Host::at(NOON);
    let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let end = Arc::new(tokio::sync::Semaphore::new(0));
    for number in 0..5 {
        let (begun, ended, end) = (Arc::clone(&begun), Arc::clone(&ended), Arc::clone(&end));
        let definition = JobDefinition {
            scope: if number % 2 == 0 { Scope::Cluster } else { Scope::Instance },
            history: if number % 2 == 0 { History::All } else { History::None },
            ..JobDefinition::new(format!("job_{number}"), Cadence::every(Duration::from_secs(60)))
        };
        let job = move |_: JobContext| {
            let (begun, ended, end) = (Arc::clone(&begun), Arc::clone(&ended), Arc::clone(&end));
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                end.acquire().await.expect("open").forget();
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(RunSummary::new())
            }
        };
        host.scheduler.register(definition, job).unwrap();
    }
    let running = host.start().await;
    wait_for("all of them", || begun.load(Ordering::SeqCst) == 5).await;
    let stop = tokio::spawn(async move { running.stop(&Shutdown::default()).await });
    for let_go in 1..=5 {
        assert!(!stop.is_finished(), "{} still run", 6 - let_go);
        end.add_permits(1);
        wait_for("one to end", || ended.load(Ordering::SeqCst) == let_go).await;
    }
    stop.await.expect("stopped");
}
