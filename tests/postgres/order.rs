//! Rows are locked in one order: hosts that begin, finish, renew and reclaim the same rows at once
//! never wait for each other in a circle. A deadlock would be answered by a retry of the library's;
//! the server counts them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::QueueTable;
use scheduler_core::store::{
    Advance, Begun, ClaimRequest, Ending, Firing, InterruptedRun, JobSeed, LeaseStore, NewRun,
    QueueRows, RowProgress, RowStatus, RunStore, ScheduleRow, ScheduleStore, SettledRow,
};
use scheduler_core::{
    Cadence, Clock, HeartbeatRecorder, InstanceId, LeaseKey, Overlap, PostgresOptions, RunFinished,
    RunId, RunStatus, Store, SystemClock, Trigger,
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement};

use crate::postgres;

const JOBS: usize = 100;
const LONG_MS: i64 = 30_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Hosts on one database of their own.
struct Hosts {
    url: postgres::TestDatabase,
    hosts: Vec<(Store, InstanceId)>,
}

impl Hosts {
    async fn new(hosts: usize, tables: &str) -> Option<Self> {
        let url = postgres::new_database().await?;
        // Many more wait for a connection here than there are: a busy machine takes its time.
        let options =
            || PostgresOptions { acquire_timeout: PATIENCE, ..PostgresOptions::default() };
        let open = async || Store::postgres_with(&url, options(), Arc::new(SystemClock)).await;
        let first = open().await.expect("the database opens");
        let lists = [List::of::<SchedulerMigrator>()];
        migration::up(first.reader(), &lists).await.expect("migrated");
        first.reader().execute_unprepared(tables).await.expect("tables");
        let mut opened = vec![(first, InstanceId::new())];
        for _ in 1..hosts {
            opened.push((open().await.expect("opens"), InstanceId::new()));
        }
        Some(Self { url, hosts: opened })
    }

    fn store(&self) -> &Store {
        &self.hosts[0].0
    }

    /// Closes all connections, and asks the server how often it had to break a circle.
    async fn deadlocks(self) -> i64 {
        for (store, _) in self.hosts {
            store.close().await.expect("closed");
        }
        let mut connect = ConnectOptions::new(&*self.url);
        connect.max_connections(1);
        let database = Database::connect(connect).await.expect("the server answers");
        let ask = async |sql: &str| -> i64 {
            let statement = Statement::from_string(database.get_database_backend(), sql);
            let row = database.query_one_raw(statement).await.expect(sql).expect("a row");
            row.try_get("", "n").expect("a number")
        };
        // A session reports what it counted when it ends.
        let others = "SELECT count(*) AS n FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let began = Instant::now();
        while ask(others).await > 0 {
            assert!(began.elapsed() < PATIENCE, "sessions do not end");
        }
        ask("SELECT deadlocks AS n FROM pg_stat_database WHERE datname = current_database()").await
    }
}

fn names() -> Vec<String> {
    (0..JOBS).map(|number| format!("job_{number:03}")).collect()
}

