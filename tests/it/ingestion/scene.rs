//! A database, the simulated venues, and time that runs ten times as fast.

use std::sync::Arc;
use std::time::Duration;

use domain::ingestion::Source;
use domain::sources::{DefillamaUrls, SourceUrls};
use domain::workers::ingestion::{self, IngestionOptions};
use host::venues::{RunningVenues, VenueLimits, VenueOptions, Venues};
use scheduler_core::{RunReport, RunStatus, RunningScheduler, Scheduler, Shutdown, Store};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::harness::{Database, within};

pub(super) struct Scene {
    pub(super) database: Database,
    pub(super) venues: RunningVenues,
    time: JoinHandle<()>,
}

/// How long anything may take on a machine that does other things, too.
const BOUND: Duration = Duration::from_secs(180);

impl Scene {
    pub(super) async fn new(database: Database) -> Self {
        Self::with_limits(database, VenueLimits::default()).await
    }

    /// The same with venues that allow more or less.
    pub(super) async fn with_limits(database: Database, limits: VenueLimits) -> Self {
        migration::up(database.store.reader()).await.expect("migrations apply");
        let clock = database.clock.clone();
        let at = Arc::new(clock.clone());
        let options = VenueOptions { clock: at, limits, ..VenueOptions::default() };
        let venues = Venues::start(options).await.expect("the venues start");
        let time = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            // Where this process is starved, its time stands still: nobody's lease ends for it.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                clock.advance(Duration::from_millis(200));
            }
        });
        Self { database, venues, time }
    }

    pub(super) fn options(&self, sources: &[Source]) -> IngestionOptions {
        let urls = self.venues.urls();
        IngestionOptions {
            sources: sources.to_vec(),
            urls: SourceUrls {
                hyperliquid: urls.hyperliquid.clone(),
                hyperliquid_ws: urls.hyperliquid_ws.clone(),
                defillama: DefillamaUrls::all_at(&urls.defillama),
                polymarket_gamma: urls.polymarket_gamma.clone(),
                polymarket_clob: urls.polymarket_clob.clone(),
                polymarket_ws: urls.polymarket_ws.clone(),
            },
            coins: ["BTC", "ETH", "SOL"].map(str::to_owned).to_vec(),
            history: Duration::from_secs(2 * 3_600),
            prediction_markets: 5,
            ..IngestionOptions::default()
        }
    }

    pub(super) fn scheduler(&self, sources: &[Source]) -> Scheduler {
        self.scheduler_on(&self.database.store, sources)
    }

    /// A scheduler of another process, on a connection of its own.
    pub(super) fn scheduler_on(&self, store: &Store, sources: &[Source]) -> Scheduler {
        let mut scheduler = Scheduler::new(store.clone());
        ingestion::register(&mut scheduler, store, &self.options(sources)).expect("registered");
        scheduler
    }

    /// One cycle of a job, on the path of the long-running process.
    pub(super) async fn once(&self, source: Source, job: &str) -> RunReport {
        run(&self.scheduler(&[source]), job).await
    }

    /// One cycle that has to succeed.
    pub(super) async fn succeed(&self, source: Source, job: &str) -> RunReport {
        let report = self.once(source, job).await;
        assert_eq!(report.status, RunStatus::Succeeded, "{job}: {report:?}");
        report
    }

    pub(super) async fn start(&self, sources: &[Source]) -> RunningScheduler {
        self.scheduler(sources).start().await.expect("started")
    }

    pub(super) async fn count(&self, sql: &str) -> i64 {
        self.database.value(sql).await
    }

    /// Waits until a count is at least so much.
    pub(super) async fn reaches(&self, sql: &str, at_least: i64) {
        let reached = within(BOUND, async || self.count(sql).await >= at_least).await;
        if !reached {
            let runs = "SELECT source, channel, status, rows_read, rows_written, error FROM ingestion_runs WHERE status <> 'running' ORDER BY started_at_ms";
            let runs = self.database.lines(runs).await.join("\n");
            panic!("{sql}: {} in vain, expected {at_least}\n{runs}", self.count(sql).await);
        }
    }
}

/// One cycle of a job of this scheduler.
pub(super) async fn run(scheduler: &Scheduler, job: &str) -> RunReport {
    scheduler.run_once(job, Duration::ZERO, &Shutdown::default()).await.expect("a cycle")
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.time.abort();
    }
}
