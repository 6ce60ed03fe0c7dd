//! `arena up --demo`: a throw-away arena in which something happens, and a line for each thing.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use domain::backtesting::BacktestResult;
use domain::sources::SourceUrls;
use domain::store::backtest_jobs::{self, BacktestJob, BacktestStatus};
use domain::workers::ingestion::IngestionOptions;
use scheduler_core::queue::QueueWaker;
use scheduler_core::{Shutdown, Store};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::api::{ServeArgs, announce, listen, serve_routes};
use super::backtest_view::strategy_name;
use super::ingest::{start_venues, urls_of};
use super::journal::Journal;
use super::up::{UpArgs, work_beside};
use crate::config::{DatabaseUrl, Environment, ServeConfig};
use crate::database;
use crate::demo::Demo;
use crate::failure::Failure;
use crate::pulse::Pulse;
use crate::terminal::escape;
use crate::tokens::Minted;
use crate::venues::{Chaos, RunningVenues};
use crate::wiring::{WorkerSet, Workers};

/// Between two new back-tests.
const PACE: Duration = Duration::from_secs(10);
/// Between two looks at what has ended.
const LOOK: Duration = Duration::from_millis(500);
/// Intervals of workers, at most: nobody wants to wait for a demo.
const POLL: Duration = Duration::from_secs(2);
const MARK: Duration = Duration::from_secs(5);
const DECIDE: Duration = Duration::from_secs(10);
/// How much of the venues' history is ingested at the beginning.
const INGESTED: Duration = Duration::from_secs(6 * 3_600);
/// How many of the newest back-tests a look sees: many times what one look can miss.
const SEEN: u32 = 50;

pub(crate) async fn run(
    args: &UpArgs,
    environment: Environment<'_>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let config = ServeConfig::new(args.serve.address(), environment)?;
    let workers = args.workers.workers(environment)?;
    let folder = Folder::create()?;
    let venues = start_venues(None).await?;
    let store = database::open_migrated(&folder.url).await?;
    let stage = Stage { urls: urls_of(&venues), folder, venues, store };
    let done = play(args, config, workers, &stage, shutdown, out).await;
    database::close(stage.store).await;
    stage.venues.stop().await;
    done
}

/// What goes with the demo.
struct Stage {
    folder: Folder,
    venues: RunningVenues,
    urls: SourceUrls,
    store: Store,
}

/// All workers, at the pace of a demo unless they are faster.
fn hurried(mut workers: WorkerSet, urls: &SourceUrls) -> WorkerSet {
    workers.ingestion = Some(IngestionOptions {
        urls: urls.clone(),
        history: INGESTED,
        ..IngestionOptions::default()
    });
    let clone_decisions = workers.clone_decisions.get_or_insert_default();
    hurry(&mut clone_decisions.deciding.interval, DECIDE);
    if let Some(options) = &mut workers.prop_decisions {
        hurry(&mut options.deciding.interval, DECIDE);
    }
    if let Some(options) = &mut workers.mark_to_market {
        hurry(&mut options.interval, MARK);
    }
    if let Some(options) = &mut workers.backtests {
        hurry(&mut options.interval, POLL);
    }
    if let Some(options) = &mut workers.audition_evaluator {
        hurry(&mut options.interval, MARK);
    }
    if let Some(options) = &mut workers.arena_entry {
        hurry(&mut options.interval, MARK);
    }
    workers
}

fn hurry(interval: &mut Duration, most: Duration) {
    *interval = (*interval).min(most);
}

async fn play(
    args: &UpArgs,
    config: ServeConfig,
    workers: WorkerSet,
    stage: &Stage,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let ServeConfig { tokens, minted, .. } = config;
    let Stage { folder, venues, urls, store } = stage;
    writeln!(out, "demo: a throw-away database, deleted at the end:\n  {}", folder.url)?;
    writeln!(out, "demo: simulated venues, as on {}", urls.hyperliquid)?;
    let mut demo = Demo::seed_from(store, urls).await?;
    writeln!(out, "demo: {}", demo.summary())?;
    if let Some(seed) = args.faults {
        venues.faults().rage(Chaos { seed, ..Chaos::default() });
        writeln!(out, "demo: the venues fail at random from now on")?;
    }
    let listener = listen_somewhere(&args.serve).await?;
    announce(&listener, &minted, out)?;
    write_hints(&listener, &minted, folder, out)?;

    let pulse = Arc::<Pulse>::default();
    let workers = Workers::start(store, &hurried(workers, urls), &pulse).await?;
    let waker = workers.backtests.clone();
    let serving = async {
        let served = serve_routes(listener, tokens, store, pulse, shutdown).await;
        shutdown.stop.cancel();
        served
    };
    let showing = async {
        let shown = show(store, &mut demo, waker.as_ref(), shutdown, out).await;
        shutdown.stop.cancel();
        shown
    };
    let both = async {
        let (served, shown) = tokio::join!(serving, showing);
        served.and(shown)
    };
    work_beside(both, workers, shutdown).await
}

