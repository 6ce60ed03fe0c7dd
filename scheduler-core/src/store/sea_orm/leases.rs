//! Statements on `leases`: grant, renew, fence, release. Rows stay, so that tokens only grow.

use std::collections::HashSet;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult, Statement, Value};
use serde_json::json;

use super::Store;
use super::patience::answered_in;
use super::sql::{ColumnType, now_expression, now_value, read_rows, rows_json};
use super::write::write_own;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::executor::is_of_one_run;
use crate::lease::LeaseKey;
use crate::store::{Firing, Holder, LeaseStore, Namespace, Renewal};

/// Where a look preceded it, the lease was free already then.
const GRANT: &str = "\
INSERT INTO leases (name, holder, token, acquired_at_ms, expires_at_ms, cancel_requested)
SELECT v.name, v.holder, 1, {now}, {now} + v.length_ms, FALSE FROM {rows}
WHERE NOT EXISTS (SELECT 1 FROM leases l WHERE l.name = v.name AND l.expires_at_ms > v.as_of_ms)
ORDER BY v.name
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = leases.token + 1,
  acquired_at_ms = excluded.acquired_at_ms, expires_at_ms = excluded.expires_at_ms, cancel_requested = FALSE
WHERE leases.expires_at_ms <= {now}
RETURNING name, token, expires_at_ms";

const WANTED: [(&str, ColumnType); 4] = [
    ("name", ColumnType::Text),
    ("holder", ColumnType::Text),
    ("length_ms", ColumnType::Int),
    ("as_of_ms", ColumnType::Int),
];

const RENEW: &str = "\
UPDATE leases SET expires_at_ms = {now} + $2
WHERE name = $3 AND holder = $4 AND token = $5 AND expires_at_ms > {now}
RETURNING expires_at_ms, cancel_requested";

const FENCE: &str = "\
UPDATE leases SET token = token
WHERE name = $2 AND holder = $3 AND token = $4 AND expires_at_ms > {now}";

const REQUEST_CANCEL: &str =
    "UPDATE leases SET cancel_requested = TRUE WHERE name = $2 AND expires_at_ms > {now}";

const KEYS: [(&str, ColumnType); 3] =
    [("lease", ColumnType::Text), ("held_by", ColumnType::Text), ("granted", ColumnType::Int)];

const RELEASE: &str = "\
UPDATE leases SET holder = '', expires_at_ms = 0 FROM {rows}
WHERE name = v.lease AND holder = v.held_by AND token = v.granted AND expires_at_ms > {now}
RETURNING name, token";

/// Leases of one run: nobody is granted them again, so their rows need not stay.
const RELEASE_OF_ONE_RUN: &str = "\
DELETE FROM leases
WHERE expires_at_ms > {now}
  AND (name, holder, token) IN (SELECT v.lease, v.held_by, v.granted FROM {rows})
RETURNING name, token";

/// Runs of these jobs that go on beside each other.
const BESIDE: &str = "\
SELECT r.job, l.holder, l.expires_at_ms
FROM {rows} JOIN job_runs r ON r.job = v.job AND r.status = 'running'
JOIN leases l ON l.name = r.job || '#' || r.id AND l.expires_at_ms > {now}
ORDER BY l.expires_at_ms DESC";

/// A grant that has ended as soon as it is written. No job can have this name.
const PROBE: &str = "\
INSERT INTO leases (name, holder, token, acquired_at_ms, expires_at_ms, cancel_requested)
VALUES ('@probe', '', 1, {now}, 0, FALSE)
ON CONFLICT (name) DO UPDATE SET token = leases.token + 1, acquired_at_ms = excluded.acquired_at_ms";

const HOLDERS: &str = "\
SELECT l.name, l.holder, l.expires_at_ms FROM leases l JOIN {rows} ON l.name = v.name
WHERE l.expires_at_ms > {now}";

const LOCK: &str =
    "SELECT l.name FROM {rows} JOIN leases l ON l.name = v.name ORDER BY l.name FOR UPDATE OF l";

/// A grant that succeeded.
#[derive(Debug, FromQueryResult)]
pub(super) struct Granted {
    pub(super) name: String,
    pub(super) token: i64,
    pub(super) expires_at_ms: i64,
}

#[derive(Debug, FromQueryResult)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) expires_at_ms: i64,
}

/// A run that goes on beside others of its job.
#[derive(Debug, FromQueryResult)]
pub(super) struct Beside {
    pub(super) job: String,
    pub(super) holder: String,
    pub(super) expires_at_ms: i64,
}

#[derive(FromQueryResult)]
struct Renewed {
    expires_at_ms: i64,
    cancel_requested: bool,
}

