//! How late jobs begin that are due together at each whole second.

use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use apalis::prelude::*;
use apalis_cron::{CronScheduler, Tick};
use probe::{Figure, Request};
use scheduler_core::testing::MemoryStore;
use scheduler_core::{
    Cadence, History, JobContext, JobDefinition, RunSummary, Scheduler, Scope, Shutdown,
    StartPolicy, SystemClock,
};
use tokio_cron_scheduler::{Job, JobScheduler};

const SECOND_US: i64 = 1_000_000;
const EACH_SECOND: &str = "* * * * * *";

/// Ticks of whole seconds of the wall clock, within a span that begins and ends between two.
#[derive(Clone)]
struct Ticks {
    late_us: Arc<Mutex<Vec<i64>>>,
    begins_us: Arc<AtomicI64>,
    span_us: i64,
}

impl Ticks {
    fn note(&self) {
        let now_us = now_us();
        let into_us = now_us - self.begins_us.load(Ordering::Relaxed);
        if (0..self.span_us).contains(&into_us) {
            let late_us = now_us.rem_euclid(SECOND_US);
            self.late_us.lock().unwrap_or_else(PoisonError::into_inner).push(late_us);
        }
    }

    /// Notes what begins from the middle of the next second on, for as long as the span lasts.
    async fn last(&self) {
        let begins_us = (now_us() / SECOND_US + 1) * SECOND_US + SECOND_US / 2;
        self.begins_us.store(begins_us, Ordering::Relaxed);
        let left = (begins_us + self.span_us - now_us()).unsigned_abs();
        tokio::time::sleep(Duration::from_micros(left)).await;
    }

    fn figure(&self, jobs: usize) -> anyhow::Result<Figure> {
        let mut late = self.late_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(!late.is_empty(), "nothing ticked");
        late.sort_unstable();
        let at = |part: usize| late[(late.len() * part / 100).min(late.len() - 1)] as f64 / 1e3;
        let expected = jobs as f64 * (self.span_us / SECOND_US) as f64;
        let lost = (1.0 - late.len() as f64 / expected) * 100.0;
        Ok(Figure { value: at(50), p99: Some(at(99)), lost: Some(lost), ..Figure::default() })
    }
}

pub(crate) async fn measure(request: &Request) -> anyhow::Result<Figure> {
    #[expect(clippy::cast_possible_truncation, reason = "some seconds")]
    let seconds = request.seconds.ceil() as i64;
    let ticks = Ticks {
        late_us: Arc::default(),
        begins_us: Arc::new(AtomicI64::new(i64::MAX)),
        span_us: seconds * SECOND_US,
    };
    match request.peer.as_str() {
        "scheduler-core" => own(&ticks, request.jobs).await?,
        "tokio-cron-scheduler" => tokio_cron(&ticks, request.jobs).await?,
        "apalis-cron" => apalis(&ticks, request.jobs).await?,
        other => bail!("no clock `{other}` here"),
    }
    ticks.figure(request.jobs)
}

/// Jobs without history, which touch no database.
async fn own(ticks: &Ticks, jobs: usize) -> anyhow::Result<()> {
    let mut scheduler = Scheduler::new(MemoryStore::new(Arc::new(SystemClock)));
    for number in 0..jobs {
        let ticks = ticks.clone();
        let definition = JobDefinition {
            scope: Scope::Instance,
            history: History::None,
            start: StartPolicy::NextSlot,
            ..JobDefinition::new(format!("tick_{number}"), Cadence::cron(EACH_SECOND, "UTC")?)
        };
        scheduler.register(definition, move |_: JobContext| {
            ticks.note();
            std::future::ready(Ok(RunSummary::new()))
        })?;
    }
    let running = scheduler.start().await?;
    ticks.last().await;
    running.stop(&Shutdown::default()).await;
    Ok(())
}

async fn tokio_cron(ticks: &Ticks, jobs: usize) -> anyhow::Result<()> {
    let mut scheduler = JobScheduler::new().await?;
    for _ in 0..jobs {
        let ticks = ticks.clone();
        let tick = move |_, _| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let ticks = ticks.clone();
            Box::pin(async move { ticks.note() })
        };
        scheduler.add(Job::new_async(EACH_SECOND, tick)?).await?;
    }
    scheduler.start().await?;
    ticks.last().await;
    scheduler.shutdown().await?;
    Ok(())
}

async fn apalis(ticks: &Ticks, jobs: usize) -> anyhow::Result<()> {
    for number in 0..jobs {
        let schedule = cron::Schedule::from_str(EACH_SECOND)?;
        let worker = WorkerBuilder::new(format!("tick-{number}"))
            .backend(CronScheduler::new(schedule))
            .data(ticks.clone())
            .build(apalis_tick);
        tokio::spawn(async move { worker.run().await.map_err(|e| e.to_string()) });
    }
    ticks.last().await;
    Ok(())
}

async fn apalis_tick(_: Tick, ticks: Data<Ticks>) {
    ticks.note();
}

fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}
