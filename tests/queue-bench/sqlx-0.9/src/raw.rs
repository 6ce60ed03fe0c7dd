//! What a program could do through the same driver that knew nothing of leases, retries, history and
//! unique keys: an insert a commit, a thousand rows a statement, and a drain that claims a hundred rows and
//! marks a hundred rows, each with its commit; by one task on SQLite, by eight on a server, whatever the
//! concurrency that is asked for.

use std::any::Any;
use std::time::Duration;

use probe::{Peer, handled};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, SqlitePool};

const CLAIMED: i64 = 100;
const TASKS_ON_A_SERVER: usize = 8;
const COLUMNS: &str = "status TEXT NOT NULL DEFAULT 'queued', priority INTEGER NOT NULL DEFAULT 0,
  run_at_ms BIGINT NOT NULL DEFAULT 0, attempt_count INTEGER NOT NULL DEFAULT 0, leased_by TEXT,
  kind TEXT NOT NULL, payload TEXT NOT NULL";
const INDEX: &str =
    "CREATE INDEX raw_ready ON raw_jobs (priority, run_at_ms, id) WHERE status = 'queued'";
const INSERT: &str = "INSERT INTO raw_jobs (kind, payload) VALUES ('noop', $1)";
const UNFINISHED: &str = "SELECT count(*) FROM raw_jobs WHERE status <> 'succeeded'";

const SQLITE_BULK: &str =
    "INSERT INTO raw_jobs (kind, payload) SELECT 'noop', value FROM json_each($1)";
const SQLITE_CLAIM: &str = "
UPDATE raw_jobs SET status = 'running', attempt_count = attempt_count + 1, leased_by = 'raw' WHERE id IN (
  SELECT id FROM raw_jobs WHERE status = 'queued' AND run_at_ms <= $1 ORDER BY priority, run_at_ms, id LIMIT $2)
RETURNING id, payload";
const SQLITE_FINISH: &str = "
UPDATE raw_jobs SET status = 'succeeded'
WHERE id IN (SELECT value FROM json_each($1)) AND status = 'running'";

const POSTGRES_BULK: &str =
    "INSERT INTO raw_jobs (kind, payload) SELECT 'noop', unnest(CAST($1 AS text[]))";
const POSTGRES_CLAIM: &str = "
UPDATE raw_jobs SET status = 'running', attempt_count = attempt_count + 1, leased_by = 'raw' WHERE id = ANY (ARRAY(
  SELECT id FROM raw_jobs WHERE status = 'queued' AND run_at_ms <= $1 ORDER BY priority, run_at_ms, id LIMIT $2
  FOR UPDATE SKIP LOCKED))
RETURNING id, payload";
const POSTGRES_FINISH: &str =
    "UPDATE raw_jobs SET status = 'succeeded' WHERE id = ANY ($1) AND status = 'running'";

#[derive(Clone)]
pub(crate) enum Raw {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Raw {
    pub(crate) async fn open(database: &str) -> anyhow::Result<Self> {
        if database.starts_with("postgres") {
            let pool = PgPoolOptions::new().max_connections(16).connect(database).await?;
            let id = "id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
            create(id, async |sql| {
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.map(|_| ())
            })
            .await?;
            return Ok(Self::Postgres(pool));
        }
        let options = database
            .parse::<SqliteConnectOptions>()?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        create("id INTEGER PRIMARY KEY", async |sql| {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.map(|_| ())
        })
        .await?;
        Ok(Self::Sqlite(pool))
    }
}

async fn create(
    id: &str,
    run: impl AsyncFn(String) -> Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    run(format!("CREATE TABLE raw_jobs ({id}, {COLUMNS})")).await?;
    run(INDEX.to_owned()).await
}

impl Peer for Raw {
    async fn enqueue(&self, rows: usize) -> anyhow::Result<()> {
        match (self, rows) {
            (Self::Sqlite(pool), 1) => {
                sqlx::query(INSERT).bind("1").execute(pool).await.map(|_| ())
            }
            (Self::Postgres(pool), 1) => {
                sqlx::query(INSERT).bind("1").execute(pool).await.map(|_| ())
            }
            (Self::Sqlite(pool), _) => {
                let array = format!("[{}]", vec!["1"; rows].join(","));
                sqlx::query(SQLITE_BULK).bind(array).execute(pool).await.map(|_| ())
            }
            (Self::Postgres(pool), _) => {
                sqlx::query(POSTGRES_BULK).bind(vec!["1"; rows]).execute(pool).await.map(|_| ())
            }
        }?;
        Ok(())
    }

    async fn start(&self, _: usize) -> anyhow::Result<Box<dyn Any + Send>> {
        let tasks = if matches!(self, Self::Sqlite(_)) { 1 } else { TASKS_ON_A_SERVER };
        for _ in 0..tasks {
            tokio::spawn(drain(self.clone()));
        }
        Ok(Box::new(()))
    }

    async fn unfinished(&self) -> anyhow::Result<u64> {
        let count: i64 = match self {
            Self::Sqlite(pool) => sqlx::query_scalar(UNFINISHED).fetch_one(pool).await?,
            Self::Postgres(pool) => sqlx::query_scalar(UNFINISHED).fetch_one(pool).await?,
        };
        Ok(u64::try_from(count)?)
    }
}

async fn drain(raw: Raw) -> anyhow::Result<()> {
    loop {
        let ids = claim(&raw).await?;
        if ids.is_empty() {
            return Ok(());
        }
        ids.iter().for_each(|_| handled());
        match &raw {
            Raw::Sqlite(pool) => {
                let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
                let array = format!("[{}]", ids.join(","));
                sqlx::query(SQLITE_FINISH).bind(array).execute(pool).await.map(|_| ())
            }
            Raw::Postgres(pool) => {
                sqlx::query(POSTGRES_FINISH).bind(ids).execute(pool).await.map(|_| ())
            }
        }?;
    }
}

async fn claim(raw: &Raw) -> Result<Vec<i64>, sqlx::Error> {
    match raw {
        Raw::Sqlite(pool) => {
            let rows = sqlx::query(SQLITE_CLAIM).bind(1_i64).bind(CLAIMED).fetch_all(pool).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        }
        Raw::Postgres(pool) => {
            let rows =
                sqlx::query(POSTGRES_CLAIM).bind(1_i64).bind(CLAIMED).fetch_all(pool).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        }
    }
}