fn key_values(key: &LeaseKey) -> [Value; 3] {
    [key.name.clone().into(), key.holder.to_string().into(), key.token.into()]
}

/// Locks the leases that are there, in the order in which [`grant`] takes them. For a server.
pub(super) async fn lock(
    store: &Store,
    txn: &DatabaseTransaction,
    names: impl Iterator<Item = String>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = names.map(|name| vec![json!(name)]).collect();
    let columns = [("name", ColumnType::Text)];
    txn.execute_raw(store.statement_with_rows(LOCK, &columns, [rows_json(&rows)]))
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("lock leases", source))
}

/// Grants what is free of these firings' leases.
pub(super) async fn grant(
    store: &Store,
    txn: &DatabaseTransaction,
    firings: &[&Firing],
) -> Result<Vec<Granted>, StoreError> {
    const OPERATION: &str = "grant leases";
    let rows: Vec<_> = firings
        .iter()
        .map(|firing| {
            vec![
                json!(firing.lease_name),
                json!(firing.instance_id.to_string()),
                json!(firing.lease_ms),
                json!(firing.as_of_ms),
            ]
        })
        .collect();
    let statement = store.statement_with_rows(GRANT, &WANTED, [rows_json(&rows)]);
    let granted = txn
        .query_all_raw(statement)
        .await
        .map_err(|source| StoreError::database(OPERATION, source))?;
    read_rows(OPERATION, &granted)
}

/// Who holds these leases now.
pub(super) async fn holders(
    store: &Store,
    connection: &impl ConnectionTrait,
    names: &[&str],
) -> Result<Vec<Held>, StoreError> {
    const OPERATION: &str = "read who holds a lease";
    let rows: Vec<_> = names.iter().map(|name| vec![json!(name)]).collect();
    let statement =
        store.statement_with_rows(HOLDERS, &[("name", ColumnType::Text)], [rows_json(&rows)]);
    let held = connection
        .query_all_raw(statement)
        .await
        .map_err(|source| StoreError::database(OPERATION, source))?;
    read_rows(OPERATION, &held)
}

/// The runs of these jobs that go on beside each other, the one whose lease ends first last.
pub(super) async fn beside(
    store: &Store,
    txn: &DatabaseTransaction,
    jobs: impl Iterator<Item = &str>,
) -> Result<Vec<Beside>, StoreError> {
    const OPERATION: &str = "read which runs go on beside each other";
    let rows: Vec<_> = jobs.map(|job| vec![json!(job)]).collect();
    let columns = [("job", ColumnType::Text)];
    let beside = txn
        .query_all_raw(store.statement_with_rows(BESIDE, &columns, [rows_json(&rows)]))
        .await
        .map_err(|source| StoreError::database(OPERATION, source))?;
    read_rows(OPERATION, &beside)
}

/// Gives leases back, fenced: answers names and tokens of those that were still held.
pub(super) async fn release(
    store: &Store,
    txn: &DatabaseTransaction,
    keys: &[LeaseKey],
) -> Result<HashSet<(String, i64)>, StoreError> {
    let failed = |source| StoreError::database("release leases", source);
    let mut released = HashSet::with_capacity(keys.len());
    for (of_one_run, sql) in [(false, RELEASE), (true, RELEASE_OF_ONE_RUN)] {
        let keys = keys.iter().filter(|key| is_of_one_run(&key.name) == of_one_run);
        let rows: Vec<_> = keys
            .map(|key| vec![json!(key.name), json!(key.holder.to_string()), json!(key.token)])
            .collect();
        if rows.is_empty() {
            continue;
        }
        let statement = store.statement_with_rows(sql, &KEYS, [rows_json(&rows)]);
        for row in txn.query_all_raw(statement).await.map_err(failed)? {
            released.insert((
                row.try_get("", "name").map_err(failed)?,
                row.try_get("", "token").map_err(failed)?,
            ));
        }
    }
    Ok(released)
}

/// Asks whoever holds a lease to end; he learns it with his next renewal.
pub(super) async fn request_cancel(
    store: &Store,
    txn: &DatabaseTransaction,
    name: &str,
) -> Result<(), StoreError> {
    txn.execute_raw(store.statement(REQUEST_CANCEL, [name.into()]))
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("ask a run to end", source))
}

/// Locks the lease's row in the caller's transaction if it is held, and answers whether it is.
pub(crate) async fn fence(
    txn: &DatabaseTransaction,
    key: &LeaseKey,
    clock: &dyn Clock,
    namespace: &Namespace,
) -> Result<bool, StoreError> {
    let backend = txn.get_database_backend();
    let values = std::iter::once(now_value(backend, clock)).chain(key_values(key));
    let sql = namespace.apply(FENCE).replace("{now}", now_expression(backend));
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let fenced = answered_in(txn, "fence a write", txn.execute_raw(statement)).await?;
    Ok(fenced.rows_affected() == 1)
}

