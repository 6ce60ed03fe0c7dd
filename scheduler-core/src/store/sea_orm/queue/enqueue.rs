//! Rows of the library's table `jobs`, inserted by one statement, alone or with those of others.

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, SqlErr, Statement, Value,
};
use tokio::sync::oneshot;

use super::super::Store;
use super::super::sql::{now_expression, now_value};
use super::super::together::Together;
use super::super::write::write_own;
use super::answers::{Answers, Found, in_order};
use crate::error::StoreError;
use crate::queue::{Enqueued, NewJob};
use crate::store::{Namespace, SchedulerStore};

const OPERATION: &str = "enqueue rows";

/// Rows that one statement takes of several callers at most.
const MOST_ROWS: usize = 1_000;
/// Their payloads may be this long on the average: 8 MiB in all.
const BYTES_OF_A_ROW: usize = (8 << 20) / MOST_ROWS;

const COLUMNS: &str = "\
queue, kind, payload, payload_version, priority, run_at_ms, max_attempts, concurrency_key, unique_key,
  unique_while, unique_until_ms, created_at_ms";

/// `{…}` stands for one element of a row.
const VALUES: &str = "\
{0:text}, {1:text}, {2:text}, {3:bigint}, {4:bigint}, coalesce({5:bigint}, {now} + {6:bigint}), {7:bigint},
  {8:text}, {9:text}, {10:text}, {now} + {11:bigint}, {now}";

/// A row whose key is taken counts it, which tells it from one that was inserted.
const ON_CONFLICT: &str = "\
ON CONFLICT (queue, unique_key) WHERE unique_key IS NOT NULL DO UPDATE SET
  duplicate_count = jobs.duplicate_count + 1,
  unique_key = CASE WHEN coalesce(jobs.unique_until_ms, 0) <= {now}
      AND (jobs.status NOT IN ('queued', 'running') OR (jobs.status = 'running' AND jobs.unique_while = 'queued'))
    THEN NULL ELSE jobs.unique_key END
RETURNING id, queue, unique_key, duplicate_count";

/// Rows that differ in their payloads alone: `$2` is an array of those, and all else is said once.
const ALIKE_COLUMNS: &str = "\
queue, kind, payload, payload_version, priority, run_at_ms, max_attempts, concurrency_key, created_at_ms";
const ALIKE_VALUES: &str = "\
$3, $4, e.value, CAST($5 AS integer), CAST($6 AS integer), coalesce($7, {now} + $8), CAST($9 AS integer), $10, {now}";
const ALIKE_PARAMETERS: usize = 10;

/// From so many rows on, ids that are known before cost less than ids that are answered.
const WORTH_NUMBERING: usize = 16;

const LAST_ID: &str = "SELECT coalesce(max(id), 0) FROM jobs";

/// The texts for one database and namespace.
pub(in super::super) struct Texts {
    /// For rows that are alike.
    alike: String,
    /// The same for who knows the ids that are free: those after `$11`.
    numbered: String,
    /// The greatest id that is taken.
    last_id: String,
    /// For rows without a unique key.
    plain: String,
    /// For rows with one.
    unique: String,
}

impl Texts {
    fn of(store: &Store) -> &Self {
        let texts = &store.inner.enqueue_texts;
        texts.get_or_init(|| Self::render(store.backend(), store.namespace()))
    }

