//! How many statements and commits each thing costs: the table in DESIGN.md, counted.
//!
//! Statements are counted where the library hands them to its pool: BEGIN and COMMIT are not among
//! them. Nothing else runs meanwhile. Now is the server's, as in production.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use scheduler_core::queue::{NewJob, QueueTable, Unique};
use scheduler_core::store::{
    Advance, Begun, ClaimRequest, DeadLetterStore, Definitions, Ending, Firing, HeartbeatRollUp,
    HeartbeatStore, Instance, InstanceStore, ItemFailure, ItemSettlement, LeaseStore, NewRun,
    QueueRows, Renewal, RowGrant, RowProgress, RowStatus, RunStore, ScheduleStore, SettledRow,
};
use scheduler_core::{
    HeartbeatRecorder, InstanceId, LeaseKey, Overlap, RunFinished, RunId, RunStatus, Store,
    Trigger, WorkerStatus,
};
use sea_orm::{ConnectOptions, DatabaseConnection, DbBackend};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::courier::{create_parcels, table};
use crate::harness::{Database, NOON};

on_every_store! {
    statements_and_commits_are_what_the_design_says,
}

/// Longer than a busy machine takes for all of it.
const LEASE_MS: i64 = 3_600_000;

/// Counts what goes to the database. Commits of writes to SQLite are counted by SQLite itself, those
/// of a server by the driver's log.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    statements: Arc<AtomicU32>,
    commits: Arc<AtomicU32>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Meter {
    async fn store(&self, database: &Database) -> Store {
        Store::from_connection(self.pool(database).await)
    }

    /// One connection, through which everything is counted.
    pub(crate) async fn pool(&self, database: &Database) -> DatabaseConnection {
        let mut options = ConnectOptions::new(database.url());
        options.max_connections(1).sqlx_logging(true);
        let commits = Arc::clone(&self.commits);
        options.map_sqlx_sqlite_pool_opts(move |pool| {
            let commits = Arc::clone(&commits);
            pool.after_connect(move |connection, _| {
                let commits = Arc::clone(&commits);
                Box::pin(async move {
                    connection.lock_handle().await?.set_commit_hook(move || {
                        commits.fetch_add(1, Ordering::SeqCst);
                        true
                    });
                    Ok(())
                })
            })
        });
        let mut pool = sea_orm::Database::connect(options).await.expect("a pool");
        let statements = Arc::clone(&self.statements);
        pool.set_metric_callback(move |_| _ = statements.fetch_add(1, Ordering::SeqCst));
        pool
    }

    /// Statements and commits since the last time.
    pub(crate) fn take(&self) -> (u32, u32) {
        let log = std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner));
        let logged = String::from_utf8_lossy(&log).matches("summary=\"COMMIT\"").count();
        let commits = self.commits.swap(0, Ordering::SeqCst);
        (self.statements.swap(0, Ordering::SeqCst), commits + u32::try_from(logged).expect("few"))
    }
}

impl io::Write for Meter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Meter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What was counted beside what is expected.
struct Bill {
    meter: Meter,
    is_server: bool,
    wrong: Vec<String>,
}

impl Bill {
    /// `more` is what a server adds to the statements.
    fn check(&mut self, what: &str, statements: u32, more: u32, commits: u32) {
        let expected = (statements + if self.is_server { more } else { 0 }, commits);
        let counted = self.meter.take();
        if counted != expected {
            self.wrong.push(format!("{what}: {counted:?}, expected {expected:?}"));
        }
    }
}

async fn statements_and_commits_are_what_the_design_says(database: Database) {
    create_parcels(&database).await;
    let meter = Meter::default();
    let store = meter.store(&database).await;
    let log = meter.clone();
    let _logged =
        tracing_subscriber::fmt().with_ansi(false).with_writer(log).finish().set_default();
    let is_server = database.backend() == DbBackend::Postgres;
    meter.take();
    let mut bill = Bill { meter, is_server, wrong: Vec::new() };
    jobs(&store, &database, &mut bill).await;
    items(&store, &mut bill).await;
    idle(&store, &mut bill).await;
    rows(&store, &database, &mut bill).await;
    limited_rows(&store, &database, &mut bill).await;
    enqueued_rows(&store, &mut bill).await;
    assert!(bill.wrong.is_empty(), "(statements, commits)\n{}", bill.wrong.join("\n"));
}

