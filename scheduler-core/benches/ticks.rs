//! How late slots begin when a thousand jobs tick each second, beside tokio's own timer.
//!
//! `cargo bench -p scheduler-core --bench ticks` measures, for some seconds each: a thousand tasks on
//! tokio intervals; a thousand jobs without history in one scheduler (`History::None`, which touches no
//! database); and as many with rows and leases on a SQLite file, whose begin is one transaction per
//! wake. `TICKS_JOBS` and `TICKS_SECONDS` change the size. All are due together, at whole seconds after
//! their start. A tick is late by what lies between its slot and the first line of its job. A slot that a
//! job finds passed over is missed; with rows, `recorded` says how many of those the database knows.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

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

type Failure = Box<dyn std::error::Error>;

const SECOND: Duration = Duration::from_secs(1);

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

    fn print(&self, what: &str, recorded: Option<i64>) {
        let mut late = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        late.sort_unstable();
        let at = |part: usize| {
            let place = (late.len() * part / 1_000).min(late.len().saturating_sub(1));
            late.get(place).map_or("-".to_owned(), |us| format!("{:.1} ms", *us as f64 / 1_000.0))
        };
        let (ran, p50, p99, worst) = (late.len(), at(500), at(990), at(1_000));
        let missed = self.1.load(Ordering::Relaxed);
        let recorded = recorded.map_or("-".to_owned(), |slots| slots.to_string());
        println!("{what:>28} {p50:>10} {p99:>10} {worst:>10} {ran:>9} {missed:>9} {recorded:>9}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let number = |name, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (jobs, seconds): (u64, u64) = (number("TICKS_JOBS", 1_000), number("TICKS_SECONDS", 20));
    println!("{jobs} jobs that are due together, each second for {seconds} s");
    let head = ["p50", "p99", "worst"].map(|head| format!("{head:>10}")).join(" ");
    println!("{:>28} {head} {:>9} {:>9} {:>9}", "", "ran", "missed", "recorded");
    raw_timers(jobs, seconds).await;
    let own = JobDefinition {
        scope: Scope::Instance,
        history: History::None,
        ..JobDefinition::new("", Cadence::every(SECOND))
    };
    let memory = MemoryStore::new(Arc::new(SystemClock));
    scheduled(memory, &own, jobs, seconds).await?.print("without history", None);
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("ticks.db").display());
    let store = Store::connect(&url).await?;
    up(store.reader(), &[List::of::<SchedulerMigrator>()]).await?;
    let rows = JobDefinition::new("", Cadence::every(SECOND));
    let late = scheduled(store.clone(), &rows, jobs, seconds).await?;
    late.print("with rows, on SQLite", Some(recorded(&store).await?));
    store.close().await?;
    Ok(())
}

async fn raw_timers(jobs: u64, seconds: u64) {
    let late = Late::default();
    let start = tokio::time::Instant::now() + SECOND;
    let tasks: Vec<_> = (0..jobs)
        .map(|_| {
            let late = late.clone();
            tokio::spawn(async move {
                let mut timer = tokio::time::interval_at(start, SECOND);
                for _ in 0..seconds {
                    let due = timer.tick().await;
                    late.note(i64::try_from(due.elapsed().as_micros()).unwrap_or(i64::MAX));
                }
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
    late.print("tokio timers", None);
}

async fn scheduled(
    store: impl SchedulerStore,
    definition: &JobDefinition,
    jobs: u64,
    seconds: u64,
) -> Result<Late, Failure> {
    let late = Late::default();
    let mut scheduler = Scheduler::new(store);
    for number in 0..jobs {
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
    tokio::time::sleep(SECOND * u32::try_from(seconds)? + SECOND / 2).await;
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