    fn render(backend: DbBackend, namespace: &Namespace) -> Self {
        let is_server = backend == DbBackend::Postgres;
        let mut values = VALUES.to_owned();
        for index in 0..12 {
            for kind in ["text", "bigint"] {
                let element = match is_server {
                    true => format!("CAST(e.value->>{index} AS {kind})"),
                    false => format!("json_extract(e.value, '$[{index}]')"),
                };
                values = values.replace(&format!("{{{index}:{kind}}}"), &element);
            }
        }
        // Ids grow in the order of the rows. Keys are taken in their own order: two sessions of a
        // server that take the same ones must not wait for each other.
        let (source, order, key_order) = match is_server {
            true => (
                "jsonb_array_elements(CAST($2 AS jsonb)) WITH ORDINALITY AS e (value, position)",
                "ORDER BY e.position",
                "ORDER BY e.value->>9, e.value->>0, e.position",
            ),
            // TRUE keeps the parser from taking ON for that of a join.
            false => ("json_each($2) AS e", "WHERE TRUE", "WHERE TRUE"),
        };
        let fill = |order: &str, end: &str| {
            let sql = format!(
                "INSERT INTO jobs ({COLUMNS})\nSELECT {values}\nFROM {source} {order}\n{end}"
            );
            namespace.apply(&sql).replace("{now}", now_expression(backend))
        };
        let (payloads, order_of_payloads) = match is_server {
            true => (
                "jsonb_array_elements_text(CAST($2 AS jsonb)) WITH ORDINALITY AS e (value, position)",
                "ORDER BY e.position",
            ),
            false => ("json_each($2) AS e", ""),
        };
        let alike = |id: &str, number: &str, end: &str| {
            let sql = format!(
                "INSERT INTO jobs ({id}{ALIKE_COLUMNS})\nSELECT {number}{ALIKE_VALUES}\nFROM {payloads} {order_of_payloads} {end}"
            );
            namespace.apply(&sql).replace("{now}", now_expression(backend))
        };
        Self {
            alike: alike("", "", "RETURNING id"),
            numbered: alike("id, ", "$11 + 1 + e.key, ", ""),
            last_id: namespace.apply(LAST_ID).into_owned(),
            plain: fill(order, "RETURNING id"),
            unique: fill(key_order, ON_CONFLICT),
        }
    }
}

/// A row as it goes to the database.
struct Row<'j> {
    queue: &'j str,
    job: &'j NewJob,
}