async fn jobs(store: &Store, database: &Database, bill: &mut Bill) {
    let names: Vec<String> = (0..8).map(|number| format!("job{number}")).collect();
    for name in &names {
        let schedule = format!(
            "INSERT INTO schedules (job, cadence, definition_hash, anchor_ms, next_due_at_ms) VALUES ('{name}', 'every 1m', '1', 0, 0)"
        );
        database.execute(&schedule).await;
    }
    let generation = database.value("SELECT generation FROM schedules WHERE job = 'job0'").await;
    bill.meter.take();
    store.look(&names).await.expect("a look");
    bill.check("look of the driver", 2, 1, 0);

    let holder = InstanceId::new();
    let due = |name: &String| cluster(name, holder, generation);
    let one = due(&names[0]);
    let ending = ended(&one, &begin(store, std::slice::from_ref(&one)).await[0]);
    bill.check("begin of a Cluster job", 5, 1, 1);
    let renewed = store.renew(&ending.key, LEASE_MS).await.expect("renewed");
    assert!(matches!(renewed, Renewal::Kept { .. }));
    bill.check("lease of a running job", 1, 0, 1);
    assert!(store.finish(&ending).await.expect("finished"));
    bill.check("finish of a Cluster job", 4, 1, 1);

    for together in [&names[1..3], &names[3..8]] {
        let k = u32::try_from(together.len()).expect("few");
        let firings: Vec<Firing> = together.iter().map(due).collect();
        let begun = begin(store, &firings).await;
        bill.check(&format!("begin of {k} Cluster jobs"), 5, 2, 1);
        let pairs = firings.iter().zip(&begun);
        let endings: Vec<Ending> = pairs.map(|(firing, begun)| ended(firing, begun)).collect();
        // All of them wait before the first is under way: this test has one thread.
        let ends = join_all(endings.iter().map(|ending| store.finish(ending))).await;
        assert!(ends.into_iter().all(|held| held.expect("finished")));
        bill.check(&format!("finishes of {k} Cluster jobs at once"), 4, 4, 1);
    }

    let own = own("own", holder);
    let ending = ended(&own, &begin(store, std::slice::from_ref(&own)).await[0]);
    bill.check("begin of an Instance job", 4, 1, 1);
    assert!(store.finish(&ending).await.expect("finished"));
    bill.check("finish of an Instance job", 4, 1, 1);

    let rows: Vec<HeartbeatRollUp> = names.iter().map(|worker| rolled_up(worker, holder)).collect();
    store.roll_up(&rows).await.expect("rolled up");
    bill.check("heartbeats of jobs without history", 2, 0, 1);
}

/// A success of a job without history.
fn rolled_up(worker: &str, instance_id: InstanceId) -> HeartbeatRollUp {
    HeartbeatRollUp {
        worker: worker.to_owned(),
        instance_id,
        runs: 1,
        errors: 0,
        errors_in_a_row: 0,
        started_ago_ms: Some(2),
        ended_ago_ms: Some(1),
        success_ago_ms: Some(1),
        error_ago_ms: None,
        last_error: None,
        summary: None,
        latency_ms: 1,
        status: Some(WorkerStatus::Succeeded),
    }
}

async fn begin(store: &Store, firings: &[Firing]) -> Vec<Begun> {
    store.begin(firings).await.expect("begun")
}

/// A due run of a schedule row.
fn cluster(job: &str, instance_id: InstanceId, seen_generation: i64) -> Firing {
    let advance = Advance {
        seen_due_at_ms: Some(0),
        seen_generation,
        seen_buffered_for_ms: None,
        seen_waiting_slots: Vec::new(),
        next_due_at_ms: Some(NOON + 60_000),
        fired_for_ms: Some(NOON),
        buffered_for_ms: None,
        waiting_slots: Vec::new(),
    };
    Firing {
        lease_name: job.into(),
        scope_key: String::new(),
        advance: Some(advance),
        ..own(job, instance_id)
    }
}