fn seed(job: &str, hash: &str) -> JobSeed {
    JobSeed {
        job: job.to_owned(),
        cadence: Cadence::every(Duration::from_secs(60)),
        definition_hash: hash.to_owned(),
        due_by_row: true,
        start_immediately: true,
        timeout_ms: None,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

/// A firing of the slot that is due.
fn firing(row: &ScheduleRow, instance_id: InstanceId, lease_ms: i64) -> Firing {
    let slot_ms = row.next_due_at_ms.expect("due");
    Firing {
        job: row.job.clone(),
        scope_key: String::new(),
        lease_name: row.job.clone(),
        lease_ms,
        as_of_ms: None,
        instance_id,
        run: Some(NewRun {
            id: RunId::new(),
            trigger: Trigger::Schedule,
            scheduled_for_ms: slot_ms,
            attempt: 1,
        }),
        advance: Some(Advance {
            seen_due_at_ms: row.next_due_at_ms,
            seen_generation: row.generation,
            seen_buffered_for_ms: row.buffered_for_ms,
            seen_waiting_slots: Vec::new(),
            next_due_at_ms: Some(slot_ms + 1),
            fired_for_ms: Some(slot_ms),
            buffered_for_ms: row.buffered_for_ms,
            waiting_slots: Vec::new(),
        }),
        missed: Vec::new(),
        interrupted: None,
        overlap: Overlap::Skip,
        overlap_limit: 10,
        requested: false,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

fn closing(run: &InterruptedRun, instance_id: InstanceId) -> Firing {
    Firing {
        job: run.job.clone(),
        scope_key: run.scope_key.clone(),
        lease_name: run.job.clone(),
        lease_ms: LONG_MS,
        as_of_ms: None,
        instance_id,
        run: None,
        advance: None,
        missed: Vec::new(),
        interrupted: Some(run.clone()),
        overlap: Overlap::Skip,
        overlap_limit: 10,
        requested: false,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

fn ending(key: &LeaseKey, run: NewRun, rerun: bool) -> Ending {
    Ending {
        key: key.clone(),
        run: RunFinished {
            job: key.name.clone(),
            run_id: run.id,
            instance_id: key.holder,
            status: if rerun { RunStatus::Cancelled } else { RunStatus::Succeeded },
            scheduled_for_ms: run.scheduled_for_ms,
            started_at_ms: run.scheduled_for_ms,
            finished_at_ms: run.scheduled_for_ms,
            summary: None,
            error: None,
        },
        keep_row: true,
        rerun,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

/// The runs that began, with their grants.
fn started(firings: &[Firing], begun: &[Begun]) -> Vec<(LeaseKey, NewRun)> {
    let pairs = firings.iter().zip(begun);
    pairs
        .filter_map(|(firing, begun)| match begun {
            Begun::Started { key, .. } => Some((key.clone(), firing.run?)),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hosts_that_begin_and_finish_the_same_hundred_jobs_never_deadlock() {
    let Some(hosts) = Hosts::new(4, "").await else { return };
    let names = names();
    let seeds: Vec<JobSeed> = names.iter().map(|job| seed(job, "1")).collect();
    hosts.store().register_jobs(&seeds).await.expect("registered");
    let mut began = 0;
    let mut running: Vec<(LeaseKey, NewRun)> = Vec::new();
    for round in 0..40 {
        let look = hosts.store().look(&names).await.expect("a look");
        let begins = hosts.hosts.iter().enumerate().map(|(number, (store, instance))| {
            let mut firings: Vec<Firing> =
                look.schedules.iter().map(|row| firing(row, *instance, LONG_MS)).collect();
            match number {
                0 => {}
                1 => firings.reverse(),
                _ => fastrand::shuffle(&mut firings),
            }
            async move {
                let begun = store.begin(&firings).await.expect("begun");
                started(&firings, &begun)
            }
        });
        // What ran in the last round ends meanwhile; every third is to run again.
        let ends = running.iter().enumerate().map(|(number, (key, run))| {
            let store = &hosts.hosts[number % hosts.hosts.len()].0;
            async move {
                let ending = ending(key, *run, (number + round) % 3 == 0);
                assert!(store.finish(&ending).await.expect("finished"));
            }
        });
        let (begun, _) = tokio::join!(join_all(begins), join_all(ends));
        running = begun.into_iter().flatten().collect();
        began += running.len();
    }
    assert!(began > 10 * JOBS, "{began} runs");
    assert_eq!(hosts.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_that_end_while_others_close_them_never_deadlock() {
    let Some(hosts) = Hosts::new(4, "").await else { return };
    let names = names();
    let seeds: Vec<JobSeed> = names.iter().map(|job| seed(job, "1")).collect();
    hosts.store().register_jobs(&seeds).await.expect("registered");
    let mut closed = 0;
    for _ in 0..40 {
        // All run under a lease that ends about when they do.
        let (store, instance) = &hosts.hosts[0];
        let look = store.look(&names).await.expect("a look");
        let lease_ms = fastrand::i64(30..150);
        let firings: Vec<Firing> =
            look.schedules.iter().map(|row| firing(row, *instance, lease_ms)).collect();
        let begun = store.begin(&firings).await.expect("begun");
        let running = started(&firings, &begun);
        let ends = running.iter().map(|(key, run)| async move {
            // Held or lost: either is an answer.
            store.finish(&ending(key, *run, true)).await.expect("an answer");
        });
        let names = &names;
        let closes = hosts.hosts[1..].iter().map(|(store, instance)| async move {
            let mut closed = 0;
            loop {
                let look = store.look(names).await.expect("a look");
                let open = look.schedules.iter().filter(|row| row.leased_until_ms.is_some());
                let done = open.count() == 0 && look.interrupted.is_empty();
                let mut firings: Vec<Firing> =
                    look.interrupted.iter().map(|run| closing(run, *instance)).collect();
                let due = look.schedules.iter().filter(|row| row.leased_until_ms.is_none());
                firings.extend(due.map(|row| Firing { run: None, ..firing(row, *instance, 30) }));
                fastrand::shuffle(&mut firings);
                let begun = store.begin(&firings).await.expect("begun");
                let answers = firings.iter().zip(&begun);
                let recorded = answers.filter(|(firing, begun)| {
                    firing.interrupted.is_some() && **begun == Begun::Recorded
                });
                closed += recorded.count();
                if done {
                    return closed;
                }
            }
        });
        let (_, found) = tokio::join!(join_all(ends), join_all(closes));
        closed += found.into_iter().sum::<usize>();
    }
    assert!(closed > 0, "leases ended before their runs");
    assert_eq!(hosts.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hosts_that_register_the_same_jobs_at_once_never_deadlock() {
    let Some(hosts) = Hosts::new(4, "").await else { return };
    let mut names = names();
    for round in 0..40 {
        let registers = hosts.hosts.iter().enumerate().map(|(number, (store, _))| {
            fastrand::shuffle(&mut names);
            // Versions that disagree rewrite each other's rows.
            let hash = (round + number % 2).to_string();
            let seeds: Vec<JobSeed> = names.iter().map(|job| seed(job, &hash)).collect();
            async move { store.register_jobs(&seeds).await.expect("registered") }
        });
        join_all(registers).await;
    }
    assert_eq!(hosts.deadlocks().await, 0);
}

const PARCELS: &str = "
CREATE TABLE parcels (
  id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL,
  status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0, run_at_ms BIGINT NOT NULL DEFAULT 0,
  attempt_count INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 3, crash_count INTEGER NOT NULL DEFAULT 0,
  leased_by TEXT, lease_token BIGINT NOT NULL DEFAULT 0, lease_expires_at_ms BIGINT, started BOOLEAN NOT NULL DEFAULT FALSE,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE, progress_pct INTEGER NOT NULL DEFAULT 0, last_error TEXT, result TEXT,
  started_at_ms BIGINT, completed_at_ms BIGINT, concurrency_slot INTEGER, queue_slot INTEGER);
CREATE INDEX parcels_ready ON parcels (priority, run_at_ms, id) WHERE status = 'queued';
CREATE INDEX parcels_suspect ON parcels (run_at_ms) WHERE status = 'queued' AND crash_count > 0;
CREATE INDEX parcels_leases ON parcels (lease_expires_at_ms) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_user ON parcels (user_id, concurrency_slot) WHERE status = 'running';
CREATE UNIQUE INDEX parcels_slot ON parcels (queue_slot) WHERE status = 'running';
INSERT INTO parcels (id, user_id) SELECT n, n % 16 FROM generate_series(1, 100) AS n;
-- So many that rows are found one by one, in the order in which they are named.
INSERT INTO parcels (id, user_id, status) SELECT n, n % 16, 'succeeded' FROM generate_series(101, 50000) AS n;
ANALYZE parcels;
";

/// Claims, renews and settles the same rows over and over while their leases end.
async fn torment_queue(table: fn() -> QueueTable) {
    let Some(hosts) = Hosts::new(3, PARCELS).await else { return };
    let mut work = Vec::new();
    for (store, holder) in &hosts.hosts {
        let rows = store.open_queue(table()).await.expect("a queue");
        work.push(async move { work_off(store, &*rows, *holder).await });
    }
    let mut counts = BTreeMap::new();
    for (what, count) in join_all(work).await.into_iter().flatten() {
        *counts.entry(what).or_insert(0) += count;
    }
    for what in ["claimed", "reclaimed", "renewed", "settled"] {
        assert!(counts[what] > 0, "{counts:?}");
    }
    assert_eq!(hosts.deadlocks().await, 0, "{counts:?}");
}

async fn work_off(
    store: &Store,
    rows: &dyn QueueRows,
    holder: InstanceId,
) -> BTreeMap<&'static str, u64> {
    // Rows whose lease ended count as crashed and would be claimed alone.
    let forgive = "UPDATE parcels SET crash_count = 0 WHERE id = ANY (ARRAY(
        SELECT id FROM parcels WHERE status = 'queued' AND crash_count > 0 FOR UPDATE SKIP LOCKED))";
    let mut counts = BTreeMap::new();
    for _ in 0..150 {
        store.reader().execute_unprepared(forgive).await.expect("forgiven");
        let lease_ms = fastrand::i64(2..60);
        let request = ClaimRequest { holder, limit: 40, lease_ms, idle: false };
        let claimed = rows.claim(&request).await.expect("a claim");
        *counts.entry("claimed").or_default() += claimed.rows.len() as u64;
        *counts.entry("reclaimed").or_default() += claimed.reclaimed;
        let grants: Vec<_> = claimed.rows.into_iter().map(|row| row.grant).collect();
        let progress =
            |grant: &_| RowProgress { grant: Clone::clone(grant), progress_pct: Some(7) };
        let settled = |grant: &_| SettledRow {
            grant: Clone::clone(grant),
            status: RowStatus::Queued,
            delay_ms: Some(0),
            give_attempt_back: true,
            error: None,
            result: None,
        };
        let mut renewals: Vec<RowProgress> = grants.iter().map(progress).collect();
        let mut ends: Vec<SettledRow> = grants.iter().map(settled).collect();
        fastrand::shuffle(&mut renewals);
        fastrand::shuffle(&mut ends);
        let (renewed, ended) = tokio::join!(rows.renew(&renewals, lease_ms), rows.settle(&ends));
        *counts.entry("renewed").or_default() += renewed.expect("renewed").len() as u64;
        *counts.entry("settled").or_default() += ended.expect("settled").len() as u64;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_that_are_renewed_settled_and_reclaimed_at_once_never_deadlock() {
    torment_queue(|| QueueTable::new("parcels").crash_limit(1_000_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_of_a_limited_queue_never_deadlock() {
    let table =
        || QueueTable::new("parcels").limit(20).limit_per_key("user_id", 2).crash_limit(1_000_000);
    torment_queue(table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_server_ends_is_done_again() {
    let Some(hosts) = Hosts::new(2, "").await else { return };
    let names: Vec<String> = ["ant", "bee"].map(str::to_owned).to_vec();
    let seeds: Vec<JobSeed> = names.iter().map(|job| seed(job, "1")).collect();
    hosts.store().register_jobs(&seeds).await.expect("registered");
    // An embedder's own transaction takes the rows in the other order, and waits.
    let (bee, ant) = ("'bee' FOR UPDATE", "'ant' FOR UPDATE");
    let lock = |job: &str| format!("SELECT job FROM schedules WHERE job = {job}");
    let look = hosts.store().look(&names).await.expect("a look");
    let (store, instance) = &hosts.hosts[1];
    let firings: Vec<Firing> =
        look.schedules.iter().map(|row| firing(row, *instance, LONG_MS)).collect();
    let (locked, told) = tokio::sync::oneshot::channel();
    let waiting = "SELECT count(*) AS n FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let other = hosts.store().write("take rows in another order", |txn| {
        let (bee, ant) = (lock(bee), lock(ant));
        Box::pin(async move {
            let failed = |source| scheduler_core::StoreError::database("lock", source);
            // The later of two in a circle is the one that looks for it first: be patient.
            txn.execute_unprepared("SET LOCAL deadlock_timeout = '60s'").await.map_err(failed)?;
            txn.execute_unprepared(&bee).await.map_err(failed)?;
            let _ = locked.send(());
            let began = Instant::now();
            loop {
                let backend = txn.get_database_backend();
                let row = txn.query_one_raw(Statement::from_string(backend, waiting)).await;
                let row = row.map_err(failed)?.expect("a row");
                if row.try_get::<i64>("", "n").expect("a number") > 0 {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "nobody waits");
            }
            txn.execute_unprepared(&ant).await.map_err(failed).map(|_| ())
        })
    });
    let begin = async {
        told.await.expect("locked");
        store.begin(&firings).await.expect("done again")
    };
    let (other, begun) = tokio::join!(other, begin);
    other.expect("the other goes through");
    assert!(begun.iter().all(|begun| matches!(begun, Begun::Started { .. })), "{begun:?}");
    let now_ms = SystemClock.now_ms();
    assert!(store.holder("ant").await.expect("read").is_some_and(|held| held.until_ms > now_ms));
    assert_eq!(hosts.deadlocks().await, 1, "the circle was real");
}
