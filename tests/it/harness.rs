//! A throw-away database with a clock that moves only when told to, and bounded waits.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::store::Namespace;
use scheduler_core::testing::{ManualClock, RunRow};
use scheduler_core::{Scheduler, Shutdown, SqliteOptions, Store};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, TryGetable};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;

/// 2026-11-23 12:00:00 UTC.
pub(crate) const NOON: i64 = 1_795_435_200_000;

/// How long a busy machine may take for what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A throw-away database and its clock.
pub(crate) struct Database {
    pub(crate) clock: ManualClock,
    pub(crate) store: Store,
    place: Place,
}

/// Where another process would find the same database.
enum Place {
    /// A file in a folder that goes with it.
    Sqlite(TempDir),
    /// An address on the private server.
    #[cfg(feature = "postgres")]
    Postgres(crate::postgres::TestDatabase),
}

/// Runs tests that take a [`Database`] on every store of this build.
macro_rules! on_every_store {
    ($($test:ident,)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::harness::Database::new().await).await;
            })+
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                if let Some(database) = $crate::harness::Database::new_on_postgres().await {
                    super::$test(database).await;
                }
            })+
        }
    };
}

impl Database {
    /// SQLite with the scheduler's tables.
    pub(crate) async fn new() -> Self {
        Self::empty().await.migrated().await
    }

    /// SQLite without any table.
    pub(crate) async fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::at(Place::Sqlite(folder)).await
    }

    /// PostgreSQL with the scheduler's tables; `None` where there is no server.
    #[cfg(feature = "postgres")]
    pub(crate) async fn new_on_postgres() -> Option<Self> {
        Some(Self::empty_on_postgres().await?.migrated().await)
    }

    async fn at(place: Place) -> Self {
        // What the library logs belongs to the failure of a test.
        let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("warn").try_init();
        let clock = ManualClock::at(NOON);
        let store = open(&place, &clock).await;
        Self { clock, store, place }
    }

    /// PostgreSQL without any table; `None` where there is no server.
    #[cfg(feature = "postgres")]
    pub(crate) async fn empty_on_postgres() -> Option<Self> {
        let url = crate::postgres::new_database().await?;
        Some(Self::at(Place::Postgres(url)).await)
    }

    /// The scheduler's tables in a namespace.
    pub(crate) async fn migrated_in(self, namespace: &Namespace) -> Self {
        let lists = [List::scheduler(namespace)];
        migration::up(self.store.reader(), &lists).await.expect("migrations apply");
        self
    }

    async fn migrated(self) -> Self {
        let schema = SchedulerMigrator::up(self.store.reader(), None).await;
        schema.expect("migrations apply");
        self
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.store.reader().get_database_backend()
    }

    /// Another connection to the same database, as another process would have it.
    pub(crate) async fn another_store(&self) -> Store {
        open(&self.place, &self.clock).await
    }

    /// The database's address.
    pub(crate) fn url(&self) -> String {
        url(&self.place)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.store.reader().execute_unprepared(sql).await.expect(sql);
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement =
            Statement::from_sql_and_values(self.store.reader().get_database_backend(), sql, []);
        self.store.reader().query_all_raw(statement).await.expect(sql)
    }

    /// The first column of the first row.
    pub(crate) async fn value<T: TryGetable>(&self, sql: &str) -> T {
        let rows = self.rows(sql).await;
        rows.first().expect(sql).try_get_by_index(0).expect(sql)
    }

    /// The names of a table's columns.
    pub(crate) async fn columns(&self, table: &str) -> Vec<String> {
        let names = match self.backend() {
            DbBackend::Postgres => format!(
                "SELECT column_name::text FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
            ),
            _ => format!("SELECT name FROM pragma_table_info('{table}')"),
        };
        let rows = self.rows(&names).await;
        rows.iter().map(|row| row.try_get_by_index(0).expect("a name")).collect()
    }

    /// Rows as text, one line each: `a|b|c`.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        let columns: Vec<&str> = sql
            .trim_start_matches("SELECT ")
            .split(" FROM ")
            .next()
            .expect("a select list")
            .split(", ")
            .collect();
        let wrapped = columns
            .iter()
            .map(|column| format!("coalesce(CAST({column} AS TEXT), '-')"))
            .collect::<Vec<_>>()
            .join(" || '|' || ");
        let rest = sql.split_once(" FROM ").expect("a table").1;
        let rows = self.rows(&format!("SELECT {wrapped} AS line FROM {rest}")).await;
        rows.iter().map(|row| row.try_get("", "line").expect("text")).collect()
    }

    /// The runs of a job in a table of runs, oldest slot first, then by attempt and trigger.
    pub(crate) async fn runs_in(&self, table: &str, job: &str) -> Vec<RunRow> {
        let sql = format!(
            "SELECT * FROM {table} WHERE job = '{job}' ORDER BY scheduled_for_ms, attempt, trigger"
        );
        self.rows(&sql).await.iter().map(run_row).collect()
    }

    /// Waits until the query answers `expected`.
    pub(crate) async fn until<T: TryGetable + PartialEq + std::fmt::Debug>(
        &self,
        sql: &str,
        expected: T,
    ) {
        let mut last = None;
        let reached = within(PATIENCE, async || {
            let value: T = self.value(sql).await;
            let is_reached = value == expected;
            last = Some(value);
            is_reached
        })
        .await;
        assert!(reached, "{sql}: still {last:?}, expected {expected:?}");
    }

    pub(crate) fn scheduler(&self) -> Scheduler {
        Scheduler::new(self.store.clone())
    }
}