fn rows_json(rows: &[Row<'_>]) -> String {
    let elements: Vec<_> = rows
        .iter()
        .map(|Row { queue, job }| {
            let unique = job.unique.as_ref();
            let until = unique.map(|unique| match unique.until_started {
                true => "queued",
                false => "unfinished",
            });
            (
                queue,
                &job.kind,
                &job.payload,
                job.payload_version,
                job.priority,
                job.run_at_ms,
                job.delay_ms,
                job.max_attempts,
                &job.concurrency_key,
                job.unique_key(),
                until,
                unique.and_then(|unique| unique.window_ms),
            )
        })
        .collect();
    // Of texts and numbers: nothing can fail.
    serde_json::to_string(&elements).unwrap_or_else(|_| "[]".to_owned())
}

/// The parameters of rows that are alike; `None` where one is not like the first.
fn alike(store: &Store, backend: DbBackend, rows: &[Row<'_>]) -> Option<Vec<Value>> {
    let Row { queue, job } = rows.first()?;
    if !rows.iter().all(|row| row.queue == *queue && row.job.is_like(job)) {
        return None;
    }
    let payloads: Vec<&str> = rows.iter().map(|row| row.job.payload.as_str()).collect();
    // Of texts: nothing can fail.
    let payloads = serde_json::to_string(&payloads).unwrap_or_else(|_| "[]".to_owned());
    let mut values = Vec::with_capacity(ALIKE_PARAMETERS + 1);
    values.extend([
        now_value(backend, store.clock().as_ref()),
        payloads.into(),
        (*queue).into(),
        job.kind.as_str().into(),
        job.payload_version.into(),
        job.priority.into(),
        job.run_at_ms.into(),
        job.delay_ms.into(),
        job.max_attempts.into(),
        job.concurrency_key.clone().into(),
    ]);
    Some(values)
}

/// Enqueues rows that are alike where nobody else writes: SQLite gives a new row the id after the
/// greatest, so they can be said instead of asked for. `None` where they cannot.
async fn insert_numbered(
    store: &Store,
    connection: &DatabaseTransaction,
    rows: usize,
    mut values: Vec<Value>,
) -> Result<Option<Vec<Enqueued>>, DbErr> {
    let backend = connection.get_database_backend();
    let Texts { last_id, numbered, .. } = Texts::of(store);
    let last = connection.query_one_raw(Statement::from_string(backend, last_id)).await?;
    let last: i64 = last.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    let Some(until) = i64::try_from(rows).ok().and_then(|rows| last.checked_add(rows)) else {
        return Ok(None);
    };
    values.push(last.into());
    let insert = Statement::from_sql_and_values(backend, numbered, values);
    match connection.execute_raw(insert).await {
        Ok(inserted) if inserted.rows_affected() == rows as u64 => {
            Ok(Some((last + 1..=until).map(Enqueued::Inserted).collect()))
        }
        Ok(inserted) => Err(too_few(inserted.rows_affected(), rows)),
        // A trigger of somebody's inserts rows, too. Nothing was inserted, and the transaction goes on.
        Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Enqueues in a transaction of this library's own.
async fn insert_alone(
    store: &Store,
    connection: &DatabaseTransaction,
    rows: &[Row<'_>],
) -> Result<Vec<Enqueued>, DbErr> {
    let backend = connection.get_database_backend();
    if backend == DbBackend::Sqlite
        && rows.len() >= WORTH_NUMBERING
        && let Some(values) = alike(store, backend, rows)
        && let Some(enqueued) = insert_numbered(store, connection, rows.len(), values).await?
    {
        return Ok(enqueued);
    }
    insert(store, connection, rows).await
}

/// Enqueues, and answers one per row in their order.
async fn insert(
    store: &Store,
    connection: &impl ConnectionTrait,
    rows: &[Row<'_>],
) -> Result<Vec<Enqueued>, DbErr> {
    let backend = connection.get_database_backend();
    let texts = Texts::of(store);
    let bind = |sql: &str, rows: &[Row<'_>]| {
        let values = [now_value(backend, store.clock().as_ref()), rows_json(rows).into()];
        Statement::from_sql_and_values(backend, sql, values)
    };
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    if rows.iter().all(|row| row.job.unique.is_none()) {
        let statement = match alike(store, backend, rows) {
            Some(values) => Statement::from_sql_and_values(backend, &texts.alike, values),
            None => bind(&texts.plain, rows),
        };
        let inserted = connection.query_all_raw(statement).await?;
        let ids = inserted.iter().map(|row| row.try_get_by_index(0));
        return in_order(rows.len(), ids.collect::<Result<_, _>>()?);
    }
    let keys = rows.iter().map(|row| Some((row.queue, row.job.unique_key()?))).collect();
    let mut answers = Answers::of(keys);
    loop {
        let asked = answers.next();
        if asked.is_empty() {
            return answers.all();
        }
        let part: Vec<Row<'_>> =
            asked.iter().map(|at| Row { queue: rows[*at].queue, job: rows[*at].job }).collect();
        let found = connection.query_all_raw(bind(&texts.unique, &part)).await?;
        answers.take(found.iter().map(found_of).collect::<Result<_, _>>()?)?;
    }
}

fn found_of(row: &QueryResult) -> Result<Found<i64>, DbErr> {
    Ok(Found {
        id: row.try_get("", "id")?,
        queue: row.try_get("", "queue")?,
        key: row.try_get("", "unique_key")?,
        duplicates: row.try_get("", "duplicate_count")?,
    })
}

fn too_few(inserted: u64, rows: usize) -> DbErr {
    DbErr::Custom(format!("{inserted} of {rows} rows were inserted"))
}

/// Those who enqueue at the same time.
pub(in super::super) type Enqueues = Together<Caller>;

pub(in super::super) struct Caller {
    queue: String,
    jobs: Vec<NewJob>,
    tell: oneshot::Sender<Result<Vec<Enqueued>, StoreError>>,
}

impl Caller {
    /// Its share of a statement, in rows; a long payload counts as several.
    fn rows(&self) -> usize {
        let bytes: usize = self.jobs.iter().map(|job| job.payload.len()).sum();
        self.jobs.len().max(bytes.div_ceil(BYTES_OF_A_ROW))
    }
}

impl Store {
    /// Enqueues on a connection of the caller's.
    pub(crate) async fn enqueue_in(
        &self,
        connection: &impl ConnectionTrait,
        queue: &str,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, StoreError> {
        let rows: Vec<Row<'_>> = jobs.iter().map(|job| Row { queue, job }).collect();
        insert(self, connection, &rows)
            .await
            .map_err(|source| StoreError::database(OPERATION, source))
    }

    /// Enqueues in a statement and a commit that is shared with whoever else enqueues meanwhile.
    pub(crate) async fn enqueue_shared(
        &self,
        queue: &str,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, StoreError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (tell, told) = oneshot::channel();
        let caller = Caller { queue: queue.to_owned(), jobs: jobs.to_vec(), tell };
        let work = || self.clone().enqueue_those_who_wait();
        self.inner.enqueues.wait(caller, told, work).await.unwrap_or_else(|| {
            let ended = DbErr::Custom("the runtime ended before the rows were enqueued".into());
            Err(StoreError::database(OPERATION, ended))
        })
    }

    async fn enqueue_those_who_wait(self) {
        loop {
            let callers = self.inner.enqueues.next(MOST_ROWS, Caller::rows);
            if callers.is_empty() {
                return;
            }
            match self.enqueue_together(&callers).await {
                Ok(mut answers) => {
                    for caller in callers {
                        let rest = answers.split_off(caller.jobs.len());
                        // Who was dropped meanwhile does not hear it.
                        let _ = caller.tell.send(Ok(std::mem::replace(&mut answers, rest)));
                    }
                }
                // The database's trouble is everybody's.
                Err(error) if callers.len() == 1 || error.is_transient() => {
                    for caller in callers {
                        let _ = caller.tell.send(Err(error.clone()));
                    }
                }
                // One of them is at fault, and fails alone.
                Err(_) => {
                    for caller in callers {
                        let alone = self.enqueue_together(std::slice::from_ref(&caller)).await;
                        let _ = caller.tell.send(alone);
                    }
                }
            }
        }
    }

    async fn enqueue_together(&self, callers: &[Caller]) -> Result<Vec<Enqueued>, StoreError> {
        let rows: Vec<Row<'_>> = callers
            .iter()
            .flat_map(|Caller { queue, jobs, .. }| jobs.iter().map(move |job| Row { queue, job }))
            .collect();
        let failed = |source| StoreError::database(OPERATION, source);
        #[cfg(feature = "postgres")]
        if self.commits_at_once(&rows) {
            let insert = async { insert(self, &self.inner.writer, &rows).await.map_err(failed) };
            return self.answered(OPERATION, insert).await;
        }
        write_own!(self, OPERATION, txn => insert_alone(self, txn, &rows).await.map_err(failed))
    }

    /// Whether one statement does it, which a server commits by itself: BEGIN and COMMIT would be round
    /// trips.
    #[cfg(feature = "postgres")]
    fn commits_at_once(&self, rows: &[Row<'_>]) -> bool {
        self.backend() == DbBackend::Postgres
            && self.inner.keeps_statements
            && rows.iter().all(|row| row.job.unique.is_none())
    }
}

#[cfg(test)]
mod shares {
    use super::*;

    #[test]
    fn a_caller_counts_by_its_rows_or_by_its_bytes() {
        let rows = |rows: usize, bytes: usize| {
            let job = NewJob::new("mail", &"x".repeat(bytes - 2)).expect("a job");
            let (tell, _) = oneshot::channel();
            Caller { queue: "mails".to_owned(), jobs: vec![job; rows], tell }.rows()
        };
        assert_eq!(rows(7, 10), 7);
        assert_eq!(rows(2, BYTES_OF_A_ROW), 2);
        assert_eq!(rows(2, 10 * BYTES_OF_A_ROW), 20);
        assert_eq!(rows(9, 1 << 20), 1_126, "more than eight MiB are alone");
    }
}

#[cfg(test)]
mod tests;
