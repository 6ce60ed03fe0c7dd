//! What the hot statements read while 100,000 rows wait and 100,000 are finished: only their
//! partial indexes and the rows themselves.

use super::*;

const TABLE: &str = "
CREATE TABLE parcels (
  id INTEGER PRIMARY KEY, user_id BIGINT,
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
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200000)
INSERT INTO parcels (id, user_id, status, priority, run_at_ms)
  SELECT n, n % 1000, CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'succeeded' END, n % 5, n FROM n;
";

/// As the library's migrations make it.
const PAUSES: &str =
    "CREATE TABLE queue_pauses (queue TEXT NOT NULL PRIMARY KEY, paused_at_ms BIGINT NOT NULL)";

async fn plan(queue: &SqlQueue, sql: &str, values: Vec<Value>) -> Vec<String> {
    let explain = queue.bind(&format!("EXPLAIN QUERY PLAN {sql}"), values);
    let rows = queue.store.reader().query_all_raw(explain).await.unwrap();
    rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect()
}

/// Whether a step reads a whole table: nothing but the parameters and the slots may be.
fn reads_everything(step: &str) -> bool {
    let harmless = step.contains(" USING ")
        || step.starts_with("SCAN json_each ")
        || ["SCAN slots", "SCAN priorities", "SCAN CONSTANT ROW"].contains(&step);
    (step.starts_with("SCAN ") && !harmless) || step.contains("AUTOMATIC")
}

#[tokio::test]
async fn no_hot_statement_reads_the_whole_table_whatever_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("plans.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    store.reader().execute_unprepared(TABLE).await.unwrap();
    store.reader().execute_unprepared(PAUSES).await.unwrap();
    let me = InstanceId::new().to_string();
    let tables = [
        QueueTable::new("parcels"),
        QueueTable::new("parcels").limit(4),
        QueueTable::new("parcels").limit_per_key("user_id", 2),
        QueueTable::new("parcels").limit(4).limit_per_key("user_id", 2),
    ];
    for table in tables {
        let limits = format!("{:?} {:?}", table.limit, table.key);
        let queue = SqlQueue::new(store.clone(), table, BTreeMap::new());
        let claim = || vec![me.clone().into(), 1_000_i64.into(), 4_i64.into()];
        let rows = || Value::from(json!([[1, 1, me, null, null, null, null, null]]).to_string());
        let by_key = "SEARCH parcels USING INTEGER PRIMARY KEY (rowid=?)";
        let suspect = "SEARCH c USING INDEX parcels_suspect (run_at_ms<?)";
        let statements = [
            (
                "reclaim",
                &queue.sql.reclaim,
                vec![],
                vec!["INDEX parcels_leases (lease_expires_at_ms<?)"],
            ),
            (
                "claim",
                &queue.sql.claim,
                claim(),
                vec![by_key, "SCAN c USING INDEX parcels_ready", suspect],
            ),
            ("suspect", &queue.sql.claim_suspect, claim(), vec![by_key, suspect]),
            ("renew", &queue.sql.renew, vec![1_i64.into(), rows()], vec![by_key]),
            ("settle", &queue.sql.settle, vec![rows()], vec![by_key]),
            (
                "fence",
                &queue.sql.fence,
                vec![1_i64.into(), 1_i64.into(), me.clone().into()],
                vec![by_key],
            ),
            (
                "next",
                &queue.sql.next,
                vec![me.clone().into()],
                vec!["parcels_ready (priority=? AND run_at_ms>?)", "parcels_ready (priority>?)"],
            ),
        ];
        for (name, sql, values, expected) in statements {
            let plan = plan(&queue, sql, values).await;
            for step in expected {
                assert!(
                    plan.iter().any(|found| found.contains(step)),
                    "{name} {limits}: {plan:#?}"
                );
            }
            let whole = plan.iter().find(|step| reads_everything(step));
            assert_eq!(whole, None, "{name} {limits}: {plan:#?}");
            let sorts = plan.iter().any(|step| step.contains("B-TREE FOR ORDER BY"));
            assert!(!sorts || name == "suspect", "{name} {limits} sorts what waits: {plan:#?}");
        }
    }
}

const JOBS: &str = "
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
INSERT INTO jobs (id, queue, kind, payload, payload_version, status, priority, run_at_ms, max_attempts, concurrency_key, created_at_ms)
  SELECT n, 'q' || (n % 3), 'mail', '1', 1, CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'succeeded' END, n % 5, n, 3, n % 1000, n FROM n;
";

#[cfg(feature = "migration")]
#[tokio::test]
async fn no_hot_statement_reads_what_other_queues_of_the_table_have() {
    use crate::migration::{List, SchedulerMigrator, up};

    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("plans.db").display());
    let store = Store::sqlite(&url).await.unwrap();
    up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.unwrap();
    store.reader().execute_unprepared(JOBS).await.unwrap();
    let me = InstanceId::new().to_string();
    let jobs = || QueueTable::jobs("q1");
    let limited = jobs().limit(4).limit_per_key("concurrency_key", 2);
    for table in [jobs(), jobs().kind("mail", 1).kind("sms", 2), limited] {
        let queue = SqlQueue::new(store.clone(), table, BTreeMap::new());
        let claim = || vec![me.clone().into(), 1_000_i64.into(), 4_i64.into()];
        let rows = Value::from(json!([[1, 1, null]]).to_string());
        let alike = || vec![me.clone().into(), "[1, 2]".into(), 1_i64.into()];
        let statements = [
            ("reclaim", &queue.sql.reclaim, vec![], "jobs_leases (queue=? AND lease_expires"),
            ("claim", &queue.sql.claim, claim(), "jobs_ready (queue=?)"),
            ("ahead", &queue.sql.claim_ahead, claim(), "jobs_ready (queue=?)"),
            (
                "suspect",
                &queue.sql.claim_suspect,
                claim(),
                "jobs_suspect (queue=? AND run_at_ms<?)",
            ),
            ("finish", &queue.sql.finish, vec![me.clone().into(), rows], "PRIMARY KEY (rowid=?)"),
            ("alike", &queue.sql.finish_alike, alike(), "PRIMARY KEY (rowid=?)"),
            (
                "next",
                &queue.sql.next,
                vec![me.clone().into()],
                "jobs_ready (queue=? AND priority>?)",
            ),
        ];
        for (name, sql, values, expected) in statements {
            let plan = plan(&queue, sql, values).await;
            assert!(plan.iter().any(|found| found.contains(expected)), "{name}: {plan:#?}");
            let whole = plan.iter().find(|step| reads_everything(step));
            assert_eq!(whole, None, "{name}: {plan:#?}");
            let sorts = plan.iter().any(|step| step.contains("B-TREE FOR ORDER BY"));
            assert!(!sorts || name == "suspect", "{name} sorts what waits: {plan:#?}");
        }
    }
}