/// A due run of this instance alone.
fn own(job: &str, instance_id: InstanceId) -> Firing {
    let run =
        NewRun { id: RunId::new(), trigger: Trigger::Schedule, scheduled_for_ms: NOON, attempt: 1 };
    Firing {
        job: job.into(),
        lease_name: format!("{job}@{instance_id}"),
        scope_key: instance_id.to_string(),
        lease_ms: LEASE_MS,
        as_of_ms: None,
        instance_id,
        overlap: Overlap::Skip,
        overlap_limit: 10,
        requested: false,
        run: Some(run),
        advance: None,
        missed: Vec::new(),
        interrupted: None,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

fn key_of(begun: &Begun) -> LeaseKey {
    let Begun::Started { key, .. } = begun else { panic!("it is due: {begun:?}") };
    key.clone()
}

fn ended(firing: &Firing, begun: &Begun) -> Ending {
    let run = RunFinished {
        job: firing.job.clone(),
        run_id: firing.run.expect("a run").id,
        instance_id: firing.instance_id,
        status: RunStatus::Succeeded,
        scheduled_for_ms: NOON,
        started_at_ms: NOON,
        finished_at_ms: NOON,
        summary: None,
        error: None,
    };
    let recorder = Arc::new(HeartbeatRecorder);
    Ending { key: key_of(begun), run, keep_row: true, rerun: false, recorder }
}

/// However many items: a hundred cost what one costs.
async fn items(store: &Store, bill: &mut Bill) {
    let key = key_of(&begin(store, &[own("marking", InstanceId::new())]).await[0]);
    let keys: Vec<String> = (0..100).map(|number| format!("item{number}")).collect();
    let failure = |item_key: &String| ItemFailure {
        item_key: item_key.clone(),
        delay_ms: 1_000,
        error: "refused".into(),
        payload: None,
    };
    let settle = async |failed: &[String], resolved: &[String]| {
        let settlement = ItemSettlement {
            key: key.clone(),
            job: "marking".into(),
            max_attempts: 3,
            failures: failed.iter().map(failure).collect(),
            resolved: resolved.to_vec(),
        };
        assert!(store.settle_items(&settlement).await.expect("settled"));
    };
    bill.meter.take();
    store.standings("marking").await.expect("standings");
    bill.check("begin of a cycle over items", 1, 0, 0);
    settle(&keys, &[]).await;
    bill.check("end of a cycle with failures", 2, 0, 1);
    settle(&[], &keys[..50]).await;
    bill.check("end of a cycle in which items came right", 2, 0, 1);
    settle(&keys[..50], &keys[50..]).await;
    bill.check("end of a cycle with both", 3, 0, 1);
}

async fn idle(store: &Store, bill: &mut Bill) {
    let id = InstanceId::new();
    let instance = Instance {
        id,
        host: "here".into(),
        pid: 1,
        version: "1".into(),
        definitions: Definitions::new(),
    };
    store.announce(&instance).await.expect("announced");
    bill.meter.take();
    assert!(store.seen(id, false).await.expect("seen"));
    bill.check("sign of life", 1, 0, 1);
    store.prune(1_000).await.expect("pruned");
    bill.check("deletes of an idle process", 7, 1, 1);
}

async fn enqueue(database: &Database, rows: i64) {
    let series = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n <";
    let insert = "INSERT INTO parcels (user_id, label) SELECT n, 'x' FROM n";
    let insert = match database.backend() {
        DbBackend::Postgres => {
            insert.replace("FROM n", &format!("FROM generate_series(1, {rows}) n"))
        }
        _ => format!("{series} {rows}) {insert}"),
    };
    database.execute(&insert).await;
}

async fn claim(queue: &dyn QueueRows, limit: u32, idle: bool) -> Vec<RowGrant> {
    let request = ClaimRequest { holder: InstanceId::new(), limit, lease_ms: LEASE_MS, idle };
    let claimed = queue.claim(&request).await.expect("claimed");
    claimed.rows.into_iter().map(|row| row.grant).collect()
}

async fn rows(store: &Store, database: &Database, bill: &mut Bill) {
    let queue = store.open_queue(table()).await.expect("a queue");
    enqueue(database, 510).await;
    bill.meter.take();
    assert_eq!(claim(&*queue, 10, true).await.len(), 10);
    bill.check("claim of ten rows when idle", 3, 0, 1);
    let grants = claim(&*queue, 500, false).await;
    assert_eq!(grants.len(), 500);
    bill.check("claim of 500 rows", 2, 0, 1);
    let holder = grants[0].holder;
    let progress: Vec<RowProgress> = grants
        .iter()
        .map(|grant| RowProgress { grant: grant.clone(), progress_pct: Some(5) })
        .collect();
    assert_eq!(queue.renew(&progress, LEASE_MS).await.expect("renewed").len(), 500);
    bill.check("leases, progress and cancel requests of 500 rows", 1, 0, 1);
    let settled = |grant| SettledRow {
        grant,
        status: RowStatus::Succeeded,
        delay_ms: None,
        give_attempt_back: false,
        error: None,
        result: None,
    };
    let settled: Vec<SettledRow> = grants.into_iter().map(settled).collect();
    assert_eq!(queue.settle(&settled[..200]).await.expect("settled").len(), 200);
    bill.check("finish of 200 rows", 1, 0, 1);
    // They are counted, and answered one by one where the count is not that of the rows.
    assert_eq!(queue.settle(&settled[100..]).await.expect("settled").len(), 300);
    bill.check("finish of 400 rows of which 100 are lost", 2, 0, 1);
    assert_eq!(queue.settle(&settled).await.expect("settled").len(), 0);
    bill.check("finish of 500 rows that are all lost", 1, 0, 1);
    queue.next_in_ms(holder).await.expect("asked");
    bill.check("when the queue is due next", 1, 0, 0);

    database.execute("INSERT INTO parcels (crash_count) VALUES (1)").await;
    assert_eq!(claim(&*queue, 10, true).await.len(), 1);
    bill.check("claim of a suspect", 2, 0, 1);
}

async fn limited_rows(store: &Store, database: &Database, bill: &mut Bill) {
    let by_user = |queue: QueueTable| queue.limit_per_key("user_id", 5);
    let queue = store.open_queue(by_user(table())).await.expect("a queue");
    enqueue(database, 5).await;
    bill.meter.take();
    assert_eq!(claim(&*queue, 3, false).await.len(), 3);
    bill.check("claim of three rows with limits", 1 + 3, 1, 1);
    assert_eq!(claim(&*queue, 4, true).await.len(), 2);
    bill.check("claim of two rows with limits when idle, and room for more", 2 + 2 + 1, 1, 1);
}

async fn enqueued_rows(store: &Store, bill: &mut Bill) {
    // Without the news of it, which a server is told afterwards.
    let mails = store.open_queue(QueueTable::jobs("mails")).await.expect("a queue");
    let job = || NewJob::new("mail", &1).expect("a job");
    bill.meter.take();
    // A server commits a statement of its own without being told to, so its log does not say it.
    let said = u32::from(!bill.is_server);
    // Where nobody else writes, the ids of many rows are read before instead of answered.
    let reads = u32::from(!bill.is_server);
    for (rows, read) in [(1, 0), (15, 0), (16, reads), (1_000, reads)] {
        mails.enqueue(&vec![job(); rows]).await.expect("enqueued");
        bill.check(&format!("enqueue of {rows} rows that are alike"), 1 + read, 0, said);
    }
    let mut mixed = vec![job(); 99];
    mixed.push(job().priority(1));
    mails.enqueue(&mixed).await.expect("enqueued");
    bill.check("enqueue of rows that differ", 1, 0, said);
    let keyed: Vec<NewJob> =
        (0..100).map(|key| job().unique(Unique::new(key.to_string()))).collect();
    for _ in 0..2 {
        mails.enqueue(&keyed).await.expect("enqueued");
        bill.check("enqueue of rows with unique keys", 1, 0, 1);
    }
}
