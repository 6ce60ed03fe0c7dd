//! How late slots begin when a thousand jobs tick each second, beside tokio's own timer and the scheduler
//! that this library uses as its pulse.
//!
//! `cargo bench -p scheduler-core --bench ticks` measures, for some seconds each: a thousand tasks on
//! tokio intervals; a thousand jobs of `tokio-cron-scheduler`; a thousand jobs without history in one
//! scheduler (`History::None`, which touches no database); and as many with rows and leases on a SQLite
//! file, whose begin is one transaction per wake. `TICKS_JOBS` and `TICKS_SECONDS` change the size. All
//! are due together, at whole seconds. A tick is late by what lies between its slot and the first line of
//! its job; what did not run of so many seconds is lost. A slot that a job finds passed over is missed;
//! with rows, `recorded` says how many of those the database knows. At the end the
//! 99th percentiles are compared.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scheduler_core::migration::{List, SchedulerMigrator, up};
use scheduler_core::store::SchedulerStore;
use scheduler_core::testing::MemoryStore;
use scheduler_core::{
    Cadence, History, JobContext, JobDefinition, RunSummary, Scheduler, Scope, Shutdown,
    StartPolicy, Store, SystemClock,
};
use sea_orm::{ConnectionTrait, Statement};
use tokio_cron_scheduler::{Job, JobScheduler};

type Failure = Box<dyn std::error::Error>;

const SECOND: Duration = Duration::from_secs(1);

/// How many jobs, and for how many seconds.
#[derive(Clone, Copy)]
struct Size {
    jobs: u64,
    seconds: u64,
}

/// How late ticks were, in microseconds.
#[derive(Clone, Default)]
struct Late(Arc<Mutex<Vec<i64>>>, Arc<AtomicU64>);

impl Late {
    fn note(&self, late_us: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(late_us);
    }

    /// Slots that lie between two that ran.
    fn pass_over(&self, slots: i64) {
        self.1.fetch_add(slots.unsigned_abs(), Ordering::Relaxed);
    }

    /// Prints a line, and answers the 99th percentile in milliseconds.
    fn print(&self, what: &str, size: Size, recorded: Option<i64>) -> f64 {
        let mut late = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        late.sort_unstable();
        let at = |part: usize| {
            let place = (late.len() * part / 1_000).min(late.len().saturating_sub(1));
            late.get(place).map_or(f64::NAN, |us| *us as f64 / 1_000.0)
        };
        let [p50, p99, worst] = [500, 990, 1_000].map(|part| format!("{:.1} ms", at(part)));
        let (ran, missed) = (late.len() as u64, self.1.load(Ordering::Relaxed));
        let lost = (size.jobs * size.seconds).saturating_sub(ran);
        let recorded = recorded.map_or("-".to_owned(), |slots| slots.to_string());
        println!(
            "{what:>24} {p50:>10} {p99:>10} {worst:>10} {ran:>8} {lost:>7} {missed:>7} {recorded:>8}"
        );
        at(990)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let number = |name, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let size = Size { jobs: number("TICKS_JOBS", 1_000), seconds: number("TICKS_SECONDS", 20) };
    println!("{} jobs that are due together, each second for {} s", size.jobs, size.seconds);
    let head = ["p50", "p99", "worst"].map(|head| format!("{head:>10}")).join(" ");
    println!("{:>24} {head} {:>8} {:>7} {:>7} {:>8}", "", "ran", "lost", "missed", "recorded");
    raw_timers(size).await.print("tokio timers", size, None);
    let peer = tokio_cron(size).await?.print("tokio-cron-scheduler", size, None);
    let own = JobDefinition {
        scope: Scope::Instance,
        history: History::None,
        ..JobDefinition::new("", Cadence::every(SECOND))
    };
    let memory = MemoryStore::new(Arc::new(SystemClock));
    let local = scheduled(memory, &own, size).await?.print("without history", size, None);
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("ticks.db").display());
    let store = Store::connect(&url).await?;
    up(store.reader(), &[List::of::<SchedulerMigrator>()]).await?;
    let rows = JobDefinition::new("", Cadence::every(SECOND));
    let late = scheduled(store.clone(), &rows, size).await?;
    let durable = late.print("with rows, on SQLite", size, Some(recorded(&store).await?));
    store.close().await?;
    println!("p99 of tokio-cron-scheduler: {:.1} times that of jobs without history", peer / local);
    println!("p99 of tokio-cron-scheduler: {:.1} times that of jobs with rows", peer / durable);
    Ok(())
}