/// The address asked for; where none was, the default or a free port of this machine.
async fn listen_somewhere(serve: &ServeArgs) -> Result<TcpListener, Failure> {
    let taken = match listen(serve.address()).await {
        Ok(listener) => return Ok(listener),
        Err(taken) => taken,
    };
    if serve.bind.is_some() {
        return Err(taken);
    }
    listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}

fn write_hints(
    listener: &TcpListener,
    minted: &Minted,
    folder: &Folder,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let token = minted.service.as_ref().map_or("$INTERNAL_SERVICE_TOKEN", |made| made.reveal());
    writeln!(
        out,
        "look at it, from another terminal:
  curl -i http://{address}/readyz
  curl -H \"X-Service-Token: {token}\" http://{address}/api/v1/internal/health/workers
  curl http://{address}/api/v1/ingestion/dashboard
  arena --database-url {url} ingestion status
  arena --database-url {url} backtest list
  http://{address}/docs
a back-test is queued every {pace} s; Ctrl-C ends it all
",
        url = folder.url,
        pace = PACE.as_secs(),
    )?;
    out.flush()
}

/// Queues a back-test from time to time and writes a line for each one that has ended.
async fn show(
    store: &Store,
    demo: &mut Demo,
    waker: Option<&QueueWaker>,
    shutdown: &Shutdown,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut shown = HashSet::new();
    let mut journal = Journal::default();
    let mut looks = tokio::time::interval(LOOK);
    let mut submissions = tokio::time::interval(PACE);
    submissions.reset();
    loop {
        let submitted = tokio::select! {
            () = shutdown.stop.cancelled() => return Ok(()),
            _ = looks.tick() => Ok(()),
            _ = submissions.tick() => demo.submit_next(store).await.map(|_| {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }),
        };
        let ended = match submitted {
            Ok(()) => find_ended(store, &mut shown).await,
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(ended) => {
                write_ended(&ended, out)?;
                if let Err(failure) = journal.write_news(store, out).await {
                    tracing::warn!(error = failure.report(), "the demo missed news");
                }
            }
            // A busy moment is no reason to end the show.
            Err(failure) => tracing::warn!(error = failure.report(), "the demo missed a step"),
        }
    }
}

/// What has ended since the last look, in the order in which it ended.
async fn find_ended(
    store: &Store,
    shown: &mut HashSet<String>,
) -> Result<Vec<BacktestJob>, Failure> {
    let mut ended = Vec::new();
    for listed in backtest_jobs::list(store.reader(), None, SEEN).await? {
        let still_open = matches!(listed.status, BacktestStatus::Queued | BacktestStatus::Running);
        if still_open || shown.contains(&listed.id) {
            continue;
        }
        ended.extend(backtest_jobs::find(store.reader(), &listed.id).await?);
        shown.insert(listed.id);
    }
    ended.sort_by_key(|job| job.completed_at_ms);
    Ok(ended)
}

fn write_ended(ended: &[BacktestJob], out: &mut (dyn Write + Send)) -> io::Result<()> {
    for job in ended {
        writeln!(out, "{}", line(job))?;
    }
    out.flush()
}

fn line(job: &BacktestJob) -> String {
    let BacktestJob { id, user_id, symbol, .. } = job;
    let name = escape(&strategy_name(job));
    let result = job.result.as_deref().map(serde_json::from_str::<BacktestResult>);
    let found = match result {
        Some(Ok(result)) => {
            let percent = result.total_return * 100.0;
            let sharpe =
                result.sharpe.map_or_else(|| "n/a".to_owned(), |sharpe| format!("{sharpe:.2}"));
            let trades = result.trades.len();
            format!("return {percent:>+7.2} %  sharpe {sharpe:>6}  trades {trades:>4}")
        }
        Some(Err(_)) => "its result cannot be read".to_owned(),
        None => escape(job.last_error.as_deref().unwrap_or_default()),
    };
    let status = job.status.as_str();
    format!("{status:<9}  {id}  user {user_id}  {symbol:<4} {name:<14}  {found}")
}

/// A folder for a database that goes with the process. After a SIGKILL it stays where the
/// operating system keeps temporary files.
struct Folder {
    url: DatabaseUrl,
    _folder: TempDir,
}

impl Folder {
    fn create() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("arena-demo-")
            .tempdir()
            .context("cannot make a folder for the demo's database")?;
        let file = folder.path().join("arena.db");
        let file = file.to_str().context("the folder for temporary files has no UTF-8 name")?;
        let Ok(url) = format!("sqlite://{file}").parse();
        Ok(Self { url, _folder: folder })
    }
}
