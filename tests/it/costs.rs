//! How many statements and commits each thing costs: what the table in DESIGN.md says, counted.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use scheduler_core::queue::QueueTable;
use scheduler_core::store::{
    Advance, Begun, ClaimRequest, Ending, Firing, HeartbeatStore, Instance, InstanceStore,
    LeaseStore, NewRun, QueueRows, RowGrant, RowProgress, RowStatus, RunStore, ScheduleStore,
    SettledRow,
};
use scheduler_core::{
    HeartbeatRecorder, InstanceId, RunFinished, RunId, RunStatus, Store, Trigger,
};
use sea_orm::{ConnectOptions, DbBackend};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::courier::{create_parcels, table};
use crate::harness::{Database, NOON};

on_every_store! {
    statements_and_commits_are_what_the_design_says,
}

const LEASE_MS: i64 = 30_000;

/// Counts what goes to the database. Commits of SQLite are counted by SQLite itself, those of a
/// server by the driver's log.
#[derive(Clone, Default)]
struct Meter {
    statements: Arc<AtomicU32>,
    commits: Arc<AtomicU32>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Meter {
    async fn store(&self, database: &Database) -> Store {
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
        Store::from_connection_with(pool, Arc::new(database.clock.clone()))
    }

    /// Statements and commits since the last time.
    fn take(&self) -> (u32, u32) {
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

/// What was counted beside what is expected, on a server with what it adds.
struct Bill {
    meter: Meter,
    is_server: bool,
    lines: Vec<String>,
    is_wrong: bool,
}

impl Bill {
    /// `more` is what a server adds to the statements.
    fn check(&mut self, what: &str, statements: u32, more: u32, commits: u32) {
        let expected = (statements + if self.is_server { more } else { 0 }, commits);
        let counted = self.meter.take();
        let mark = if counted == expected { "" } else { "  WRONG" };
        self.is_wrong |= counted != expected;
        self.lines.push(format!("{what}: {counted:?}, expected {expected:?}{mark}"));
    }
}

async fn statements_and_commits_are_what_the_design_says(database: Database) {
    create_parcels(&database).await;
    let meter = Meter::default();
    let writer = meter.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    let store = meter.store(&database).await;
    let _logged = subscriber.set_default();
    let is_server = database.backend() == DbBackend::Postgres;
    let mut bill = Bill { meter, is_server, lines: Vec::new(), is_wrong: false };
    bill.meter.take();
    jobs(&store, &database, &mut bill).await;
    instance(&store, &mut bill).await;
    rows(&store, &database, &mut bill).await;
    println!("{}", bill.lines.join("\n"));
    assert!(!bill.is_wrong, "{}", bill.lines.join("\n"));
}

async fn jobs(store: &Store, database: &Database, bill: &mut Bill) {
    let names: Vec<String> = (0..4).map(|number| format!("job{number}")).collect();
    for name in &names {
        let schedule = format!(
            "INSERT INTO schedules (job, cadence, definition_hash, anchor_ms, next_due_at_ms) VALUES ('{name}', 'every 1m', '1', 0, 0)"
        );
        database.execute(&schedule).await;
    }
    store.look(&names).await.expect("a look");
    bill.check("look of the driver", 2, 1, 0);

    let holder = InstanceId::new();
    let one = [firing(&names[0], holder, true)];
    let begun = store.begin(&one).await.expect("begun");
    bill.check("begin of a Cluster job", 5, 1, 1);
    let ending = ended(&one[0], &begun[0]);
    store.renew(&ending.key, LEASE_MS).await.expect("renewed");
    bill.check("renewal of its lease", 1, 0, 1);
    assert!(store.finish(&ending).await.expect("finished"));
    bill.check("its finish", 4, 1, 1);

    let three: Vec<Firing> = names[1..].iter().map(|name| firing(name, holder, true)).collect();
    let begun = store.begin(&three).await.expect("begun");
    bill.check("begin of three Cluster jobs", 3 + 2 * 3, 2, 1);
    for (firing, begun) in three.iter().zip(&begun) {
        assert!(store.finish(&ended(firing, begun)).await.expect("finished"));
    }
    bill.check("their finishes", 3 * 4, 3, 3);

    let own = [firing("own", holder, false)];
    let begun = store.begin(&own).await.expect("begun");
    bill.check("begin of an Instance job", 4, 1, 1);
    assert!(store.finish(&ended(&own[0], &begun[0])).await.expect("finished"));
    bill.check("its finish", 4, 1, 1);
}

/// A due run, of a schedule row or of this instance alone.
fn firing(job: &str, instance_id: InstanceId, is_cluster: bool) -> Firing {
    let scope_key = if is_cluster { String::new() } else { instance_id.to_string() };
    let advance = Advance {
        seen_due_at_ms: Some(0),
        seen_generation: 0,
        seen_buffered_for_ms: None,
        next_due_at_ms: Some(NOON + 60_000),
        fired_for_ms: Some(NOON),
        buffered_for_ms: None,
    };
    let run =
        NewRun { id: RunId::new(), trigger: Trigger::Schedule, scheduled_for_ms: NOON, attempt: 1 };
    Firing {
        job: job.into(),
        lease_name: if is_cluster { job.into() } else { format!("{job}@{instance_id}") },
        scope_key,
        lease_ms: LEASE_MS,
        instance_id,
        run: Some(run),
        advance: is_cluster.then_some(advance),
        missed: None,
        interrupted: None,
        recorder: Arc::new(HeartbeatRecorder),
    }
}

fn ended(firing: &Firing, begun: &Begun) -> Ending {
    let Begun::Started { key, .. } = begun else { panic!("it is due: {begun:?}") };
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
    let (key, recorder) = (key.clone(), Arc::new(HeartbeatRecorder));
    Ending { key, run, keep_row: true, rerun: false, recorder }
}

async fn instance(store: &Store, bill: &mut Bill) {
    let id = InstanceId::new();
    let instance = Instance { id, host: "here".into(), pid: 1, version: "1".into() };
    store.announce(&instance).await.expect("announced");
    bill.meter.take();
    store.seen(id, false).await.expect("seen");
    bill.check("sign of life", 1, 0, 1);
    store.prune(1_000).await.expect("pruned");
    let deletes = bill.meter.take();
    bill.lines.push(format!("pruning: {deletes:?}"));
    store.health().await.expect("health");
    bill.meter.take();
}

async fn rows(store: &Store, database: &Database, bill: &mut Bill) {
    let queue = store.open_queue(table()).await.expect("a queue");
    let limited = |queue: QueueTable| store.open_queue(queue.limit_per_key("user_id", 5));
    let limited = limited(table()).await.expect("a queue");
    for user in 0..20 {
        let insert = format!("INSERT INTO parcels (user_id, label) VALUES ({user}, 'x')");
        database.execute(&insert).await;
    }
    bill.meter.take();
    let holder = InstanceId::new();
    let claim = async |queue: &dyn QueueRows, limit, idle| -> Vec<RowGrant> {
        let request = ClaimRequest { holder, limit, lease_ms: LEASE_MS, idle };
        let claimed = queue.claim(&request).await.expect("claimed");
        claimed.rows.into_iter().map(|row| row.grant).collect()
    };
    let mut grants = claim(&queue, 5, false).await;
    bill.check("claim of five rows", 2, 0, 1);
    grants.extend(claim(&queue, 5, true).await);
    bill.check("claim of five rows when idle", 3, 0, 1);
    grants.extend(claim(&limited, 3, false).await);
    bill.check("claim of three rows with limits, no room left", 1 + 3, 1, 1);
    assert_eq!(grants.len(), 13);
    let progress: Vec<RowProgress> = grants
        .iter()
        .map(|grant| RowProgress { grant: grant.clone(), progress_pct: Some(5) })
        .collect();
    assert_eq!(queue.renew(&progress, LEASE_MS).await.expect("renewed").len(), 13);
    bill.check("leases and progress of thirteen rows", 1, 0, 1);
    let settled = |grant| SettledRow {
        grant,
        status: RowStatus::Succeeded,
        delay_ms: None,
        give_attempt_back: false,
        error: None,
        result: None,
    };
    let settled: Vec<SettledRow> = grants.into_iter().map(settled).collect();
    assert_eq!(queue.settle(&settled).await.expect("settled").len(), 13);
    bill.check("finish of thirteen rows", 1, 0, 1);
    queue.next_in_ms(holder).await.expect("asked");
    bill.check("when the queue is due next", 1, 0, 0);
}