fn run_row(row: &QueryResult) -> RunRow {
    fn get<T: TryGetable>(row: &QueryResult, column: &str) -> T {
        row.try_get("", column).expect(column)
    }
    let text = |column| get::<String>(row, column);
    let summary: Option<String> = get(row, "summary");
    RunRow {
        id: text("id").parse().expect("a UUID"),
        job: text("job"),
        scope_key: text("scope_key"),
        trigger: text("trigger").parse().expect("a trigger"),
        scheduled_for_ms: get(row, "scheduled_for_ms"),
        attempt: get(row, "attempt"),
        status: text("status").parse().expect("a status"),
        missed_count: get(row, "missed_count"),
        missed_until_ms: get(row, "missed_until_ms"),
        started_at_ms: get(row, "started_at_ms"),
        finished_at_ms: get(row, "finished_at_ms"),
        summary: summary.map(|summary| serde_json::from_str(&summary).expect("JSON")),
        error: get(row, "error"),
        instance_id: text("instance_id").parse().expect("a UUID"),
        token: get(row, "token"),
    }
}

fn url(place: &Place) -> String {
    match place {
        Place::Sqlite(folder) => format!("sqlite://{}", folder.path().join("test.db").display()),
        #[cfg(feature = "postgres")]
        Place::Postgres(url) => url.to_string(),
    }
}

async fn open(place: &Place, clock: &ManualClock) -> Store {
    let (url, clock) = (url(place), Arc::new(clock.clone()));
    let opened = match place {
        Place::Sqlite(_) => Store::sqlite_with(&url, SqliteOptions::default(), clock).await,
        #[cfg(feature = "postgres")]
        Place::Postgres(_) => {
            let options = scheduler_core::PostgresOptions { connections: 5, ..Default::default() };
            Store::postgres_with(&url, options, clock).await
        }
    };
    opened.expect("the database opens")
}

/// Waits for a condition, with a bound.
pub(crate) async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let reached = within(PATIENCE, async || condition()).await;
    assert!(reached, "waited in vain for: {what}");
}

/// Asks again and again until the answer is yes; whether it was within the bound.
pub(crate) async fn within(bound: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let asking = async {
        while !is_so().await {
            breathe().await;
        }
    };
    tokio::time::timeout(bound, asking).await.is_ok()
}

/// Lets other tasks and the database's threads go on.
async fn breathe() {
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    tick.tick().await;
    tick.tick().await;
}

/// A stop without grace: what runs is cancelled at once.
pub(crate) fn at_once() -> Shutdown {
    Shutdown::new(Duration::ZERO)
}