async fn raw_timers(size: Size) -> Late {
    let late = Late::default();
    let start = tokio::time::Instant::now() + SECOND;
    let tasks: Vec<_> = (0..size.jobs)
        .map(|_| {
            let late = late.clone();
            tokio::spawn(async move {
                let mut timer = tokio::time::interval_at(start, SECOND);
                for _ in 0..size.seconds {
                    let due = timer.tick().await;
                    late.note(i64::try_from(due.elapsed().as_micros()).unwrap_or(i64::MAX));
                }
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
    late
}

/// As many jobs of the peer, over as many whole seconds of the wall clock.
async fn tokio_cron(size: Size) -> Result<Late, Failure> {
    let late = Late::default();
    let mut scheduler = JobScheduler::new().await?;
    let begins_us = Arc::new(AtomicI64::new(i64::MAX));
    for _ in 0..size.jobs {
        let (late, begins_us) = (late.clone(), Arc::clone(&begins_us));
        let tick = move |_, _| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (late, begins_us) = (late.clone(), Arc::clone(&begins_us));
            Box::pin(async move {
                let now_us = now_us();
                if now_us >= begins_us.load(Ordering::Relaxed) {
                    late.note(now_us.rem_euclid(1_000_000));
                }
            })
        };
        scheduler.add(Job::new_async("* * * * * *", tick)?).await?;
    }
    scheduler.start().await?;
    // From the middle of a second to the middle of another, so that whole ones lie between.
    let into_us = now_us().rem_euclid(1_000_000);
    let until_middle_us = (500_000 - into_us).rem_euclid(1_000_000);
    begins_us.store(now_us() + until_middle_us, Ordering::Relaxed);
    let span = Duration::from_micros(until_middle_us.unsigned_abs());
    tokio::time::sleep(span + SECOND * u32::try_from(size.seconds)?).await;
    scheduler.shutdown().await?;
    Ok(late)
}

async fn scheduled(
    store: impl SchedulerStore,
    definition: &JobDefinition,
    size: Size,
) -> Result<Late, Failure> {
    let late = Late::default();
    let mut scheduler = Scheduler::new(store);
    for number in 0..size.jobs {
        let late = late.clone();
        let definition = JobDefinition {
            name: format!("tick_{number}"),
            start: StartPolicy::NextSlot,
            ..definition.clone()
        };
        let before_ms = AtomicI64::new(0);
        scheduler.register(definition, move |context: JobContext| {
            let slot_ms = context.scheduled_for_ms();
            late.note(now_us() - slot_ms * 1_000);
            let before_ms = before_ms.swap(slot_ms, Ordering::Relaxed);
            if before_ms > 0 {
                late.pass_over((slot_ms - before_ms) / 1_000 - 1);
            }
            std::future::ready(Ok(RunSummary::new()))
        })?;
    }
    let running = scheduler.start().await?;
    // Half a second beyond the last slot.
    tokio::time::sleep(SECOND * u32::try_from(size.seconds)? + SECOND / 2).await;
    running.stop(&Shutdown::default()).await;
    Ok(late)
}

/// Missed and skipped slots that stand in the database.
async fn recorded(store: &Store) -> Result<i64, Failure> {
    let sum = "SELECT coalesce(sum(missed_count), 0) AS slots FROM job_runs";
    let statement = Statement::from_string(store.reader().get_database_backend(), sum);
    let row = store.reader().query_one_raw(statement).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get("", "slots"))?)
}

fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}