impl Store {
    /// Proves that leases can be written now: commits a grant that nobody uses and that has ended
    /// at once. For readiness probes; costs one small write.
    ///
    /// # Errors
    /// The database's, also when its tables are not there.
    pub async fn probe_leases(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "probe the leases";
        write_own!(self, OPERATION, txn => {
            let written = txn.execute_raw(self.statement(PROBE, [])).await;
            written.map(|_| ()).map_err(|source| StoreError::database(OPERATION, source))
        })
    }
}

#[async_trait]
impl LeaseStore for Store {
    async fn renew(&self, key: &LeaseKey, length_ms: i64) -> Result<Renewal, StoreError> {
        const OPERATION: &str = "renew a lease";
        let failed = |source| StoreError::database(OPERATION, source);
        let renewed = write_own!(self, OPERATION, txn => {
            let values = std::iter::once(Value::from(length_ms)).chain(key_values(key));
            txn.query_one_raw(self.statement(RENEW, values)).await.map_err(failed)
        });
        let Some(row) = renewed? else {
            return Ok(Renewal::Lost);
        };
        let Renewed { expires_at_ms, cancel_requested } =
            Renewed::from_query_result(&row, "").map_err(failed)?;
        Ok(Renewal::Kept { expires_at_ms, cancel_requested })
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        let names = [name];
        let read = holders(self, self.reader(), &names);
        let held = self.answered("read who holds a lease", read).await?;
        Ok(held
            .into_iter()
            .next()
            .map(|held| Holder { instance: held.holder, until_ms: held.expires_at_ms }))
    }
}

#[cfg(all(test, feature = "migration"))]
mod tests {
    use std::sync::Arc;

    use sea_orm::ConnectionTrait;

    use super::{LeaseKey, LeaseStore, Statement, Store, StoreError};
    use crate::lease::{FenceError, Lease};
    use crate::migration::{List, SchedulerMigrator, up};
    use crate::run::InstanceId;
    use crate::store::SqliteOptions;
    use crate::testing::ManualClock;

    #[tokio::test]
    async fn a_probe_is_one_row_that_nobody_holds_and_fails_where_nothing_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::sqlite(&url).await.unwrap();
        let no_table = store.probe_leases().await.unwrap_err();
        assert!(matches!(no_table, StoreError::Database { .. }), "{no_table}");

        up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.unwrap();
        store.probe_leases().await.unwrap();
        store.probe_leases().await.unwrap();
        assert_eq!(store.holder("@probe").await.unwrap(), None);
        let all = "SELECT name, token FROM leases";
        let all = store.reader().query_all_raw(Statement::from_string(store.backend(), all)).await;
        let all = all.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].try_get::<i64>("", "token").unwrap(), 2);

        let read_only = Store::sqlite(&format!("{url}?mode=ro")).await.unwrap();
        let refused = read_only.probe_leases().await.unwrap_err();
        assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
    }

    #[tokio::test]
    async fn a_fence_holds_until_just_before_the_expiry_and_for_its_own_grant_only() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("fence.db").display());
        let clock = ManualClock::at(0);
        let store =
            Store::sqlite_with(&url, SqliteOptions::default(), Arc::new(clock.clone())).await;
        let store = store.unwrap();
        up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.unwrap();
        let holder = InstanceId::new();
        let lease = format!("INSERT INTO leases VALUES ('mark', '{holder}', 3, 0, 30000, FALSE)");
        store.reader().execute_unprepared(&lease).await.unwrap();
        let key = LeaseKey { name: "mark".into(), holder, token: 3 };
        let older = LeaseKey { token: 2, ..key.clone() };
        let foreign = LeaseKey { holder: InstanceId::new(), ..key.clone() };
        let misnamed = LeaseKey { name: "clone".into(), ..key.clone() };
        for (now_ms, key, holds) in [
            (29_999, &key, true),
            (29_999, &older, false),
            (29_999, &foreign, false),
            (29_999, &misnamed, false),
            // At its expiry, although nobody took it.
            (30_000, &key, false),
        ] {
            clock.set(now_ms);
            let lease = Lease::new(key.clone(), i64::MAX, &store);
            let fenced = lease.clone();
            let outcome =
                store.write("fence", |txn| Box::pin(async move { fenced.fence(txn).await }));
            let outcome = outcome.await;
            assert_eq!(outcome.is_ok(), holds, "{key:?} at {now_ms}: {outcome:?}");
            assert_eq!(lease.is_held(), holds, "a lost lease is known to be lost");
            assert!(holds || matches!(outcome, Err(FenceError::Lost { .. })), "{outcome:?}");
        }
    }
}
